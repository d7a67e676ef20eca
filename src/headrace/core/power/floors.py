"""The floor of each site: what it draws when all has been shed that lets itself be shed. Kept as placements come and go."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt

from headrace.core.fleet import I64, Fleet
from headrace.core.hardware import HardwareType
from headrace.core.ids import PowerNodeId, SiteId
from headrace.core.power.instruction import InstructionId
from headrace.core.power.limits import NEVER_MS, Standing, allowed, is_over, standings_at
from headrace.core.power.limits import limit_w as limit_w_of
from headrace.core.power.pue import it_watts
from headrace.core.power.shedding import Rung
from headrace.core.workload import WHOLE_MILLI, Placement

_GO = frozenset({Rung.MINERS, Rung.PREEMPT, Rung.REQUEUE})


def limits_of(
    fleet: Fleet, standings: Iterable[Standing], kept_w: Mapping[int, int], now_ms: int
) -> tuple[I64, dict[int, int], int, dict[int, InstructionId], dict[int, InstructionId]]:
    """Limits of all elements of the power tree now (IT watts), those of the floors by number of a site, and until when.

    And the instruction that limits each site most, by its number, where one does; and the one that its floor is held to.
    ``kept_w``: by element what those need who were paused or capped for the grid; once nothing holds them back it is theirs.
    """
    limit_w, until_ms = fleet.power_limit_w.copy(), NEVER_MS
    floors: dict[int, int] = {}
    why: dict[int, InstructionId] = {}
    below: dict[int, InstructionId] = {}
    by_site: dict[SiteId, list[Standing]] = {}
    for one in standings:
        by_site.setdefault(one.instruction.site, []).append(one)
    for number, site in enumerate(fleet.sites):
        here = standings_at(site, by_site.get(site.id, ()), now_ms)
        found = allowed(site.connection, here, now_ms)
        root = fleet.power_index[PowerNodeId(site.id)]
        limit_w[root] = min(int(limit_w[root]), it_watts(site, found.start_w))
        if found.start_w < site.connection.total_w:
            least = min(here, key=lambda one: limit_w_of(one, site.connection.ramp_up_w_per_minute, now_ms))
            why[number] = least.instruction.id
        if kept_w and not any(one.instruction.is_active(now_ms) for one in here):
            for element, watts in kept_w.items():
                limit_w[element] -= watts * (fleet.power_site[element] == number)
        if found.floor_w < site.connection.total_w:
            floors[number] = it_watts(site, found.floor_w)
        if found.floor_w < site.connection.firm_w:
            known = (one.instruction for one in here if one.was_in_force and one.is_open(now_ms))
            below[number] = min(known, key=lambda one: one.limit_w).id
        until_ms = min(until_ms, found.until_ms)
    return limit_w, floors, until_ms, why, below


def restores_w(placement: Placement, hardware_of: Callable[[str], HardwareType]) -> dict[str, int]:
    """By node, how much more a placement draws once it is not quiet any more."""
    found: dict[str, int] = {}
    for one in placement.ranks if placement.is_quiet else ():
        if one.share_milli == WHOLE_MILLI:
            hardware = hardware_of(one.node)
            more_w = one.mask.bit_count() * (hardware.accelerator_w - hardware.accelerator_idle_w)
            found[one.node] = found.get(one.node, 0) + more_w
    return found


def is_past(fleet: Fleet, standing: Standing, now_ms: int) -> bool:
    """Whether an instruction says nothing any more: it is over, and so is the ramp after it."""
    number = fleet.site_index.get(standing.instruction.site)
    if number is None:
        return not standing.is_open(now_ms)
    connection = fleet.sites[number].connection
    return is_over(standing, connection.ramp_up_w_per_minute, connection.total_w, now_ms)


class Floors:
    """Watts of IT load at each site that can't be shed: idle nodes, what is never shed, and what a paused rank still draws.

    ``limit_w``: the most of it that may be, by number of a site; a site that is not in it has no limit but its connection's.
    ``limited_by``: the instruction that limits what may start at a site, by its number, where one does; ``held_to``: the one, in
    force or to come, that sets ``limit_w`` (none: the connection's firm part does). Fractions of an
    accelerator count as the whole of it.
    """

    __slots__ = (
        "_each",
        "_fleet",
        "_idle_w",
        "_keeping",
        "_steps",
        "_strange_w",
        "_unknown_w",
        "held_to",
        "limit_w",
        "limited_by",
        "watts",
    )

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._steps = [
            (one.accelerator_w - one.accelerator_idle_w, one.node_watts(0, busy=True) - one.idle_w)
            for one in fleet.hardware
        ]
        self._each = [self._steps[kind] for kind in fleet.node_hardware.tolist()]
        self._idle_w = [0] * len(fleet.sites)
        self._strange_w = [0] * len(fleet.sites)
        self._unknown_w = [0] * len(fleet.sites)
        self._keeping: dict[int, int] = {}
        self.watts = [0] * len(fleet.sites)
        self.limit_w: dict[int, int] = {}
        self.limited_by: dict[int, InstructionId] = {}
        self.held_to: dict[int, InstructionId] = {}

    def clear(self) -> None:
        """Nothing runs but for strangers, and what is not known."""
        self._keeping.clear()
        kept = zip(self._idle_w, self._strange_w, self._unknown_w, strict=True)
        self.watts = [idle_w + strange_w + unknown_w for idle_w, strange_w, unknown_w in kept]

    def strangers(self, node: int, sign: int) -> None:
        """Somebody came to a node (1), or left it (-1): all that it could draw more than idle is beyond shedding."""
        hardware, site = (
            self._fleet.hardware[self._fleet.node_hardware[node]],
            int(self._fleet.node_site[node]),
        )
        more_w = sign * (hardware.nameplate_w - hardware.idle_w)
        self._strange_w[site] += more_w
        self.watts[site] += more_w

    def unknown(self, watts: list[int]) -> None:
        """What meters see at each site beyond all that is known to draw there: nobody knows how to shed it."""
        for site, now_w in enumerate(watts):
            self.watts[site] += now_w - self._unknown_w[site]
            self._unknown_w[site] = now_w

    def count_idle(self, counted: npt.NDArray[np.bool_]) -> None:
        """From now on these nodes count with their idle draw."""
        fleet = self._fleet
        idle = np.array([one.idle_w for one in fleet.hardware] or [0], np.int64)
        each = np.where(counted, idle[fleet.node_hardware], 0)
        for number in range(len(self.watts)):
            idle_w = int(each[fleet.node_site == number].sum())
            self.watts[number] += idle_w - self._idle_w[number]
            self._idle_w[number] = idle_w

    def hold(self, placement: Placement, rung: Rung, sign: int) -> None:
        """Count (1), or no longer (-1), what of a placement stays when it is shed by ``rung``."""
        if rung in _GO:
            return
        fleet, keeping, steps, more_w = self._fleet, self._keeping, self._each, 0
        stays, alone = rung is Rung.KEEP, 0 if sign > 0 else 1
        index = fleet.node_index
        for rank in placement.ranks:
            node = index[rank[0]]  # type: ignore[index]
            step_w, wake_w = steps[node]
            there = keeping.get(node, 0)
            if stays:
                more_w += step_w * rank[1].bit_count()
            if there == alone:
                more_w += wake_w
            if there + sign:
                keeping[node] = there + sign
            else:
                keeping.pop(node, None)
        self.watts[fleet.site_index[placement.site]] += sign * more_w

    def needs_w(self, site: int, rung: Rung, nodes: "list[tuple[int, int]]") -> int:
        """What the floor of a site grows by if a workload gets these ``(node, accelerators)``."""
        if rung in _GO:
            return 0
        need_w = 0
        for node, accelerators in nodes:
            step_w, wake_w = self._each[node]
            need_w += step_w * accelerators if rung is Rung.KEEP else 0
            need_w += 0 if node in self._keeping else wake_w
        return need_w

    def keeps(self, node: int) -> bool:
        """Whether somebody is on a node who stays when all has been shed."""
        return node in self._keeping

    @property
    def kept(self) -> list[int]:
        """Nodes on which somebody stays when all has been shed: who joins them wakes nothing."""
        return list(self._keeping)

    def ever_w(self, site: int) -> int | None:
        """How much may ever be beyond shedding at a site besides idle nodes; None where all of its connection is firm."""
        declared = self._fleet.sites[site]
        if not declared.connection.flexible_w:
            return None
        return it_watts(declared, declared.connection.firm_w) - self._idle_w[site]

    def least_w(self, rung: Rung, kinds: Iterable[int], count: int, accelerators: int) -> int:
        """The least that the floor grows by if a workload gets ``count`` nodes of any of these types of hardware."""
        if rung in _GO:
            return 0
        each = [self._steps[kind] for kind in kinds]
        return count * min(
            (wake_w + (step_w * accelerators if rung is Rung.KEEP else 0) for step_w, wake_w in each),
            default=0,
        )

    def left_w(self, site: int) -> int | None:
        """How much it may still grow by at a site; None where nothing limits it but the connection."""
        limit_w = self.limit_w.get(site)
        return None if limit_w is None else limit_w - self.watts[site]
