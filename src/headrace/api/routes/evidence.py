"""Settlement evidence: what an instruction asked and what was delivered, signed."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import Query, Response

from headrace.api.endpoint import Group, json_reply
from headrace.api.guard import CallDep, not_there, operators
from headrace.api.routes.grid import InstructionPath
from headrace.api.views_evidence import EvidenceView
from headrace.core.power.instruction import InstructionId
from headrace.evidence.document import Wanted, check_name, made_aside, seal

evidence = Group("grid")

Interval = Annotated[
    Literal["5m", "15m", "30m", "60m"], Query(description="how long an interval is, aligned in UTC")
]
BaselineName = Annotated[
    Literal["high-5-of-10-adjusted", "high-5-of-10", "meter-before", "minute-before"],
    Query(description="the method of the baseline; one that is not available gives way to the next one"),
]


@evidence.get(
    "/v1/grid/instructions/{instruction:path}/evidence",
    "grid.read",
    operators("grid"),
    EvidenceView,
    errors=(409,),
)
async def grid_evidence(
    call: CallDep,
    instruction: InstructionPath,
    interval: Interval = "15m",
    baseline: BaselineName = "high-5-of-10",
) -> Response:
    """The settlement evidence of an instruction, as of now: keep the answer as it is, and verify it offline."""
    control = call.service.control
    lock: asyncio.Lock = call.request.app.state.planning
    # One at a time: each replays the journal, and takes as much memory as the world has.
    async with lock:
        await call.service.settled()
        head = control.head
        if head is None:
            raise not_there("instruction", instruction)
        # What is decided and not yet durable happened after the head: then it is settled up to that.
        is_ahead = control.world.state.version > head.size
        as_of_ms = head.at_ms if is_ahead else control.now_ms()
        path, key = str(control.store.path.absolute()), control.keys.public.hex()
        wanted = Wanted(path, head.size, as_of_ms, instruction, interval, baseline, key)
        if InstructionId(instruction) not in control.world.state.instructions:
            # It may be long over; nobody starts a process with a name that never was.
            await call.service.aside(lambda: check_name(wanted))
        made: dict[str, Any] = await call.service.aside(lambda: made_aside(wanted))
    return json_reply(seal(made, control.keys.public, control.keys.sign))
