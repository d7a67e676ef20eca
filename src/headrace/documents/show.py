"""The estate for people: a table of sites, the power tree, and what physics says to the claims.

Everything here makes `rich` renderables; :func:`print_estate` prints them, plainly when the output is no terminal.
"""

from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from headrace.core.claims import Finding, Verdict, figures, findings, milestones
from headrace.core.estate import MINUTES_PER_DAY, Block, Connection, Estate, FlexibleWindow, NodeGroup, Site
from headrace.core.hardware import CATALOGUE
from headrace.core.power.allot import ALLOTMENT, allot
from headrace.core.power.tree import graph_of
from headrace.core.units import PERMILLE, format_watts
from headrace.documents.fields import DAYS

_COLOURS: dict[Verdict, str] = {"holds": "green", "contradicted": "red", "unknown": "yellow"}
_UNKNOWN = "unknown"
PLAIN_WIDTH = 200
"""Columns of a line where no terminal says how wide it is: a table in a file should not be folded."""


def print_estate(estate: Estate, today: str, console: Console | None = None) -> None:
    """Print the whole of ``estate show``; ``today`` is an ISO day, by which blocks are commissioned or not yet."""
    out = console or Console()
    if not out.is_terminal and console is None:
        out = Console(width=PLAIN_WIDTH, no_color=True)
    out.print(show_estate(estate, today))


def show_estate(estate: Estate, today: str) -> RenderableType:
    """The table, a tree for each site, what is commissioned when, and the findings."""
    operator = estate.operator
    title = f"{operator.name or operator.id}: {operator.country}, {operator.zone}, {operator.currency}"
    parts: list[RenderableType] = [Text(title, style="bold"), Text(), site_table(estate, today), Text()]
    parts.extend(power_tree(estate, site, today) for site in estate.sites)
    parts.extend([Text(), milestone_table(estate)])
    found = (*findings(estate), *(one for site in estate.sites for one in failover_findings(estate, site)))
    if found:
        parts.extend([Text(), finding_table(found)])
    return Group(*parts)


def failover_findings(estate: Estate, site: Site) -> Iterable[Finding]:
    """Of each set of feeders: whether all that hangs there can run at nameplate and outlive the loss of any one of them."""
    graph = graph_of(site)
    if graph.is_tree:
        return
    known = CATALOGUE | estate.hardware
    tree = allot(site, tuple(known[name] for name in _hardware_names(site)))
    limits = {node.id: node for node in (*tree.nodes, *tree.parts.values()) if node.kind == ALLOTMENT}
    need: dict[str, int] = {}
    for leaf in graph.leaves:
        block = next(block for block in site.blocks if block.id == leaf.block)
        name = leaf.part if leaf.is_part else tree.over[leaf.block]
        groups = (group for group in block.groups if group.id in leaf.groups)
        need[name] = need.get(name, 0) + sum(
            group.node_count * known[group.hardware].nameplate_w for group in groups
        )
    for name, node in limits.items():
        if not need.get(name):
            continue
        claim = f"all on {name.lstrip('+')} at nameplate outlives any single loss"
        enough = node.limit_w >= need[name]
        what = f"{format_watts(need[name])} at nameplate; {format_watts(node.limit_w)} are admitted"
        yield Finding(site.id, claim, what, "holds" if enough else "contradicted")


def _hardware_names(site: Site) -> dict[str, None]:
    return dict.fromkeys(group.hardware for block in site.blocks for group in block.groups)


def site_table(estate: Estate, today: str) -> Table:
    """One row for each site; nameplate and headroom are watts at the meter with every node at its most."""
    table = Table(title="Sites", title_justify="left", box=None, header_style="bold", pad_edge=False)
    for heading in ("SITE", "COUNTRY", "GRID ZONE"):
        table.add_column(heading)
    for heading in ("CONNECTION", "BLOCKS", "NODES"):
        table.add_column(heading, justify="right")
    table.add_column("ACCELERATORS")
    for heading in ("NAMEPLATE", "HEADROOM"):
        table.add_column(heading, justify="right")
    table.add_column("DEDICATED TO")
    table.add_column("STATE")
    for site in estate.sites:
        table.add_row(*(Text(cell) for cell in _site_row(estate, site, today)))
    return table


def _site_row(estate: Estate, site: Site, today: str) -> tuple[str, ...]:
    total = figures(estate, site)
    known = bool(site.connection.total_w)
    models = ", ".join(f"{number:,} {model}" for model, number in total.accelerators.items())
    return (
        site.id,
        site.country or _UNKNOWN,
        site.grid_zone or "-",
        _connection(site),
        f"{total.blocks}",
        f"{total.nodes:,}",
        models or "-",
        format_watts(total.meter_w) if total.nodes else "-",
        format_watts(total.headroom_w) if known else _UNKNOWN,
        site.dedicated_to or "-",
        _state(site, today),
    )


def _connection(site: Site) -> str:
    connection = site.connection
    if not connection.total_w:
        return _UNKNOWN
    flexible = f" + {format_watts(connection.flexible_w)} flexible" if connection.flexible_w else ""
    return format_watts(connection.firm_w) + flexible


def _state(site: Site, today: str) -> str:
    if not site.country:
        return "country unknown: never placed on"
    days = [block.commissioned for block in site.blocks if block.commissioned]
    ready = sum(day <= today for day in days)
    if ready:
        later = f", {len(site.blocks) - ready} not yet" if ready < len(site.blocks) else ""
        return f"{ready} of {len(site.blocks)} blocks commissioned{later}"
    return f"from {min(days)}" if days else "planned: no day of commissioning"


def power_tree(estate: Estate, site: Site, today: str) -> Tree:
    """The power tree of a site with its ratings; equal racks in one line. What has several feeders hangs on the first of them."""
    where = f"{site.id} ({site.country or 'country unknown'})"
    connection = f"connection {_connection(site)}{_terms(site.connection)}"
    tree = Tree(Text(f"{where}: {connection}, {_pue(site)}{_claimed(site.redundancy)}"))
    branches: dict[str, Tree] = {"": tree}
    for element in graph_of(site).elements.values():
        rated = _rated(element.rating_w, element.breaker_w)
        label = f"{element.kind} {element.id}: {rated}{_fed(element.feeds)}{_claimed(element.redundancy)}"
        branches[element.id] = branches[next(iter(element.feeds), "")].add(Text(label))
    for block in site.blocks:
        branch = branches[next(iter(block.feeds), "")].add(Text(_block_label(block, today)))
        for group in block.groups:
            branch.add(Text(_group_label(estate, group)))
    return tree


def _terms(connection: Connection) -> str:
    """When its flexible part may be used, and how fast the draw may change."""
    windows = "; ".join(_window(one) for one in connection.windows)
    ramps = [
        f"{word} {format_watts(watts)} a minute"
        for word, watts in (
            ("up", connection.ramp_up_w_per_minute),
            ("down", connection.ramp_down_w_per_minute),
        )
        if watts
    ]
    return (f" ({windows})" if windows else "") + (f", ramps {', '.join(ramps)}" if ramps else "")


def _window(window: FlexibleWindow) -> str:
    days = " ".join(DAYS[day] for day in window.days)
    if (window.from_minute, window.until_minute) == (0, MINUTES_PER_DAY):
        return days
    return f"{days} {_clock(window.from_minute)}-{_clock(window.until_minute)}"


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _pue(site: Site) -> str:
    curve, most = site.pue_curve, f"PUE {site.pue_permille / PERMILLE:g}"
    if curve is None:
        return most
    least = min(point.pue_permille for point in curve.points) / PERMILLE
    highest = max(point.pue_permille for point in curve.points) / PERMILLE
    return f"{most} at full load and {curve.design_outdoor_c} °C ({least:g} to {highest:g} by load and temperature)"


def _rated(rating_w: int, breaker_w: int) -> str:
    return format_watts(rating_w) + (f" of a breaker of {format_watts(breaker_w)}" if breaker_w else "")


def _fed(feeders: tuple[str, ...]) -> str:
    return f", fed by {' and '.join(feeders)}" if len(feeders) > 1 else ""


def _claimed(redundancy: str) -> str:
    return f", {redundancy}" if redundancy else ""


def _block_label(block: Block, today: str) -> str:
    rating = f": {_rated(block.rating_w, block.breaker_w)}" if block.rating_w else ""
    if not block.commissioned:
        when = f"delivered {block.delivered}, not commissioned" if block.delivered else "planned"
    elif block.commissioned <= today:
        when = f"commissioned {block.commissioned}"
    else:
        when = f"to be commissioned {block.commissioned}"
    engine = f", engine {block.engine}" if block.engine else ""
    return f"block {block.id}{rating}{_fed(block.feeds)}{_claimed(block.redundancy)}{engine}, {when}"


def _group_label(estate: Estate, group: NodeGroup) -> str:
    hardware = (CATALOGUE | estate.hardware)[group.hardware]
    racks = f"{group.racks:,} rack{'' if group.racks == 1 else 's'}"
    nodes = f"{group.nodes_per_rack} node{'' if group.nodes_per_rack == 1 else 's'}"
    rack_w = group.rack_rating_w or hardware.nameplate_w * group.nodes_per_rack
    short = f" ({group.nodes:,} nodes)" if group.nodes else ""
    rails = (
        f", rails of {group.rail_racks} rack{'' if group.rail_racks == 1 else 's'}"
        if group.rail_racks
        else ""
    )
    fed = f", fed by {' and '.join(group.feeders)}" if group.feeders else ""
    total = f"{group.node_count * hardware.accelerators:,} {hardware.accelerator}"
    return f"{group.id}: {racks} x {nodes} {group.hardware}{short}, {format_watts(rack_w)} a rack{rails}{fed}, {total}"


def milestone_table(estate: Estate) -> Table:
    """What is commissioned by which day, cumulative for each site."""
    table = Table(title="Commissioning", title_justify="left", box=None, header_style="bold", pad_edge=False)
    for heading in ("DAY", "SITE", "BLOCKS"):
        table.add_column(heading)
    for heading in ("ACCELERATORS", "NAMEPLATE", "HEADROOM"):
        table.add_column(heading, justify="right")
    rows = [(milestone, site) for site in estate.sites for milestone in milestones(estate, site)]
    for milestone, site in sorted(rows, key=lambda row: row[0].day):
        headroom = format_watts(milestone.headroom_w) if site.connection.total_w else _UNKNOWN
        cells = (milestone.day, site.id, ", ".join(milestone.blocks), f"{milestone.accelerators:,}")
        table.add_row(*(Text(cell) for cell in (*cells, format_watts(milestone.meter_w), headroom)))
    return table


def finding_table(found: Iterable[Finding]) -> Table:
    """Claims with their arithmetic and verdict."""
    table = Table(title="Claims", title_justify="left", box=None, header_style="bold", pad_edge=False)
    for heading in ("SITE", "CLAIM", "VERDICT", "ARITHMETIC"):
        table.add_column(heading)
    for finding in found:
        verdict = Text(finding.verdict, style=_COLOURS[finding.verdict])
        table.add_row(
            Text(finding.site or "(estate)"), Text(finding.claim), verdict, Text(finding.arithmetic)
        )
    return table
