"""Those that wait and share accelerators in time, by group and in the order of what they have left to do.

Kept from plan to plan, since thousands may wait of whom a dozen have a chance: what came, went or is expected to run for
another time is put in its place again. What comes out is the same as if all were looked at anew.
"""

from collections.abc import Iterable, Mapping

from headrace.core.ids import PlacementId, WorkloadId
from headrace.core.scheduling.leaving import Holder
from headrace.core.scheduling.queue import Queue
from headrace.core.scheduling.service import History, expect
from headrace.core.scheduling.sharing import Group, attained_ms, group_of, kind_of, shares_time
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.scheduling.timeshare import Contender, Standing
from headrace.core.workload import TERMINAL, Placement, Workload


def contender_of(
    history: History, workload: Workload, now_ms: int, placement: Placement | None = None
) -> Contender:
    """A workload as it contends now: it runs as ``placement``, or waits (None), with the time to come back before it."""
    spec = workload.spec
    each, nodes = spec.resources.accelerators, spec.nodes
    attained = attained_ms(workload, placement, now_ms)
    age_ms = now_ms - workload.submitted_ms
    found = expect(history, workload.id, each * nodes, attained, age_ms, spec.expected_ms)
    comes_back = each * nodes * spec.restart_ms if placement is None and workload.attempt else 0
    return Contender(
        workload.id,
        each,
        nodes,
        found.index + comes_back,
        workload.submitted_seq,
        attained,
        found.exact,
        outlook=found.outlook,
        # Metered until a moment that is yet to come: until then it attains nothing more.
        delay_ms=max(0, placement.metered_ms - now_ms) if placement is not None else 0,
        ripens_ms=workload.submitted_ms + found.ripens_ms,
    )


def history_of(snapshot: Snapshot) -> History:
    """What a snapshot knows of how long work runs; if it knows nothing, what those say that have not ended."""
    if snapshot.history is not None:
        return snapshot.history
    history = History()
    for workload in sorted(snapshot.workloads.values(), key=lambda one: one.submitted_seq):
        if workload.state not in TERMINAL and shares_time(workload.spec):
            history.enter(workload.id, kind_of(workload))
            history.attain(workload.id, workload.attained_ms)
    return history


class Standings:
    """The waiting contenders of each group, as of one moment."""

    def __init__(self) -> None:
        self._groups: dict[Group, Standing] = {}
        self._of: dict[WorkloadId, Group] = {}
        self._queue: Queue | None = None
        self._history: History | None = None
        self._now_ms = self._noted = self._expected = 0
        self._guesses = False
        self._running: dict[PlacementId, tuple[int, int, Contender]] = {}

    def running(self, workload: Workload, placement: Placement) -> Contender:
        """One that runs, as it contends now; found once for each moment, of which there may be several plans."""
        if self._history is None:
            raise AssertionError("nobody is known before the first is caught up with")
        key = attained_ms(workload, placement, self._now_ms), placement.metered_ms
        found = self._running.get(placement.id)
        if found is None or found[:2] != key:
            contender = contender_of(self._history, workload, self._now_ms, placement)
            found = self._running[placement.id] = *key, contender
        return found[2]

    def of(self, group: Group) -> Standing:
        """Who waits of a group."""
        return self._groups[group]

    def groups(self) -> list[Group]:
        """Those of whom somebody waits."""
        return [group for group, standing in self._groups.items() if len(standing)]

    def catch_up(
        self,
        snapshot: Snapshot,
        queue: Queue,
        history: History,
        holders: Iterable[Mapping[PlacementId, Holder]],
    ) -> None:
        """Be as of a snapshot; ``holders`` are those that run and may be told to go, by site."""
        now_ms = snapshot.now_ms
        noted_now, noted = queue.noted.since(self._noted)
        if now_ms != self._now_ms:
            self._running.clear()
        same = self._queue is queue and self._history is history and now_ms >= self._now_ms
        self._now_ms, self._noted = now_ms, noted_now
        if not same or noted is None:
            self._queue, self._history = queue, history
            self._groups.clear()
            self._of.clear()
            self._running.clear()
            self._guesses, self._expected = False, 0
            noted = [
                work for line, members in queue.lines.items() if line.shares_time for work in members.values()
            ]
        for work in noted:
            self._drop(work.id)
            if work.id in queue:
                self._of[work.id] = group_of(work)
                self._put(work)
        _attain(history, holders, now_ms)
        if self._guesses:
            self._expect_anew(queue, history)
        else:
            self._running.clear()
        for standing in self._groups.values():
            for ident in standing.ripe(now_ms):
                self._put(queue[ident])

    def _expect_anew(self, queue: Queue, history: History) -> None:
        since = self._expected
        self._expected, changed = history.changes(since)
        if changed is None or changed:
            self._running.clear()
        for ident in self._of if changed is None else changed:
            if ident in self._of:
                self._put(queue[ident])

    def _put(self, work: Workload) -> None:
        if self._history is None:
            raise AssertionError("nobody stands before the first is caught up with")
        contender = contender_of(self._history, work, self._now_ms)
        if not contender.exact:
            self._guesses = True
        group = self._of[work.id]
        standing = self._groups.get(group)
        if standing is None:
            standing = self._groups[group] = Standing()
        standing.put(contender)

    def _drop(self, ident: WorkloadId) -> None:
        group = self._of.pop(ident, None)
        if group is not None:
            standing = self._groups[group]
            standing.drop(ident)
            if not len(standing):
                del self._groups[group]


def _attain(history: History, holders: Iterable[Mapping[PlacementId, Holder]], now_ms: int) -> None:
    """What siblings have attained by now tells more of all of them."""
    for some in holders:
        for holder in some.values():
            work = holder.workload
            if work.id in history:
                history.attain(work.id, attained_ms(work, holder.placement, now_ms))


def held_at(contender: Contender, on: tuple[int, ...]) -> Contender:
    """The same on nodes."""
    # Not by replace(), which costs thrice as much: this is done for all that run at each decision.
    return Contender(
        contender.id,
        contender.accelerators,
        contender.nodes,
        contender.index,
        contender.seq,
        contender.attained_ms,
        contender.exact,
        on,
        outlook=contender.outlook,
        delay_ms=contender.delay_ms,
        ripens_ms=contender.ripens_ms,
    )
