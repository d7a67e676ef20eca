"""The clock of a live control plane."""

import time


class WallClock:
    """The machine's wall clock. It may jump: journal time never goes back, and durations don't come from it."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return time.time_ns() // 1_000_000
