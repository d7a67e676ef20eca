"""Reconcile: what the world wants of the engines, and what the engines say, brought together.

Level-triggered: every round compares the durable world with what the engines report, so that a start that was lost, a
reply that never came or a crash between commit and action needs no special case. Nothing is asked of an engine before the
event that wants it is durable.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from headrace.control import SYSTEM, Control
from headrace.core import commands as c
from headrace.core.errors import HeadraceError, Problem, ProblemCode, unknown
from headrace.core.ids import NodeId, PlacementId, SiteId
from headrace.core.observation import PlacementReport, RankState
from headrace.core.units import MS_PER_HOUR
from headrace.core.workload import Placement, Workload
from headrace.ports import FIRST_TENANT_UID, Engine, EngineError, StartOrder

ASK_AT_ONCE = 100
"""So much is asked of engines before somebody else has a turn."""
ASK_AGAIN_MS = 2_000
"""An engine that was asked and shows no effect is asked again after this long; every call is idempotent."""
MISSING_MS = 30_000
"""A placement that its engine does not report for this long is taken as lost."""
MISSING_STOP_MS = 5_000
"""The same for one that was to stop: it may never have been started."""
START_TRIES = 5
"""So many refused starts end the placement, and its workload goes back to the queue."""


@dataclass(slots=True)
class _Asked:
    what: str
    at_ms: int
    tries: int = 0
    why: str = ""


@dataclass(slots=True)
class _Round:
    """What one look at the engines found."""

    changed: list[PlacementReport] = field(default_factory=list)
    missing: list[PlacementId] = field(default_factory=list)


class Reconciler:
    """Joins a control loop to its engines (by name); several sites may share an engine."""

    def __init__(
        self, control: Control, engines: Mapping[str, Engine], meter_every_ms: int = MS_PER_HOUR
    ) -> None:
        self.control = control
        self.engines = engines
        self.meter_every_ms = meter_every_ms
        self.asked: dict[PlacementId, _Asked] = {}
        self._seen: dict[PlacementId, PlacementReport] = {}
        self._missing_since: dict[PlacementId, int] = {}
        self._ended: dict[PlacementId, int] = {}
        self._generation = control.generation
        self._last_meter_ms = 0
        self.may_stop: Callable[[Placement], bool] = lambda _: True
        """Asked before a placement is stopped: a meter may want a last look at it first."""

    def fence(self) -> None:
        """Tell every engine this control plane's epoch; the first thing after its start is durable."""
        for engine in self.engines.values():
            engine.fence(self.control.world.state.epoch)

    def engine_of(self, site: SiteId) -> Engine:
        """The engine of a site; raises HeadraceError when it is not configured here."""
        if site not in self.control.world.fleet.site_index:
            message = f"site {site} is not in the estate any more;"
            step = "apply an estate with it to reach what it keeps."
            raise HeadraceError(Problem(ProblemCode.NOT_FOUND, message, step))
        name = self.control.world.site(site).engine
        if name not in self.engines:
            raise HeadraceError(unknown(f"engine for site {site}", name, self.engines))
        return self.engines[name]

    # -- what the engines say --------------------------------------------------------------------------------------

    def observe(self, *, meter_all: bool = False) -> None:
        """Look at every engine and decide on what changed; commit afterwards, then ``act``."""
        now_ms = self.control.now_ms()
        self._follow_recovery()
        failed = [
            (ident, asked.why)
            for ident, asked in self.asked.items()
            if asked.what == "start" and asked.tries >= START_TRIES
        ]
        for name, engine in self.engines.items():
            self._observe_engine(name, engine, now_ms, failed, meter_all=meter_all)
            failed = []
        if meter_all or self._is_meter_time(now_ms):
            self._last_meter_ms = now_ms

    def _follow_recovery(self) -> None:
        """A recovered world may lack what was seen since: everything the engines report is news again."""
        if self.control.generation != self._generation:
            self._generation = self.control.generation
            self._seen.clear()
            self._ended.clear()
            self.asked.clear()

    def _is_meter_time(self, now_ms: int) -> bool:
        return now_ms // self.meter_every_ms != self._last_meter_ms // self.meter_every_ms

    def _observe_engine(
        self,
        name: str,
        engine: Engine,
        now_ms: int,
        failed: list[tuple[PlacementId, str]],
        *,
        meter_all: bool,
    ) -> None:
        try:
            reports, nodes = engine.observe(), engine.nodes()
        except EngineError:
            return  # It is asked again next round; silence is no evidence that anything ended.
        meter = meter_all or self._is_meter_time(now_ms)
        found = self._sort(name, engine, reports, now_ms, everything=meter)
        if found.changed or found.missing or failed or nodes:
            command = c.Observe(
                reports=found.changed,
                nodes=nodes,
                failed=failed,
                missing=found.missing,
                isolation=engine.capabilities.isolation,
                meter_ms=0 if meter_all else self.meter_every_ms // 2 if meter else None,
            )
            self.control.execute(SYSTEM, command)
            state = self.control.world.state
            for report in found.changed:
                self._seen[report.placement] = report
                if report.placement not in state.placements:
                    self._ended[report.placement] = state.version

    def _sort(
        self, name: str, engine: Engine, reports: Iterable[PlacementReport], now_ms: int, *, everything: bool
    ) -> _Round:
        """Tell changed reports from known ones, and end what should not run."""
        placements = self.control.world.state.placements
        found, present = _Round(), set()
        for report in reports:
            if report.placement not in placements:
                self._end_orphan(engine, report)
                continue
            present.add(report.placement)
            if everything or self._seen.get(report.placement) != report:
                found.changed.append(report)
        for ident, placement in placements.items():
            if ident in present or self.control.world.site(placement.site).engine != name:
                self._missing_since.pop(ident, None)
            elif placement.started_ms or ident in self.asked:
                # From the stop on, for what is to stop: an order whose answer was lost may be under way until then.
                since = max(self._missing_since.setdefault(ident, now_ms), placement.stop_since_ms)
                patience_ms = MISSING_MS if placement.stop_reason is None else MISSING_STOP_MS
                gone = placement.started_ms or placement.stop_reason is not None
                if gone and now_ms - since >= patience_ms:
                    found.missing.append(ident)
        return found

    def _end_orphan(self, engine: Engine, report: PlacementReport) -> None:
        """A placement whose end is durable may be forgotten; one that still runs has no business to."""
        if self._ended.get(report.placement, 0) > self.control.durable:
            return
        self._ended.pop(report.placement, None)
        self._seen.pop(report.placement, None)
        self._missing_since.pop(report.placement, None)
        self.asked.pop(report.placement, None)
        try:
            if all(rank.state in (RankState.EXITED, RankState.LOST) for rank in report.ranks):
                engine.forget(report.placement)
            else:
                engine.stop(report.placement, 0)
        except EngineError:
            return

    # -- what the world wants --------------------------------------------------------------------------------------

    def act(self) -> bool:
        """Ask the engines for what is wanted, durably so, and not yet seen; whether there is more than could be asked at once."""
        asked_now = 0
        world, now_ms = self.control.world, self.control.now_ms()
        for ident in list(world.unsettled):
            placement = world.state.placements[ident]
            if placement.wanted_seq >= self.control.durable:
                continue  # Actions come after the commit of what wants them.
            work = world.state.workloads[placement.workload]
            wanted = _wanted(placement, work)
            if wanted == "stop" and not self.may_stop(placement):
                continue
            asked = self.asked.get(ident)
            if asked is not None and asked.what == wanted and now_ms - asked.at_ms < ASK_AGAIN_MS:
                continue
            if asked_now >= ASK_AT_ONCE:
                return True
            asked_now += 1
            tries = asked.tries if asked is not None and asked.what == wanted else 0
            self.asked[ident] = _Asked(wanted, now_ms, tries)
            try:
                self._ask(wanted, placement, work)
            except HeadraceError as error:
                self.asked[ident] = _Asked(wanted, now_ms, tries + 1, error.problem.line())
        if len(self.asked) > len(world.unsettled):
            self.asked = {ident: asked for ident, asked in self.asked.items() if ident in world.unsettled}
        return False

    def _ask(self, wanted: str, placement: Placement, work: Workload) -> None:
        engine = self.engine_of(placement.site)
        if wanted == "start":
            engine.start(self.order(placement, work))
        elif wanted == "stop":
            engine.stop(placement.id, work.spec.grace_ms)
        elif wanted == "pause":
            engine.pause(placement.id)
        else:
            engine.resume(placement.id)

    def order(self, placement: Placement, work: Workload) -> StartOrder:
        """The order to start a placement, with its secrets opened; raises HeadraceError when they were erased."""
        world, spec = self.control.world, work.spec
        fleet = world.fleet
        nodes = [fleet.node_index[NodeId(rank.node)] for rank in placement.ranks]
        hardware = [fleet.hardware[fleet.node_hardware[node]] for node in nodes]
        env = dict(spec.env)
        for name, ref in spec.secrets.items():
            value = self.control.reveal(ref)
            env[name] = (
                replica_key(value, placement.id) if name == "HEADRACE_API_KEY" and spec.counters else value
            )
        return StartOrder(
            placement=placement.id,
            workload=work.id,
            tenant=work.tenant,
            tenant_uid=FIRST_TENANT_UID + world.state.tenants[work.tenant].number,
            site=placement.site,
            epoch=world.state.epoch,
            commands=spec.commands,
            env=env,
            ranks=placement.ranks,
            node_accelerators=tuple(one.accelerators for one in hardware),
            node_cpu_milli=tuple(one.cpu_milli for one in hardware),
            accelerator=hardware[0].accelerator if placement.ranks[0].mask else "",
            ports=dict(spec.ports),
            grace_ms=spec.grace_ms,
            max_duration_ms=spec.max_duration_ms,
        )


def _wanted(placement: Placement, work: Workload) -> str:
    if placement.stop_reason is not None:
        return "stop"
    if not placement.started_ms:
        return "start"
    return "pause" if work.pause_wanted else "resume"


def replica_key(root: str, placement: PlacementId) -> str:
    """The API key of one replica: derived, so that no two replicas share one and none has to be stored."""
    return hmac.new(root.encode(), placement.encode(), hashlib.sha256).hexdigest()[:48]
