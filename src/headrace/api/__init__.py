"""The HTTP API. Importing this package alone loads no web framework: clients use its :mod:`views`."""
