"""Headrace: the operating system of a sovereign AI cloud, from the grid connection to the invoice."""

__version__ = "0.1.0"
