"""When a waiting workload could start at the earliest, as far as it is known who ends when.

It counts on limits of duration first, else on what owners expect; who has neither has no end that is known. Nobody else who
waits is counted: it can only be later.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np

from headrace.core.fleet import I64, NEVER_DAY
from headrace.core.scheduling.columns import Scratch, shift
from headrace.core.scheduling.endings import Ending, Endings, SiteEnds
from headrace.core.scheduling.findings import Finding, count
from headrace.core.scheduling.rank import choose, has_room
from headrace.core.scheduling.refuse import Refusal
from headrace.core.scheduling.sight import Sight, Spot
from headrace.core.units import MS_PER_SECOND, format_duration

_WAITS_FOR_OTHERS = frozenset(
    {
        Refusal.CONTRACT,
        Refusal.QUOTA,
        Refusal.POWER,
        Refusal.NODE_STATE,
        Refusal.CAPACITY,
        Refusal.TOPOLOGY,
        Refusal.WINDOW,
    }
)
_MOST_NAMED = 2
_LAST_MS = int(datetime(9999, 12, 30, tzinfo=UTC).timestamp()) * MS_PER_SECOND
"""Beyond it a time has no name in every zone: "until 9999-12-31" means for ever."""


@dataclass(frozen=True, slots=True)
class Earliest:
    """When it could start at the earliest (None: not known), and the line that says so; "" when there is nothing to say."""

    at_ms: int | None
    line: str


NOTHING = Earliest(None, "")


def earliest(sight: Sight, finding: Finding) -> Earliest:
    """When what waits because of ``finding`` could start at the earliest, at any site that it may use."""
    spots = list(sight.spots())
    if finding.refusal not in _WAITS_FOR_OTHERS or not spots or sight.spec.reservation is not None:
        return NOTHING
    return _Search(sight, finding, spots).run()


def moment(at_ms: int, now_ms: int, zone: str) -> str:
    """A time for people, in a zone: ``14:20 CET (in 2h 10m)``, with its day unless that is today."""
    where = ZoneInfo(zone)
    if at_ms > _LAST_MS:
        return f"the end of time (in {format_duration(at_ms - now_ms)})"
    at, now = (datetime.fromtimestamp(one // MS_PER_SECOND, tz=where) for one in (at_ms, now_ms))
    day = "" if at.date() == now.date() else f"{at:%Y-%m-%d} "
    return f"{day}{at:%H:%M} {at:%Z} (in {format_duration(max(0, at_ms - now_ms))})"


class _Leaving:
    """Who leaves a site and when, in the order of their ends; ranks as arrays, fractions apart."""

    def __init__(self, ends: SiteEnds, now_ms: int) -> None:
        self.ends = ends
        self.row_ends_ms = ends.ends_ms(now_ms)
        of_rank = self.row_ends_ms[ends.row]
        order = np.argsort(of_rank, kind="stable")
        # Who was expected to be gone by now may stay for ever.
        order = order[int(np.searchsorted(of_rank[order], 0)) :]
        self.rank_ends_ms, self.nodes, self.bits = of_rank[order], ends.nodes[order], ends.bits[order]
        self.cpu_milli, self.memory_mb = ends.cpu_milli[order], ends.memory_mb[order]

    def release(self, sight: Sight, state: Scratch, by_ms: int) -> None:
        """Give back what has ended by a time: :func:`~headrace.core.scheduling.columns.shift` on arrays that are there."""
        columns, last = sight.columns, int(np.searchsorted(self.rank_ends_ms, by_ms, side="right"))
        nodes, bits = self.nodes[:last], self.bits[:last]
        used = np.bitwise_count(bits).astype(np.int64)
        touched = np.unique(nodes)
        np.bitwise_xor.at(state.bits, nodes, bits)
        np.add.at(state.free, nodes, used)
        np.add.at(state.cpu_milli, nodes, self.cpu_milli[:last])
        np.add.at(state.memory_mb, nodes, self.memory_mb[:last])
        np.subtract.at(state.ranks, nodes, 1)
        slept = touched[state.ranks[touched] == 0]
        used_w, slept_w = used * columns.step_w[nodes], columns.wake_w[slept]
        if state.intruded:
            used_w, slept_w = used_w * state.moves(nodes), slept_w * state.moves(slept)
        for row in columns.paths:
            np.add.at(state.head_w, row[nodes], used_w)
            np.add.at(state.head_w, row[slept], slept_w)
        parts = [use for row, use in self.ends.parts if 0 <= self.row_ends_ms[row] <= by_ms]
        if parts:
            shift(columns, state, parts, 1)

    def ended(self, by_ms: int, from_ms: int = 0) -> list[Ending]:
        """Who has ended by a time, and not before ``from_ms``."""
        some = np.flatnonzero((self.row_ends_ms >= from_ms) & (self.row_ends_ms <= by_ms))
        return [self.ends.rows[row] for row in some.tolist()]


class _Search:
    def __init__(self, sight: Sight, finding: Finding, spots: list[Spot]) -> None:
        self.sight, self.finding, self.spots = sight, finding, spots
        self.snapshot, self.columns, self.now_ms = sight.snapshot, sight.columns, sight.snapshot.now_ms
        self.endings = self.snapshot.endings or Endings()
        self.endings.catch_up(self.snapshot)
        self.leaving: dict[int, _Leaving] = {}
        self.counted: list[tuple[int, Ending, int]] = []
        """Who leaves something of a quota or a contract that it needs: when, and thousandths of accelerators."""
        if self._is_counted():
            self._count()
        fleet = self.snapshot.fleet
        today = int(datetime.fromtimestamp(self.now_ms / MS_PER_SECOND, UTC).strftime("%Y%m%d"))
        coming = (fleet.node_from_day > today) & (fleet.node_from_day < NEVER_DAY)
        self.days = {int(day): _midnight_ms(int(day)) for day in np.unique(fleet.node_from_day[coming])}

    def _count(self) -> None:
        tenant, contracts = self.sight.tenant, {spot.contract.id for spot in self.spots}
        for there in self.endings.rows(self.snapshot).values():
            for ending in there.values():
                placement, end_ms = ending.placement, ending.end_ms(self.now_ms)
                if end_ms is not None and (placement.tenant == tenant or placement.contract in contracts):
                    milli = sum(rank.accelerators_milli for rank in placement.ranks)
                    self.counted.append((end_ms, ending, milli))

    def _is_counted(self) -> bool:
        """Whether a quota or a contract has only so much for it."""
        shares, tenant, project = self.sight.ground.shares, self.sight.tenant, self.sight.spec.project
        limits = shares.tenant(tenant).quota.limit, shares.project(tenant, project).quota.limit
        return any(limits) or any(spot.contract.kind == "reserved" for spot in self.spots)

    def run(self) -> Earliest:
        """The earliest of all spots."""
        best: tuple[int, Spot, I64] | None = None
        for spot in self.spots:
            found = self._at(spot, None if best is None else best[0])
            if found is not None:
                best = found[0], spot, found[1]
        if best is None:
            return self._not_known()
        at_ms, spot, nodes = best
        when = moment(at_ms, self.now_ms, self.snapshot.zone)
        return Earliest(at_ms, f"at the earliest at {when}{self._who(spot, nodes, at_ms)}")

    def _at(self, spot: Spot, before_ms: int | None) -> tuple[int, I64] | None:
        """When and where a spot has room at the earliest, if that is before ``before_ms``."""
        times = self._times(spot.site)
        if before_ms is not None:
            times = times[: int(np.searchsorted(times, before_ms))]
        nodes = self._nodes(spot, int(times[-1])) if len(times) else None
        if nodes is None:
            return None
        low, high = 0, len(times) - 1
        while low < high:
            middle = (low + high) // 2
            found = self._nodes(spot, int(times[middle]))
            if found is None:
                low = middle + 1
            else:
                high, nodes = middle, found
        return int(times[high]), nodes

    def _times(self, site: int) -> I64:
        times = [end_ms for end_ms, *_ in self.counted]
        times += self.days.values()
        times += [one.ends_ms for one in self.snapshot.windows if one.ends_ms > self.now_ms]
        rows = self._leaving(site).row_ends_ms
        return np.unique(np.append(np.array(times, dtype=np.int64), rows[rows >= 0]))

    def _leaving(self, site: int) -> _Leaving:
        leaving = self.leaving.get(site)
        if leaving is None:
            ends = self.endings.at(self.snapshot, self.snapshot.fleet.sites[site].id)
            leaving = self.leaving[site] = _Leaving(ends, self.now_ms)
        return leaving

    def _nodes(self, spot: Spot, at_ms: int) -> I64 | None:
        """The nodes that it would get at a spot once all have left who have ended by then."""
        sight, columns = self.sight, self.columns
        state, filling, _ = sight.with_windows(self._state(spot.site, at_ms), at_ms)
        nodes = choose(columns, state, spot.ask, spot.site)
        if nodes is None and filling is not None:
            nodes = choose(columns, filling, spot.ask, spot.site)
        if nodes is None:
            return None
        short = sight.contract_short(spot, nodes)
        if short is not None and short.over_milli > self._freed(at_ms, contract=spot.contract.id):
            return None
        if spot.contract.kind == "reserved":
            return nodes
        asked_milli = sight.asked_milli(spot, nodes)
        tenant, project = sight.tenant, sight.spec.project
        shares = sight.ground.shares
        freed_milli = self._freed(at_ms)
        if shares.tenant(tenant).is_over(asked_milli - freed_milli):
            return None
        freed_milli = self._freed(at_ms, project=project)
        return None if shares.project(tenant, project).is_over(asked_milli - freed_milli) else nodes

    def _freed(self, by_ms: int, *, contract: str = "", project: str = "") -> int:
        """Thousandths of accelerators of a contract, of a project, or of its tenant, that have come back by a time."""
        total = 0
        for end_ms, ending, milli in self.counted:
            if end_ms > by_ms:
                continue
            placement, spec = ending.placement, ending.workload.spec
            if contract:
                total += milli if placement.contract == contract else 0
            elif placement.tenant == self.sight.tenant and project in ("", spec.project):
                known = self.snapshot.contracts.get(placement.contract)
                total += 0 if known is not None and known.kind == "reserved" else milli
        return total

    def _state(self, site: int, at_ms: int) -> Scratch:
        state = self.sight.ground.free.copy()
        self._leaving(site).release(self.sight, state, at_ms)
        for day, from_ms in self.days.items():
            if from_ms <= at_ms:
                state.open[self.snapshot.fleet.node_from_day == day] = True
        return state

    # -- in words -------------------------------------------------------------------------------------------------

    def _who(self, spot: Spot, nodes: I64, at_ms: int) -> str:
        """Who ends: on the chosen nodes, or, if those are free, at that moment; of other tenants only how many."""
        leaving = self._leaving(spot.site)
        chosen = set(nodes.tolist())
        found = [one for one in leaving.ended(at_ms) if any(use.node in chosen for use in one.uses)]
        found = found or leaving.ended(at_ms, at_ms)
        found = found or [one for end_ms, one, _ in self.counted if end_ms == at_ms]
        if not found:
            return ""
        mine = [one.workload.id for one in found if one.workload.tenant == self.sight.tenant]
        own = mine[:_MOST_NAMED]
        return f", when {_names(own, len(found) - len(own))}"

    def _not_known(self) -> Earliest:
        """How many nodes would do, and are held by work of which nobody knows when it ends."""
        finding = self.finding
        if finding.found is None or finding.refusal not in (Refusal.CAPACITY, Refusal.TOPOLOGY):
            return NOTHING
        state, _, _ = self.sight.with_windows(self._state(finding.site, 1 << 60), 1 << 60)
        start = self.columns.spans[finding.site].start
        roomy = has_room(self.columns, state, finding.ask, finding.site)[finding.found.ready - start]
        held = int(np.count_nonzero(~roomy))
        if not held:
            return NOTHING
        are = "is" if held == 1 else "are"
        text = f"when is not known: {held} of {len(finding.found.ready)} such nodes {are} held by work without an end"
        return Earliest(None, text)


def _names(own: Iterable[str], others: int) -> str:
    named = list(own)
    if not named:
        return f"{count(others, 'workload')} end{'s' if others == 1 else ''}"
    if others:
        return f"{', '.join(named)} and {count(others, 'other')} end"
    return f"{' and '.join(named)} end{'s' if len(named) == 1 else ''}"


def _midnight_ms(day: int) -> int:
    return int(datetime(day // 10_000, day // 100 % 100, day % 100, tzinfo=UTC).timestamp()) * MS_PER_SECOND
