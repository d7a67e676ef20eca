"""All of ``headrace replay``: published traces of work, prices, carbon, and of what a grid asked for."""

from headrace.cli import replay_grid, replay_power
from headrace.cli.replay import app

__all__ = ["app", "replay_grid", "replay_power"]
