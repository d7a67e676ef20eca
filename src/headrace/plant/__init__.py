"""A simulated site behind real protocols: power physics, meters, management controllers and miners, on loopback."""
