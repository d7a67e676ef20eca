"""Published traces, run through the policies of the core: what came in, what it was given, and what could have been."""
