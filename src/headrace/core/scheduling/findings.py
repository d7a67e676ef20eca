"""What keeps a waiting workload from a spot, in words: one reason, the strongest filter that leaves too little."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from headrace.core.data.model import CopyState, data_id
from headrace.core.fleet import I64
from headrace.core.power.shedding import rung_of, shed_class
from headrace.core.scheduling.columns import Ask
from headrace.core.scheduling.rank import (
    Candidates,
    absent,
    choose,
    increments_w,
    lacks,
    of_data,
    path_need_w,
)
from headrace.core.scheduling.refuse import SENTENCES, Refusal
from headrace.core.scheduling.sight import Short, Sight, Spot
from headrace.core.units import ceil_div, format_watts
from headrace.core.workload import WHOLE_MILLI, Topology


@dataclass(frozen=True, slots=True)
class Finding:
    """What keeps a workload with one of its options from one site: the reason, a sentence about it, and what it is about.

    ``removed`` counts the site's nodes by the reason that removed them first. ``contract_short`` and ``quota_short`` say what is
    lacking there; ``found`` the nodes that each filter left, ``short_w`` the watts that elements of the power tree lack,
    ``stays_w`` by how many watts there is too little room for what can't be shed of it.
    """

    option: int
    ask: Ask
    site: int
    refusal: Refusal
    text: str
    removed: dict[Refusal, int]
    spot: Spot | None = None
    found: Candidates | None = None
    short: Short | None = None
    short_w: dict[int, int] = field(default_factory=dict)
    stays_w: int = 0


@dataclass(frozen=True, slots=True)
class Staying:
    """What can't be shed of a workload at a site, and how much more of that the grid leaves there; watts of IT load."""

    need_w: int
    left_w: int
    limit_w: int

    @property
    def over_w(self) -> int:
        """By how much it is too much."""
        return max(0, self.need_w - self.left_w)


def staying(sight: Sight, spot: Spot, nodes: I64) -> Staying | None:
    """What can't be shed of it if it gets the best of some nodes; None where the grid asks nothing of the site."""
    snapshot, floors = sight.snapshot, sight.snapshot.floors
    left_w = None if floors is None else floors.left_w(spot.site)
    # What was sold for a time is there in that time: its power was kept for it.
    if floors is None or left_w is None or sight.spec.reservation is not None:
        return None
    engine = snapshot.fleet.engine_at(spot.site, spot.ask.model)
    rung = rung_of(shed_class(sight.spec), snapshot.engines.get(engine))
    count, total = spot.ask.accelerators, sight.columns.total
    each_w = [
        floors.needs_w(spot.site, rung, [(node, int(total[node]) if spot.ask.whole else count)])
        for node in nodes.tolist()
    ]
    return Staying(sum(sorted(each_w)[: spot.ask.nodes]), left_w, floors.limit_w[spot.site])


def start_at(sight: Sight, spot: Spot) -> I64 | None:
    """Nodes at a spot on which it would start now if nobody else waited, what the grid may ask back included."""
    nodes = sight.nodes_at(spot)
    if nodes is None:
        return None
    stays = staying(sight, spot, nodes)
    if stays is None or not stays.over_w:
        return nodes
    if spot.ask.topology is not None and spot.ask.topology.required:
        return None
    # Others that would do may wake less.
    best = staying(sight, spot, sight.candidates(spot.ask, spot.site).powered)
    return None if best is None or best.over_w else nodes


def start_of(sight: Sight) -> tuple[Spot, I64] | None:
    """The first spot at which it would start now if nobody else waited, and nodes there."""
    for spot in sight.spots():
        nodes = start_at(sight, spot)
        if nodes is not None:
            return spot, nodes
    return None


def count(number: int, what: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def each(ask: Ask) -> str:
    """What is asked for, in words: ``2 nodes with 4 H100 accelerators, 1000m cpu``."""
    if ask.whole:
        kind = f" with {ask.accelerators} {ask.model} accelerators" if ask.accelerators else ""
        return f"{count(ask.nodes, 'whole empty node')}{kind}"
    parts = []
    if ask.is_fraction:
        parts.append(f"{ask.share_milli / WHOLE_MILLI:g} of a {ask.model} accelerator")
    elif ask.accelerators:
        parts.append(count(ask.accelerators, f"{ask.model} accelerator"))
    parts += [f"of {ask.accelerator_memory_mb} MB each"] if ask.accelerator_memory_mb else []
    parts += [f"{ask.cpu_milli}m cpu"] if ask.cpu_milli else []
    parts += [f"{ask.memory_mb} MB"] if ask.memory_mb else []
    return f"{count(ask.nodes, 'node')} with {', '.join(parts) or 'a place'}"


def standing(topology: Topology) -> str:
    """How nodes should stand, in words."""
    pack = f"within one {topology.pack}" if topology.pack else ""
    spread = f"each in another {topology.spread}" if topology.spread else ""
    return " and ".join(part for part in (pack, spread) if part)


class Looking:
    """Looks for what keeps a sight from each of its sites."""

    def __init__(self, sight: Sight) -> None:
        self.sight, self.columns, self.snapshot = sight, sight.columns, sight.snapshot
        self.free = sight.ground.free

    def at(self, option: int, site: int) -> Finding | None:
        """What keeps it from a site with an option, law first; None when it fits there now."""
        sight, ask = self.sight, self.sight.asks[option]
        refusal, contract = sight.refusal(ask, site)
        if contract is None:
            why = refusal or Refusal.CONTRACT
            return Finding(option, ask, site, why, self._law(ask, site, why), {why: self.size(site)})
        spot = Spot(option, ask, site, contract)
        found = sight.candidates(ask, site)
        removed = self._removed(found, site)
        refusal = found.refusal(ask.nodes)
        nodes = choose(self.columns, self.free, ask, site) if refusal is None else None
        counted = self._counted(spot, nodes)
        if counted is not None:
            why, text, short = counted
            return Finding(option, ask, site, why, text, removed, spot, found, short)
        if nodes is not None:
            topology = spot.ask.topology
            stands = topology is not None and topology.required
            stays_w, text = self._stays(spot, nodes if stands else found.powered)
            if text:
                return Finding(option, ask, site, Refusal.POWER, text, removed, spot, found, stays_w=stays_w)
            return self._kept(spot, found, removed)
        if refusal is None and sight.stands_badly(ask, site):
            refusal = Refusal.TOPOLOGY
        say: dict[Refusal, Callable[[Spot, Candidates], str]] = {
            Refusal.HARDWARE: self._no_hardware,
            Refusal.NODE_STATE: self._not_ready,
            Refusal.CAPACITY: self._in_use,
            Refusal.TOPOLOGY: self._stands_badly,
        }
        if refusal in say:
            return Finding(option, ask, site, refusal, say[refusal](spot, found), removed, spot, found)
        short_w, text = self._no_power(spot, found)
        # Who has both to wait for is told of both: with the one alone it would wait on.
        stays_w, more = self._stays(spot, found.roomy)
        text += f"; and {more}" if more else ""
        return Finding(
            option, ask, site, Refusal.POWER, text, removed, spot, found, short_w=short_w, stays_w=stays_w
        )

    def size(self, site: int) -> int:
        """How many nodes a site has."""
        span = self.columns.spans[site]
        return int(span.stop - span.start)

    def _removed(self, found: Candidates, site: int) -> dict[Refusal, int]:
        kept = 0 if self.sight.held is None else int(np.count_nonzero(self.sight.held[found.powered]))
        counts = {
            Refusal.HARDWARE: self.size(site) - len(found.suit),
            Refusal.NODE_STATE: len(found.suit) - len(found.ready),
            Refusal.CAPACITY: len(found.ready) - len(found.roomy),
            Refusal.POWER: len(found.roomy) - len(found.powered),
            Refusal.WINDOW: kept,
        }
        return {reason: number for reason, number in counts.items() if number}

    # -- law and contract -----------------------------------------------------------------------------------------

    def _law(self, ask: Ask, site: int, refusal: Refusal) -> str:
        spec, tenant = self.sight.spec, self.sight.tenant
        if refusal is Refusal.JURISDICTION:
            blocked = self.snapshot.blocked(tenant, spec.policy, site)
            if blocked is not None:
                return blocked.why
            reasons = self.snapshot.place_verdict(tenant, spec.policy, site).reasons
            if about := of_data(self.snapshot, tenant, spec, site):
                return about
            return "; ".join(reasons) or SENTENCES[refusal]
        if refusal is Refusal.DEDICATED:
            return SENTENCES[refusal]
        if refusal is Refusal.DATA:
            return self._absent(site)
        if refusal is Refusal.ENGINE:
            return lacks(self.snapshot, tenant, spec, site, ask.model)
        named = (
            f"contract {spec.contract} does not cover" if spec.contract else f"no contract of {tenant} covers"
        )
        what = f"{ask.model} accelerators" if ask.model else "processors"
        return f"{named} {what} there"

    def _absent(self, site: int) -> str:
        """Which data sets are not at a site, and where they are."""
        snapshot, tenant = self.snapshot, self.sight.tenant
        parts = []
        for name in absent(snapshot, tenant, self.sight.spec, site):
            copies = snapshot.copies.get(data_id(tenant, name), {}).values()
            there = sorted(copy.site for copy in copies if copy.state is CopyState.PRESENT)
            here = [copy.state for copy in copies if copy.site == self.sight.id_of(site)]
            is_coming = here == [CopyState.COPYING]
            lies = f"it is at {', '.join(there)}" if there else "no copy of it is present"
            parts.append(f"data set {name} is {'on its way' if is_coming else 'not there'}; {lies}")
        return "; ".join(parts)

    def _counted(self, spot: Spot, nodes: I64 | None) -> tuple[Refusal, str, Short] | None:
        """What contract or quota lack."""
        short = self.sight.contract_short(spot, nodes)
        if short is not None:
            held, asked = _whole(short.held_milli), _whole(short.asked_milli)
            has = f"{held} of its {_whole(short.limit_milli)} accelerators in use"
            return Refusal.CONTRACT, f"contract {spot.contract.id} has {has}; needs {asked}", short
        found = self.sight.quota_short(spot, nodes)
        if not found:
            return None
        texts = []
        for project, short in found:
            whose = f"tenant {self.sight.tenant}" if project is None else f"project {project}"
            has = f"{_whole(short.held_milli)} of the {_whole(short.limit_milli)} accelerators that its quota allows in use"
            texts.append(f"{whose} has {has}")
        worst = max((short for _, short in found), key=lambda short: short.over_milli)
        return Refusal.QUOTA, f"{' and '.join(texts)}; needs {_whole(worst.asked_milli)}", worst

    def _kept(self, spot: Spot, found: Candidates, removed: dict[Refusal, int]) -> Finding | None:
        """It would fit, if it were not for windows."""
        if self.sight.nodes_at(spot) is not None:
            return None
        held = removed.get(Refusal.WINDOW, 0)
        what = f"{count(held, 'node')} that would do {'is' if held == 1 else 'are'}"
        what = what if held else "the power that it would need is"
        text = f"needs {each(spot.ask)}, {what} kept for a reservation or a maintenance"
        return Finding(spot.option, spot.ask, spot.site, Refusal.WINDOW, text, removed, spot, found)

    # -- nodes and power ------------------------------------------------------------------------------------------

    def _no_hardware(self, spot: Spot, found: Candidates) -> str:
        ask, span = spot.ask, self.columns.spans[spot.site]
        total = self.columns.total[span]
        if ask.model:
            total = total[self.columns.model[span] == self.columns.models.get(ask.model, -1)]
        most = f"; the largest node has {int(total.max())}" if len(total) else "; it has none of them"
        size = self.size(spot.site)
        return f"needs {each(ask)}, {len(found.suit)} of {size} nodes could ever do{most}"

    def _not_ready(self, spot: Spot, found: Candidates) -> str:
        closed = len(found.suit) - len(found.ready)
        text = f"needs {each(spot.ask)}, {closed} of the {len(found.suit)} that would do are draining, down "
        return text + "or not commissioned"

    def _in_use(self, spot: Spot, found: Candidates) -> str:
        return f"needs {each(spot.ask)} free, {len(found.roomy)} of {len(found.ready)} such nodes have that"

    def _stands_badly(self, spot: Spot, found: Candidates) -> str:
        topology = spot.ask.topology or Topology()
        free = len(found.roomy)
        return f"needs {each(spot.ask)} free {standing(topology)}; of the {free} that are free no such choice does"

    def _no_power(self, spot: Spot, found: Candidates) -> tuple[dict[int, int], str]:
        """The tightest element over those nodes that lack the least, and what every element lacks."""
        nodes, snapshot, free = found.roomy, self.snapshot, self.free
        if spot.ask.topology is not None and spot.ask.topology.required:
            standing_well = self.sight.choose_with_any_power(spot.ask, spot.site)
            nodes = nodes if standing_well is None else standing_well
        added = increments_w(self.columns, free, spot.ask, nodes)
        lacking = (added - free.head_w[self.columns.paths[:, nodes]]).max(axis=0)
        best = np.argsort(np.maximum(lacking, 0), kind="stable")[: spot.ask.nodes]
        elements, need = path_need_w(self.columns, nodes[best], added[best])
        inside = elements < len(snapshot.power_limit_w)
        elements, need = elements[inside], need[inside]
        short = need - free.head_w[elements]
        at = int(short.argmax())
        element, more_w = int(elements[at]), int(need[at])
        limit_w, left_w = int(snapshot.power_limit_w[element]), int(free.head_w[element])
        left = f"{format_watts(max(left_w, 0))} of {format_watts(limit_w)} left"
        by = self._instruction(element)
        text = f"needs {format_watts(more_w)}, {self.element(element)}{by} has {left}"
        if left_w < 0:
            text += f" (it is {format_watts(-left_w)} over)"
        order = np.argsort(-short, kind="stable")
        return {int(elements[one]): int(short[one]) for one in order if short[one] > 0}, text

    def _instruction(self, element: int) -> str:
        """By which instruction of the grid an element is limited now, in words."""
        fleet, floors = self.snapshot.fleet, self.snapshot.floors
        if floors is None or fleet.power_parent[element] >= 0:
            return ""
        by = floors.limited_by.get(int(fleet.power_site[element]))
        return f", limited by the grid's instruction {by}," if by else ""

    def _stays(self, spot: Spot, nodes: I64) -> tuple[int, str]:
        """By how much what can't be shed of it has too little room on any of some nodes, and that in words; 0 where it has."""
        stays = staying(self.sight, spot, nodes)
        if stays is None or not stays.over_w:
            return 0, ""
        site = self.snapshot.fleet.sites[spot.site]
        floors = self.snapshot.floors
        held_to = None if floors is None else floors.held_to.get(spot.site)
        by = f"by the grid's instruction {held_to}" if held_to else "by the firm part of its connection"
        text = (
            f"needs {format_watts(stays.need_w)} that the grid can't ask back, of which {site.id} has "
            f"{format_watts(max(stays.left_w, 0))} of {format_watts(stays.limit_w)} left ({by})"
        )
        return stays.over_w, text

    def element(self, element: int) -> str:
        """An element of the power tree, as it is called."""
        return f"{self.snapshot.fleet.power_kind[element]} {self.snapshot.fleet.power_ids[element]}"


def _whole(milli: int) -> int:
    return ceil_div(milli, WHOLE_MILLI)
