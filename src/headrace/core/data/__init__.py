"""Data sets: what they are, where their copies lie, and where they may."""
