"""Stores of data at sites, the file that declares them, and digests of what lies in them."""
