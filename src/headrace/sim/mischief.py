"""What a fault of each kind does to the world."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from headrace.core.errors import HeadraceError, ProblemCode
from headrace.core.scheduling.plan import plan
from headrace.core.scheduling.proposal import Eviction, Plan, ProposedPlacement
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.units import MS_PER_HOUR, MS_PER_MINUTE
from headrace.core.workload import RankPlace
from headrace.reconcile import MISSING_STOP_MS
from headrace.sim.estates import aside
from headrace.sim.faults import CRASHES
from headrace.sim.script import LYING_IN_WAIT
from headrace.sim.sly import sly_placements

if TYPE_CHECKING:
    from headrace.sim.world import Simulation


class Mischief:
    """Lets faults happen, and ends those that last."""

    def __init__(self, sim: "Simulation", chance: Random) -> None:
        self.sim, self.chance = sim, chance
        self.stale: int = 0
        self.tampered: int = 0
        self.is_sly = False

    def happen(self, kind: str) -> None:
        """A fault begins."""
        fired = self.sim.switches.fired
        if kind in CRASHES:
            self.sim.switches.armed.append(kind)
            if kind == "crash-started":
                self.sim.switches.armed.append("crash-executed")
            elif kind == "crash-recovering":
                self.sim.switches.armed.append("crash-replied")
            return
        _FAULTS[kind](self)
        if kind not in LYING_IN_WAIT:
            fired[kind] += 1

    def _while(self, least_ms: int, most_ms: int, over: Callable[[], None]) -> None:
        self.sim.later(self.chance.randint(least_ms, most_ms), over)

    # -- engines --------------------------------------------------------------------------------------------

    def lost_ack(self) -> None:
        """Answers to starts get lost."""
        self.sim.engine.faults.lose_next_acks += self.chance.choice((1, 2, 12))

    def duplicate_start(self) -> None:
        """Starts arrive again."""
        self.sim.engine.faults.duplicate_next_starts += self.chance.randint(1, 3)

    def _node(self) -> str:
        """A node, sooner one that something runs on."""
        ran = [one.node for one in self.sim.engine.ran[-200:] if one.ended_ms is None]
        return self.chance.choice(ran or list(self.sim.node_ids()))

    def dead_node(self) -> None:
        """A node dies, and comes back."""
        node = self._node()
        self.sim.engine.kill_node(node)
        self._while(MS_PER_MINUTE, 3 * MS_PER_HOUR, lambda: self.sim.engine.revive_node(node))

    def slow_node(self) -> None:
        """A node starts things late."""
        node = self._node()
        self.sim.engine.slow_node(node, self.chance.randint(1_000, 3 * MS_PER_MINUTE))
        self._while(10 * MS_PER_MINUTE, 3 * MS_PER_HOUR, lambda: self.sim.engine.slow_node(node, 0))

    def lost_rank(self) -> None:
        """A runner vanishes, sooner one of a gang."""
        live = [one for one in self.sim.engine.ran[-200:] if one.ended_ms is None]
        gangs = [one for one in live if one.rank] or live
        if gangs:
            one = self.chance.choice(gangs)
            self.sim.engine.lose_rank(one.placement, one.rank)

    def late_reports(self) -> None:
        """What is observed is of a while ago."""
        # Less than the loop's patience with a placement that is gone: later would not be late, but wrong.
        self.sim.engine.faults.observe_delay_ms = self.chance.randint(100, MISSING_STOP_MS - 1_000)
        self._while(5 * MS_PER_MINUTE, 2 * MS_PER_HOUR, self._reports_in_time)

    def _reports_in_time(self) -> None:
        self.sim.engine.faults.observe_delay_ms = 0

    def engine_down(self) -> None:
        """The engine can't be reached."""
        self.sim.switches.engine_down = True
        self._while(5_000, 40 * MS_PER_MINUTE, self._engine_up)

    def _engine_up(self) -> None:
        self.sim.switches.engine_down = False

    def refusals(self) -> None:
        """The engine starts nothing."""
        self.sim.engine.faults.refusing = True
        self._while(5_000, 20 * MS_PER_MINUTE, self._no_refusals)

    def _no_refusals(self) -> None:
        self.sim.engine.faults.refusing = False

    # -- the disk and the clock -----------------------------------------------------------------------------

    def disk_full(self) -> None:
        """The disk fills up, and is emptied."""
        self._fill(full=True)
        self._while(5_000, 60 * MS_PER_MINUTE, lambda: self._fill(full=False))

    def _fill(self, *, full: bool) -> None:
        self.sim.switches.disk_full = full
        if self.sim.plant.store is not None:
            self.sim.plant.store.limit()

    def failed_commit(self) -> None:
        """Commits fail."""
        self.sim.switches.fail_commits += self.chance.randint(1, 3)

    def lost_commit(self) -> None:
        """A commit is done, and its answer lost."""
        self.sim.switches.lose_commits += 1

    def clock_forward(self) -> None:
        """The clock jumps forward, and is set right."""
        self.sim.wall.skew_ms += self.chance.choice((5_000, 10 * MS_PER_MINUTE, MS_PER_HOUR))
        self._while(MS_PER_MINUTE, 3 * MS_PER_HOUR, self._clock_right)

    def clock_back(self) -> None:
        """The clock jumps back, and is set right."""
        self.sim.wall.skew_ms -= self.chance.choice((5_000, 10 * MS_PER_MINUTE, MS_PER_HOUR))
        self._while(MS_PER_MINUTE, 3 * MS_PER_HOUR, self._clock_right)

    def _clock_right(self) -> None:
        self.sim.wall.skew_ms = 0

    def clock_drift(self) -> None:
        """The clock is a little off from now on."""
        self.sim.wall.skew_ms += self.chance.randint(-2_000, 2_000)

    # -- plans, checkpoints, clients ------------------------------------------------------------------------

    def stale_plan(self) -> None:
        """Plans arrive late."""
        self.stale += self.chance.randint(1, 3)

    def tampered_plan(self) -> None:
        """Plans are made by a careless planner, or changed on their way."""
        self.tampered += self.chance.randint(1, 3)
        self.is_sly = True

    def checkpoint(self) -> None:
        """A checkpoint is written; the next start begins from it."""
        control = self.sim.plant.control
        if control is None or control.broken is not None or control.has_pending:
            return
        try:
            control.checkpoint()
        except HeadraceError as error:
            if error.problem.code is not ProblemCode.JOURNAL_UNAVAILABLE:
                raise

    def duplicate_request(self) -> None:
        """Clients ask again for what was answered."""
        self.sim.ask_again += self.chance.randint(1, 4)

    def reused_key(self) -> None:
        """A client asks for something else by an old key."""
        self.sim.reuse_key()

    def alter(self, snapshot: Snapshot, proposal: Plan) -> Plan | None:
        """What comes of a plan on its way to the writer."""
        if self.stale and proposal.placements:
            self.stale -= 1
            self.sim.switches.fired["stale-plan"] += 1
            self._while(2_000, 10 * MS_PER_MINUTE, lambda: self.sim.adopt(proposal))
            return None
        if self.tampered:
            wrong = self._careless(snapshot) if self.chance.random() < 0.6 else proposal
            if wrong.placements:
                self.tampered -= 1
                self.sim.switches.fired["tampered-plan"] += 1
                return self._tamper(wrong) if wrong is proposal else wrong
        if self.is_sly and proposal.placements:
            # Of a planner that was wrong once, no plan is right.
            sly = tuple(sly_placements(aside(self.chance), snapshot))
            return replace(proposal, placements=(*sly, *proposal.placements)) if sly else proposal
        return proposal

    def _careless(self, snapshot: Snapshot) -> Plan:
        """The plan of a planner that forgets power, what is in use, open nodes, quotas, windows, or whose parts are whose."""
        if snapshot.windows and aside(self.chance).random() < 0.3:
            return plan(replace(snapshot, memory=None, windows=()))
        match self.chance.randrange(5):
            case 0:
                return plan(replace(snapshot, memory=None, node_open=np.ones_like(snapshot.node_open)))
            case 1:
                bits = np.zeros_like(snapshot.node_mask)
                return plan(
                    replace(
                        snapshot, memory=None, node_mask=bits, node_ranks=np.zeros_like(snapshot.node_ranks)
                    )
                )
            case 2:
                return plan(replace(snapshot, memory=None, tenants={}))
            case 3:
                nobody = np.zeros_like(snapshot.node_share_milli)
                return plan(replace(snapshot, memory=None, node_share_milli=nobody))
            case _:
                return plan(replace(snapshot, memory=None, power_limit_w=snapshot.power_limit_w * 1_000))

    def _tamper(self, proposal: Plan) -> Plan:
        chance = self.chance
        first = chance.choice(proposal.placements)
        sites = [site.id for site in self.sim.people.ground.estate.sites]
        nodes = list(self.sim.node_ids())
        rank = first.ranks[0]
        wrong: list[ProposedPlacement] = [
            replace(first, site=chance.choice(sites)),
            replace(first, ranks=tuple(_at(one, chance.choice(nodes)) for one in first.ranks)),
            replace(
                first,
                ranks=tuple(one._replace(mask=one.mask << 1 | 1) for one in first.ranks),
            ),
            replace(first, ranks=first.ranks * 2),
            replace(first, ranks=first.ranks[1:] or first.ranks * 2),
            replace(first, option=chance.choice((-1, first.option + 1, 9))),
            replace(
                first,
                ranks=tuple(
                    one._replace(share_milli=chance.choice((0, 1, 500, 1_000, 2_000))) for one in first.ranks
                ),
            ),
            replace(first, ranks=(*first.ranks, _at(rank, chance.choice(nodes)))),
            replace(
                first,
                ranks=(_at(rank, "nowhere"), *first.ranks[1:]),
            ),
            replace(first, ranks=tuple(one._replace(cpu_milli=0, memory_mb=0) for one in first.ranks)),
            first,
        ]
        # Somewhere else in the right shape: only law, dedication, power and use stand in its way.
        site = chance.choice(sites)
        there = [node for node in nodes if node.startswith(f"{site}/")]
        if len(there) >= len(first.ranks):
            moved = chance.sample(there, len(first.ranks))
            ranks = tuple(_at(one, node) for one, node in zip(first.ranks, moved, strict=True))
            wrong = [ProposedPlacement(first.workload, site, ranks), *wrong]
        live = [ident for ident, _ in self.sim.live_placements()]
        evictions = [Eviction(ident, first.workload) for ident in chance.sample(live, min(2, len(live)))]
        chosen = chance.sample(wrong, 6)
        return Plan(
            proposal.base_version, (*chosen, *proposal.placements, *chosen), (*proposal.evictions, *evictions)
        )


def _at(rank: RankPlace, node: str) -> RankPlace:
    return rank._replace(node=node)


_FAULTS: dict[str, Callable[[Mischief], None]] = {
    "lost-ack": Mischief.lost_ack,
    "duplicate-start": Mischief.duplicate_start,
    "dead-node": Mischief.dead_node,
    "slow-node": Mischief.slow_node,
    "lost-rank": Mischief.lost_rank,
    "late-reports": Mischief.late_reports,
    "engine-down": Mischief.engine_down,
    "refusals": Mischief.refusals,
    "disk-full": Mischief.disk_full,
    "failed-commit": Mischief.failed_commit,
    "lost-commit": Mischief.lost_commit,
    "clock-forward": Mischief.clock_forward,
    "clock-back": Mischief.clock_back,
    "clock-drift": Mischief.clock_drift,
    "stale-plan": Mischief.stale_plan,
    "tampered-plan": Mischief.tampered_plan,
    "checkpoint": Mischief.checkpoint,
    "duplicate-request": Mischief.duplicate_request,
    "reused-key": Mischief.reused_key,
}
