"""One world from a seed: the production core, journal, loop and API under simulated time, engines and faults."""
