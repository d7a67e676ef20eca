"""What the API answers of devices: what is asked of them, what they say, and what is not believed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LimiterView:
    """A node's controller. ``wanted_w``: the limit that is asked of it (0: to drop its limit; None: nothing is asked).

    ``enforced_w``: what it said last that it enforces (0: nothing; None: it has not said since the start), so since ``since``;
    it answered last at ``heard_at``. ``counts_w``: the most that its node counts with because of that (None: in full).
    ``least_w``: the lowest limit that it takes (None: it could not be asked yet). ``state``: idle, ordered, capped, dropping,
    troubled, or unknown (to the estate).
    ``trouble``: what it did not do, and the next step.
    """

    node: str
    way: str
    state: str
    wanted_w: int | None
    enforced_w: int | None
    counts_w: int | None
    least_w: int | None
    since: str | None
    heard_at: str | None
    instruction: str
    trouble: str


@dataclass(frozen=True, slots=True)
class MeterView:
    """A meter at an element of the power tree: ``watts`` as they count, ``source`` measured or stale (then at nameplate).

    ``doubt``: why it is not believed, in one word ("": it is), and ``detail`` in a sentence. ``excess_w``: what counts at its
    element beyond all that is known to draw there, because meters show it. ``counted_w``: what counts there in all (IT load);
    None where watts are not counted at this element.
    """

    meter: str
    element: str
    watts: int
    source: str
    age_ms: int | None
    doubt: str
    detail: str
    excess_w: int
    counted_w: int | None


@dataclass(frozen=True, slots=True)
class MinerView:
    """A miner of the devices file, and what it says of itself: only a meter shows what it draws.

    ``mining`` None: it does not say. ``wanted`` of one that is a node of the estate: mine or rest; ``counts_w``: the most that
    this node is counted with.
    """

    miner: str
    element: str
    mining: bool | None
    power_w: int | None
    limit_w: int | None
    at: str | None
    trouble: str
    wanted: str = ""
    counts_w: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceCounts:
    """How many of each there are, whatever was asked for; ``troubled`` controllers have a trouble."""

    limiters: int
    capped: int
    troubled: int
    meters: int
    doubted: int
    miners: int


@dataclass(frozen=True, slots=True)
class DevicesView:
    """The devices of a control plane. ``strangers``: names of its file that the estate does not have. ``more``: how many
    controllers were left out. ``trouble``: what keeps them from being followed.
    """

    counts: DeviceCounts
    limiters: tuple[LimiterView, ...]
    meters: tuple[MeterView, ...]
    miners: tuple[MinerView, ...]
    strangers: tuple[str, ...] = ()
    more: int = 0
    trouble: str = ""
