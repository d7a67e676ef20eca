"""What the API answers of the grid: instructions, and the ladder of each site."""

from dataclasses import dataclass

from headrace.api.views import HeadView


@dataclass(frozen=True, slots=True)
class RungView:
    """A rung of a site's ladder, in the order in which they are used: how much it sheds, watts of IT load at most."""

    rung: str
    sheds_w: int
    workloads: int


@dataclass(frozen=True, slots=True)
class LadderView:
    """A site as the grid finds it, in watts at its meter: what may be drawn, what it could come down to, and how.

    ``draws_w`` is the most that it can draw now; ``floor_w`` what can't be shed; ``allowed_w`` what may start now; ``firm_w`` and
    ``flexible_w`` are its connection's. ``least_w``: what it could come down to with caps and idle nodes shut down, too.
    ``asked_w``: the least that any instruction in force asks (None: none is).
    """

    site: str
    draws_w: int
    allowed_w: int
    floor_w: int
    firm_w: int
    flexible_w: int
    rungs: tuple[RungView, ...]
    curtailed: tuple[str, ...]
    least_w: int = 0
    asked_w: int | None = None


@dataclass(frozen=True, slots=True)
class InstructionView:
    """What the grid asks of a site, watts at its meter. ``state``: coming, active, over, or withdrawn before it began."""

    id: str
    site: str
    limit_w: int
    begins_at: str | None
    ends_at: str | None
    received_at: str
    source: str
    urgency: str
    state: str
    note: str


@dataclass(frozen=True, slots=True)
class FindingView:
    """Something odd that a grid operator's server says: of which event and interval (-1: the event; "": the server)."""

    code: str
    event: str
    interval: int
    message: str
    effect: str


@dataclass(frozen=True, slots=True)
class SignalView:
    """A grid operator's server that is followed. ``state``: heard, silent, or never heard; so since ``since``.

    ``trouble``: why it is not heard. ``heard_at``: when it was last heard, ``age_ms`` ago; None: never since the start.
    ``instructions``: how many of its instructions hold now or later; ``reports``: how many were sent to it since the start.
    ``skew_ms``: how far its clock is ahead.
    """

    vtn: str
    url: str
    sites: tuple[str, ...]
    state: str
    since: str
    trouble: str
    heard_at: str | None
    age_ms: int | None
    poll_ms: int
    skew_ms: int
    instructions: int
    reports: int
    findings: tuple[FindingView, ...]


@dataclass(frozen=True, slots=True)
class GridView:
    """What the grid asks, how each site stands to it, and whether the grid is heard."""

    instructions: tuple[InstructionView, ...]
    sites: tuple[LadderView, ...]
    signals: tuple[SignalView, ...] = ()


@dataclass(frozen=True, slots=True)
class Instructed:
    """The instruction as it was taken, and the ladder of its site."""

    instruction: InstructionView
    site: LadderView
    head: HeadView | None = None
