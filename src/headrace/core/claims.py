"""What physics and arithmetic say to what is claimed of an estate.

Watts are nameplate: the most that the nodes draw. At the meter they are multiplied by the site's PUE. A finding shows
its arithmetic, so that whoever reads it can redo it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from headrace.core.estate import Block, Claim, Estate, Site
from headrace.core.hardware import CATALOGUE, HardwareType
from headrace.core.power.pue import meter_watts
from headrace.core.units import PERMILLE, ceil_div, facility_watts, format_watts

Verdict = Literal["holds", "contradicted", "unknown"]
REFERENCE = ("gb200-nvl72", "gb300-nvl72")
"""Types that a claim without hardware is judged by: the least and the most that the claimed generation draws."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One claim (of a site, or of the estate when ``site`` is empty), the arithmetic, and the verdict."""

    site: str
    claim: str
    arithmetic: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Figures:
    """What a site's blocks add up to: ``it_w`` nameplate, ``meter_w`` the same at the meter, accelerators by model, ``miners``
    among them.

    ``headroom_w`` is what the connection has left at the meter with every node at nameplate; negative when it lacks.
    """

    blocks: int
    racks: int
    nodes: int
    accelerators: Mapping[str, int]
    it_w: int
    meter_w: int
    headroom_w: int
    miners: int = 0

    @property
    def accelerator_count(self) -> int:
        """Accelerators of all models; machines that mine are none."""
        return sum(self.accelerators.values()) - self.miners


@dataclass(frozen=True, slots=True)
class Milestone:
    """What is commissioned at a site by the end of a day, cumulative: accelerators, and nameplate at the meter."""

    day: str
    blocks: tuple[str, ...]
    accelerators: int
    meter_w: int
    headroom_w: int


def figures(estate: Estate, site: Site, by: str | None = None) -> Figures:
    """What all blocks of a site add up to; with ``by`` (an ISO day) only those commissioned by then."""
    known = CATALOGUE | estate.hardware
    blocks = [
        block for block in site.blocks if by is None or (block.commissioned and block.commissioned <= by)
    ]
    models: dict[str, int] = {}
    racks = nodes = it_w = miners = 0
    for block in blocks:
        it_w += _block_w(block, known)
        for group in block.groups:
            hardware = known[group.hardware]
            racks += group.racks
            nodes += group.node_count
            miners += group.node_count * hardware.is_miner
            models[hardware.accelerator] = (
                models.get(hardware.accelerator, 0) + group.node_count * hardware.accelerators
            )
    meter_w = meter_watts(site, it_w)
    return Figures(
        blocks=len(blocks),
        racks=racks,
        nodes=nodes,
        accelerators=dict(sorted(models.items())),
        it_w=it_w,
        meter_w=meter_w,
        headroom_w=site.connection.total_w - meter_w,
        miners=miners,
    )


def milestones(estate: Estate, site: Site) -> tuple[Milestone, ...]:
    """The site's days of commissioning in order, each with what is then commissioned."""
    days = sorted({block.commissioned for block in site.blocks if block.commissioned})
    out = []
    for day in days:
        total = figures(estate, site, by=day)
        names = tuple(block.id for block in site.blocks if block.commissioned == day)
        out.append(Milestone(day, names, total.accelerator_count, total.meter_w, total.headroom_w))
    return tuple(out)


def findings(estate: Estate) -> tuple[Finding, ...]:
    """Every claim of the estate and what follows from its own figures, in the order of its sites."""
    out = [finding for site in estate.sites for finding in site_findings(estate, site)]
    out.extend(_estate_claim(estate, claim) for claim in estate.claims)
    return tuple(out)


def site_findings(estate: Estate, site: Site) -> tuple[Finding, ...]:
    """What is claimed of one site, expressly or by what is declared of it."""
    return tuple(_of_site(estate, site))


def _of_site(estate: Estate, site: Site) -> Iterator[Finding]:
    total = figures(estate, site)
    if total.nodes:
        yield _all_at_nameplate(site, total)
    if site.claimed_accelerators:
        yield _counted(site, total)
        yield from _watts_each(estate, site)
    if site.claimed_w:
        yield _connected(site)
    yield from _overloaded(estate, site)


def _all_at_nameplate(site: Site, total: Figures) -> Finding:
    claim = f"all {_count(total.nodes, 'node')} can run at nameplate at once"
    need = f"{format_watts(total.it_w)} x PUE {_pue(site)} = {format_watts(total.meter_w)} at the meter"
    limit_w = site.connection.total_w
    if not limit_w:
        return Finding(site.id, claim, f"{need}; the connection is not known", "unknown")
    if total.headroom_w >= 0:
        return Finding(
            site.id,
            claim,
            f"{need} of {format_watts(limit_w)}: {format_watts(total.headroom_w)} left",
            "holds",
        )
    highest = limit_w * PERMILLE // total.it_w
    remedy = (
        f"it would hold up to a PUE of {highest / PERMILLE:.3f}"
        if highest >= PERMILLE
        else "no PUE mends that"
    )
    short = f"{format_watts(-total.headroom_w)} too much, so that some of them wait"
    lacking = f"{need} of {format_watts(limit_w)}: {short}; {remedy}"
    return Finding(site.id, claim, lacking, "contradicted")


def _counted(site: Site, total: Figures) -> Finding:
    claim = f"{site.claimed_accelerators:,} accelerators"
    listed = " + ".join(f"{number:,} {model}" for model, number in total.accelerators.items()) or "none"
    missing = site.claimed_accelerators - total.accelerator_count
    if not total.nodes:
        return Finding(site.id, claim, "no block says what stands in it", "unknown")
    if missing > 0:
        return Finding(site.id, claim, f"the blocks hold {listed}: {missing:,} fewer", "contradicted")
    return Finding(site.id, claim, f"the blocks hold {listed}", "holds")


def _watts_each(estate: Estate, site: Site) -> Iterator[Finding]:
    """The claimed accelerators against the connection, and against the claimed power where that is another."""
    limits = dict.fromkeys((site.connection.total_w, site.claimed_w))
    given = [limit_w for limit_w in limits if limit_w]
    for limit_w in given:
        claim = f"{site.claimed_accelerators:,} accelerators at {format_watts(limit_w)}"
        available_w = limit_w // site.claimed_accelerators
        needs = [(hardware, _each_w(site, hardware)) for hardware in _hardware_of(estate, site)]
        needed = ", ".join(
            f"{hardware.accelerator} {need_w:,} W ({_each_it_w(hardware):,} W x PUE {_pue(site)})"
            for hardware, need_w in needs
        )
        enough = [need_w <= available_w for _, need_w in needs]
        verdict: Verdict = "holds" if all(enough) else "unknown" if any(enough) else "contradicted"
        each = f"{available_w:,} W for each at the meter; needed: {needed}"
        yield Finding(site.id, claim, each, verdict)
    if not given:
        it_w = site.claimed_accelerators * max(
            _each_it_w(hardware) for hardware in _hardware_of(estate, site)
        )
        need = f"they need {format_watts(facility_watts(it_w, site.pue_permille))} at the meter at PUE {_pue(site)}"
        claim = f"power for {site.claimed_accelerators:,} accelerators"
        yield Finding(site.id, claim, f"{need}; the connection is not known", "unknown")


def _connected(site: Site) -> Finding:
    claim = f"{format_watts(site.claimed_w)} of power"
    limit_w = site.connection.total_w
    if not limit_w:
        return Finding(site.id, claim, "the connection is not known", "unknown")
    if limit_w >= site.claimed_w:
        return Finding(site.id, claim, f"the connection allows {format_watts(limit_w)}", "holds")
    lacking = f"the connection allows {format_watts(limit_w)}: {format_watts(site.claimed_w - limit_w)} less"
    return Finding(site.id, claim, lacking, "contradicted")


def _overloaded(estate: Estate, site: Site) -> Iterator[Finding]:
    """Elements of the power tree that can't carry everything below them at nameplate; those that can are not listed."""
    known = CATALOGUE | estate.hardware
    feeder = {element.id: element.fed_by for element in site.power}
    below = dict.fromkeys(feeder, 0)
    for block in site.blocks:
        block_w = _block_w(block, known)
        here = block.fed_by
        while here:
            below[here] += block_w
            here = feeder[here]
        if block.rating_w and block_w > block.rating_w:
            yield _overload(site, f"block {block.id}", block_w, block.rating_w)
        for group in block.groups:
            rack_w = known[group.hardware].nameplate_w * group.nodes_per_rack
            if group.rack_rating_w and rack_w > group.rack_rating_w:
                yield _overload(site, f"a rack of {block.id}/{group.id}", rack_w, group.rack_rating_w)
    for element in site.power:
        if below[element.id] > element.rating_w:
            yield _overload(site, f"{element.kind} {element.id}", below[element.id], element.rating_w)


def _overload(site: Site, what: str, below_w: int, rating_w: int) -> Finding:
    claim = f"{what} carries all below it at nameplate"
    return Finding(
        site.id, claim, f"{format_watts(below_w)} below a rating of {format_watts(rating_w)}", "contradicted"
    )


def _estate_claim(estate: Estate, claim: Claim) -> Finding:
    sites = [site for site in estate.sites if not claim.country or site.country == claim.country]
    scope = (f" in {claim.country}" if claim.country else "") + (f" by {claim.by}" if claim.by else "")
    if not claim.accelerators:
        return _claimed_power(claim, sites, scope)
    built = [(site, figures(estate, site, by=claim.by or None)) for site in sites]
    total = sum(there.accelerator_count for _, there in built)
    said = f"{claim.id}: {claim.accelerators:,} accelerators{scope}"
    commissioned = "commissioned by then" if claim.by else "in all blocks"
    if total < claim.accelerators:
        return Finding(
            "", said, f"{total:,} {commissioned}: {claim.accelerators - total:,} fewer", "contradicted"
        )
    unpowered = [site.id for site, there in built if there.nodes and not site.connection.total_w]
    if unpowered:
        note = f"{total:,} {commissioned}, but the connection of {', '.join(unpowered)} is not known"
        return Finding("", said, note, "unknown")
    return Finding("", said, f"{total:,} {commissioned}", "holds")


def _claimed_power(claim: Claim, sites: list[Site], scope: str) -> Finding:
    said = f"{claim.id}: {format_watts(claim.power_w)}{scope}"
    total_w = sum(site.connection.total_w for site in sites)
    verdict: Verdict = "holds" if total_w >= claim.power_w else "contradicted"
    if verdict == "contradicted" and any(not site.connection.total_w for site in sites):
        verdict = "unknown"
    return Finding("", said, f"the connections that are known allow {format_watts(total_w)}", verdict)


def _hardware_of(estate: Estate, site: Site) -> list[HardwareType]:
    known = CATALOGUE | estate.hardware
    names = dict.fromkeys(group.hardware for block in site.blocks for group in block.groups)
    found = [known[name] for name in names if not known[name].is_miner]
    return found or [known[name] for name in REFERENCE]


def _block_w(block: Block, known: Mapping[str, HardwareType]) -> int:
    return sum(group.node_count * known[group.hardware].nameplate_w for group in block.groups)


def _each_it_w(hardware: HardwareType) -> int:
    """IT watts of a node for each of its accelerators, rounded up."""
    return ceil_div(hardware.nameplate_w, hardware.accelerators)


def _each_w(site: Site, hardware: HardwareType) -> int:
    """The same at the meter, from the whole node, so that it is rounded once."""
    return ceil_div(facility_watts(hardware.nameplate_w, site.pue_permille), hardware.accelerators)


def _pue(site: Site) -> str:
    return f"{site.pue_permille / PERMILLE:g}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
