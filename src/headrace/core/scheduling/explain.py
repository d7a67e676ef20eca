"""Why a workload waits, runs, moved or was refused: one line, and what would change it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from headrace.core.contracts import Contract
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.fleet import I64
from headrace.core.ids import WorkloadId
from headrace.core.scheduling.admit import can_ever_fit
from headrace.core.scheduling.columns import (
    Ask,
    Columns,
    Scratch,
    accelerators_milli_of,
    ask_of,
    columns_of,
    scratch_of,
)
from headrace.core.scheduling.rank import (
    Candidates,
    candidates,
    choose,
    increments_w,
    path_need_w,
    site_order,
    site_refusal,
)
from headrace.core.scheduling.refuse import SENTENCES, Refusal
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.sovereignty.plain import PROFILES
from headrace.core.units import ceil_div, format_duration, format_watts
from headrace.core.workload import TERMINAL, WHOLE_MILLI, Placement, PolicyRef, State, Workload, WorkloadType

_FILLER = WorkloadType.FILLER
_MOST_NAMED = 4
"""Countries that a line names."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a workload is as it is.

    ``refusal`` is the binding reason of one that waits (None: it fits, or it does not wait). ``line`` is one
    sentence with the change in it; ``change`` is the change alone. ``removed`` counts nodes by the reason
    that removed them first.
    """

    workload: WorkloadId
    state: State
    refusal: Refusal | None
    line: str
    removed: dict[str, int]
    change: str


def explain(snapshot: Snapshot, workload_id: WorkloadId) -> Explanation:
    """Explain a workload; raises HeadraceError (NOT_FOUND) for one that there is not."""
    workload = snapshot.workloads.get(workload_id)
    if workload is None:
        step = "`headrace ps --all` lists those there are."
        raise HeadraceError(Problem(ProblemCode.NOT_FOUND, f"no workload {workload_id!r};", step))
    if workload.state in TERMINAL:
        return _ended(snapshot, workload)
    if workload.state is not State.QUEUED:
        return _held(snapshot, workload)
    return _Waiting(snapshot, workload).explain()


def _ended(snapshot: Snapshot, workload: Workload) -> Explanation:
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
        change = _Waiting(snapshot, workload).elsewhere_by_law() or change
    return _explanation(workload, refusal, f"{workload.state}{why}{codes}", {}, change)


def _held(snapshot: Snapshot, workload: Workload) -> Explanation:
    placement = snapshot.placements.get(workload.placement) if workload.placement else None
    where = _where(placement) if placement else ""
    moved = f"; attempt {workload.attempt}" if workload.attempt > 1 else ""
    why = f" ({workload.reason})" if workload.reason else ""
    verb, change = {
        State.PLACED: ("is placed, its processes are starting", "nothing: it runs once its engine confirms"),
        State.RUNNING: ("runs", ""),
        State.PAUSED: ("is paused", "runs again when it is resumed"),
        State.STOPPING: ("is stopping", "nothing: it ends once its processes have"),
    }[workload.state]
    stopping = f", {placement.stop_reason}" if placement and placement.stop_reason else ""
    return _explanation(workload, None, f"{verb}{where}{moved}{stopping}{why}", {}, change)


def _where(placement: Placement) -> str:
    count = sum(rank.accelerators for rank in placement.ranks)
    with_them = f", {_count(count, 'accelerator')}" if count else ""
    return f": {_count(len(placement.ranks), 'node')} at site {placement.site}{with_them}"


def _explanation(
    workload: Workload, refusal: Refusal | None, line: str, removed: dict[str, int], change: str
) -> Explanation:
    whole = f"{line}; {change}" if change else line
    return Explanation(workload.id, workload.state, refusal, " ".join(whole.split()), removed, change)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


@dataclass(frozen=True, slots=True)
class _Finding:
    """What keeps a workload from one site: the reason, a sentence about it, and what would change it."""

    site: int
    refusal: Refusal
    text: str
    change: str


class _Waiting:
    """A queued workload before the world as it is."""

    def __init__(self, snapshot: Snapshot, workload: Workload) -> None:
        self.snapshot, self.workload = snapshot, workload
        self.columns: Columns = columns_of(snapshot.fleet)
        self.state: Scratch = scratch_of(snapshot, self.columns)
        self.ask: Ask = ask_of(
            workload.spec, workload.spec.resources, snapshot.tenant_number(workload.tenant)
        )
        self.removed: dict[str, int] = {}
        self.elsewhere: list[str] = []

    def explain(self) -> Explanation:
        workload, spec = self.workload, self.workload.spec
        if workload.not_before_ms > self.snapshot.now_ms:
            rest = format_duration(workload.not_before_ms - self.snapshot.now_ms)
            why = f" after: {workload.reason}" if workload.reason else ""
            return self.answer(
                Refusal.TIME, f"waits: TIME: it is backing off{why}", f"is tried again in {rest}"
            )
        # Sites that are another tenant's alone are not there for this one, unless there is no other or it named one.
        all_sites = site_order(self.snapshot, self.workload.tenant)
        sites = [site for site in all_sites if self.may_know(site)] or all_sites
        pinned = [site for site in sites if spec.site is None or self.id_of(site) == spec.site]
        self.count("SITE", sum(self.size(site) for site in sites) - sum(self.size(site) for site in pinned))
        findings = []
        for site in pinned:
            finding = self.at(site)
            if finding is None:
                return self.behind(site)
            findings.append(finding)
        if not findings:
            return self.answer(Refusal.HARDWARE, f"waits: HARDWARE: there is no site {spec.site}", "")
        # The reason nearest to success: the weakest by precedence, at the site that comes first.
        best = max(findings, key=lambda finding: finding.refusal)
        also = self.or_elsewhere(best)
        line = f"waits: {best.refusal.name}: site {self.id_of(best.site)}: {best.text}"
        return self.answer(best.refusal, line, best.change + also)

    def elsewhere_by_law(self) -> str:
        """Where it would run if its policy allowed it, with a policy that does; empty when it would nowhere."""
        spec, tenant, fleet = self.workload.spec, self.workload.tenant, self.snapshot.fleet
        now, later = dict[str, None](), dict[str, None]()
        for site in site_order(self.snapshot, tenant):
            place = fleet.sites[site]
            if self.snapshot.place_verdict(tenant, spec.policy, site).allowed:
                return ""  # The estate has changed since: the reason is no longer one.
            open_to_it = place.dedicated_to in (None, tenant) and spec.site in (None, place.id)
            contract = self.snapshot.contract_for(tenant, site, spec.resources.accelerator, spec.contract)
            if not (place.country and open_to_it and contract is not None):
                continue
            if choose(self.columns, self.state, self.ask, site) is not None:
                now[place.country] = None
            elif place.country not in later:
                # It was refused by law before anything else: whether it could ever fit there is not known yet.
                other = replace(spec, policy=PolicyRef(countries=(place.country,)))
                if can_ever_fit(self.snapshot, other, tenant) is None:
                    later[place.country] = None
        if not now and not later:
            return ""
        countries = sorted(now or later)
        where = " or ".join(
            f"in {country} (policy {_allowing(country)})" for country in countries[:_MOST_NAMED]
        )
        more = f" or {len(countries) - _MOST_NAMED} more countries" if len(countries) > _MOST_NAMED else ""
        return f"submitted again it {'would start now' if now else 'would wait for room'} {where}{more}"

    def answer(self, refusal: Refusal | None, line: str, change: str) -> Explanation:
        return _explanation(self.workload, refusal, line, self.removed, change)

    def id_of(self, site: int) -> str:
        return self.snapshot.fleet.sites[site].id

    def may_know(self, site: int) -> bool:
        place = self.snapshot.fleet.sites[site]
        return place.dedicated_to in (None, self.workload.tenant) or place.id == self.workload.spec.site

    def size(self, site: int) -> int:
        span = self.columns.spans[site]
        return int(span.stop - span.start)

    def count(self, reason: str, nodes: int) -> None:
        if nodes:
            self.removed[reason] = self.removed.get(reason, 0) + nodes

    def or_elsewhere(self, best: _Finding) -> str:
        if not self.elsewhere or best.refusal is Refusal.JURISDICTION:
            return ""
        return f" (or in {', '.join(sorted(set(self.elsewhere)))} if its policy allowed it)"

    def at(self, site: int) -> _Finding | None:
        """What keeps it from a site, law first; None when it fits there now."""
        spec, tenant = self.workload.spec, self.workload.tenant
        refusal, contract = site_refusal(self.snapshot, tenant, spec, self.ask.model, site)
        if refusal is not None or contract is None:
            self.count((refusal or Refusal.CONTRACT).name, self.size(site))
            return self.by_law_or_contract(site, refusal or Refusal.CONTRACT)
        found = candidates(self.columns, self.state, self.ask, site)
        self.count(Refusal.HARDWARE.name, self.size(site) - len(found.suit))
        self.count(Refusal.NODE_STATE.name, len(found.suit) - len(found.ready))
        self.count(Refusal.CAPACITY.name, len(found.ready) - len(found.roomy))
        self.count(Refusal.POWER.name, len(found.roomy) - len(found.powered))
        refusal = found.refusal(self.ask.nodes)
        nodes = choose(self.columns, self.state, self.ask, site) if refusal is None else None
        used_up = self.reserved_used_up(site, contract, nodes)
        if used_up is not None or nodes is not None:
            return used_up
        say: dict[Refusal, Callable[[int, Candidates], _Finding]] = {
            Refusal.HARDWARE: self.no_hardware,
            Refusal.NODE_STATE: self.not_ready,
            Refusal.CAPACITY: self.in_use,
        }
        return say.get(refusal or Refusal.POWER, self.no_power)(site, found)

    def by_law_or_contract(self, site: int, refusal: Refusal) -> _Finding:
        spec, tenant, place = self.workload.spec, self.workload.tenant, self.snapshot.fleet.sites[site]
        if refusal is Refusal.JURISDICTION:
            reasons = self.snapshot.place_verdict(tenant, spec.policy, site).reasons
            fits = place.country and choose(self.columns, self.state, self.ask, site) is not None
            if fits and place.dedicated_to in (None, tenant):
                self.elsewhere.append(place.country)
            change = f"would start there if its policy allowed {place.country}" if fits else ""
            return _Finding(site, refusal, "; ".join(reasons) or SENTENCES[refusal], change)
        if refusal is Refusal.DEDICATED:
            return _Finding(site, refusal, SENTENCES[refusal], "would need a site that is not dedicated")
        named = (
            f"contract {spec.contract} does not cover" if spec.contract else f"no contract of {tenant} covers"
        )
        what = f"{spec.resources.accelerator} accelerators" if spec.resources.accelerator else "processors"
        return _Finding(site, refusal, f"{named} {what} there", "would need such a contract, valid now")

    def reserved_used_up(self, site: int, contract: Contract, nodes: I64 | None) -> _Finding | None:
        if contract.kind != "reserved":
            return None
        asked_milli = self.ask.nodes * self.ask.accelerators * self.ask.share_milli
        if nodes is not None:
            asked_milli = accelerators_milli_of(self.columns, self.ask, nodes)
        held_milli = self.snapshot.contract_held_milli.get(contract.id, 0)
        held, asked = ceil_div(held_milli, WHOLE_MILLI), ceil_div(asked_milli, WHOLE_MILLI)
        over = ceil_div(held_milli + asked_milli, WHOLE_MILLI) - contract.accelerators
        if over <= 0:
            return None
        text = f"contract {contract.id} has {held} of its {contract.accelerators} accelerators in use; needs {asked}"
        change = f"would start if {over} of them were freed, or the contract were larger by as many"
        return _Finding(site, Refusal.CONTRACT, text, change)

    def each(self) -> str:
        ask = self.ask
        if ask.whole:
            kind = f" with {ask.accelerators} {ask.model} accelerators" if ask.accelerators else ""
            return f"{_count(ask.nodes, 'whole empty node')}{kind}"
        parts = [f"{_count(ask.accelerators, f'{ask.model} accelerator')}"] if ask.accelerators else []
        parts += [f"{ask.cpu_milli}m cpu"] if ask.cpu_milli else []
        parts += [f"{ask.memory_mb} MB"] if ask.memory_mb else []
        return f"{_count(ask.nodes, 'node')} with {', '.join(parts) or 'a place'}"

    def no_hardware(self, site: int, found: Candidates) -> _Finding:
        span = self.columns.spans[site]
        total = self.columns.total[span]
        if self.ask.model:
            total = total[self.columns.model[span] == self.columns.models.get(self.ask.model, -1)]
        most = f"; the largest node has {int(total.max())}" if len(total) else "; it has none of them"
        text = f"needs {self.each()}, {len(found.suit)} of {self.size(site)} nodes could ever do{most}"
        return _Finding(site, Refusal.HARDWARE, text, "would need other nodes there, or a smaller ask")

    def not_ready(self, site: int, found: Candidates) -> _Finding:
        missing = self.ask.nodes - len(found.ready)
        closed = len(found.suit) - len(found.ready)
        text = f"needs {self.each()}, {closed} of the {len(found.suit)} that would do are draining, down "
        text += "or not commissioned"
        return _Finding(site, Refusal.NODE_STATE, text, f"would need {missing} more of them to be ready")

    def in_use(self, site: int, found: Candidates) -> _Finding:
        missing = self.ask.nodes - len(found.roomy)
        text = f"needs {self.each()} free, {len(found.roomy)} of {len(found.ready)} such nodes have that"
        return _Finding(
            site, Refusal.CAPACITY, text, f"would start if {_count(missing, 'more node')} had it free"
        )

    def no_power(self, site: int, found: Candidates) -> _Finding:
        """The tightest element over those nodes that lack the least."""
        nodes, snapshot = found.roomy, self.snapshot
        added = increments_w(self.columns, self.state, self.ask, nodes)
        lacking = (added - self.state.head_w[self.columns.paths[:, nodes]]).max(axis=0)
        best = np.argsort(np.maximum(lacking, 0), kind="stable")[: self.ask.nodes]
        elements, need = path_need_w(self.columns, nodes[best], added[best])
        short = need - self.state.head_w[elements]
        at = int(short.argmax())
        element, more_w = int(elements[at]), int(need[at])
        limit_w, left_w = int(snapshot.power_limit_w[element]), int(self.state.head_w[element])
        name = f"{snapshot.fleet.power_kind[element]} {snapshot.fleet.power_ids[element]}"
        left = f"{format_watts(max(left_w, 0))} of {format_watts(limit_w)} left"
        text = f"needs {format_watts(more_w)}, {name} has {left}"
        if left_w < 0:
            text += f" (it is {format_watts(-left_w)} over)"
        return _Finding(
            site, Refusal.POWER, text, f"would start if {format_watts(int(short[at]))} are freed there"
        )

    def behind(self, site: int) -> Explanation:
        """It would fit by itself: say who goes first."""
        now_ms, mine = self.snapshot.now_ms, _rank(self.workload)
        priority = self.workload.spec.priority
        # Plain comparisons first: a hundred thousand may be queued.
        ahead = [
            other
            for other in self.snapshot.queue
            if (level := other.spec.priority) >= priority
            and (level > priority or _rank(other) < mine)
            and other.not_before_ms <= now_ms
        ]
        place = f"site {self.id_of(site)}"
        if not ahead:
            return self.answer(
                None,
                f"waits: NEXT: it fits at {place} and is first in the queue",
                "starts with the next plan",
            )
        highest = max(other.spec.priority for other in ahead)
        first = min((other for other in ahead if other.spec.priority == highest), key=_rank)
        count = _count(len(ahead), "workload")
        line = f"waits: RANK: it fits at {place}, but {count} {'goes' if len(ahead) == 1 else 'go'} first"
        # What another tenant has waiting is not this one's to know.
        if first.tenant == self.workload.tenant:
            line += f", {first.id} (priority {first.spec.priority}) the next of them"
        change = "starts with the next plan that leaves it room; a higher priority would move it ahead"
        return self.answer(Refusal.RANK, line, change)


def _allowing(country: str) -> str:
    """Policies that allow a country: the narrowest profile that does, and the shorthand."""
    having = [policy for policy in PROFILES.values() if country in policy.countries]
    shorthand = f"{{countries: [{country}]}}"
    if not having:
        return shorthand
    return f"{min(having, key=lambda policy: len(policy.countries)).name} or {shorthand}"


def _rank(workload: Workload) -> tuple[int, bool, int]:
    spec = workload.spec
    return -spec.priority, spec.type is _FILLER, workload.submitted_seq
