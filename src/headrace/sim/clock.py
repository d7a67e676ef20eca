"""Simulated time: the true one, and what the control plane's wall clock makes of it."""


class TrueClock:
    """The time of the simulation. It only goes forward."""

    def __init__(self, start_ms: int) -> None:
        self.at_ms = start_ms

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return self.at_ms


class WallClock:
    """The control plane's clock: the true one, set wrong by ``skew_ms``, which faults change at any time."""

    def __init__(self, true: TrueClock) -> None:
        self.true = true
        self.skew_ms = 0

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC, by this clock."""
        return self.true.at_ms + self.skew_ms
