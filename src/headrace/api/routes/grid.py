"""The grid: what it asks of sites, and what they can give up."""

import re
from collections import Counter
from typing import Annotated

from fastapi import Path, Query, Response

from headrace.api.bodies import InstructionBody, WithdrawBody, body
from headrace.api.endpoint import Group, carry_out, head_view, json_body, reply
from headrace.api.guard import Call, CallDep, operators
from headrace.api.views import HeadView, rfc3339, when
from headrace.api.views_grid import (
    FindingView,
    GridView,
    Instructed,
    InstructionView,
    LadderView,
    RungView,
    SignalView,
)
from headrace.core import commands as c
from headrace.core.errors import HeadraceError, Problem, ProblemCode, unknown
from headrace.core.ids import SiteId
from headrace.core.power import limits
from headrace.core.power.floors import is_past
from headrace.core.power.grid import least_w
from headrace.core.power.instruction import Instruction, InstructionId
from headrace.core.power.ladder import ladder_of
from headrace.core.power.pue import meter_watts
from headrace.core.power.shedding import Rung
from headrace.core.world import World
from headrace.signals.follow import Followed

grid = Group("grid")
InstructionPath = Annotated[str, Path(min_length=1, max_length=400)]
"""A grid operator's names are longer than others, and have slashes: which server, event, interval, and site."""
_GIVEN = re.compile("person-[0-9]+")
"""Names of those that nobody names."""


@grid.get("/v1/grid", "grid.read", operators("grid"), GridView)
async def show_grid(
    call: CallDep,
    site: Annotated[str, Query(max_length=63, description="only this site's")] = "",
    ladders: Annotated[bool, Query(description="false: without the sites' ladders")] = True,
) -> Response:
    """What the grid asks of each site, what each could give up (the ladder as it would be used now), and whom we hear."""
    world = call.world
    now_ms = call.service.control.now_ms()
    world.at(now_ms)
    if site and site not in world.fleet.site_index:
        raise HeadraceError(unknown("site", site, world.fleet.site_index))
    names = [SiteId(site)] if site else [one.id for one in world.fleet.sites]
    asked = [one for one in world.state.instructions.values() if one.instruction.site in names]
    views = tuple(_instruction_view(one, now_ms) for one in asked if not is_past(world.fleet, one, now_ms))
    return reply(
        GridView(
            views,
            tuple(_ladder_view(world, one, now_ms) for one in names if ladders),
            tuple(
                _signal_view(one, now_ms)
                for one in call.service.signals()
                if not site or SiteId(site) in one.sites
            ),
        )
    )


def _signal_view(one: Followed, now_ms: int) -> SignalView:
    if not one.trouble:
        state = "heard"
    else:
        state = "silent" if one.heard_ms else "never heard"
    return SignalView(
        vtn=one.vtn,
        url=one.url,
        sites=one.sites,
        state=state,
        since=rfc3339(one.since_ms),
        trouble=one.trouble,
        heard_at=rfc3339(one.heard_ms) if one.heard_ms else None,
        age_ms=max(0, now_ms - one.heard_ms) if one.heard_ms else None,
        poll_ms=one.poll_ms,
        skew_ms=one.skew_ms,
        instructions=one.standing,
        reports=one.reports,
        findings=tuple(
            FindingView(each.code, each.event, each.interval, each.message, each.effect)
            for each in one.findings
        ),
    )


@grid.write(
    "POST",
    "/v1/grid/instructions",
    "grid.instruct",
    operators("grid"),
    Instructed,
    body=json_body(InstructionBody),
)
async def instruct(call: CallDep) -> Response:
    """Limit a site for a time. Below what can't be shed it is refused, unless it is binding."""
    asked = await body(call.request, InstructionBody)
    now_ms = call.service.control.now_ms()
    ident = _own_name(call.world, asked.id) if asked.id else _free_name(call.world)
    instruction = Instruction(
        ident,
        SiteId(asked.site),
        asked.limit,
        asked.begins if asked.begins is not None else now_ms,
        asked.until or 0,
        "person",
        "emergency" if asked.urgency == "emergency" else "normal",
        asked.note,
    )
    # As it was asked: when it begins, and what it is called, may be another by the second attempt.
    text = asked.model_dump_json(exclude_defaults=True)
    named, head = await carry_out(call, c.Instruct(instruction, asked.binding), text)
    return _instructed(
        call, InstructionId(named.name) if isinstance(named, c.Named) else ident, head_view(head)
    )


def _own_name(world: World, name: str) -> InstructionId:
    """The name that somebody gives; HeadraceError for one of those that are given here, unless it is one that was."""
    if _GIVEN.fullmatch(name) and InstructionId(name) not in world.state.instructions:
        text = f"names like {name} are given to those that nobody names;"
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, text, "Choose another one.", "/id"))
    return InstructionId(name)


def _free_name(world: World) -> InstructionId:
    """A name that no instruction has: it is made of the number of events, so that it had none before either."""
    number = world.state.version
    while InstructionId(f"person-{number}") in world.state.instructions:
        number += 1
    return InstructionId(f"person-{number}")


@grid.write(
    "POST",
    "/v1/grid/instructions/{instruction:path}/withdraw",
    "grid.instruct",
    operators("grid"),
    Instructed,
    body=json_body(WithdrawBody, required=False),
)
async def withdraw(call: CallDep, instruction: InstructionPath) -> Response:
    """End an instruction now."""
    asked = await body(call.request, WithdrawBody)
    ident = InstructionId(instruction)
    _, head = await carry_out(call, c.Withdraw(ident, asked.reason), "")
    return _instructed(call, ident, head_view(head))


def _instructed(call: Call, ident: InstructionId, head: HeadView | None) -> Response:
    world, now_ms = call.world, call.service.control.now_ms()
    standing = world.state.instructions[ident]
    site = _ladder_view(world, standing.instruction.site, now_ms)
    return reply(Instructed(_instruction_view(standing, now_ms), site, head))


def _instruction_view(standing: limits.Standing, now_ms: int) -> InstructionView:
    one = standing.instruction
    if not standing.was_in_force:
        state = "withdrawn"
    elif not standing.is_open(now_ms):
        state = "over"
    else:
        state = "active" if one.from_ms <= now_ms else "coming"
    return InstructionView(
        id=one.id,
        site=one.site,
        limit_w=one.limit_w,
        begins_at=when(one.from_ms),
        ends_at=when(one.until_ms),
        received_at=rfc3339(standing.received_ms),
        source=one.source,
        urgency=one.urgency,
        state=state,
        note=one.note,
    )


def _ladder_view(world: World, name: SiteId, now_ms: int) -> LadderView:
    site = world.site(name)
    own = [one for one in world.state.instructions.values() if one.instruction.site == name]
    standing = limits.standings_at(site, own, now_ms)
    ladder = ladder_of(world, name)
    asked = [one.instruction for one in own if one.was_in_force]
    counts = Counter(rung for rung, _ in ladder.workloads())
    rungs = tuple(
        RungView(rung, watts, counts[rung])
        for rung, watts in ladder.by_rung().items()
        if rung is not Rung.KEEP
    )
    return LadderView(
        site=name,
        draws_w=meter_watts(site, ladder.draws_w),
        allowed_w=limits.allowed(site.connection, standing, now_ms).start_w,
        floor_w=meter_watts(site, ladder.floor_w),
        firm_w=site.connection.firm_w,
        flexible_w=site.connection.flexible_w,
        rungs=rungs,
        curtailed=tuple(one.placement.workload for one in ladder.candidates if one.placement.curtailed),
        least_w=meter_watts(site, least_w(ladder)),
        asked_w=min((one.limit_w for one in asked if one.is_active(now_ms)), default=None),
    )
