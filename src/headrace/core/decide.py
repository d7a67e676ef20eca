"""Decide: from a command and the world to the events that carry it out. Pure.

``decide`` is a generator. It finds every problem before its first event; whoever drives it applies each event before
asking for the next, so that a decision sees what the one before it did. What it returns is the reply.
"""

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.asked import Asked, Deciding, fail, record
from headrace.core.authority import Role, Subject, Target, Verdict
from headrace.core.changes import check_changes
from headrace.core.data import deciding as data
from headrace.core.errors import HeadraceError, Problem, ProblemCode, unknown
from headrace.core.fast import remember
from headrace.core.ids import Epoch, TenantId, TokenId, WorkloadId
from headrace.core.invoicing import credit_note, draft_invoices, nothing_to_invoice
from headrace.core.observe import observe
from headrace.core.placing import adopt, reserve, set_nodes
from headrace.core.power.actuators import declare_limiters, report_devices
from headrace.core.power.grid import instruct, withdraw
from headrace.core.power.ladder import follow
from headrace.core.power.shedding import shed_class
from headrace.core.scheduling.admit import can_ever_fit
from headrace.core.scheduling.columns import ask_of
from headrace.core.scheduling.refuse import Refusal
from headrace.core.sovereignty.judging import follow_law
from headrace.core.state import Done
from headrace.core.workload import (
    TERMINAL,
    EndReason,
    State,
    Workload,
    WorkloadSpec,
    WorkloadType,
    mines_alone,
)
from headrace.core.world import World


def not_found(kind: str, ident: str) -> HeadraceError:
    """The one answer for what does not exist and for what one may not see."""
    step = f"List the {kind}s that you may see."
    return fail(Problem(ProblemCode.NOT_FOUND, f"no {kind} {ident!r}.", step))


def right(world: World, subject: Subject, action: str, target: Target) -> tuple[Verdict, str]:
    """Ask the authority: its verdict and the verdict's digest. Raises HeadraceError when denied."""
    verdict, ident = world.right(subject, action, target)
    if not verdict.allowed:
        if subject.tenant is not None and target.tenant != subject.tenant and target.id:
            # Of what belongs to a tenant as a whole, it is the tenant that one may not see.
            raise not_found("tenant" if target.id == target.tenant else target.kind, target.id)
        step = "Use a token with that right; see 'headrace whoami'."
        raise fail(Problem(ProblemCode.FORBIDDEN, f"{verdict.reasons[0]}.", step))
    return verdict, ident


def decide(
    world: World, subject: Subject, command: c.Command, now_ms: int, request: bytes = b"", asked: str = ""
) -> Deciding:
    """The events that carry out ``command`` for ``subject`` now, and the reply; raises HeadraceError with its problems.

    ``request`` is the digest of an idempotency key (16 bytes; empty for none). ``asked`` says what was asked under it,
    where the command does not: one that holds what every attempt makes anew, like a token's hash.
    """
    world.at(now_ms)
    if isinstance(command, c.StartControl) and not world.state.journal and subject.role is Role.SYSTEM:
        # Before the verdict by which it is done: it is the first event of every journal.
        yield ev.JournalOpened(command.journal)
    verdict, ident = right(world, subject, ACTION_OF[type(command)], target_of(world, command))
    keyed = bool(request) and not isinstance(command, c.Submit)
    if keyed:
        asked = c.digest_of(type(command), asked or c.meaning(command))
        done = done_before(world, request, asked)
        if done is not None:
            return c.Named(done.first, changed=False) if done.answer is None else c.answer_again(done.answer)
    deciding = _COMMANDS[type(command)][1](world, command, Asked(ident, now_ms, request, subject))
    reply: c.Reply = None
    try:
        event = next(deciding)
        # Only now: a command that is refused leaves nothing behind, not even its verdict.
        if ident not in world.state.verdicts:
            yield ev.DecisionRecorded(verdict)
        while True:
            yield event
            event = next(deciding)
    except StopIteration as stop:
        reply = stop.value
    if keyed:
        yield ev.RequestAnswered(asked, c.plain_answer(reply), subject.tenant)
    return reply


def done_before(world: World, request: bytes, asked: str) -> Done | None:
    """What an idempotency key did already; raises HeadraceError when ``asked`` is not what was asked under it then."""
    done = world.state.requests.get(request.hex())
    # A journal from before answers were kept does not say what was asked: the key alone has to do.
    if done is not None and done.digest not in ("", asked):
        raise _another_request()
    return done


def _another_request() -> HeadraceError:
    step = "Use a new key for a new request, or repeat the first one unchanged."
    message = "this idempotency key was used for another request."
    return fail(Problem(ProblemCode.IDEMPOTENCY_MISMATCH, message, step))


def target_of(world: World, command: c.Command) -> Target:
    """Whose thing a command is about; raises HeadraceError for a thing that does not exist."""
    match command:
        case c.Submit(tenant=tenant):
            return Target("workloads", tenant, tenant)
        case c.Stop(workload=workload) | c.Pause(workload=workload) | c.ReadLog(workload=workload):
            return Target("workload", workload_of(world, workload).tenant, workload)
        case c.IssueToken(tenant=tenant):
            return Target("tokens", tenant, tenant or "")
        case c.RevokeToken(token=token):
            return Target("token", _token_of(world, token).tenant, token)
        case c.ApplyData(tenant=tenant):
            return Target("data", tenant, tenant)
        case c.CopyData(data=ident) | c.RemoveCopy(data=ident) | c.OpenData(data=ident):
            return Target("data set", data.dataset_of(world, ident).tenant, ident)
        case c.EraseTenant(tenant=tenant) | c.IssueInvoices(tenant=tenant) | c.ExportEvidence(tenant=tenant):
            return Target("tenant", tenant, tenant)
        case _:
            return Target(type(command).__name__)


def workload_of(world: World, ident: WorkloadId) -> Workload:
    """A workload by its name; raises HeadraceError for an unknown one."""
    work = world.state.workloads.get(ident)
    if work is None:
        raise not_found("workload", ident)
    return work


def _token_of(world: World, ident: TokenId) -> ev.TokenIssued:
    for token in world.state.tokens.values():
        if token.id == ident:
            return ev.TokenIssued(token.id, token.hash, token.role, token.tenant)
    raise not_found("token", ident)


def _start(world: World, command: c.StartControl, _: Asked) -> Deciding:
    verdict = world.laws.of_journal(world, command.at)
    if verdict is not None and not verdict.allowed:
        raise fail(data.journal_may_not_lie(verdict, command.at))
    if verdict is not None:
        yield from record(world, verdict)
    named = verdict.id if verdict is not None else ""
    yield ev.ControlStarted(Epoch(world.state.epoch + 1), command.version, command.boot_id, command.at, named)
    return c.Named(world.state.journal)


# -- documents ---------------------------------------------------------------------------------------------------------


def _apply_documents(world: World, command: c.ApplyDocuments, asked: Asked) -> Deciding:
    changes = []
    wanted = {}
    for one in command.documents:
        old = world.state.documents.get(f"{one.kind}/{one.name}")
        what = "created" if old is None else "unchanged" if old == one.document else "changed"
        changes.append(c.Change(one.kind, one.name, what))
        if what != "unchanged":
            wanted[f"{one.kind}/{one.name}"] = one.document
    problems = check_changes(world, wanted, removed=())
    if problems:
        raise HeadraceError(*problems)
    reserved, problems = reserve(world, wanted, asked.now_ms)
    if problems:
        raise HeadraceError(*problems)
    for one, change in zip(command.documents, changes, strict=True):
        if change.what != "unchanged":
            yield ev.DocumentApplied(one.kind, one.name, one.document, asked.verdict)
    yield from reserved
    yield from data.register(world, command.documents, asked)
    return tuple(changes)


def _apply_data(world: World, command: c.ApplyData, asked: Asked) -> Deciding:
    for one in command.documents:
        if one.kind != "dataset" or one.document.get("tenant") != command.tenant:
            message = f"{one.kind} {one.name} is no data set of {command.tenant};"
            step = "Apply data sets with that tenant alone; all else is the operator's."
            raise fail(Problem(ProblemCode.FORBIDDEN, message, step))
    return (yield from _apply_documents(world, c.ApplyDocuments(command.documents), asked))


def _remove_document(world: World, command: c.RemoveDocument, asked: Asked) -> Deciding:
    key = f"{command.kind}/{command.name}"
    if key not in world.state.documents:
        known = [
            name.partition("/")[2] for name in world.state.documents if name.startswith(f"{command.kind}/")
        ]
        raise fail(unknown(command.kind, command.name, known))
    problems = check_changes(world, {}, removed=(key,))
    if problems:
        raise HeadraceError(*problems)
    yield ev.DocumentRemoved(command.kind, command.name, asked.verdict)
    return (c.Change(command.kind, command.name, "removed"),)


def _token(world: World, command: c.IssueToken | c.RevokeToken, asked: Asked) -> Deciding:
    if isinstance(command, c.RevokeToken):
        revoked = any(token.id == command.token and token.revoked for token in world.state.tokens.values())
        if not revoked:
            yield ev.TokenRevoked(command.token, asked.verdict)
        return c.Named(command.token, changed=not revoked)
    if command.tenant is not None and command.tenant not in world.tenants:
        raise fail(unknown("tenant", command.tenant, world.tenants))
    if command.role is Role.SYSTEM or (command.role is Role.OPERATOR_ADMIN) != (command.tenant is None):
        step = "operator-admin has no tenant, tenant-admin and tenant-member have one."
        raise fail(
            Problem(ProblemCode.BAD_INPUT, f"no token can be {command.role} of {command.tenant};", step)
        )
    if command.hash in world.state.tokens:
        # It would take the place of the one that is known, and the next token its number.
        raise fail(Problem(ProblemCode.CONFLICT, "this token is known already.", "Make another value."))
    ident = TokenId(f"t-{len(world.state.tokens) + 1}")
    yield ev.TokenIssued(
        ident,
        command.hash,
        command.role,
        command.tenant,
        command.holder,
        command.expires_ms,
        asked.verdict,
        command.countries,
    )
    return c.Named(ident)


# -- workloads ---------------------------------------------------------------------------------------------------------


def _submit(world: World, command: c.Submit, asked: Asked) -> Deciding:
    tenant = command.tenant
    done = world.state.requests.get(asked.request.hex()) if asked.request else None
    if done is not None:
        return _repeated(world, tenant, command, done.digest, done.first, done.count)
    if tenant not in world.tenants:
        raise fail(unknown("tenant", tenant, world.tenants))
    if world.state.tenants[tenant].erased:
        raise fail(
            Problem(ProblemCode.CONFLICT, f"tenant {tenant} was erased.", "Apply a tenant of another name.")
        )
    refusals = [
        _admission(world, tenant, spec, index, asked.now_ms) for index, spec in enumerate(command.specs)
    ]
    record = world.state.tenants[tenant]
    made: list[WorkloadId] = []
    refused: list[tuple[WorkloadId, str]] = []
    digest = command.digest
    for spec, refusal in zip(command.specs, refusals, strict=True):
        ident = WorkloadId(f"{tenant}-{record.next_workload}")
        yield ev.WorkloadSubmitted(ident, tenant, spec, asked.verdict, digest)
        digest = ""
        made.append(ident)
        if refusal:
            verdicts = yield from _place_verdicts(world, tenant, spec)
            yield ev.WorkloadRefused(ident, Refusal.JURISDICTION.name, refusal, verdicts)
            refused.append((ident, refusal))
    return c.Submitted(tuple(made), tuple(refused))


def _repeated(
    world: World, tenant: TenantId, command: c.Submit, digest: str, first: str, count: int
) -> c.Submitted:
    if digest != command.digest or first.rpartition("-")[0] != tenant:
        raise _another_request()
    number = int(first.rpartition("-")[2])
    workloads = tuple(WorkloadId(f"{tenant}-{number + index}") for index in range(count))
    states = ((ident, world.state.workloads[ident]) for ident in workloads)
    refused = tuple((ident, work.reason) for ident, work in states if work.state is State.REFUSED)
    return c.Submitted(workloads, refused, repeated=True)


def _admission(world: World, tenant: TenantId, spec: WorkloadSpec, index: int, now_ms: int) -> str:
    """Why the law refuses a workload for ever ("" when it does not); raises HeadraceError for what can never be placed."""
    names = (
        tenant,
        spec.project,
        spec.priority,
        spec.type,
        spec.policy,
        spec.site,
        spec.reservation,
        spec.contract,
        spec.resources.accelerator,
    )
    if names not in world.known_names:
        _check_names(world, tenant, spec, index)
        remember(world.known_names, names, None)
    # Only what decides it: not its name, its commands or its priority.
    how = spec.lease, shed_class(spec), mines_alone(spec)
    key = (tenant, spec.policy, spec.site, spec.contract, ask_of(spec), spec.alternatives, how)
    try:
        found = world.admissions[key]
    except KeyError:
        found = can_ever_fit(world.snapshot(now_ms), spec, tenant)
        remember(world.admissions, key, found)
    if found is None:
        return ""
    refusal, detail = found
    if refusal is Refusal.JURISDICTION:
        return detail
    where = f"workloads[{index}]"
    raise fail(
        Problem(
            ProblemCode.UNPLACEABLE, f"{refusal.name}: {spec.name} can never be placed: {detail}", where=where
        )
    )


def _check_names(world: World, tenant: TenantId, spec: WorkloadSpec, index: int) -> None:
    where = f"workloads[{index}]"
    if spec.project not in world.tenants[tenant].projects:
        found = unknown(f"project of tenant {tenant}", spec.project, world.tenants[tenant].projects)
        raise fail(replace(found, where=f"{where}.project"))
    if spec.type is WorkloadType.CLUSTER and not spec.resources.accelerator:
        step = "Name it, like resources: {gpu: H100}: whole nodes of one type are leased."
        message = f"cluster {spec.name} names no accelerator model."
        raise fail(Problem(ProblemCode.BAD_INPUT, message, step, where=f"{where}.resources"))
    _check_data(world, tenant, spec, where)
    if spec.policy.profile:
        known = world.laws.names(world.policies)
        if spec.policy.profile not in known:
            raise fail(replace(unknown("policy", spec.policy.profile, known), where=f"{where}.policy"))
    # A site that is another tenant's alone is not there: its name would tell who else is served, and where.
    sites = [site.id for site in world.fleet.sites if site.dedicated_to in (None, tenant)]
    if spec.site is not None and spec.site not in sites:
        raise fail(replace(unknown("site", spec.site, sites), where=f"{where}.site"))
    reserved = [ident for ident, one in world.reservations.items() if one.tenant == tenant]
    if spec.reservation is not None and spec.reservation not in reserved:
        raise fail(replace(unknown("reservation", spec.reservation, reserved), where=f"{where}.reservation"))
    most = world.tenants[tenant].max_priority
    if spec.priority > most:
        step = f"Ask for {most} or less; the operator sets the limit."
        message = f"{spec.name} asks for priority {spec.priority}, above the tenant's {most}."
        raise fail(Problem(ProblemCode.BAD_INPUT, message, step, where=f"{where}.priority"))
    own = [ident for ident, contract in world.contracts.items() if contract.tenant == tenant]
    if spec.contract is not None and spec.contract not in own:
        raise fail(replace(unknown("contract", spec.contract, own), where=f"{where}.contract"))


def _check_data(world: World, tenant: TenantId, spec: WorkloadSpec, where: str) -> None:
    mine = (
        [one.name for one in world.laws.datasets.values() if one.tenant == tenant] if spec.policy.data else []
    )
    for name in spec.policy.data:
        if name not in mine:
            raise fail(replace(unknown("data set", name, mine), where=f"{where}.data"))


def _place_verdicts(
    world: World, tenant: TenantId, spec: WorkloadSpec
) -> Generator[ev.Event, None, tuple[str, ...]]:
    found = []
    for number, site in enumerate(world.fleet.sites):
        # Of a site that is another tenant's alone there is nothing to tell this one's stream.
        if spec.site in (None, site.id) and site.dedicated_to in (None, tenant):
            verdict = world.place_verdict(tenant, spec.policy, number)
            yield from record(world, verdict)
            found.append(verdict.id)
    return tuple(found)


def _stop(world: World, command: c.Stop, asked: Asked) -> Deciding:
    work = workload_of(world, command.workload)
    placement = world.state.placements.get(work.placement) if work.placement else None
    if work.state in TERMINAL or (placement is not None and placement.stop_reason is EndReason.STOPPED):
        return c.Named(work.id, changed=False)
    yield ev.StopRequested(work.id, asked.verdict)
    return c.Named(work.id)


def _pause(world: World, command: c.Pause, asked: Asked) -> Deciding:
    work = workload_of(world, command.workload)
    if work.state not in (State.RUNNING, State.PAUSED, State.PLACED):
        step = "Only what is placed can be paused or resumed."
        raise fail(Problem(ProblemCode.CONFLICT, f"workload {work.id} is {work.state}.", step))
    if command.pause and work.spec.lease:
        step = "Its tenant's own jobs are on its nodes: end it with 'headrace stop', or leave it."
        raise fail(Problem(ProblemCode.CONFLICT, f"workload {work.id} is leased and can't be paused.", step))
    if work.pause_wanted == command.pause:
        return c.Named(work.id, changed=False)
    yield ev.PauseRequested(work.id, command.pause, asked.verdict)
    return c.Named(work.id)


# -- money and the rest ------------------------------------------------------------------------------------------------


def _tokens(world: World, command: c.RecordTokens, _: Asked) -> Deciding:
    placement = world.state.placements.get(command.placement)
    if placement is None or command.batch != placement.token_batches:
        return c.Named(command.placement, changed=False)
    before = placement.tokens
    if command.input_tokens < before[0] or command.output_tokens < before[1]:
        detail = f"token counters went back from {before} to {(command.input_tokens, command.output_tokens)}"
        yield ev.AlarmRaised(4, command.placement, detail)
        return c.Named(command.placement, changed=False)
    if (command.input_tokens, command.output_tokens) != before:
        yield ev.TokensMetered(command.placement, command.batch, command.input_tokens, command.output_tokens)
    return c.Named(command.placement)


def _invoices(world: World, command: c.IssueInvoices, asked: Asked) -> Deciding:
    if command.tenant not in world.state.tenants:
        raise fail(unknown("tenant", command.tenant, world.state.tenants))
    issued = list(world.state.invoices.values())
    drafts = drafts_of(world, command.tenant, command.period)
    if isinstance(drafts, Problem):
        raise fail(drafts)
    if not drafts:
        raise fail(nothing_to_invoice(command.tenant, command.period, issued))
    for draft in drafts:
        yield replace(draft, verdict=asked.verdict)
    return tuple(draft.invoice for draft in drafts)


def drafts_of(world: World, tenant: TenantId, period: str) -> tuple[ev.InvoiceIssued, ...] | Problem:
    """What an invoice of ``tenant`` for ``period`` would hold now."""
    shared = world.state.unisolated.get(f"{tenant}/{period}", 0)
    notes = [f"{shared} placements ran without isolation from other tenants (none)"] if shared else []
    issued = world.state.invoices.values()
    return draft_invoices(tenant, period, world.state.usage, world.contracts, world.plans, issued, notes)


def _credit(world: World, command: c.IssueCreditNote, asked: Asked) -> Deciding:
    invoice = world.state.invoices.get(command.invoice)
    if invoice is None:
        raise fail(unknown("invoice", command.invoice, world.state.invoices))
    earlier = [note for note in world.state.credits.values() if note.invoice == invoice.invoice]
    note = credit_note(invoice, earlier, command.amount_micros, command.reason)
    if isinstance(note, Problem):
        raise fail(note)
    yield replace(note, verdict=asked.verdict)
    return c.Named(note.note)


def _erase(world: World, command: c.EraseTenant, asked: Asked) -> Deciding:
    record = world.state.tenants.get(command.tenant)
    if record is None:
        raise fail(unknown("tenant", command.tenant, world.state.tenants))
    live = [
        work.id
        for work in world.state.workloads.values()
        if work.tenant == command.tenant and work.state not in TERMINAL
    ]
    if live:
        step = "Stop them first with 'headrace stop'."
        message = f"tenant {command.tenant} has {len(live)} workloads that have not ended;"
        raise fail(Problem(ProblemCode.IN_USE, message, step, related=tuple(live[:20])))
    if record.erased:
        return c.Named(command.tenant, changed=False)
    yield ev.TenantErased(command.tenant, asked.verdict)
    yield from data.forget_data(world, command.tenant, asked)
    return c.Named(command.tenant)


def _observe(world: World, command: c.Observe, asked: Asked) -> Deciding:
    return (yield from observe(world, command, asked.now_ms))


def _read_log(world: World, command: c.ReadLog, asked: Asked) -> Deciding:
    """Logs lie where their workload ran: whoever reads them must be somebody whom its policy lets."""
    work = workload_of(world, command.workload)
    verdicts: tuple[str, ...] = ()
    if work.site is not None and work.site in world.fleet.site_index:
        verdict = data.may_read(world, asked.who, work.tenant, work.spec.policy, "logs.read", work.site)
        yield from record(world, verdict)
        verdicts = (asked.verdict, verdict.id)
    yield ev.LogRead(command.workload, command.rank, asked.verdict, verdicts)
    return None


def _export(world: World, command: c.ExportEvidence, asked: Asked) -> Deciding:
    if command.tenant not in world.state.tenants:
        raise fail(unknown("tenant", command.tenant, world.state.tenants))
    yield ev.EvidenceExported(
        command.tenant, command.from_ms, command.to_ms, command.size, command.root, asked.verdict
    )
    return None


def _engines(world: World, command: c.DeclareEngines, _: Asked) -> Deciding:
    for engine, capabilities in sorted(command.engines.items()):
        if world.state.engines.get(engine) != capabilities:
            yield ev.EngineDeclared(engine, capabilities)
    return None


def _alarm(_: World, command: c.RaiseAlarm, __: Asked) -> Deciding:
    yield ev.AlarmRaised(command.promise, command.subject, command.detail)
    return None


_COMMANDS: dict[type, tuple[str, Callable[[World, Any, Asked], Deciding]]] = {
    c.StartControl: ("control.start", _start),
    c.ApplyDocuments: ("document.apply", _apply_documents),
    c.RemoveDocument: ("document.remove", _remove_document),
    c.IssueToken: ("token.issue", _token),
    c.RevokeToken: ("token.revoke", _token),
    c.Submit: ("workload.submit", _submit),
    c.Stop: ("workload.stop", _stop),
    c.Pause: ("workload.pause", _pause),
    c.SetNodes: ("node.drain", set_nodes),
    c.AdoptPlan: ("plan.adopt", adopt),
    c.Observe: ("engine.observe", _observe),
    c.DeclareEngines: ("engine.observe", _engines),
    c.RecordTokens: ("engine.observe", _tokens),
    c.IssueInvoices: ("invoice.issue", _invoices),
    c.IssueCreditNote: ("invoice.credit", _credit),
    c.EraseTenant: ("tenant.erase", _erase),
    c.ReadLog: ("workload.logs", _read_log),
    c.ExportEvidence: ("evidence.export", _export),
    c.RaiseAlarm: ("engine.observe", _alarm),
    c.Instruct: ("grid.instruct", instruct),
    c.Withdraw: ("grid.instruct", withdraw),
    c.FollowGrid: ("grid.follow", follow),
    c.DeclareLimiters: ("device.observe", declare_limiters),
    c.ReportDevices: ("device.observe", report_devices),
    c.FollowLaw: ("law.follow", follow_law),
    c.ApplyData: ("dataset.apply", _apply_data),
    c.CopyData: ("dataset.copy", data.copy_data),
    c.RemoveCopy: ("dataset.remove", data.remove_copy),
    c.OpenData: ("dataset.open", data.open_data),
    c.DeclareStores: ("data.observe", data.declare_stores),
    c.ReportCopies: ("data.observe", data.report_copies),
}
ACTION_OF: dict[type, str] = {command: action for command, (action, _) in _COMMANDS.items()}
"""The action that each command is decided as."""
