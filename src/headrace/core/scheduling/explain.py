"""Why a workload waits, runs, moved or was refused: one line, and what would change it.

Worked out when asked, from a snapshot alone: the reason nearest to success over all that would do and all sites, what each
filter removed there, what change would let it start now (tried, not guessed), and when it could start at the earliest.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from headrace.core.contracts import Contract
from headrace.core.data.model import CopyState, data_id
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.ids import NodeId, WorkloadId
from headrace.core.scheduling.ahead import Ahead, Turns
from headrace.core.scheduling.bylaw import ByLaw, also_by_law
from headrace.core.scheduling.findings import Finding, Looking, count, start_of
from headrace.core.scheduling.rank import absent
from headrace.core.scheduling.refuse import Refusal
from headrace.core.scheduling.remedies import Remedies, Remedy
from headrace.core.scheduling.sight import Ground, Sight, Spot
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.scheduling.sooner import sooner
from headrace.core.scheduling.soonest import NOTHING, Earliest, earliest, moment
from headrace.core.units import ceil_div, format_duration
from headrace.core.workload import (
    OUTLIVED,
    TERMINAL,
    WHOLE_MILLI,
    Placement,
    State,
    Workload,
    WorkloadType,
)

_MOST_REMEDIES = 3
"""Changes that a line names."""
PARTITION = re.compile(r"partition (\S+) is ([a-z]+)")
"""What an engine says of a node whose partition starts nothing now. Other reasons are not its tenants' to know."""
NodeStates = Mapping[NodeId, tuple[str, str]]
"""Of nodes that are not ready: their state, and why."""
_ALL_READY: NodeStates = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a workload is as it is.

    ``refusal`` is the binding reason of one that waits (None: it fits, or it does not wait). ``line`` is one sentence:
    ``reason``, then ``change``, then when it could start. ``removed`` counts, for what is nearest to success, nodes by the
    reason that removed them first. ``remedies`` are the changes with which it would start, the cheapest first; ``earliest_ms``
    is when it could start at the earliest (None: not known).
    """

    workload: WorkloadId
    state: State
    refusal: Refusal | None
    line: str
    removed: dict[str, int]
    change: str
    reason: str = ""
    remedies: tuple[Remedy, ...] = ()
    earliest_ms: int | None = None


def explain(
    snapshot: Snapshot, workload_id: WorkloadId, *, in_full: bool = True, states: NodeStates = _ALL_READY
) -> Explanation:
    """Explain a workload; raises HeadraceError (NOT_FOUND) for one that there is not.

    Without ``in_full`` the reason alone, as if nobody else waited: what a list of many can pay for. With ``states`` a partition
    of a cluster that starts nothing is named.
    """
    workload = snapshot.workloads.get(workload_id)
    if workload is None:
        step = "`headrace ps --all` lists those there are."
        raise HeadraceError(Problem(ProblemCode.NOT_FOUND, f"no workload {workload_id!r};", step))
    if workload.state in TERMINAL:
        return _ended(snapshot, workload)
    if workload.state is not State.QUEUED:
        return _held(snapshot, workload)
    return _Waiting(snapshot, workload, in_full, states).explain()


def _ended(snapshot: Snapshot, workload: Workload) -> Explanation:
    if workload.spec.type is WorkloadType.CLUSTER and workload.reason == OUTLIVED:
        # It ended as it was asked to, whatever its processes said to the signal.
        lasted = format_duration(workload.spec.max_duration_ms)
        return _explanation(workload, None, f"ended after its time of {lasted}", {}, "create it again")
    told = len(workload.exit_codes) == 1 and "exit code" in workload.reason
    codes = f", exit codes {', '.join(map(str, workload.exit_codes))}" if any(workload.exit_codes) else ""
    codes = "" if told else codes
    why = f": {workload.reason}" if workload.reason else ""
    refused = workload.state is State.REFUSED
    refusal = next((item for item in Refusal if refused and workload.reason.startswith(item.name)), None)
    change = {
        State.REFUSED: "submit it again with what the reason allows",
        State.FAILED: "see its logs, and submit it again",
        State.STOPPED: "submit it again",
    }.get(workload.state, "")
    if refusal is Refusal.JURISDICTION:
        change = ByLaw(Sight(Ground.of(snapshot), workload.tenant, workload.spec)).elsewhere() or change
    return _explanation(workload, refusal, f"{workload.state}{why}{codes}", {}, change)


def _held(snapshot: Snapshot, workload: Workload) -> Explanation:
    placement = snapshot.placements.get(workload.placement) if workload.placement else None
    where = _where(placement) if placement else ""
    moved = f"; attempt {workload.attempt}" if workload.attempt > 1 else ""
    is_curtailed = placement is not None and placement.curtailed and placement.stop_reason is None
    why = f" ({workload.reason})" if workload.reason and not is_curtailed else ""
    verb, change = {
        State.PLACED: ("is placed, its processes are starting", "nothing: it runs once its engine confirms"),
        State.RUNNING: ("runs", ""),
        State.PAUSED: ("is paused", "runs again when it is resumed"),
        State.STOPPING: ("is stopping", "nothing: it ends once its processes have"),
    }[workload.state]
    if placement is not None and is_curtailed:
        own = "it is resumed and " if workload.pause_wanted else ""
        verb = f"{verb} for the grid, which {_limited(snapshot, placement)}"
        change = f"goes on when {own}the limit lets it"
    stopping = f", {placement.stop_reason}" if placement and placement.stop_reason else ""
    capped = _capped(snapshot, placement) if placement is not None else ""
    return _explanation(workload, None, f"{verb}{where}{capped}{moved}{stopping}{why}", {}, change)


def _capped(snapshot: Snapshot, placement: Placement) -> str:
    """That its nodes are limited by their controllers, to what, and for which instruction; empty when they are not."""
    nodes = dict.fromkeys(rank.node for rank in placement.ranks)
    caps = [snapshot.caps[NodeId(node)] for node in nodes if NodeId(node) in snapshot.caps]
    wanted = [cap for cap in caps if cap.wanted_w]
    if not wanted:
        return ""
    least_w, most_w = min(cap.wanted_w for cap in wanted), max(cap.wanted_w for cap in wanted)
    watts = f"{least_w} W" if least_w == most_w else f"{least_w} to {most_w} W"
    return f", capped at {watts} on {count(len(wanted), 'node')} for instruction {wanted[0].instruction}"


def _limited(snapshot: Snapshot, placement: Placement) -> str:
    """What limits the site of a curtailed placement now, and for which instruction it was curtailed where that is another."""
    site, floors = placement.site, snapshot.floors
    by = None if floors is None else floors.limited_by.get(snapshot.fleet.site_index[site])
    if by is None:
        return f"limited {site} (instruction {placement.curtailed}, which does so no more)"
    told = "" if by == placement.curtailed else f", it was told by {placement.curtailed}"
    return f"limits {site} (instruction {by}{told})"


def _where(placement: Placement) -> str:
    accelerators = sum(rank.accelerators for rank in placement.ranks)
    with_them = f", {count(accelerators, 'accelerator')}" if accelerators else ""
    return f": {count(len(placement.ranks), 'node')} at site {placement.site}{with_them}"


def _explanation(
    workload: Workload, refusal: Refusal | None, reason: str, removed: dict[str, int], change: str
) -> Explanation:
    return _told(workload, refusal, reason, removed, change, (), NOTHING)


def _told(
    workload: Workload,
    refusal: Refusal | None,
    reason: str,
    removed: dict[str, int],
    change: str,
    remedies: tuple[Remedy, ...],
    soonest: Earliest,
) -> Explanation:
    line = "; ".join(part for part in (reason, change, soonest.line) if part)
    return Explanation(
        workload.id,
        workload.state,
        refusal,
        " ".join(line.split()),
        removed,
        change,
        " ".join(reason.split()),
        remedies,
        soonest.at_ms,
    )


def _nearness(finding: Finding) -> int:
    """How near to success a reason is: what a site never has is farther than what it has too little of now."""
    return Refusal.DEDICATED + 1 if finding.refusal is Refusal.HARDWARE else finding.refusal


class _Waiting:
    """A queued workload before the world as it is."""

    def __init__(
        self,
        snapshot: Snapshot,
        workload: Workload,
        in_full: bool = True,
        states: NodeStates = _ALL_READY,
    ) -> None:
        self.snapshot, self.workload, self.in_full, self.states = snapshot, workload, in_full, states
        self.sight = Sight(Ground.of(snapshot), workload.tenant, workload.spec)
        self.looking, self.by_law = Looking(self.sight), ByLaw(self.sight)

    def explain(self) -> Explanation:
        not_yet = self.not_yet()
        if not_yet is not None:
            return not_yet
        findings: list[Finding] = []
        for option in range(len(self.sight.asks)):
            for site in self.sites():
                finding = self.looking.at(option, site)
                if finding is None:
                    return self.behind(
                        Spot(option, self.sight.asks[option], site, self.contract(option, site))
                    )
                findings.append(finding)
        if not findings:
            spec = self.workload.spec
            return self.answer(Refusal.HARDWARE, f"waits: HARDWARE: there is no site {spec.site}", {})
        # The reason nearest to success: the weakest by precedence, of what is wanted most, at the site that comes first.
        best = max(findings, key=_nearness)
        removed = self.removed([one for one in findings if one.option == best.option])
        where = f"site {self.sight.id_of(best.site)}: {best.text}{self.closed(best)}"
        if best.refusal is Refusal.JURISDICTION:
            # Where rules decide, each site may be kept by another, and by other facts.
            blocked = self.by_law.blocked(self.sites())
            where = self.by_law.reason(blocked) if best.site in blocked else where
            # Which document made it wait is said for as long as it does.
            _, mark, changed = self.workload.reason.rpartition("; changed: ")
            where += f"{mark}{changed}" if mark else ""
        line = f"waits: {best.refusal.name}: {where}"
        return self.waits(best, line, removed, findings)

    def not_yet(self) -> Explanation | None:
        """What waits for a moment."""
        workload, now_ms = self.workload, self.snapshot.now_ms
        if workload.not_before_ms > now_ms:
            rest = format_duration(workload.not_before_ms - now_ms)
            why = f" after: {workload.reason}" if workload.reason else ""
            line = f"waits: TIME: it is backing off{why}"
            return self.answer(Refusal.TIME, line, {}, f"is tried again in {rest}")
        reservation = workload.spec.reservation
        if reservation is None:
            return None
        window = next((one for one in self.snapshot.windows if one.id == reservation), None)
        if window is not None and window.is_on(now_ms):
            return None
        if window is not None and now_ms < window.starts_ms:
            at = moment(window.starts_ms, now_ms, self.snapshot.zone)
            line = f"waits: TIME: its reservation {reservation} has not begun"
            return self.answer(Refusal.TIME, line, {}, f"may start at {at}")
        line = f"waits: TIME: its reservation {reservation} is over"
        return self.answer(Refusal.TIME, line, {}, "submit it again without it")

    def sites(self) -> list[int]:
        """The sites to tell of: another tenant's alone are not there, unless there is no other or it named one."""
        known = [site for site in self.sight.sites if self.may_know(site)]
        return known or self.sight.sites

    def may_know(self, site: int) -> bool:
        place = self.snapshot.fleet.sites[site]
        return place.dedicated_to in (None, self.workload.tenant) or place.id == self.workload.spec.site

    def contract(self, option: int, site: int) -> Contract:
        _, contract = self.sight.refusal(self.sight.asks[option], site)
        if contract is None:
            raise AssertionError("nothing fits where nothing pays for it")
        return contract

    def removed(self, findings: list[Finding]) -> dict[str, int]:
        """Nodes by the reason that removed them first; those of sites that it does not ask for as SITE."""
        counts: dict[str, int] = {}
        spec, fleet = self.workload.spec, self.snapshot.fleet
        others = [site for site in range(len(fleet.sites)) if spec.site not in (None, fleet.sites[site].id)]
        elsewhere = sum(self.looking.size(site) for site in others if self.may_know(site))
        if elsewhere:
            counts["SITE"] = elsewhere
        for finding in findings:
            for reason, number in finding.removed.items():
                counts[reason.name] = counts.get(reason.name, 0) + number
        return counts

    def closed(self, finding: Finding) -> str:
        """Which partitions of clusters keep nodes closed that would do."""
        found = finding.found
        if finding.refusal is not Refusal.NODE_STATE or found is None:
            return ""
        ready, fleet = set(found.ready.tolist()), self.snapshot.fleet
        closed = [fleet.node_ids[node] for node in found.suit.tolist() if node not in ready]
        said = (PARTITION.search(self.states.get(node, ("", ""))[1]) for node in closed)
        partitions = Counter(f"partition {one[1]} of their cluster is {one[2]}" for one in said if one)
        because = ", ".join(f"{number} because {what}" for what, number in sorted(partitions.items()))
        return f" ({because})" if because else ""

    def answer(
        self, refusal: Refusal | None, reason: str, removed: dict[str, int], change: str = ""
    ) -> Explanation:
        return _explanation(self.workload, refusal, reason, removed, change)

    # -- what would change it -------------------------------------------------------------------------------------

    def waits(
        self, finding: Finding, reason: str, removed: dict[str, int], findings: list[Finding]
    ) -> Explanation:
        """With what would change it, and when it could start, if that is asked for."""
        if not self.in_full:
            return self.answer(finding.refusal, reason, removed)
        remedies = list(Remedies(self.sight, finding).all())
        abroad = self.by_law.abroad(self.sites())
        # Who has others before it may not start at once, whatever it changes.
        first = not Turns(self.snapshot).anybody_before(self.workload)
        change = self.change(finding, remedies, abroad, "would start" if first else "would have room")
        change = "; or ".join(part for part in (change, self.with_data(findings)) if part)
        soonest = earliest(self.sight, finding)
        equals = sooner(self.snapshot, self.workload)
        reason += f"; {equals}" if equals else ""
        return _told(self.workload, finding.refusal, reason, removed, change, (*remedies, *abroad), soonest)

    def change(self, finding: Finding, remedies: list[Remedy], abroad: list[Remedy], would: str) -> str:
        """The changes in words."""
        if finding.refusal is Refusal.JURISDICTION:
            blocked = self.by_law.blocked(self.sites())
            if finding.site in blocked:
                return self.by_law.change(blocked, would)
            here = self.snapshot.fleet.sites[finding.site].country
            if any(one.spec is not None and here in one.spec.policy.countries for one in abroad):
                return f"{would} there if its policy allowed {here}"
        also = also_by_law(abroad)
        if remedies:
            return f"{would} {', or '.join(one.text for one in remedies[:_MOST_REMEDIES])}{also}"
        if finding.refusal is Refusal.CONTRACT and finding.short is not None:
            over = ceil_div(finding.short.over_milli, WHOLE_MILLI)
            return f"would need {over} of them to come free, or a larger contract, and room beside it{also}"
        return _WITHOUT_REMEDY.get(finding.refusal, "") + also

    def with_data(self, findings: list[Finding]) -> str:
        """Sites that lack data alone, and what would bring it there; whether there is room for it then was looked at."""
        spec, copies = self.workload.spec, self.snapshot.copies
        said = []
        for site in dict.fromkeys(one.site for one in findings if one.refusal is Refusal.DATA):
            place = self.snapshot.fleet.sites[site].id
            orders = []
            for name in absent(self.snapshot, self.workload.tenant, spec, site):
                copy = copies.get(data_id(self.workload.tenant, name), {}).get(place)
                is_coming = copy is not None and copy.state is CopyState.COPYING
                orders.append(
                    f"{name} has come" if is_coming else f"'headrace data copy {name} --to {place}' is done"
                )
            bare = replace(spec, site=place, policy=replace(spec.policy, data=()))
            would = "would start" if start_of(self.sight.other(bare)) is not None else "could wait for room"
            said.append(f"{would} at {place} once {' and '.join(orders)}")
        return "; or ".join(said[:_MOST_REMEDIES])

    # -- who goes first -------------------------------------------------------------------------------------------

    def behind(self, spot: Spot) -> Explanation:
        """It would fit by itself: say who goes first."""
        place = f"it fits at site {self.sight.id_of(spot.site)}"
        if spot.option:
            place += f" with {spot.ask.model}:{spot.ask.accelerators}"
        turns = Turns(self.snapshot) if self.in_full else None
        ahead = turns.before(self.workload) if turns is not None else Ahead()
        if turns is None or not ahead.count:
            first = "" if turns is None else " and is first in the queue"
            return self.answer(None, f"waits: NEXT: {place}{first}", {}, "starts with the next plan")
        goes = "goes" if ahead.count == 1 else "go"
        line = f"waits: RANK: {place}, but {count(ahead.count, 'workload')} {goes} first"
        line += f" ({', '.join(_why(ahead))})"
        # What another tenant has waiting is not this one's to know.
        if ahead.own is not None:
            line += f", {ahead.own.id} (priority {ahead.own.spec.priority}) the next of its own tenant"
        equals = sooner(self.snapshot, self.workload)
        line += f"; {equals}" if equals else ""
        change = "starts with the next plan that leaves it room"
        priority = turns.priority_to_be_first(self.workload, ahead)
        remedies: tuple[Remedy, ...] = ()
        if priority is not None:
            spec = replace(self.workload.spec, priority=priority)
            remedies = (Remedy("priority", f"with priority {priority}", spec),)
            change += f", or at once with priority {priority}"
        return _told(self.workload, Refusal.RANK, line, {}, change, remedies, NOTHING)


_WITHOUT_REMEDY: dict[Refusal, str] = {
    Refusal.DEDICATED: "would need a site that is not dedicated",
    Refusal.CONTRACT: "would need such a contract, valid now",
    Refusal.QUOTA: "would need a larger quota, and room beside it",
    Refusal.POWER: "would need more power there",
    Refusal.HARDWARE: "would need other nodes there, or a smaller ask",
    Refusal.NODE_STATE: "would need more of them to be ready, with room on them",
    Refusal.CAPACITY: "would need more room there, and the power for it",
    Refusal.TOPOLOGY: "would need others to leave some that do",
    Refusal.WINDOW: "would need that to be over",
}
"""What is said where no single change would let it start."""


def _why(ahead: Ahead) -> Iterator[str]:
    """Why those who go first do."""
    if ahead.guaranteed:
        yield f"{ahead.guaranteed} within a guarantee"
    if ahead.priority:
        yield f"{ahead.priority} by priority and age"
    if ahead.share:
        yield f"{ahead.share} by a smaller share"
    if ahead.arrival:
        yield f"{ahead.arrival} by arrival"
