"""Devices: what is asked of them, what they say, and what meters see."""

from typing import Annotated

from fastapi import Query, Response

from headrace.actuate import DeviceStates, Limited, Mined
from headrace.actuate_meters import Metered
from headrace.api.endpoint import Group, Limit, reply
from headrace.api.guard import CallDep, operators
from headrace.api.views import rfc3339, when
from headrace.api.views_devices import DeviceCounts, DevicesView, LimiterView, MeterView, MinerView
from headrace.core.errors import HeadraceError, unknown
from headrace.core.ids import NodeId
from headrace.core.world import World

devices = Group("devices")


@devices.get("/v1/devices", "estate.read", operators("devices"), DevicesView)
async def show_devices(
    call: CallDep,
    site: Annotated[str, Query(max_length=63, description="only this site's")] = "",
    concerned: Annotated[
        bool, Query(description="only controllers that are asked for something, or that have a trouble")
    ] = False,
    limit: Limit = 1_000,
) -> Response:
    """Controllers that limit nodes, meters and miners, as this control plane finds them."""
    world = call.world
    if site and site not in world.fleet.site_index:
        raise HeadraceError(unknown("site", site, world.fleet.site_index))
    found = call.service.devices() if call.service.devices else DeviceStates()
    prefix = f"{site}/" if site else ""
    limiters = [_limiter(world, one) for one in found.servers if one.node.startswith(prefix)]
    meters = tuple(_meter(world, one) for one in found.meters if f"{one.element}/".startswith(prefix))
    miners = tuple(_miner(world, one) for one in found.miners if f"{one.element}/".startswith(prefix))
    counts = DeviceCounts(
        len(limiters),
        sum(one.wanted_w is not None for one in limiters),
        sum(bool(one.trouble) for one in limiters),
        len(meters),
        sum(bool(one.doubt) for one in meters),
        len(miners),
    )
    if concerned:
        limiters = [one for one in limiters if one.wanted_w is not None or one.trouble]
    shown = tuple(limiters[:limit])
    more = len(limiters) - len(shown)
    return reply(DevicesView(counts, shown, meters, miners, found.strangers, more, found.trouble))


def _limiter(world: World, one: Limited) -> LimiterView:
    cap = world.state.caps.get(one.node)
    return LimiterView(
        node=one.node,
        way=one.way,
        state=_state(world, one),
        wanted_w=one.wanted_w,
        enforced_w=one.enforced_w,
        counts_w=None if cap is None else cap.most_w,
        least_w=one.least_w,
        since=when(one.since_ms),
        heard_at=when(one.heard_ms),
        instruction="" if cap is None else cap.instruction,
        trouble=one.trouble,
    )


def _state(world: World, one: Limited) -> str:
    cap = world.state.caps.get(one.node)
    if one.node not in world.fleet.node_index:
        return "unknown"
    if cap is None:
        return "troubled" if one.trouble else "idle"
    if not cap.wanted_w:
        return "dropping"
    return "capped" if cap.is_done else "ordered"


def _meter(world: World, one: Metered) -> MeterView:
    index = world.fleet.power_index.get(one.element)
    return MeterView(
        meter=one.name,
        element=one.element,
        watts=one.reading.watts,
        source=one.reading.source,
        age_ms=one.age_ms,
        doubt="" if one.doubt == "none" else one.doubt,
        detail=one.detail,
        excess_w=one.excess_w,
        counted_w=None if index is None else int(world.power_w[index]),
    )


def _miner(world: World, one: Mined) -> MinerView:
    state, index = one.state, world.fleet.node_index.get(NodeId(one.name))
    return MinerView(
        miner=one.name,
        element=one.element,
        mining=None if state is None else state.is_mining,
        power_w=None if state is None else state.power_w,
        limit_w=None if state is None else state.limit_w,
        at=None if state is None else rfc3339(state.at_ms),
        trouble=one.trouble,
        wanted=one.wanted,
        counts_w=None if index is None else world.counted.draw_w(index),
    )
