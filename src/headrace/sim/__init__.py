"""One world from a seed: production code under simulated time, engines, faults."""
