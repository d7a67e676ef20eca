"""What devices report: which nodes' watts can be limited, what their controllers enforce, what meters see."""

from collections.abc import Mapping

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.asked import Asked, Deciding
from headrace.core.ids import NodeId, SiteId
from headrace.core.power.caps import of_site
from headrace.core.world import World


def declare_limiters(world: World, command: c.DeclareLimiters, _: Asked) -> Deciding:
    """Take which nodes can be limited from here. Of those that can't any more nothing is known: they count in full."""
    known = _by_site(world.state.limiters)
    before, now = set(world.state.switches), set(command.switches)
    also = {SiteId(node.partition("/")[0]): None for node in before ^ now}
    for site, limiters in _by_site(command.limiters, also={**known, **also}).items():
        if site in also or dict(limiters) != dict(known.get(site, ())):
            yield ev.LimitersDeclared(site, limiters, tuple(sorted(of_site(now, site))))
    able = {*command.limiters, *now}
    gone = {node: 0 for node in world.state.caps if node not in able}
    for site, caps in _by_site(gone).items():
        yield ev.CapsObserved(site, caps)
    return None


def report_devices(world: World, command: c.ReportDevices, _: Asked) -> Deciding:
    """Take what controllers enforce and meters see, where that is news. Of nodes that were never capped nothing is taken."""
    caps = world.state.caps
    news = {
        node: watts for node, watts in command.caps.items() if node in caps and _is_news(world, node, watts)
    }
    for site, observed in _by_site(news).items():
        yield ev.CapsObserved(site, observed)
    for element, (watts, meter) in sorted(command.excess.items()):
        if element in world.fleet.power_index and world.state.excess.get(element, 0) != watts:
            yield ev.ExcessMeasured(element, watts, meter)
    return None


def _is_news(world: World, node: NodeId, watts: int) -> bool:
    cap = world.state.caps[node]
    return cap.enforced_w != watts or (not cap.wanted_w and not watts)


def _by_site(
    watts: Mapping[NodeId, int], also: Mapping[SiteId, object] | None = None
) -> dict[SiteId, tuple[tuple[NodeId, int], ...]]:
    """Nodes and their watts by site, in order; empty for the sites of ``also`` that have none."""
    found: dict[SiteId, list[tuple[NodeId, int]]] = {site: [] for site in also or ()}
    for node in sorted(watts):
        found.setdefault(SiteId(node.partition("/")[0]), []).append((node, watts[node]))
    return {site: tuple(rows) for site, rows in sorted(found.items())}
