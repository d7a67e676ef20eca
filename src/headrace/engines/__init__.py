"""Engines: what runs placements. One port (`headrace.ports.Engine`), one contract suite for all of them."""
