"""Meters: what is counted outside the engines."""

from .tokens import TokenMeter

__all__ = ["TokenMeter"]
