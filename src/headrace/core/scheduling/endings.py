"""When live placements end, as columns by site: found once, and kept up with from one question to the next.

A hundred thousand placements are too many to look at each time that somebody asks when there will be room. Whoever owns the
world says what comes and goes; an answer is the same with what was kept as without.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from headrace.core.fleet import I64
from headrace.core.ids import NodeId, PlacementId, SiteId
from headrace.core.scheduling.columns import Mask, Use
from headrace.core.scheduling.snapshot import U64, Snapshot
from headrace.core.workload import HOLDING, WHOLE_MILLI, Placement, State, Workload

_MOST_LOGGED = 100_000
"""Changes that nobody asked about since: beyond that it is cheaper to begin again."""
_MOST_NOTED = 2_000
"""The same of one site."""


class Ending(NamedTuple):
    """A placement with an end: ``lasts_ms`` after ``began_ms``, for certain (``is_sure``) or as its owner expects.

    What is being stopped lasts for its grace after it was told.
    """

    placement: Placement
    workload: Workload
    began_ms: int
    lasts_ms: int
    is_sure: bool
    uses: tuple[Use, ...]

    def end_ms(self, now_ms: int) -> int | None:
        """When it ends; None when it was expected to have ended by now."""
        end_ms = self.began_ms + self.lasts_ms
        if self.is_sure and not (end_ms < now_ms and self.is_held_up):
            return max(now_ms, end_ms)
        return end_ms if end_ms > now_ms else None

    @property
    def is_held_up(self) -> bool:
        """Whether it is paused, so that its limit does not end it in time."""
        return self.placement.stop_reason is None and self.workload.state is State.PAUSED


def ending_of(snapshot: Snapshot, placement: Placement) -> Ending | None:
    """A placement's end; None when it has none that is known."""
    workload = snapshot.workloads.get(placement.workload)
    if workload is None or workload.placement != placement.id or workload.state not in HOLDING:
        return None
    spec, stopping = workload.spec, placement.stop_reason is not None
    lasts_ms = spec.grace_ms if stopping else spec.max_duration_ms or spec.expected_ms
    if not lasts_ms and not stopping:
        return None
    index, number = snapshot.fleet.node_index, snapshot.tenant_number(placement.tenant)
    uses = tuple(
        Use(index[NodeId(rank[0])], *rank[1:], number) for rank in placement.ranks if rank[0] in index
    )
    began_ms = placement.stop_since_ms if stopping else placement.started_ms or placement.made_ms
    return Ending(placement, workload, began_ms, lasts_ms, stopping or bool(spec.max_duration_ms), uses)


@dataclass(frozen=True, slots=True)
class SiteEnds:
    """Who ends at a site: ``began_ms``, ``lasts_ms`` and ``is_sure`` by row of ``rows``; then, by rank that is no fraction,
    its ``row`` and what it has; ``parts`` are those that are fractions."""

    rows: list[Ending]
    began_ms: I64
    lasts_ms: I64
    is_sure: Mask
    row: I64
    nodes: I64
    bits: U64
    cpu_milli: I64
    memory_mb: I64
    parts: list[tuple[int, Use]]

    def ends_ms(self, now_ms: int) -> I64:
        """When each row ends; -1 for one that was expected to have ended by now."""
        ends = self.began_ms + self.lasts_ms
        found = np.where(self.is_sure, np.maximum(ends, now_ms), np.where(ends > now_ms, ends, -1))
        for row in np.flatnonzero(self.is_sure & (ends < now_ms)).tolist():
            if self.rows[row].is_held_up:
                found[row] = -1
        return found

    def changed(self, gone: list[Ending], came: list[Ending]) -> "SiteEnds":
        """The same without ``gone``, and with ``came`` behind the others: of thousands, a few have changed."""
        # By identity: to compare them all is to read them all.
        away = {id(one) for one in gone}
        keep = np.array([id(row) not in away for row in self.rows], dtype=np.bool_)
        number = np.cumsum(keep) - 1
        some, more = keep[self.row], _site_ends([one for one in came if id(one) not in away])
        shift = int(np.count_nonzero(keep))

        def both(before: I64, after: I64) -> I64:
            return np.concatenate((before, after))

        return SiteEnds(
            [row for row, stays in zip(self.rows, keep.tolist(), strict=True) if stays] + more.rows,
            both(self.began_ms[keep], more.began_ms),
            both(self.lasts_ms[keep], more.lasts_ms),
            np.concatenate((self.is_sure[keep], more.is_sure)),
            both(number[self.row[some]], more.row + shift),
            both(self.nodes[some], more.nodes),
            np.concatenate((self.bits[some], more.bits)),
            both(self.cpu_milli[some], more.cpu_milli),
            both(self.memory_mb[some], more.memory_mb),
            [(int(number[row]), use) for row, use in self.parts if keep[row]]
            + [(row + shift, use) for row, use in more.parts],
        )


def _site_ends(rows: list[Ending]) -> SiteEnds:
    # Column by column: of a large site these are ten thousand ranks, and whoever asks waits.
    uses = [use for row in rows for use in row.uses]
    columns = list(zip(*uses, strict=True)) or [()] * len(Use._fields)
    number = np.repeat(np.arange(len(rows)), np.array([len(row.uses) for row in rows], dtype=np.int64))
    whole = np.array(columns[4], dtype=np.int64) == WHOLE_MILLI
    parts = [(int(number[at]), uses[at]) for at in np.flatnonzero(~whole).tolist()]
    return SiteEnds(
        rows,
        np.array([row.began_ms for row in rows], dtype=np.int64),
        np.array([row.lasts_ms for row in rows], dtype=np.int64),
        np.array([row.is_sure for row in rows], dtype=np.bool_),
        number[whole],
        np.array(columns[0], dtype=np.int64)[whole],
        np.array(columns[1], dtype=np.uint64)[whole],
        np.array(columns[2], dtype=np.int64)[whole],
        np.array(columns[3], dtype=np.int64)[whole],
        parts,
    )


@dataclass(slots=True)
class Endings:
    """The ends that are known of one world. ``_gone``, ``_came``: what ``_made`` does not know yet, by site."""

    _by_site: dict[SiteId, dict[PlacementId, Ending]] | None = None
    _made: dict[SiteId, SiteEnds] = field(default_factory=dict)
    _gone: dict[SiteId, list[Ending]] = field(default_factory=dict)
    _came: dict[SiteId, list[Ending]] = field(default_factory=dict)
    _not_started: dict[PlacementId, Placement] = field(default_factory=dict)
    _log: list[tuple[Placement, int]] = field(default_factory=list)

    def moved(self, placement: Placement, sign: int) -> None:
        """A placement has begun (1) or is over (-1)."""
        if self._by_site is None:
            return
        self._log.append((placement, sign))
        if len(self._log) > _MOST_LOGGED:
            self.clear()

    def clear(self) -> None:
        """The nodes are others: nothing holds any more."""
        self._by_site = None
        self._made.clear()
        self._gone.clear()
        self._came.clear()
        self._not_started.clear()
        self._log.clear()

    def at(self, snapshot: Snapshot, site: SiteId) -> SiteEnds:
        """Who ends at a site."""
        made = self._made.get(site)
        gone, came = self._gone.pop(site, []), self._came.pop(site, [])
        if made is None:
            rows = self.rows(snapshot).get(site, {})
            made = self._made[site] = _site_ends(list(rows.values()))
        elif gone or came:
            made = self._made[site] = made.changed(gone, came)
        return made

    def rows(self, snapshot: Snapshot) -> dict[SiteId, dict[PlacementId, Ending]]:
        """All that have an end, by site, caught up with a snapshot."""
        if self._by_site is None:
            self._by_site = {}
            for placement in snapshot.placements.values():
                self._add(snapshot, placement)
        return self._by_site

    def catch_up(self, snapshot: Snapshot) -> None:
        """Take in what happened since the last question."""
        by_site = self.rows(snapshot)
        for placement, sign in self._log:
            if sign > 0:
                self._add(snapshot, placement)
            else:
                self._not_started.pop(placement.id, None)
                gone = by_site.get(placement.site, {}).pop(placement.id, None)
                if gone is not None:
                    self._note(self._gone, gone)
        self._log.clear()
        late = [placement for placement in self._not_started.values() if placement.started_ms]
        # Who is being stopped ends once its grace is over, whatever its limit.
        idents = snapshot.stopping if snapshot.stopping is not None else snapshot.placements
        stopping = [snapshot.placements[ident] for ident in idents if ident in snapshot.placements]
        for placement in late:
            self._add(snapshot, placement)
        for placement in (one for one in stopping if one.stop_reason is not None):
            known = by_site.get(placement.site, {}).get(placement.id)
            told = placement.stop_since_ms, snapshot.workloads[placement.workload].spec.grace_ms
            if known is None or (known.began_ms, known.lasts_ms) != told:
                self._add(snapshot, placement)

    def _note(self, noted: dict[SiteId, list[Ending]], ending: Ending) -> None:
        site = ending.placement.site
        if site in self._made:
            there = noted.setdefault(site, [])
            there.append(ending)
            if len(there) > _MOST_NOTED:
                del self._made[site]

    def _add(self, snapshot: Snapshot, placement: Placement) -> None:
        by_site, ident = self.rows(snapshot), placement.id
        ending = ending_of(snapshot, placement)
        if ending is None:
            return
        there = by_site.setdefault(placement.site, {})
        if ident in there:
            # It keeps its place.
            self._made.pop(placement.site, None)
        there[ident] = ending
        self._note(self._came, ending)
        if placement.started_ms:
            self._not_started.pop(ident, None)
        else:
            self._not_started[ident] = placement
