"""The estate for people: a table of sites, the power tree, and what physics says to the claims.

Everything here makes `rich` renderables; :func:`print_estate` prints them, plainly when the output is no terminal.
"""

from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from headrace.core.claims import Finding, Verdict, figures, findings, milestones
from headrace.core.estate import Block, Estate, NodeGroup, PowerElement, Site
from headrace.core.hardware import CATALOGUE
from headrace.core.units import PERMILLE, format_watts

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
    found = findings(estate)
    if found:
        parts.extend([Text(), finding_table(found)])
    return Group(*parts)


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
    """The power tree of a site with its ratings; equal racks in one line."""
    pue = f"PUE {site.pue_permille / PERMILLE:g}"
    tree = Tree(
        Text(f"{site.id} ({site.country or 'country unknown'}): connection {_connection(site)}, {pue}")
    )
    branches: dict[str, Tree] = {"": tree}
    for element in _from_the_top(site.power):
        label = f"{element.kind} {element.id}: {format_watts(element.rating_w)}"
        branches[element.id] = branches[element.fed_by].add(Text(label))
    for block in site.blocks:
        branch = branches[block.fed_by].add(Text(_block_label(block, today)))
        for group in block.groups:
            branch.add(Text(_group_label(estate, group)))
    return tree


def _from_the_top(elements: tuple[PowerElement, ...]) -> Iterable[PowerElement]:
    """Elements, each after the one that feeds it; the edge has refused cycles."""
    by_id = {element.id: element for element in elements}
    depth: dict[str, int] = {}
    for element in elements:
        steps, here = 0, element
        while here.fed_by:
            steps, here = steps + 1, by_id[here.fed_by]
        depth[element.id] = steps
    return sorted(elements, key=lambda element: depth[element.id])


def _block_label(block: Block, today: str) -> str:
    rating = f": {format_watts(block.rating_w)}" if block.rating_w else ""
    if not block.commissioned:
        when = f"delivered {block.delivered}, not commissioned" if block.delivered else "planned"
    elif block.commissioned <= today:
        when = f"commissioned {block.commissioned}"
    else:
        when = f"to be commissioned {block.commissioned}"
    return f"block {block.id}{rating}, {when}"


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
    total = f"{group.node_count * hardware.accelerators:,} {hardware.accelerator}"
    return f"{group.id}: {racks} x {nodes} {group.hardware}{short}, {format_watts(rack_w)} a rack{rails}, {total}"


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
