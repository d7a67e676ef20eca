"""Reconcile: what the world wants of the engines, and what the engines say, brought together.

Level-triggered: every round compares the durable world with what the engines report, so that a start that was lost, a
reply that never came or a crash between commit and action needs no special case. Nothing is asked of an engine before the
event that wants it is durable.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, compress, islice, repeat
from operator import attrgetter, is_not

import numpy as np

from headrace.control import SYSTEM, Control
from headrace.core import commands as c
from headrace.core.data.model import data_id
from headrace.core.errors import HeadraceError, Problem, ProblemCode, unknown
from headrace.core.fleet import Fleet
from headrace.core.ids import NodeId, PlacementId, SiteId
from headrace.core.observation import NodeReport, PlacementReport, RankState
from headrace.core.power.ladder import grace_of
from headrace.core.units import MS_PER_HOUR
from headrace.core.workload import Placement, Workload, options
from headrace.engines.compare import mismatches, misnamed_in
from headrace.ports import FIRST_TENANT_UID, Engine, EngineError, StartOrder, Store

ASK_AT_ONCE = 100
"""So much is asked of engines before somebody else has a turn."""
WALK_MS = 1_000
"""How often all that engines report is compared with the world, and all that the world wants with what was asked.

In between only what is new: of reports those that are other objects than in the last look, and of what is wanted all as soon as
anything happens.
"""
LOOK_AT_ONCE = 500
"""So many placements are looked at between two looks at the time: a fraction of a millisecond."""
LOOK_AT_MOST = 2_000
"""So many placements are looked for among the reports at once: a millisecond; the next round goes on with the others."""
ASK_AGAIN_MS = 2_000
"""An engine that was asked and shows no effect is asked again after this long; every call is idempotent."""
ASK_AGAIN_MOST_MS = 32_000
"""An engine that takes an order and shows nothing of it is asked again later each time, up to this."""
MISSING_MS = 30_000
"""A placement that its engine does not report for this long is taken as lost."""
MISSING_STOP_MS = 5_000
"""The same for one that was to stop: it may never have been started."""
FOLLOW_MS = 1_000
"""How often what is drawn is compared with what the grid asks."""
START_TRIES = 5
"""So many refused starts end the placement, and its workload goes back to the queue."""


@dataclass(slots=True)
class _Asked:
    """What an engine was asked: when it is asked again, how often it took that, how often it could not, and why."""

    what: str
    wanted_seq: int = 0
    started_ms: int = 0
    again_ms: int = 0
    taken: int = 0
    tries: int = 0
    why: str = ""


@dataclass(slots=True)
class _Round:
    """What one look at the engines found."""

    changed: list[PlacementReport] = field(default_factory=list)
    missing: list[PlacementId] = field(default_factory=list)
    meters: bool = False
    more: bool = False


@dataclass(slots=True)
class _Looked:
    """What an engine reported when all of it was compared with the world, and since."""

    at_ms: int
    reports: Sequence[PlacementReport] = ()
    present: set[PlacementId] = field(default_factory=set)

    def holds(self, reports: Sequence[PlacementReport], now_ms: int) -> bool:
        """Whether it is of late, and nothing was reported in it that is not any more."""
        return 0 <= now_ms - self.at_ms < WALK_MS and len(reports) >= len(self.reports)

    def news(self, reports: Sequence[PlacementReport]) -> list[PlacementReport]:
        """Those reports that are other objects than at their place in the last look: mostly few, and found without a loop."""
        before, self.reports = self.reports, reports
        return list(compress(reports, map(is_not, reports, chain(before, repeat(None)))))


_STANDING = attrgetter("state", "exit_code", "reason", "detail", "estimated")
"""What is decided on of a rank's report, whenever it changes; how long it ran is metered when that is due."""


class Reconciler:
    """Joins a control loop to its engines (by name); several sites may share an engine."""

    def __init__(
        self, control: Control, engines: Mapping[str, Engine], meter_every_ms: int = MS_PER_HOUR
    ) -> None:
        self.control = control
        self.engines = engines
        self.meter_every_ms = meter_every_ms
        self.asked: dict[PlacementId, _Asked] = {}
        self._given_up: dict[PlacementId, None] = {}
        self._unmetered: dict[PlacementId, None] = {}
        self._absent: dict[str, Iterator[PlacementId]] = {}
        self._looked: dict[str, _Looked] = {}
        self._seen: dict[PlacementId, PlacementReport] = {}
        self._missing_since: dict[PlacementId, int] = {}
        self._ended: dict[PlacementId, int] = {}
        self._generation = control.generation
        self._last_meter_ms = 0
        self._sweep: Iterator[PlacementId] | None = None
        self._swept, self._swept_ms = (-1, -1), 0
        self._nodes: dict[str, tuple[NodeId, ...]] = {}
        self._fleet: Fleet | None = None
        self._told: dict[NodeId, NodeReport] = {}
        self._heard: dict[str, Sequence[NodeReport]] = {}
        self._down: dict[str, list[NodeReport]] = {}
        self._cordoned: dict[str, dict[NodeId, str]] = {}
        self._limited, self._followed_ms, self._judged = -1, 0, -1
        self.stores: Mapping[SiteId, Store] = {}
        """Where sites keep data: ranks are told the directories of what they use."""
        self.may_stop: Callable[[Placement], bool] = lambda _: True
        """Asked before a placement is stopped: a meter may want a last look at it first."""

    def fence(self) -> None:
        """Tell every engine this control plane's epoch; the first thing after its start is durable."""
        for engine in self.engines.values():
            engine.fence(self.control.world.state.epoch, self.control.world.state.journal)

    def declare(self) -> None:
        """Put on record what the engines can do, where that is not known."""
        able = {name: engine.capabilities for name, engine in self.engines.items()}
        self.control.execute(SYSTEM, c.DeclareEngines(able))

    def nodes_of(self, name: str) -> tuple[NodeId, ...]:
        """The nodes that are an engine's, of all sites, in the order of the estate."""
        fleet = self.control.world.fleet
        if fleet is not self._fleet:
            self._fleet, self._nodes = fleet, {}
            self._told.clear()
            self._heard.clear()
            self._down.clear()
        found = self._nodes.get(name)
        if found is None:
            here = [name in fleet.engines_at(number) for number in range(len(fleet.sites))]
            indexes = np.flatnonzero(np.array(here or [False])[fleet.node_site]).tolist()
            if fleet.own_engines:
                indexes = [index for index in indexes if fleet.engine_of(index) == name]
            found = self._nodes[name] = tuple(fleet.node_ids[index] for index in indexes)
        return found

    def _news(self, name: str, engine: Engine) -> list[NodeReport]:
        """What an engine says of its nodes, and has not said before; one that is less than the estate says is down."""
        of, told = self.nodes_of(name), self._told
        reports = engine.nodes(of)
        # A cluster is looked at every second or so, and this asks ten times as often.
        if not reports or reports is self._heard.get(name):
            return self._gainsaid(name)
        self._heard[name] = reports
        fleet = self.control.world.fleet
        short = {one.node: one.line() for one in mismatches(fleet, of, engine) if one.is_short}
        reports = [
            replace(one, up=False, reason=short[one.node]) if one.up and one.node in short else one
            for one in reports
        ]
        news = [one for one in reports if told.get(one.node) != one]
        told.update((one.node, one) for one in news)
        self._down[name] = [one for one in reports if not one.up]
        new = {one.node for one in news}
        return news + [one for one in self._gainsaid(name) if one.node not in new]

    def _gainsaid(self, name: str) -> list[NodeReport]:
        """What was said of nodes that are down, and that somebody has taken back since: it went down while it was drained."""
        nodes, known = self.control.world.state.nodes, self.control.world.fleet.node_index
        down = self._down.get(name, ())
        return [one for one in down if one.node in known and nodes.get(one.node, ("ready", ""))[0] == "ready"]

    def _cordon(self, name: str, engine: Engine) -> None:
        """Tell an engine which of its nodes the operator drains."""
        nodes = self.control.world.state.nodes
        drained = {node: reason for node, (state, reason) in nodes.items() if state == "draining"}
        if drained:
            drained = {node: drained[node] for node in self.nodes_of(name) if node in drained}
        # Once in any case: before it is told, an engine takes no drain back.
        if drained != self._cordoned.get(name):
            engine.cordon(drained)
            self._cordoned[name] = drained

    def misnamed(self) -> list[str]:
        """Names in the file of engines that are neither a node's of the estate nor a tenant's, each in a line."""
        fleet, tenants = self.control.world.fleet, self.control.world.state.tenants
        # Before there are any, nothing can be told.
        return [
            f"engine {name}: {one.line()}"
            for name, engine in self.engines.items()
            for one in misnamed_in(fleet, self.nodes_of(name), engine, tenants or None)
        ]

    def engine_of(self, site: SiteId, node: str = "") -> Engine:
        """The engine of a node of a site ("": the site's own); raises HeadraceError when it is not configured here."""
        fleet = self.control.world.fleet
        if site not in fleet.site_index:
            message = f"site {site} is not in the estate any more;"
            step = "apply an estate with it to reach what it keeps."
            raise HeadraceError(Problem(ProblemCode.NOT_FOUND, message, step))
        name = fleet.engine_under(site, node)
        if name not in self.engines:
            raise HeadraceError(unknown(f"engine for site {site}", name, self.engines))
        return self.engines[name]

    def engines_for(self, work: Workload) -> list[Engine]:
        """The engines that may have run a workload where it was last: one, unless it has alternatives on several.

        HeadraceError when none is configured here.
        """
        if work.site is None:
            return []
        if work.site not in self.control.world.fleet.site_index:
            return [self.engine_of(work.site)]
        fleet = self.control.world.fleet
        number = fleet.site_index[work.site]
        names = dict.fromkeys(fleet.engine_at(number, one.accelerator) for one in options(work.spec))
        found = [self.engines[name] for name in names if name in self.engines]
        return found or [self.engine_of(work.site)]

    # -- what the engines say --------------------------------------------------------------------------------------

    def observe(self, *, meter_all: bool = False, at_most: int | None = None) -> bool:
        """Look at every engine and decide on what changed; commit afterwards, then ``act``.

        With ``at_most``, of each engine so many ranks (or one placement) at once; whether there is more than that.
        """
        now_ms = self.control.now_ms()
        self._follow_recovery()
        self._given_up = {ident: None for ident in self._given_up if self._is_given_up(ident)}
        failed = [(ident, self.asked[ident].why) for ident in self._given_up]
        if meter_all or self._is_meter_time(now_ms):
            self._last_meter_ms = now_ms
            self._unmetered = dict.fromkeys(self.control.world.state.placements)
            self._looked.clear()
        more = False
        for name, engine in self.engines.items():
            more |= self._observe_engine(name, engine, now_ms, failed, meter_all=meter_all, at_most=at_most)
            failed = []
        self.follow_law()
        self.follow_grid(now_ms)
        return more

    def follow_law(self) -> None:
        """Judge all that runs again when what is allowed has changed."""
        world = self.control.world
        world.at(self.control.now_ms())
        if world.laws.stamp != self._judged:
            self._judged = world.laws.stamp
            self.control.execute(SYSTEM, c.FollowLaw())

    def follow_grid(self, now_ms: int) -> None:
        """Shed what the grid asks for, and let go on what may: each second while it asks for anything, and when that changes."""
        world = self.control.world
        if not (world.state.instructions or world.curtailed or world.state.caps or world.has_hours):
            return
        if world.limited != self._limited or not 0 <= now_ms - self._followed_ms < FOLLOW_MS:
            self._limited, self._followed_ms = world.limited, now_ms
            self.control.execute(SYSTEM, c.FollowGrid())

    def _is_given_up(self, ident: PlacementId) -> bool:
        asked = self.asked.get(ident)
        return asked is not None and asked.what == "start" and asked.tries >= START_TRIES

    def _follow_recovery(self) -> None:
        """A recovered world may lack what was seen since: everything the engines report is news again."""
        if self.control.generation != self._generation:
            self._generation, self._judged = self.control.generation, -1
            self.declare()
            self._seen.clear()
            self._looked.clear()
            self._told.clear()
            self._heard.clear()
            self._down.clear()
            self._cordoned.clear()
            self._ended.clear()
            self.asked.clear()
            self._sweep, self._swept = None, (-1, -1)

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
        at_most: int | None,
    ) -> bool:
        try:
            reports, nodes = engine.observe(), self._news(name, engine)
            self._cordon(name, engine)
        except EngineError:
            return False  # It is asked again next round; silence is no evidence that anything ended.
        found = self._sort(name, engine, reports, now_ms, at_most)
        if found.changed or found.missing or failed or nodes:
            command = c.Observe(
                reports=found.changed,
                nodes=nodes,
                failed=failed,
                missing=found.missing,
                isolation=engine.capabilities.isolation,
                meter_ms=0 if meter_all else self.meter_every_ms // 2 if found.meters else None,
            )
            self.control.execute(SYSTEM, command)
            state = self.control.world.state
            for report in found.changed:
                self._seen[report.placement] = report
                self._unmetered.pop(report.placement, None)
                if report.placement not in state.placements:
                    self._ended[report.placement] = state.version
                    self._looked.pop(name, None)
        return found.more

    def _sort(
        self,
        name: str,
        engine: Engine,
        reports: Sequence[PlacementReport],
        now_ms: int,
        at_most: int | None,
    ) -> _Round:
        """Tell changed reports from known ones, and end what should not run."""
        placements = self.control.world.state.placements
        found, ranks, is_settled = _Round(), 0, True
        looked = self._looked.get(name)
        if looked is None or not looked.holds(reports, now_ms):
            looked = self._looked[name] = _Looked(now_ms)
        for report in looked.news(reports):
            if report.placement not in placements:
                self._end_orphan(engine, report)
                is_settled = False
                continue
            looked.present.add(report.placement)
            known = self._seen.get(report.placement)
            is_due = report.placement in self._unmetered
            if not is_due and known is report:
                continue
            if not is_due and _stands(known, report):
                self._seen[report.placement] = report
                continue
            if at_most is not None and ranks and ranks + len(report.ranks) > at_most:
                found.more = True
                continue
            ranks += len(report.ranks)
            found.changed.append(report)
            found.meters |= is_due
        found.missing = self._missing(name, looked.present, now_ms)
        if found.more or not is_settled:
            # The rest is looked for among all of them again.
            del self._looked[name]
        return found

    def _missing(self, name: str, present: set[PlacementId], now_ms: int) -> list[PlacementId]:
        """Placements that an engine should report and has not for too long, of the next ``LOOK_AT_MOST``."""
        placements = self.control.world.state.placements
        reported = sum(len(looked.present) for looked in self._looked.values())
        if reported >= len(placements) and not self._missing_since:
            return []
        engine_of = self.control.world.engine_of
        found: list[PlacementId] = []
        sweep = self._absent.pop(name, None)
        if sweep is None:
            self._missing_since = {one: at for one, at in self._missing_since.items() if one in placements}
            sweep = iter(list(placements))
        looked = list(islice(sweep, LOOK_AT_MOST))
        for ident in looked:
            placement = placements.get(ident)
            if placement is None or ident in present:
                self._missing_since.pop(ident, None)
            elif engine_of(placement) != name:
                continue
            elif placement.started_ms or ident in self.asked:
                # From the stop on, for what is to stop: an order whose answer was lost may be under way until then.
                since = max(self._missing_since.setdefault(ident, now_ms), placement.stop_since_ms)
                patience_ms = MISSING_MS if placement.stop_reason is None else MISSING_STOP_MS
                gone = placement.started_ms or placement.stop_reason is not None
                if gone and now_ms - since >= patience_ms:
                    found.append(ident)
        if len(looked) == LOOK_AT_MOST:
            self._absent[name] = sweep
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

    def act(self, is_enough: Callable[[], bool] = lambda: False) -> bool:
        """Ask the engines for what is wanted, durably so, and not yet seen; whether there is more than was looked at now.

        Goes on where the last call stopped: after ``ASK_AT_ONCE`` orders, or when ``is_enough`` says so.
        """
        now_ms, unsettled = self.control.now_ms(), self.control.world.unsettled
        placements = self.control.world.state.placements
        if self._sweep is None:
            heard = self.control.world.state.version, self.control.durable
            if heard == self._swept and 0 <= now_ms - self._swept_ms < WALK_MS:
                return False
            self._swept, self._swept_ms = heard, now_ms
            self._sweep = iter(list(unsettled))
        asked_now = 0
        for looked, ident in enumerate(self._sweep, 1):
            # Since the sweep began it may have settled, or be gone.
            placement = placements[ident] if ident in unsettled else None
            if placement is not None and not self._waits(placement, now_ms) and self._asks(placement, now_ms):
                asked_now += 1
                if asked_now >= ASK_AT_ONCE or is_enough():
                    return True
            elif looked % LOOK_AT_ONCE == 0 and is_enough():
                return True
        self._sweep = None
        if len(self.asked) > len(unsettled):
            self.asked = {ident: asked for ident, asked in self.asked.items() if ident in unsettled}
        return False

    def _waits(self, placement: Placement, now_ms: int) -> bool:
        """Whether an engine was asked lately for what is still wanted."""
        asked = self.asked.get(placement.id)
        if asked is None or now_ms >= asked.again_ms:
            return False
        # What is wanted is another thing only after one of these has changed.
        return asked.wanted_seq == placement.wanted_seq and asked.started_ms == placement.started_ms

    def _asks(self, placement: Placement, now_ms: int) -> bool:
        """Ask a placement's engine for what is wanted of it, unless it was asked lately; whether it was asked."""
        if placement.wanted_seq >= self.control.durable:
            return False  # Actions come after the commit of what wants them.
        ident, work = placement.id, self.control.world.state.workloads[placement.workload]
        wanted, asked = _wanted(placement, work), self.asked.get(ident)
        if asked is not None and asked.what == wanted and now_ms < asked.again_ms:
            return False
        if wanted == "stop" and not self.may_stop(placement):
            self._swept = -1, -1  # Soon again: nothing need happen until it may.
            return False
        if wanted == "start" and asked is not None and asked.taken and self._is_shown(placement):
            asked.again_ms = now_ms + ASK_AGAIN_MOST_MS
            return False
        if asked is None or asked.what != wanted:
            asked = self.asked[ident] = _Asked(wanted)
        asked.wanted_seq, asked.started_ms = placement.wanted_seq, placement.started_ms
        try:
            self._ask(wanted, placement, work)
        except HeadraceError as error:
            asked.tries += 1
            asked.why = error.problem.line()
            asked.again_ms = now_ms + ASK_AGAIN_MS
            if self._is_given_up(ident):
                self._given_up[ident] = None
        else:
            asked.again_ms = now_ms + min(ASK_AGAIN_MS << asked.taken, ASK_AGAIN_MOST_MS)
            asked.taken = min(asked.taken + 1, 10)
        return True

    def _is_shown(self, placement: Placement) -> bool:
        """Whether its engine says of a placement that it has its order, from this control plane."""
        looked = self._looked.get(self.control.world.engine_of(placement))
        seen = self._seen.get(placement.id)
        epoch = self.control.world.state.epoch
        return (
            looked is not None and placement.id in looked.present and seen is not None and seen.epoch == epoch
        )

    def _ask(self, wanted: str, placement: Placement, work: Workload) -> None:
        engine = self.engine_of(placement.site, placement.ranks[0].node)
        if wanted == "start":
            engine.start(self.order(placement, work))
        elif wanted == "stop":
            engine.stop(placement.id, grace_of(placement, work.spec))
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
        env |= self._data_of(placement, work)
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
            node_idle_w=tuple(one.idle_w for one in hardware),
            accelerator=hardware[0].accelerator if placement.ranks[0].mask else "",
            ports=dict(spec.ports),
            grace_ms=spec.grace_ms,
            max_duration_ms=spec.max_duration_ms,
            lease=spec.lease,
        )

    def _data_of(self, placement: Placement, work: Workload) -> dict[str, str]:
        """Where a workload's ranks find its data sets; raises HeadraceError where its site has no store here."""
        used = work.spec.policy.data
        if not used:
            return {}
        store = self.stores.get(placement.site)
        if store is None:
            raise HeadraceError(unknown("store of site", placement.site, self.stores))
        places = ((name, store.directory(data_id(work.tenant, name))) for name in used)
        return {f"HEADRACE_DATA_{name.upper().replace('-', '_')}": place for name, place in places}


def _wanted(placement: Placement, work: Workload) -> str:
    if placement.stop_reason is not None:
        return "stop"
    if not placement.started_ms:
        return "start"
    return "pause" if work.pause_wanted or placement.curtailed else "resume"


def _stands(known: PlacementReport | None, report: PlacementReport) -> bool:
    """Whether a report says no more than the one before but that its ranks ran on."""
    return (
        known is not None
        and known.epoch == report.epoch
        and known.endpoints == report.endpoints
        and list(map(_STANDING, known.ranks)) == list(map(_STANDING, report.ranks))
    )


def replica_key(root: str, placement: PlacementId) -> str:
    """The API key of one replica: derived, so that no two replicas share one and none has to be stored."""
    return hmac.new(root.encode(), placement.encode(), hashlib.sha256).hexdigest()[:48]
