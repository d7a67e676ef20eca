"""Meters: what is counted outside the engines."""

from headrace.meters.tokens import TokenMeter

__all__ = ["TokenMeter"]
