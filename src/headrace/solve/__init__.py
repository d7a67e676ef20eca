"""Optimisers: what they propose is checked again by the core, which doesn't trust them."""
