"""What comes from outside and changes with time: prices of energy, carbon intensity, what work is paid."""
