"""Power caps: what nodes' controllers are asked to hold them to, what they said of it, and what that is worth.

A cap counts only once its controller says that it enforces it, and then at the worst that it does: the enforced watts and
:data:`OVERSHOOT_PERMILLE` more. One that was lifted, or of which nothing is known any more, counts for nothing, and its
node at all that it may draw. A node with a cap takes no new work.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from headrace.core.hardware import HardwareType
from headrace.core.ids import NodeId
from headrace.core.power.instruction import InstructionId
from headrace.core.units import MS_PER_SECOND, ceil_div

OVERSHOOT_PERMILLE = 20
"""By so much a server may pass the limit that it enforces: it regulates, and doesn't cut off."""
OFF_W = 50
"""A limit that only a node that is off keeps: what its controller and its power supplies draw then. It is asked to shut down."""
OFF_MS = 30 * MS_PER_SECOND
"""A node that does not say that it is off so long after it was told counts as if it were on."""
CAP_MS = 8 * MS_PER_SECOND
"""A cap of which no confirmation came so long after it was ordered counts for nothing."""


def with_overshoot(limit_w: int) -> int:
    """The most that a server draws which enforces a limit."""
    return ceil_div(limit_w * (1_000 + OVERSHOOT_PERMILLE), 1_000)


@dataclass(slots=True)
class Cap:
    """One node's cap: ``wanted_w`` is asked of its controller (0: none any more), ``enforced_w`` is what that says it enforces.

    ``enforced_w`` 0: it enforces nothing, or nothing is known. ``ordered_ms``: when it was last asked for something else.
    """

    wanted_w: int
    ordered_ms: int
    instruction: InstructionId
    enforced_w: int = 0

    @property
    def most_w(self) -> int | None:
        """The most that its node draws because of it; None where it is worth nothing."""
        if not self.wanted_w or not self.enforced_w:
            return None
        return with_overshoot(self.enforced_w)

    @property
    def patience_ms(self) -> int:
        """How long after it was ordered it may take to be confirmed."""
        return OFF_MS if self.wanted_w == OFF_W else CAP_MS

    @property
    def is_off(self) -> bool:
        """Whether its node is off, or is to be, or was and is to come back."""
        return OFF_W in (self.wanted_w, self.enforced_w)

    @property
    def is_met(self) -> bool:
        """Whether its controller says that it enforces what is wanted, or less."""
        return bool(self.wanted_w) and 0 < self.enforced_w <= self.wanted_w

    @property
    def is_done(self) -> bool:
        """Whether its controller did what it was asked: it says that it enforces no more than who enforces it exactly draws.

        Controllers that have steps round up. What it says is what counts; what that is above what was asked is got elsewhere.
        """
        if self.wanted_w == OFF_W:
            return self.is_met
        return bool(self.wanted_w) and 0 < self.enforced_w <= with_overshoot(self.wanted_w)

    @property
    def rounds_w(self) -> int:
        """By how much it says to enforce more than was wanted; 0 where it does not, or enforces nothing."""
        return max(0, self.enforced_w - self.wanted_w) if self.wanted_w else 0


@dataclass(frozen=True, slots=True)
class Cappable:
    """A node whose cap may be lowered: it counts with ``draws_w``, and with ``saves_w`` less at ``least_w``.

    ``least_w`` is the lowest limit that its controller takes and its hardware keeps.
    """

    node: NodeId
    draws_w: int
    least_w: int
    saves_w: int


def lowest_w(hardware: HardwareType, used: int, least_w: int) -> int:
    """The lowest limit for a node with ``used`` accelerators busy: these at their lowest cap, and no less than ``least_w``.

    0 where its accelerators can't be capped.
    """
    if not hardware.cap_min_w or not used:
        return 0
    full_w = hardware.node_watts(used, busy=True)
    return max(least_w, full_w - used * (hardware.accelerator_w - hardware.cap_min_w))


def off_w(hardware: HardwareType) -> int:
    """The most that a node that is off draws: its controller, and the standby of power supplies that are made for all of it."""
    return max(with_overshoot(OFF_W), ceil_div(hardware.nameplate_w, 100))


def cappable(node: NodeId, draws_w: int, least_w: int, worst_w: int = 0) -> Cappable | None:
    """A node that draws up to ``draws_w`` and may be limited to ``least_w``; None where that saves nothing for certain.

    ``worst_w``: what it draws then at most (0: as much as whoever regulates).
    """
    worst_w = worst_w or with_overshoot(least_w)
    return Cappable(node, draws_w, least_w, draws_w - worst_w) if least_w and worst_w < draws_w else None


def shared_out(nodes: Iterable[Cappable], needs_w: int) -> list[tuple[NodeId, int]]:
    """A limit for each node, so that together they save ``needs_w`` for certain, each the same part of what it could.

    Where all together can't, each gets its lowest.
    """
    able = list(nodes)
    most_w = sum(one.saves_w for one in able)
    if not most_w or needs_w <= 0:
        return []
    part = min(needs_w, most_w)
    found = []
    for one in able:
        counted_w = one.draws_w - ceil_div(one.saves_w * part, most_w)
        limit_w = max(one.least_w, counted_w * 1_000 // (1_000 + OVERSHOOT_PERMILLE))
        found.append((one.node, limit_w))
    return found


def going_w(cap: Cap, draws_w: int, now_ms: int, begun_ms: int) -> int:
    """Watts that a cap that was ordered, and may still be confirmed in time, will save of ``draws_w``.

    Time in which no control plane was there to ask (before ``begun_ms``) does not count.
    """
    if not cap.wanted_w or cap.is_met or now_ms >= max(cap.ordered_ms, begun_ms) + cap.patience_ms:
        return 0
    return max(0, draws_w - with_overshoot(cap.wanted_w))


def is_worth(cap: Cap | None, limit_w: int) -> bool:
    """Whether another limit for a node may have an effect: one that rounds up is not asked again within its step."""
    return cap is None or not cap.rounds_w or limit_w < cap.wanted_w - cap.rounds_w


def has_failed(cap: Cap, now_ms: int, begun_ms: int) -> bool:
    """Whether a cap was ordered, and was not confirmed in time."""
    return (
        bool(cap.wanted_w) and not cap.is_done and now_ms >= max(cap.ordered_ms, begun_ms) + cap.patience_ms
    )


def of_site(caps: Collection[NodeId], site: str) -> Iterator[NodeId]:
    """The nodes of a site among those with a cap."""
    prefix = f"{site}/"
    return (node for node in caps if node.startswith(prefix))
