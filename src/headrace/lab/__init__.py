"""Real clusters on one machine, thrown away afterwards: for the demo, the tests and the benchmarks."""
