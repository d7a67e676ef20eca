"""The control plane itself: health, status, and who asks."""

from collections import Counter
from operator import attrgetter

from fastapi import Request, Response

from headrace import __version__
from headrace.api.endpoint import Group, head_view, reply
from headrace.api.errors import problem_view
from headrace.api.guard import Call, CallDep, callers, may
from headrace.api.views import Health, StatusView, Whoami, rfc3339, when
from headrace.core.authority import Target
from headrace.core.metering import period_of
from headrace.core.sovereignty.plain import ACTIONS
from headrace.service import InlineService

system = Group("system")


async def health(request: Request) -> Response:
    """Whether the process answers, and can commit. Needs no token."""
    service: InlineService = request.app.state.service
    return reply(Health(ok=True, commits=service.failure is None))


_STATE = attrgetter("state._value_")
"""Without a step of Python for each: there may be a hundred thousand, and nobody else has a turn meanwhile."""


@system.get("/v1/status", "status.read", callers("status"), StatusView)
async def status(call: CallDep) -> Response:
    """How the control plane stands, and the newest head of its journal."""
    control, world = call.service.control, call.world
    failure, estate, now_ms = call.service.failure, world.estate, control.now_ms()
    works = world.state.workloads.values()
    own = works if call.tenant is None else (work for work in works if work.tenant == call.tenant)
    counted = dict(sorted(Counter(map(_STATE, own)).items()))
    return reply(
        StatusView(
            operator=estate.operator.id if estate is not None else "",
            version=__version__,
            journal=world.state.journal,
            epoch=world.state.epoch,
            now=rfc3339(now_ms),
            events=control.durable,
            key_id=control.keys.id,
            public_key=control.keys.public.hex(),
            workloads=counted,
            alarms=len(world.state.alarms) if call.tenant is None else 0,
            period=period_of(now_ms, world.zone),
            problem=problem_view(failure.problem) if failure is not None else None,
            head=head_view(control.head),
        )
    )


@system.get("/v1/whoami", "whoami.read", callers("token"), Whoami)
async def whoami(call: CallDep) -> Response:
    """Who the token says one is, and what it may do."""
    token = call.token
    allowed = tuple(action for action in ACTIONS if _may_at_all(call, action))
    return reply(Whoami(token.id, token.role, token.tenant, when(token.expires_ms), allowed))


def _may_at_all(call: Call, action: str) -> bool:
    return may(call, action, Target("anything", call.tenant))
