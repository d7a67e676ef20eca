"""The turns of those that share accelerators in time: who of a group starts, and who goes for an equal that has less left to do.

A group has its turns among all others, one start at each. What it holds already it divides anew as
:mod:`~headrace.core.scheduling.timeshare` decides; what that gives is looked at here once more, by power, processors, memory,
quota and whatever is kept for others. Where nothing of it runs, it is placed like all other work, by what is left to do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np

from headrace.core.fleet import I64
from headrace.core.ids import WorkloadId
from headrace.core.scheduling.columns import Columns
from headrace.core.scheduling.leaving import Holder
from headrace.core.scheduling.memory import Memory, Option, Shape
from headrace.core.scheduling.order import Waiting
from headrace.core.scheduling.present import Present
from headrace.core.scheduling.queue import Kind, Queue, line_of
from headrace.core.scheduling.rank import increments_w, path_need_w
from headrace.core.scheduling.service import History
from headrace.core.scheduling.sharing import Group, group_of, protected_until_ms, shares_time
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.scheduling.standings import held_at, history_of
from headrace.core.scheduling.timeshare import Contender, Decision, NodeRoom, decide, order_of
from headrace.core.scheduling.waits import Taker, Waits
from headrace.core.workload import WHOLE_MILLI, State, Workload

_MANY_NODES = 256
"""Above so many, empty nodes are left out that nobody could need."""


class Placer(Protocol):
    """What places work in a pass."""

    snapshot: Snapshot
    columns: Columns
    memory: Memory
    present: Present
    waits: Waits

    def shape(self, kind: Kind, workload: Workload) -> Shape:
        """What equal workloads have in common."""
        ...

    def start(self, waiting: Waiting, workload: Workload, shape: Shape) -> bool:
        """Place it wherever it fits."""
        ...

    def fills(self, waiting: Waiting, workload: Workload, shape: Shape) -> bool:
        """Place it on nodes that are held until after it is gone."""
        ...

    def fails(self, workload: Workload, shape: Shape, waiting: Waiting) -> Workload | None:
        """It can't start now, and may wait."""
        ...

    def is_covered(self, waiting: Waiting, option: Option, site: int, nodes: Sequence[int]) -> bool:
        """Whether its quota and its contract have so much left."""
        ...

    def place(
        self, waiting: Waiting, workload: Workload, option: Option, site: int, nodes: Sequence[int]
    ) -> None:
        """Let it start there."""
        ...


class Runner(NamedTuple):
    """One that runs and shares; ``until_ms``: until when it is protected, None while its start is not confirmed."""

    holder: Holder
    contender: Contender
    until_ms: int | None


@dataclass(frozen=True, slots=True)
class _Decided:
    """What was decided for a site: ``nodes`` are those that the decision counts, ``runners`` those who may go."""

    decision: Decision
    nodes: list[int]
    runners: dict[WorkloadId, Runner]

    def at(self, places: Sequence[int]) -> tuple[int, ...]:
        """Nodes of the fleet."""
        return tuple(self.nodes[place] for place in places)


class Sharing:
    """Who shares in one pass, and when time alone changes what was decided."""

    def __init__(self, placer: Placer, queue: Queue) -> None:
        self.placer, self.queue = placer, queue
        snapshot, memory = placer.snapshot, placer.memory
        self.history: History = history_of(snapshot)
        spans, total = placer.columns.spans, placer.columns.total
        self.sites = range(len(spans))
        self.most = len(spans) * max((int(total[span].sum()) for span in spans), default=0)
        """No fewer accelerators than all that any of them could have at once."""
        holders = [memory.evictable(snapshot, site) for site in self.sites]
        self.standings = memory.standings
        self.standings.catch_up(snapshot, queue, self.history, holders)
        self.again: dict[tuple[Group, int], int] = {}
        self._runners: dict[tuple[Group, int], list[Runner]] = {}
        self._evictable = sum(len(some) for some in holders)
        for site, some in enumerate(holders):
            for holder in some.values():
                if shares_time(holder.workload.spec) and holder.contract is None:
                    self._runners.setdefault((group_of(holder.workload), site), []).append(
                        self._runner(holder)
                    )

    def _runner(self, holder: Holder) -> Runner:
        contender = self.standings.running(holder.workload, holder.placement)
        return Runner(holder, contender, protected_until_ms(holder.placement, holder.workload.spec))

    def runners(self, group: Group, site: int) -> list[Runner]:
        """Those of a group that run at a site, and may be moved or told to go at any time or later."""
        evicted = self.placer.waits.evicted
        return [
            one
            for one in self._runners.get((group, site), ())
            if one.holder.placement.stop_reason is None and one.holder.placement.id not in evicted
        ]

    def are_all_equals(self, group: Group) -> bool:
        """Whether nobody may be told to go for anybody, but those of one group."""
        return self._evictable == sum(len(self._runners.get((group, site), ())) for site in self.sites)

    def again_ms(self) -> int | None:
        """When to look again, if nothing happens before."""
        return min(self.again.values(), default=None)


class Turns:
    """One group in a pass."""

    def __init__(self, sharing: Sharing, group: Group) -> None:
        self.sharing, self.group, self.placer = sharing, group, sharing.placer
        self.standing = sharing.standings.of(group)
        self.done: set[WorkloadId] = set()
        self.tight: set[int] = set()
        """Sites where what is free was not to be had."""
        self._shapes: dict[tuple[int, ...], Shape] = {}
        self._own = {
            site: sum(one.contender.size for one in sharing.runners(group, site)) for site in sharing.sites
        }
        self._left = self._foremost()
        self._decided: dict[int, tuple[tuple[int, ...], _Decided]] = {}

    # -- who --------------------------------------------------------------------------------------------------------

    def _foremost(self) -> list[tuple[Contender, Workload, Shape]]:
        """Those that wait and are due, least left to do first; of each shape as many as could run at once."""
        queue, now_ms = self.sharing.queue, self.placer.snapshot.now_ms
        found = [
            one for one in self.standing.foremost(self.sharing.most) if queue[one.id].not_before_ms <= now_ms
        ]
        found.sort(key=lambda one: order_of(one, runs=False))
        works = [queue[one.id] for one in found]
        return [(one, work, self.shape(work)) for one, work in zip(found, works, strict=True)]

    def left(self) -> list[tuple[Contender, Workload, Shape]]:
        """Those of them that nothing was found for yet in this pass."""
        if self.done:
            self._left = [one for one in self._left if one[0].id not in self.done]
        return self._left

    def shape(self, work: Workload) -> Shape:
        """What a workload of the group asks for; within it, numbers alone tell asks apart."""
        need = work.spec.resources
        key = work.spec.nodes, need.accelerators, need.cpu_milli, need.memory_mb
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = self.placer.shape(self.sharing.queue.kind(line_of(work)), work)
        return shape

    @property
    def head(self) -> Workload | None:
        """Whose turn it is next."""
        left = self.left()
        return left[0][1] if left else None

    # -- the turns --------------------------------------------------------------------------------------------------

    def take(self, waiting: Waiting) -> Iterator[Workload]:
        """Do what there is to do, one start or one swap at a time; after each the workload whose turn is next."""
        for _ in self._each(waiting):
            head = self.head
            if head is None:
                return
            waiting.line = line_of(head)
            yield head

    def _each(self, waiting: Waiting) -> Iterator[None]:
        everywhere = self._sites()
        alone = len(everywhere) == 1
        # Where only one site will do, who starts is decided there whether or not any of them runs: else one who went for a
        # larger one would start again before that.
        is_empty = not any(self._own.values())
        sites = everywhere if alone else [site for site in self.sharing.sites if self._own[site]]
        for site in sites:
            yield from self._starts(waiting, site, swaps=alone)
        if len(sites) < len(everywhere) or self.tight or is_empty:
            yield from self._ordinary(waiting)
        if self.placer.present.holds:
            yield from self._fill(waiting)
        yield from self._wait_for_others()
        for site in sites:
            if self._swap(waiting, site):
                yield
        yield from self._wait_long(waiting)

    def _sites(self) -> list[int]:
        """Where any of them may run."""
        return list(
            dict.fromkeys(
                site for shape in self._shapes.values() for option in shape.options for site in option.allowed
            )
        )

    def _starts(self, waiting: Waiting, site: int, *, swaps: bool) -> Iterator[None]:
        """Start those at a site for whom there is room now."""
        decided = self._decide(site, swaps=swaps)
        fresh = True
        while decided is not None:
            start = next(
                ((id_, on) for id_, on in decided.decision.start.items() if id_ not in self.done), None
            )
            if start is None:
                return
            if self._start(waiting, start[0], site, decided.at(start[1])):
                fresh = False
                yield
                continue
            if fresh:
                # Counted right, and yet not to be had: power, a quota, processors.
                self.tight.add(site)
            decided, fresh = self._decide(site, swaps=swaps), True

    def _start(self, waiting: Waiting, ident: WorkloadId, site: int, nodes: tuple[int, ...]) -> bool:
        placer, work = self.placer, self.sharing.queue[ident]
        option = self._option(work, site)
        if option is None or not self._is_free(option, site, nodes):
            return False
        if option.is_counted and not placer.is_covered(waiting, option, site, nodes):
            return False
        if not placer.waits.spares(option.ask, site, nodes):
            return False
        before = self._stamp()
        placer.place(waiting, work, option, site, nodes)
        self.done.add(ident)
        self._own[site] += option.ask.accelerators * len(nodes)
        last = self._decided.get(site)
        if last is not None and last[0] == before:
            # What was decided is on its way.
            self._decided[site] = self._stamp(), last[1]
        return True

    def _stamp(self) -> tuple[int, ...]:
        """What a decision rests on: another one, and it may be another."""
        placer = self.placer
        return len(placer.present.taken), placer.waits.reserved, len(placer.waits.evicted), len(self.tight)

    def _is_free(self, option: Option, site: int, nodes: tuple[int, ...]) -> bool:
        """Whether exactly these nodes have room and power for it now."""
        placer, ask = self.placer, option.ask
        placer.present.pools(site)
        state = placer.present.open_to(ask, placer.present.state)
        chosen = np.array(nodes, dtype=np.int64)
        room = state.open[chosen] & (state.free[chosen] >= ask.accelerators)
        room &= state.cpu_milli[chosen] >= ask.cpu_milli
        room &= state.memory_mb[chosen] >= ask.memory_mb
        room &= option.known.suit[site][chosen - placer.columns.spans[site].start]
        if not room.all():
            return False
        added = increments_w(placer.columns, state, ask, chosen)
        elements, need = path_need_w(placer.columns, chosen, added)
        return bool((state.head_w[elements] >= need).all())

    def _option(self, work: Workload, site: int) -> Option | None:
        """What a workload gets at a site, if it may run there and no contract reserves it."""
        for option in self.shape(work).options:
            paid = option.allowed.get(site)
            if paid is not None and paid.kind != "reserved":
                return option
        return None

    def _ordinary(self, waiting: Waiting) -> Iterator[None]:
        """Start them like all other work, where nothing of the group decides which nodes."""
        for one, work, shape in self.left():
            if shape.may_start and self.placer.start(waiting, work, shape):
                self._has(one)
                yield

    def _fill(self, waiting: Waiting) -> Iterator[None]:
        for one, work, shape in self.left():
            if self.placer.fills(waiting, work, shape):
                self._has(one)
                yield

    def _has(self, one: Contender) -> None:
        self.done.add(one.id)
        for site in self._own:
            self._own[site] += one.size

    def _wait_for_others(self) -> Iterator[None]:
        """Wait for what is leaving, and for those that rank lower: sooner than for an equal."""
        waits = self.placer.waits
        if self.sharing.are_all_equals(self.group) and not waits.leaving and not waits.evicted:
            return
        for one, work, shape in self.left():
            if shape.is_allowed and waits.may_wait_shortly(shape) and waits.wait_shortly(work, shape):
                self.done.add(one.id)
                yield

    def _wait_long(self, waiting: Waiting) -> Iterator[None]:
        """Those for whom even all of the group's own room would not do wait like all other work."""
        waits, most = self.placer.waits, max(self._own.values(), default=0)
        alone = replace(waiting, members=iter(()))
        for one, work, shape in self.left():
            if one.size > most and waits.may_wait_long(shape, work.tenant) and waits.starves(work):
                self.placer.fails(work, shape, alone)
                self.done.add(one.id)
                yield

    # -- who goes ---------------------------------------------------------------------------------------------------

    def _swap(self, waiting: Waiting, site: int) -> bool:
        """Tell those to go for whom equals have less left to do; whether anybody has to."""
        stamp, decided = self._decided.get(site) or ((), None)
        if decided is None or stamp != self._stamp():
            decided = self._decide(site, swaps=True)
        if decided is None:
            return False
        decision, queue = decided.decision, self.sharing.queue
        victims = [decided.runners[ident].holder for ident in decision.evict]
        takers = []
        for ident, places in decision.later.items():
            if ident not in decided.runners:
                option = self._option(queue[ident], site)
                if option is None:
                    return False
                takers.append(Taker(queue[ident], option, decided.at(places)))
        if not victims or not takers:
            return False
        more = sum(taker.option.ask.accelerators * len(taker.nodes) for taker in takers)
        more -= sum(decided.runners[ident].contender.size for ident in decision.evict)
        if waiting.is_over(more * WHOLE_MILLI) or not self.placer.waits.swap(site, victims, takers):
            return False
        self.done.update(taker.workload.id for taker in takers)
        return True

    def _decide(self, site: int, *, swaps: bool) -> _Decided | None:
        """What should be at a site; without ``swaps``, all that run stay."""
        waiting = [one for one, work, _ in self.left() if self._option(work, site) is not None]
        if not waiting:
            return None
        self.sharing.again.pop((self.group, site), None)
        runners = [one for one in self.sharing.runners(self.group, site) if _may_move(one)] if swaps else []
        nodes, rooms, runners = self._rooms(site, waiting, runners)
        place = {node: number for number, node in enumerate(nodes)}
        by_ident = {one.contender.id: one for one in runners}
        contenders = [
            held_at(one.contender, tuple(place[use.node] for use in one.holder.uses)) for one in runners
        ]
        contenders += waiting
        now_ms = self.placer.snapshot.now_ms
        pinned: set[WorkloadId] = set()
        while True:
            able = [one for one in contenders if one.id not in pinned]
            decision = decide(able, rooms, now_ms, exchanges=len(self._sites()) == 1)
            more = {ident for ident in decision.evict if _is_protected(by_ident[ident], now_ms)}
            if not more:
                break
            # Decided as if nobody were protected, and only then without those who are: so that a decision is confirmed by the
            # next one although those who started by it are protected by then.
            pinned |= more
        times = [until for ident in pinned if (until := by_ident[ident].until_ms) is not None]
        if decision.again_ms is not None:
            times.append(decision.again_ms)
        if times:
            self.sharing.again[self.group, site] = min(times)
        found = _Decided(decision, nodes, by_ident)
        if swaps:
            self._decided[site] = self._stamp(), found
        return found

    def _rooms(
        self, site: int, waiting: Sequence[Contender], runners: list[Runner]
    ) -> tuple[list[int], list[NodeRoom], list[Runner]]:
        """The nodes that a decision is about, what each has left, and the runners all of whose nodes are among them."""
        placer, span = self.placer, self.placer.columns.spans[site]
        state, total = placer.present.state, self.placer.columns.total[span]
        usable = np.zeros(span.stop - span.start, dtype=np.bool_)
        for shape in self._shapes.values():
            for option in shape.options:
                if site in option.allowed:
                    usable |= option.known.suit[site]
        usable &= state.open[span]
        free = np.where(usable, self._fits(site, state.free, state.cpu_milli, state.memory_mb), 0)
        leaving = np.zeros_like(free)
        soon = placer.waits.soon(site)
        if soon is not None:
            later = self._fits(site, soon.free, soon.cpu_milli, soon.memory_mb)
            leaving = np.maximum(0, np.where(usable & soon.open[span], later - free, 0))
        if site in self.tight:
            free[:] = leaving[:] = 0
        runners = [one for one in runners if all(usable[use.node - span.start] for use in one.holder.uses)]
        theirs = {use.node - span.start for one in runners for use in one.holder.uses}
        wanted = np.flatnonzero((free + leaving) > 0)
        if len(wanted) > _MANY_NODES:
            empty = wanted[free[wanted] == total[wanted]][sum(one.nodes for one in waiting) :]
            wanted = np.setdiff1d(wanted, empty)
        chosen = sorted(theirs.union(wanted.tolist()))
        rooms = [NodeRoom(int(free[node]), int(leaving[node])) for node in chosen]
        return [node + span.start for node in chosen], rooms, runners

    def _fits(self, site: int, free: I64, cpu_milli: I64, memory_mb: I64) -> I64:
        """Accelerators that are free on each node, as far as processors and memory suffice for the most demanding."""
        span = self.placer.columns.spans[site]
        found = free[span].copy()
        cpu = memory = 0
        for _, each, cpu_each, memory_each in self._shapes:
            cpu, memory = max(cpu, -(-cpu_each // each)), max(memory, -(-memory_each // each))
        if cpu:
            np.minimum(found, np.maximum(0, cpu_milli[span] // cpu), out=found)
        if memory:
            np.minimum(found, np.maximum(0, memory_mb[span] // memory), out=found)
        return found


def _may_move(runner: Runner) -> bool:
    """Whether it may be told to go at any time: its start is confirmed, and it isn't paused."""
    return runner.until_ms is not None and runner.holder.workload.state is State.RUNNING


def _is_protected(runner: Runner, now_ms: int) -> bool:
    return runner.until_ms is None or now_ms < runner.until_ms
