"""Apply: how each event changes the world. Trusts its events, decides nothing, and returns rows for the projections.

To add an event: its class and number in ``events.py``, its function here, and who emits it in ``decide.py``.
"""

from collections.abc import Callable, Sequence
from typing import Any

from headrace.core import events as ev
from headrace.core.data import applied as data_applied
from headrace.core.errors import Problem
from headrace.core.ids import Epoch, EventSeq, NodeId
from headrace.core.ledger import Transfer, transfers_for_credit_note, transfers_for_invoice
from headrace.core.metering import token_row, usage_row
from headrace.core.power import applied
from headrace.core.power.floors import is_past
from headrace.core.power.limits import renewed
from headrace.core.scheduling.sharing import kind_of, shares_time
from headrace.core.state import AuditRow, Done, Row, TenantRecord, Token
from headrace.core.units import MS_PER_MINUTE
from headrace.core.workload import TERMINAL, EndReason, Placement, Workload, WorkloadType
from headrace.core.workload import State as WorkloadState
from headrace.core.world import ALARMS_KEPT, REQUEST_RETENTION_MS, World

BACKOFF_FIRST_MS = 1_000
BACKOFF_MOST_MS = 5 * MS_PER_MINUTE

_RESTARTED = frozenset({WorkloadType.SERVICE, WorkloadType.FILLER, WorkloadType.CLUSTER})
_FALLS_KEPT = 10
_BY_ITSELF = frozenset({EndReason.EXITED, EndReason.RANK_FAILED})
_REQUEUED = frozenset(
    {
        EndReason.PREEMPTED,
        EndReason.NODE_LOST,
        EndReason.DRAINED,
        EndReason.START_FAILED,
        EndReason.CURTAILED,
        EndReason.FORBIDDEN,
    }
)


def backoff_ms(attempt: int) -> int:
    """How long a workload waits after its ``attempt``-th try ended badly: doubling from one second to five minutes."""
    return int(min(BACKOFF_FIRST_MS << min(attempt - 1, 20), BACKOFF_MOST_MS))


def outcome(work: Workload, reason: EndReason, exit_codes: Sequence[int]) -> WorkloadState:
    """The state of a workload after its placement ended: a job's end is final, a service comes back unless it was stopped."""
    if reason is EndReason.STOPPED:
        return WorkloadState.STOPPED
    if reason in _REQUEUED:
        return WorkloadState.QUEUED
    if work.spec.type in _RESTARTED and reason is not EndReason.MAX_DURATION:
        return WorkloadState.QUEUED
    clean = reason is EndReason.EXITED and all(code == 0 for code in exit_codes)
    return WorkloadState.SUCCEEDED if clean else WorkloadState.FAILED


def apply(world: World, committed: ev.Committed) -> list[Row]:
    """Change the world by one event; its number must be the world's version."""
    state = world.state
    if committed.seq != state.version:
        raise ValueError(f"event {committed.seq} does not follow version {state.version}")
    world.at(committed.at_ms)
    rows = _APPLY[type(committed.event)](world, committed, committed.event)
    state.version += 1
    state.last_ms = committed.at_ms
    return rows


def _remember(
    world: World,
    committed: ev.Committed,
    made: str,
    digest: str = "",
    answer: dict[str, Any] | None = None,
) -> None:
    """Remember what an idempotency key did, and forget those of two days ago."""
    if not committed.request:
        return
    requests = world.state.requests
    key = committed.request.hex()
    done = requests.get(key)
    if done is not None:
        done.count += 1
        if answer is not None:
            done.digest, done.answer = digest, answer
        return
    requests[key] = Done(digest, made, 1, committed.at_ms, answer)
    horizon = committed.at_ms - REQUEST_RETENTION_MS
    while (oldest := next(iter(requests))) != key and requests[oldest].at_ms < horizon:
        del requests[oldest]


def _audit(committed: ev.Committed, subject: str, verdict: str) -> list[Row]:
    kind = type(committed.event).__name__
    return [AuditRow(committed.seq, committed.at_ms, committed.actor, kind, subject, verdict)]


def _opened(world: World, _: ev.Committed, event: ev.JournalOpened) -> list[Row]:
    world.state.journal = event.journal
    return []


def _started(world: World, committed: ev.Committed, event: ev.ControlStarted) -> list[Row]:
    world.state.epoch = Epoch(event.epoch)
    world.state.at, world.started_ms = event.at, committed.at_ms
    return _audit(committed, f"epoch {event.epoch}", event.verdict)


def _decided(world: World, committed: ev.Committed, event: ev.DecisionRecorded) -> list[Row]:
    world.state.verdicts[event.verdict.id] = event.verdict
    return _audit(committed, f"{event.verdict.action} {event.verdict.place}", event.verdict.id)


def _document(world: World, committed: ev.Committed, event: ev.DocumentApplied) -> list[Row]:
    world.state.documents[f"{event.kind}/{event.name}"] = event.document
    world.take_document(event.kind, event.document)
    if event.kind == "tenant":
        for tenant in world.tenants:
            if tenant not in world.state.tenants:
                world.state.tenants[tenant] = TenantRecord(number=len(world.state.tenants))
    elif event.kind == "estate":
        world.rebuild()
    _remember(world, committed, event.name)
    return _audit(committed, f"{event.kind} {event.name}", event.verdict)


def _reserved(world: World, _: ev.Committed, event: ev.NodesReserved) -> list[Row]:
    world.reserve(event.reservation, event.nodes)
    return []


def _removed(world: World, committed: ev.Committed, event: ev.DocumentRemoved) -> list[Row]:
    world.state.documents.pop(f"{event.kind}/{event.name}", None)
    world.drop_document(event.kind, event.name)
    _remember(world, committed, event.name)
    return _audit(committed, f"{event.kind} {event.name}", event.verdict)


def _token(world: World, committed: ev.Committed, event: ev.TokenIssued) -> list[Row]:
    number = len(world.state.tokens) + 1
    known = (event.token, number, event.hash, event.role, event.tenant, event.holder, event.expires_ms)
    token = Token(*known, countries=event.countries)
    world.state.tokens[event.hash] = token
    world.by_number[number] = token
    _remember(world, committed, event.token)
    return _audit(committed, event.token, event.verdict)


def _token_revoked(world: World, committed: ev.Committed, event: ev.TokenRevoked) -> list[Row]:
    for token in world.state.tokens.values():
        if token.id == event.token:
            token.revoked = True
    _remember(world, committed, event.token)
    return _audit(committed, event.token, event.verdict)


def _submitted(world: World, committed: ev.Committed, event: ev.WorkloadSubmitted) -> list[Row]:
    ident = event.workload
    work = Workload(
        ident,
        event.tenant,
        event.spec,
        committed.at_ms,
        committed.seq,
        since_ms=committed.at_ms,
        verdict=event.verdict,
    )
    world.state.workloads[ident] = work
    world.queue.add(work)
    world.popularity.add(event.spec)
    if shares_time(event.spec):
        world.history.enter(ident, kind_of(work))
    world.state.tenants[event.tenant].next_workload += 1
    _remember(world, committed, ident, event.request_digest)
    return []


def _enter(world: World, work: Workload, state: WorkloadState, at_ms: int, reason: str = "") -> None:
    work.state = state
    work.since_ms = at_ms
    work.reason = reason


def _refused(world: World, committed: ev.Committed, event: ev.WorkloadRefused) -> list[Row]:
    work = world.state.workloads[event.workload]
    _enter(world, work, WorkloadState.REFUSED, committed.at_ms, f"{event.refusal}: {event.detail}")
    world.queue.remove(work.id)
    _attained(world, work, EndReason.STOPPED)
    return _audit(committed, work.id, event.verdicts[0] if event.verdicts else "")


def _made(world: World, committed: ev.Committed, event: ev.PlacementMade) -> list[Row]:
    work = world.state.workloads[event.workload]
    placement = Placement(
        id=event.placement,
        workload=event.workload,
        tenant=event.tenant,
        site=event.site,
        ranks=event.ranks,
        made_ms=committed.at_ms,
        made_seq=committed.seq,
        verdict=event.verdict,
        project=work.spec.project,
        contract=event.contract,
        wanted_seq=committed.seq,
    )
    world.state.placements[placement.id] = placement
    world.queue.remove(work.id)
    back = applied.back_after(world, work.reason, committed.at_ms)
    _enter(world, work, WorkloadState.PLACED, committed.at_ms, back)
    work.attempt += 1
    work.placement = placement.id
    work.site = event.site
    world.hold(placement, 1)
    world.unsettled[placement.id] = None
    return []


def _placement_started(world: World, committed: ev.Committed, event: ev.PlacementStarted) -> list[Row]:
    placement = world.state.placements[event.placement]
    placement.started_ms = placement.metered_ms = committed.at_ms
    placement.endpoints = event.endpoints
    placement.isolation = event.isolation
    if event.isolation == "none":
        key = f"{placement.tenant}/{world.period(committed.at_ms)}"
        world.state.unisolated[key] = world.state.unisolated.get(key, 0) + 1
    if placement.stop_reason is None:
        work = world.state.workloads[placement.workload]
        why = work.reason if work.state is WorkloadState.PLACED else ""
        _enter(world, work, WorkloadState.RUNNING, committed.at_ms, why)
    world.memory.changed(placement, world.fleet.site_index[placement.site])
    world.settle(placement)
    return []


def _meter(
    world: World, committed: ev.Committed, placement: Placement, event: ev.UsageMetered | ev.PlacementEnded
) -> list[Row]:
    hardware = [world.hardware_of(rank.node) for rank in placement.ranks]
    row = usage_row(
        placement,
        placement.project,
        placement.contract,
        world.site(placement.site),
        hardware,
        event.ranks,
        seq=EventSeq(committed.seq),
        at_ms=committed.at_ms,
        period=world.period(committed.at_ms),
        source=event.source,
        estimated=event.estimated,
    )
    if isinstance(row, Problem):
        # decide never lets such a report through; an event that holds one was not written by it.
        raise ValueError(row.line())
    placement.metered = event.ranks
    placement.metered_ms = committed.at_ms
    if row is None:
        return []
    world.state.usage.add(row)
    return [row]


def _metered(world: World, committed: ev.Committed, event: ev.UsageMetered) -> list[Row]:
    return _meter(world, committed, world.state.placements[event.placement], event)


def _ended(world: World, committed: ev.Committed, event: ev.PlacementEnded) -> list[Row]:
    placement = world.state.placements[event.placement]
    rows = _meter(world, committed, placement, event)
    world.quieten(placement, quiet=False)
    world.hold(placement, -1)
    del world.state.placements[placement.id]
    world.unsettled.pop(placement.id, None)
    world.stopping.pop(placement.id, None)
    if placement.id in world.curtailed:
        del world.curtailed[placement.id]
        world.limit(committed.at_ms)
    work = world.state.workloads[placement.workload]
    work.placement = None
    work.exit_codes = event.exit_codes
    after = outcome(work, event.reason, event.exit_codes)
    _enter(world, work, after, committed.at_ms, event.detail or str(event.reason))
    _attained(world, work, event.reason, min((running for running, _ in event.ranks), default=0))
    if after is WorkloadState.QUEUED:
        work.pause_wanted = False
        world.queue.add(work)
    return rows


def _attained(world: World, work: Workload, reason: EndReason, more_ms: int = 0) -> None:
    """One that shares accelerators in time has run for ``more_ms``, and perhaps ended: its siblings will run for as long."""
    history = world.history
    if work.id not in history:
        return
    work.attained_ms += more_ms
    if work.state in TERMINAL:
        history.end(work.id, work.attained_ms, by_itself=reason in _BY_ITSELF)
    else:
        history.attain(work.id, work.attained_ms)


def _stop(world: World, committed: ev.Committed, event: ev.StopRequested) -> list[Row]:
    work = world.state.workloads[event.workload]
    placement = world.state.placements.get(work.placement) if work.placement else None
    if placement is None:
        world.queue.remove(work.id)
        _enter(world, work, WorkloadState.STOPPED, committed.at_ms, "stopped while it waited")
        _attained(world, work, EndReason.STOPPED)
    else:
        _leave(world, committed, placement, EndReason.STOPPED, "stop requested")
    _remember(world, committed, work.id)
    return _audit(committed, work.id, event.verdict)


def _leave(
    world: World, committed: ev.Committed, placement: Placement, reason: EndReason, detail: str
) -> None:
    placement.stop_reason = reason
    site = world.fleet.site_index[placement.site]
    world.memory.came_free(site)
    world.memory.changed(placement, site)
    placement.wanted_seq = committed.seq
    placement.stop_since_ms = placement.stop_since_ms or committed.at_ms
    _enter(world, world.state.workloads[placement.workload], WorkloadState.STOPPING, committed.at_ms, detail)
    world.settle(placement)


def _pause(world: World, committed: ev.Committed, event: ev.PauseRequested) -> list[Row]:
    work = world.state.workloads[event.workload]
    work.pause_wanted = event.pause
    if work.placement:
        placement = world.state.placements[work.placement]
        placement.wanted_seq = committed.seq
        world.settle(placement)
    _remember(world, committed, work.id)
    return _audit(committed, work.id, event.verdict)


def _pause_observed(world: World, committed: ev.Committed, event: ev.PauseObserved) -> list[Row]:
    placement = world.state.placements[event.placement]
    placement.paused = event.paused
    world.quieten(
        placement, quiet=bool(event.paused and placement.curtailed) and applied.sheds(world, placement)
    )
    if placement.stop_reason is None:
        state = WorkloadState.PAUSED if event.paused else WorkloadState.RUNNING
        why = f"for the grid: instruction {placement.curtailed}" if placement.curtailed else ""
        _enter(world, world.state.workloads[placement.workload], state, committed.at_ms, why)
    world.settle(placement)
    return []


def _evicted(world: World, committed: ev.Committed, event: ev.EvictionRequested) -> list[Row]:
    placement = world.state.placements[event.placement]
    placement.stop_grace_ms = event.grace_ms
    _leave(world, committed, placement, event.reason, event.detail)
    return []


def _requeued(world: World, _: ev.Committed, event: ev.WorkloadRequeued) -> list[Row]:
    work = world.state.workloads[event.workload]
    work.reason = event.reason
    work.not_before_ms = event.not_before_ms
    return []


def _node(world: World, committed: ev.Committed, event: ev.NodeStateChanged) -> list[Row]:
    node = NodeId(event.node)
    if event.state == "ready":
        world.state.nodes.pop(node, None)
    else:
        world.state.nodes[node] = (event.state, event.reason)
    if event.state == "down":
        world.state.falls[node] = (*world.state.falls.get(node, ()), committed.at_ms)[-_FALLS_KEPT:]
    elif event.verdict:
        # Somebody looked after it: what was before counts no more.
        world.state.falls.pop(node, None)
    index = world.fleet.node_index.get(node)
    if index is not None:
        world.node_ready[index] = event.state == "ready"
        world.memory.came_free(int(world.fleet.node_site[index]))
    _remember(world, committed, node)
    return _audit(committed, node, event.verdict)


def _intruded(world: World, _: ev.Committed, event: ev.NodeIntruded) -> list[Row]:
    world.intrude(NodeId(event.node), event.who)
    return []


def _declared(world: World, _: ev.Committed, event: ev.EngineDeclared) -> list[Row]:
    world.declare(event.engine, event.capabilities)
    return []


def _tokens(world: World, committed: ev.Committed, event: ev.TokensMetered) -> list[Row]:
    placement = world.state.placements[event.placement]
    reported = (event.input_tokens, event.output_tokens)
    row = token_row(
        placement,
        placement.project,
        placement.contract,
        reported,
        placement.tokens,
        seq=EventSeq(committed.seq),
        at_ms=committed.at_ms,
        period=world.period(committed.at_ms),
        source=event.source,
    )
    if isinstance(row, Problem):
        raise ValueError(row.line())
    placement.tokens = reported
    placement.token_batches = event.batch + 1
    if row is None:
        return []
    world.state.usage.add(row)
    return [row]


def _invoice(world: World, committed: ev.Committed, event: ev.InvoiceIssued) -> list[Row]:
    transfers = transfers_for_invoice(event, EventSeq(committed.seq))
    world.state.invoices[event.invoice] = event
    _remember(world, committed, event.invoice)
    return [*_book(world, transfers), *_audit(committed, event.invoice, event.verdict)]


def _credit(world: World, committed: ev.Committed, event: ev.CreditNoteIssued) -> list[Row]:
    state = world.state
    invoice = state.invoices[event.invoice]
    transfers = transfers_for_credit_note(event, invoice, state.credits.values(), EventSeq(committed.seq))
    state.credits[event.note] = event
    _remember(world, committed, event.note)
    return [*_book(world, transfers), *_audit(committed, event.note, event.verdict)]


def _book(world: World, transfers: Sequence[Transfer]) -> Sequence[Transfer]:
    for transfer in transfers:
        world.state.ledger.apply(transfer)
    return transfers


def _erased(world: World, committed: ev.Committed, event: ev.TenantErased) -> list[Row]:
    world.state.tenants[event.tenant].erased = True
    _remember(world, committed, event.tenant)
    return _audit(committed, event.tenant, event.verdict)


def _log_read(world: World, committed: ev.Committed, event: ev.LogRead) -> list[Row]:
    return _audit(committed, f"{event.workload} rank {event.rank}", event.verdict)


def _exported(world: World, committed: ev.Committed, event: ev.EvidenceExported) -> list[Row]:
    return _audit(committed, f"evidence of {event.tenant}", event.verdict)


def _alarm(world: World, committed: ev.Committed, event: ev.AlarmRaised) -> list[Row]:
    alarms = world.state.alarms
    alarms.append((committed.at_ms, event))
    del alarms[:-ALARMS_KEPT]
    return _audit(committed, event.subject, "")


def _instructed(world: World, committed: ev.Committed, event: ev.InstructionReceived) -> list[Row]:
    standing = world.state.instructions
    for ident in [one for one, known in standing.items() if is_past(world.fleet, known, committed.at_ms)]:
        del standing[ident]
    instruction = event.instruction
    takes_ms, ramp_down_w = applied.takes_ms(world, instruction)
    known = standing.get(instruction.id)
    standing[instruction.id] = renewed(known, instruction, committed.at_ms, takes_ms, ramp_down_w)
    world.limit(committed.at_ms)
    _remember(world, committed, instruction.id)
    return _audit(committed, instruction.id, event.verdict)


def _withdrawn(world: World, committed: ev.Committed, event: ev.InstructionWithdrawn) -> list[Row]:
    standing = world.state.instructions
    standing[event.instruction] = standing[event.instruction].ended(committed.at_ms)
    world.limit(committed.at_ms)
    _remember(world, committed, event.instruction)
    return _audit(committed, event.instruction, event.verdict)


def _answered(world: World, committed: ev.Committed, event: ev.RequestAnswered) -> list[Row]:
    _remember(world, committed, "", event.asked, event.answer)
    return []


_APPLY: dict[type, Callable[[World, ev.Committed, Any], list[Row]]] = {
    ev.JournalOpened: _opened,
    ev.ControlStarted: _started,
    ev.DecisionRecorded: _decided,
    ev.DocumentApplied: _document,
    ev.DocumentRemoved: _removed,
    ev.NodesReserved: _reserved,
    ev.TokenIssued: _token,
    ev.TokenRevoked: _token_revoked,
    ev.WorkloadSubmitted: _submitted,
    ev.WorkloadRefused: _refused,
    ev.PlacementMade: _made,
    ev.PlacementStarted: _placement_started,
    ev.UsageMetered: _metered,
    ev.PlacementEnded: _ended,
    ev.StopRequested: _stop,
    ev.PauseRequested: _pause,
    ev.PauseObserved: _pause_observed,
    ev.EvictionRequested: _evicted,
    ev.WorkloadRequeued: _requeued,
    ev.NodeStateChanged: _node,
    ev.NodeIntruded: _intruded,
    ev.EngineDeclared: _declared,
    ev.TokensMetered: _tokens,
    ev.InvoiceIssued: _invoice,
    ev.CreditNoteIssued: _credit,
    ev.TenantErased: _erased,
    ev.LogRead: _log_read,
    ev.EvidenceExported: _exported,
    ev.AlarmRaised: _alarm,
    ev.RequestAnswered: _answered,
    ev.InstructionReceived: _instructed,
    ev.InstructionWithdrawn: _withdrawn,
    ev.CurtailmentOrdered: applied.curtailed,
    ev.CurtailmentLifted: applied.lifted,
    ev.LimitersDeclared: applied.limiters_declared,
    ev.CapsOrdered: applied.caps_ordered,
    ev.CapsObserved: applied.caps_observed,
    ev.CapsLifted: applied.caps_lifted,
    ev.ExcessMeasured: applied.excess_measured,
    **data_applied.APPLY,
}
