"""The classic policies, on the same cluster as the product's planner: queue, free accelerators of nodes, and when who ends."""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from headrace.core.ids import PlacementId, WorkloadId
from headrace.core.scheduling.columns import lowest_bits
from headrace.core.scheduling.proposal import Eviction, Plan, ProposedPlacement
from headrace.core.workload import Placement, RankPlace, Workload
from headrace.replay.clock import Planner
from headrace.replay.cluster import SITE, ReplayCluster
from headrace.replay.policies import Policy, Production

_NEVER_MS = 1 << 60
Free = npt.NDArray[np.int16]


def planner_of(policy: Policy, cluster: ReplayCluster) -> Planner:
    """Who plans for a policy."""
    if policy.limits is not None:
        return Production(policy.limits)
    return Classic(policy, cluster) if policy.order == "arrival" else Shortest(policy, cluster)


class Classic:
    """In the order of arrival, by a policy's ways of backfilling and choosing nodes."""

    def __init__(self, policy: Policy, cluster: ReplayCluster) -> None:
        self.policy = policy
        count = len(cluster.fleet.node_ids)
        self.free: Free = np.array([cluster.free_bits(node).bit_count() for node in range(count)], np.int16)
        self.ends: list[tuple[int, int, Placement]] = []
        self.running: dict[PlacementId, tuple[int, int, Placement, tuple[int, ...]]] = {}
        self.attained_ms: dict[WorkloadId, int] = {}
        self.cluster = cluster

    # -- what happens ---------------------------------------------------------------------------------------------

    def started(self, placement: Placement, now_ms: int) -> None:
        """It holds its nodes, as long as its owner thinks that it runs."""
        cluster = self.cluster
        work = cluster.workloads[placement.workload]
        nodes = tuple(cluster.node_of(rank) for rank in placement.ranks)
        self.free[list(nodes)] -= placement.ranks[0].accelerators
        left_ms = estimate_ms(work) - self.attained_ms.get(work.id, 0)
        key = now_ms + max(0, left_ms), placement.made_seq
        insort(self.ends, (*key, placement), key=_end)
        self.running[placement.id] = (*key, placement, nodes)

    def stopped(self, placement: Placement, now_ms: int) -> None:
        """It has ended, or was evicted."""
        end_ms, seq, _, nodes = self.running.pop(placement.id)
        self.free[list(nodes)] += placement.ranks[0].accelerators
        del self.ends[bisect_left(self.ends, (end_ms, seq), key=_end)]
        before = self.attained_ms.pop(placement.workload, 0)
        work = self.cluster.workloads.get(placement.workload)
        if work is not None:
            self.attained_ms[work.id] = before + now_ms - placement.started_ms

    # -- planning -------------------------------------------------------------------------------------------------

    def plan(self, cluster: ReplayCluster, now_ms: int) -> Plan:
        """Everybody who may start now."""
        draft = _Draft(cluster, self.policy.nodes == "best-fit")
        profile: Profile | None = None
        free, kept = self.free.copy(), 0
        failed: dict[tuple[int, int], int] = {}
        for work in _by_arrival(cluster):
            shape, runs_ms = shape_of(work), max(1, estimate_ms(work))
            if failed.get(shape, _NEVER_MS + 1) <= runs_ms:
                if kept >= self.policy.reserved:
                    continue
            elif profile is None:
                nodes = draft.choose(free, *shape)
                if nodes is not None:
                    draft.place(work, nodes)
                    free[nodes] -= shape[1]
                    continue
            else:
                nodes = draft.choose(profile.least(0, runs_ms), *shape)
                if nodes is not None:
                    draft.place(work, nodes)
                    profile.take(0, runs_ms, nodes, shape[1])
                    continue
            if not self.policy.backfill:
                break
            # What is not free now is not free for anybody, however short.
            failed[shape] = 0 if profile is None else min(runs_ms, failed.get(shape, runs_ms))
            if kept < self.policy.reserved:
                if profile is None:
                    profile = self.profile(now_ms, free, draft)
                kept += profile.reserve(draft, shape, runs_ms)
        return Plan(cluster.version, tuple(draft.placements))

    def profile(self, now_ms: int, free: Free, draft: "_Draft") -> "Profile":
        """What is free now and from each known end on."""
        ends: list[tuple[int, Sequence[int], int]] = [
            (end_ms, self.running[one.id][3], one.ranks[0].accelerators) for end_ms, _, one in self.ends
        ]
        ends += [(now_ms + runs_ms, nodes, each) for runs_ms, nodes, each in draft.taken]
        return Profile(now_ms, free, ends)


class Profile:
    """Free accelerators of every node over time: row ``at`` holds from ``times[at]`` until the next one."""

    def __init__(self, now_ms: int, free: Free, ends: Sequence[tuple[int, Sequence[int], int]]) -> None:
        self.now_ms = now_ms
        # One that runs for longer than it was thought to ends at any moment.
        later = [(max(now_ms + 1, end_ms), nodes, each) for end_ms, nodes, each in ends if end_ms < _NEVER_MS]
        self.times = [now_ms, *sorted({end_ms for end_ms, _, _ in later})]
        self.free = np.zeros((len(self.times), len(free)), np.int16)
        self.free[0] = free
        wide = np.array([len(nodes) for _, nodes, _ in later], np.int64)
        rows = np.array([bisect_left(self.times, end_ms) for end_ms, _, _ in later], np.int64)
        nodes = np.fromiter(chain.from_iterable(nodes for _, nodes, _ in later), np.int64, int(wide.sum()))
        each = np.array([each for _, _, each in later], np.int16)
        np.add.at(self.free, (np.repeat(rows, wide), nodes), np.repeat(each, wide))
        np.cumsum(self.free, axis=0, out=self.free)

    def least(self, at: int, runs_ms: int) -> Free:
        """What each node has all the while from row ``at`` on for ``runs_ms``."""
        until = bisect_left(self.times, self.times[at] + runs_ms)
        found: Free = self.free[at:until].min(axis=0)
        return found

    def take(self, at: int, runs_ms: int, nodes: Sequence[int], each: int) -> None:
        """Somebody has ``nodes`` from row ``at`` on for ``runs_ms``."""
        end_ms = self.times[at] + runs_ms
        until = bisect_left(self.times, end_ms)
        if end_ms < _NEVER_MS and (until == len(self.times) or self.times[until] != end_ms):
            self.times.insert(until, end_ms)
            self.free = np.insert(self.free, until, self.free[until - 1], axis=0)
        self.free[at:until, list(nodes)] -= each

    def reserve(self, draft: "_Draft", shape: tuple[int, int], runs_ms: int) -> bool:
        """Keep the nodes where it can start first; False if that is not known."""
        enough = np.count_nonzero(self.free >= shape[1], axis=1) >= shape[0]
        for at in (np.flatnonzero(enough[1:]) + 1).tolist():
            nodes = draft.choose(self.least(at, runs_ms), *shape)
            if nodes is not None:
                self.take(at, runs_ms, nodes, shape[1])
                return True
        return False


class Shortest(Classic):
    """Whoever has least left, of those that run and those that wait alike; who runs and is not among them makes room."""

    def plan(self, cluster: ReplayCluster, now_ms: int) -> Plan:
        """Who starts, and who is evicted for them."""
        draft = _Draft(cluster, self.policy.nodes == "best-fit")
        chosen, others, losers = self.select(cluster, now_ms)
        free, evictions = self.free.copy(), []
        for work in chosen:
            shape = shape_of(work)
            nodes = draft.choose(free, *shape)
            if nodes is None:
                nodes, victims = self.displace(draft, free, shape, losers)
                for victim in victims:
                    evictions.append(Eviction(victim.id, work.id))
                    losers.remove(victim)
            if nodes is not None:
                draft.place(work, nodes)
                free[nodes] -= shape[1]
        self.fill(draft, free, others)
        return Plan(cluster.version, tuple(draft.placements), tuple(evictions))

    def fill(self, draft: "_Draft", free: Free, others: Sequence[Workload]) -> None:
        """What is left, since nodes don't come in the pieces that were chosen, goes to whoever fits."""
        failed: set[tuple[int, int]] = set()
        for work in others:
            shape = shape_of(work)
            nodes = None if shape in failed else draft.choose(free, *shape)
            if nodes is None:
                failed.add(shape)
            else:
                draft.place(work, nodes)
                free[nodes] -= shape[1]

    def select(
        self, cluster: ReplayCluster, now_ms: int
    ) -> tuple[list[Workload], list[Workload], list[Placement]]:
        """By count alone: who waits and should run, the others who wait, and who runs and should not; the worst last."""
        ranked: list[tuple[int, int, Workload, Placement | None]] = []
        for end_ms, _, placement, _ in self.running.values():
            work = cluster.workloads[placement.workload]
            ranked.append((self.rank(work, end_ms - now_ms), work.submitted_seq, work, placement))
        for work in cluster.queue.values():
            left_ms = estimate_ms(work) - self.attained_ms.get(work.id, 0)
            ranked.append((self.rank(work, left_ms), work.submitted_seq, work, None))
        ranked.sort(key=lambda one: one[:2])
        left = cluster.capacity_milli // 1_000
        chosen, others, losers = [], [], []
        for _, _, work, running in ranked:
            width = work.spec.nodes * work.spec.resources.accelerators
            if width <= left:
                left -= width
                if running is None:
                    chosen.append(work)
            elif running is not None:
                losers.append(running)
            else:
                others.append(work)
        return chosen, others, losers

    def rank(self, work: Workload, left_ms: int) -> int:
        """What is least goes first."""
        if self.policy.order == "remaining-time":
            return left_ms
        return left_ms * work.spec.nodes * work.spec.resources.accelerators

    def displace(
        self, draft: "_Draft", free: Free, shape: tuple[int, int], losers: Sequence[Placement]
    ) -> tuple[list[int] | None, list[Placement]]:
        """The nodes that it gets once the worst of ``losers`` are gone, and those of them that are on these nodes."""
        trial, gone = free.copy(), []
        for loser in reversed(losers):
            gone.append(loser)
            trial[list(self.running[loser.id][3])] += loser.ranks[0].accelerators
            nodes = draft.choose(trial, *shape)
            if nodes is not None:
                there = set(nodes)
                victims = [one for one in gone if not there.isdisjoint(self.running[one.id][3])]
                for victim in victims:
                    at = list(self.running[victim.id][3])
                    free[at] += victim.ranks[0].accelerators
                    draft.leaves(victim, at)
                return nodes, victims
        return None, []


class _Draft:
    """A plan in the making: which accelerators each rank gets."""

    def __init__(self, cluster: ReplayCluster, best_fit: bool) -> None:
        self.cluster, self.best_fit = cluster, best_fit
        self.placements: list[ProposedPlacement] = []
        self.taken: list[tuple[int, Sequence[int], int]] = []
        self.bits: dict[int, int] = {}

    def choose(self, free: Free, count: int, each: int) -> list[int] | None:
        """``count`` nodes with ``each`` free; None if there aren't as many."""
        fitting = (free >= each).nonzero()[0]
        if len(fitting) < count:
            return None
        if self.best_fit:
            fitting = fitting[np.argsort(free[fitting], kind="stable")]
        nodes: list[int] = sorted(fitting[:count].tolist())
        return nodes

    def place(self, work: Workload, nodes: Sequence[int]) -> None:
        """Give it the lowest free accelerators of ``nodes``."""
        each, names = work.spec.resources.accelerators, self.cluster.fleet.node_ids
        ranks = []
        for node in nodes:
            bits = self.left(node)
            mask = lowest_bits(bits, each)
            self.bits[node] = bits ^ mask
            ranks.append(RankPlace(names[node], mask, 0, 0))
        self.placements.append(ProposedPlacement(work.id, SITE, tuple(ranks)))
        self.taken.append((max(1, estimate_ms(work)), nodes, each))

    def leaves(self, placement: Placement, nodes: Sequence[int]) -> None:
        """Somebody is evicted."""
        for node, rank in zip(nodes, placement.ranks, strict=True):
            self.bits[node] = self.left(node) | rank.mask

    def left(self, node: int) -> int:
        bits = self.bits.get(node)
        return self.cluster.free_bits(node) if bits is None else bits


def estimate_ms(work: Workload) -> int:
    """How long its owner thinks that it runs; for ever if nobody says."""
    return work.spec.expected_ms or work.spec.max_duration_ms or _NEVER_MS


def shape_of(work: Workload) -> tuple[int, int]:
    """Nodes, and accelerators of each."""
    return work.spec.nodes, work.spec.resources.accelerators


def _by_arrival(cluster: ReplayCluster) -> Iterator[Workload]:
    # A queue of what was never evicted is in this order already, and sorting that takes no time.
    yield from sorted(cluster.queue.values(), key=lambda work: work.submitted_seq)


def _end(one: tuple[int, int, Placement] | tuple[int, int]) -> tuple[int, int]:
    return one[0], one[1]
