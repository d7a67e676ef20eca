"""Decisions about data: where a copy may come to lie, what of it may go, who may open it, and what becomes of a report.

Each is asked of the one authority twice: by whose right, and by the data set's own policy.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.asked import Asked, Deciding, fail, record
from headrace.core.authority import Subject, Verdict
from headrace.core.data import events as of_data
from headrace.core.data.model import HELD, Copy, CopyState, Dataset, data_id
from headrace.core.errors import HeadraceError, Problem, ProblemCode, unknown
from headrace.core.ids import DataId, SiteId, TenantId
from headrace.core.sovereignty.law import KEEP
from headrace.core.workload import TERMINAL, Placement, PolicyRef
from headrace.core.world import World

Events = Generator[ev.Event, None, None]
_MOST_NAMED = 20


def dataset_of(world: World, ident: DataId) -> Dataset:
    """A data set by its id; raises HeadraceError for one that there is not."""
    found = world.laws.datasets.get(ident)
    if found is None:
        raise fail(
            Problem(ProblemCode.NOT_FOUND, f"no data set {ident!r}.", "List the data sets that you may see.")
        )
    return found


def _site_of(world: World, tenant: TenantId, site: SiteId) -> int:
    """The number of a site that a tenant may know of; raises HeadraceError for any other."""
    known = {
        one.id: number for number, one in enumerate(world.fleet.sites) if one.dedicated_to in (None, tenant)
    }
    if site not in known:
        raise fail(unknown("site", site, known))
    return known[site]


def where_lawful(world: World, data: Dataset) -> Iterator[tuple[SiteId, Verdict]]:
    """The sites that a data set's tenant may know of, and for each whether the data may lie there."""
    for number, site in enumerate(world.fleet.sites):
        if site.dedicated_to in (None, data.tenant):
            yield site.id, world.laws.of_action(world, data, KEEP, number)


def may_not_lie(world: World, data: Dataset, site: SiteId, verdict: Verdict) -> Problem:
    """The problem of a site that a data set's policy forbids: which policy, which rule, and what would be allowed."""
    allowed = [other for other, its in where_lawful(world, data) if its.allowed]
    step = f"It may lie at {', '.join(allowed)}." if allowed else "No site is allowed: see its policy."
    step += f" 'headrace data where {data.name}' says why."
    message = f"data set {data.id} may not lie at {site}: {'; '.join(verdict.reasons)}."
    return Problem(ProblemCode.JURISDICTION, message, step)


def journal_may_not_lie(verdict: Verdict, country: str) -> Problem:
    """The problem of a place that the operator's policy for its own state forbids."""
    where = f"in {country}" if country else "where nobody said which country it is"
    message = f"the control plane's own state may not lie {where}: {'; '.join(verdict.reasons)}."
    step = "Say where its directory is with 'headrace up --at COUNTRY', or keep it on a host that journal_policy allows."
    return Problem(ProblemCode.JURISDICTION, message, step)


# -- what a tenant or the operator asks --------------------------------------------------------------------------------


def register(world: World, documents: Sequence[c.NormalisedDocument], asked: Asked) -> Events:
    """The first copies of data sets that are declared for the first time: their bytes are looked at where they lie."""
    for one in documents:
        data = world.laws.datasets.get(DataId(one.name)) if one.kind == "dataset" else None
        if data is not None and data.id not in world.state.copies:
            yield from _request(world, data, data.site, "", asked)


def _request(world: World, data: Dataset, site: SiteId, source: str, asked: Asked) -> Events:
    verdict = world.laws.of_action(world, data, KEEP, world.fleet.site_index[site])
    yield from record(world, verdict)
    yield of_data.CopyRequested(data.id, site, source, data.digest, (asked.verdict, verdict.id))


def copy_data(world: World, command: c.CopyData, asked: Asked) -> Deciding:
    """Copy a data set to a site, if its policy lets it lie there and there is something to copy."""
    data = dataset_of(world, command.data)
    site = _site_of(world, data.tenant, command.site)
    copies = world.state.copies.get(data.id, {})
    here = copies.get(command.site)
    if here is not None and here.state is CopyState.REMOVING:
        step = "Ask again once it is gone: see 'headrace data show'."
        raise fail(
            Problem(ProblemCode.CONFLICT, f"the copy of {data.id} at {command.site} is being removed;", step)
        )
    verdict = world.laws.of_action(world, data, KEEP, site)
    if not verdict.allowed:
        raise fail(may_not_lie(world, data, command.site, verdict))
    if here is not None and here.state in HELD:
        return c.Named(f"{data.id}@{command.site}", changed=False)
    _check_store(world, command.site)
    source = _source(world, data, copies)
    if source == "" and command.site != data.site:
        step = f"Put its files into the store of {data.site}, and ask for that copy again: --to {data.site}."
        raise fail(Problem(ProblemCode.CONFLICT, f"no copy of {data.id} is present to copy from;", step))
    yield from _request(world, data, command.site, source, asked)
    return c.Named(f"{data.id}@{command.site}")


def _check_store(world: World, site: SiteId) -> None:
    if site not in world.state.stores:
        step = (
            f"Whoever runs the control plane adds 'kind: store' with 'site: {site}' to stores.yaml in its state directory, "
            "and starts it again."
        )
        raise fail(Problem(ProblemCode.CONFLICT, f"site {site} has no store for data;", step))


def _source(world: World, data: Dataset, copies: dict[SiteId, Copy]) -> str:
    """Where to copy from: a copy that is present and lawful before one that is held against the law; "" for none."""
    present = [
        one for one in copies.values() if one.state is CopyState.PRESENT and one.site in world.state.stores
    ]
    order = sorted(present, key=lambda one: (bool(one.unlawful), one.site != data.site, one.site))
    return order[0].site if order else ""


def remove_copy(world: World, command: c.RemoveCopy, asked: Asked) -> Deciding:
    """Let a copy go that nothing uses; the last one only if that is said."""
    data = dataset_of(world, command.data)
    copies = world.state.copies.get(data.id, {})
    here = copies.get(command.site)
    if here is None:
        raise fail(unknown(f"copy of {data.id} at", command.site, copies))
    name = f"{data.id}@{command.site}"
    if here.state in (CopyState.REMOVING, CopyState.GONE):
        return c.Named(name, changed=False)
    users = sorted({one.workload for one in users_at(world, data.id, command.site)})
    if users:
        message = f"the copy of {data.id} at {command.site} is in use;"
        step = "Stop what uses it, or let it move."
        raise fail(Problem(ProblemCode.IN_USE, message, step, related=tuple(users[:_MOST_NAMED])))
    others = [one for one in copies.values() if one.state is CopyState.PRESENT and one.site != command.site]
    if here.state is CopyState.PRESENT and not others and not command.last:
        message = f"it is the last copy of {data.id}: no other is present;"
        raise fail(
            Problem(
                ProblemCode.CONFLICT, message, "Copy it elsewhere first, or remove it for good with --last."
            )
        )
    yield of_data.RemovalRequested(data.id, command.site, "it was asked for", asked.now_ms, asked.verdict)
    return c.Named(name)


def users_at(world: World, data: DataId, site: SiteId) -> Iterator[Placement]:
    """The placements at a site whose workloads use a data set."""
    tenant, _, name = data.partition(".")
    for placement in world.state.placements.values():
        used = world.state.workloads[placement.workload].spec.policy.data
        if placement.site == site and placement.tenant == tenant and name in used:
            yield placement


def open_data(world: World, command: c.OpenData, asked: Asked) -> Deciding:
    """Let somebody open a file of a data set, if its policy lets such people, and record it."""
    data = dataset_of(world, command.data)
    copy = world.state.copies.get(data.id, {}).get(command.site)
    if copy is None or copy.state is not CopyState.PRESENT:
        present = [
            one.site for one in world.state.copies.get(data.id, {}).values() if one.state is CopyState.PRESENT
        ]
        raise fail(unknown(f"present copy of {data.id} at", command.site, present))
    verdict = may_read(
        world, asked.who, data.tenant, data.policy, "support.access", command.site, data.data_class
    )
    yield from record(world, verdict)
    yield of_data.DataRead(data.id, command.site, command.file, (asked.verdict, verdict.id))
    return c.Named(f"{data.id}@{command.site}")


def may_read(
    world: World,
    who: Subject,
    owner: TenantId,
    ref: PolicyRef,
    action: str,
    site: SiteId,
    data_class: str = "",
) -> Verdict:
    """The verdict that lets somebody read what is a tenant's where it lies; raises HeadraceError where there is none.

    ``ref``: the policy that it is under. Of a tenant's own people, and of the operator's.
    """
    number = world.fleet.site_index.get(site)
    if number is None:
        raise fail(unknown("site", site, world.fleet.site_index))
    verdict = world.laws.of_person(world, who, owner, ref, action, number, data_class)
    if not verdict.allowed:
        step = "Let somebody of the tenant read it, or use a token whose holder's country is stated and allowed (--country)."
        raise fail(Problem(ProblemCode.FORBIDDEN, f"{'; '.join(verdict.reasons)}.", step))
    return verdict


# -- what is reported --------------------------------------------------------------------------------------------------


def declare_stores(world: World, command: c.DeclareStores, _: Asked) -> Deciding:
    """Which sites have a store, where that is another answer than before."""
    sites = tuple(sorted(set(command.sites)))
    if sites != tuple(sorted(world.state.stores)):
        yield of_data.StoresDeclared(sites)
    return None


def report_copies(world: World, command: c.ReportCopies, _: Asked) -> Deciding:
    """What became of copies; what is reported of one that is in another state by now changes nothing."""
    for one in command.reports:
        copy = world.state.copies.get(one.data, {}).get(one.site)
        if copy is not None:
            yield from _reported(world, one, copy)
    return None


def _reported(world: World, one: c.CopyReport, copy: Copy) -> Iterable[ev.Event]:
    data = world.laws.datasets.get(one.data)
    is_coming = copy.state is CopyState.COPYING
    if one.what == "present" and is_coming and data is not None:
        if (one.digest, one.size_bytes) == (data.digest, data.size_bytes):
            yield of_data.CopyFinished(one.data, one.site, one.digest, one.size_bytes)
        else:
            yield from _failed(one, f"its bytes have the digest {one.digest}, not {data.digest}", broken=True)
    elif one.what == "failed" and is_coming:
        yield from _failed(one, one.problem, broken=one.is_broken)
    elif one.what == "delayed" and is_coming and one.problem != copy.problem:
        yield of_data.CopyFailed(one.data, one.site, one.problem, ended=False)
    elif one.what == "gone" and copy.state is CopyState.REMOVING:
        yield of_data.CopyRemoved(one.data, one.site, one.problem)
    elif one.what == "gone" and copy.state is CopyState.PRESENT:
        yield of_data.CopyRemoved(one.data, one.site, one.problem)
        yield ev.AlarmRaised(
            3, f"{one.data}@{one.site}", f"a copy that nobody removed is not there: {one.problem}"
        )


def _failed(one: c.CopyReport, problem: str, *, broken: bool) -> Iterator[ev.Event]:
    yield of_data.CopyFailed(one.data, one.site, problem)
    if broken:
        yield ev.AlarmRaised(3, f"{one.data}@{one.site}", problem)


# -- what follows from the law -----------------------------------------------------------------------------------------


def judge_copies(world: World, now_ms: int) -> Events:
    """Judge every copy again: one that may not lie where it is is named, and goes or is kept as its tenant said."""
    # All first: what is found changes what is gone through.
    held = [
        (data, copy)
        for ident, copies in world.state.copies.items()
        if (data := world.laws.datasets.get(ident)) is not None
        for copy in copies.values()
        if copy.state in (CopyState.COPYING, CopyState.PRESENT) and copy.site in world.fleet.site_index
    ]
    for data, copy in held:
        verdict = world.laws.of_action(world, data, KEEP, world.fleet.site_index[copy.site])
        why = "" if verdict.allowed else "; ".join(verdict.reasons)
        if why != copy.unlawful:
            yield from record(world, verdict)
            yield of_data.CopyJudged(data.id, copy.site, why, verdict.id)
        if not verdict.allowed:
            yield from _unlawful(world, data, copy, verdict, now_ms)


def _unlawful(world: World, data: Dataset, copy: Copy, verdict: Verdict, now_ms: int) -> Events:
    reason = f"it may not lie there any more: {'; '.join(verdict.reasons)}"
    what = f"{data.id}@{copy.site}"
    if copy.state is CopyState.COPYING:
        yield of_data.RemovalRequested(data.id, copy.site, reason, now_ms)
        return
    goes = data.on_forbidden == "remove"
    then = "it is removed once nothing uses it" if goes else "held, not lawful: its tenant said to keep it"
    detail = f"{reason}; {then}"
    if not any(alarm.subject == what and alarm.detail == detail for _, alarm in world.state.alarms):
        yield ev.AlarmRaised(2, what, detail)
    if goes:
        yield of_data.RemovalRequested(data.id, copy.site, reason, now_ms + data.grace_ms)


def forget_data(world: World, tenant: TenantId, asked: Asked) -> Events:
    """A tenant is erased: all copies of its data go."""
    mine = [
        (ident, copy)
        for ident, copies in world.state.copies.items()
        if of_data.tenant_of(ident) == tenant
        for copy in copies.values()
        if copy.state in (CopyState.COPYING, CopyState.PRESENT, CopyState.FAILED)
    ]
    for ident, copy in mine:
        yield of_data.RemovalRequested(ident, copy.site, "its tenant is erased", asked.now_ms, asked.verdict)


# -- documents ---------------------------------------------------------------------------------------------------------

_FIXED = ("tenant", "digest", "size_bytes", "site", "kind")
_WORDS = {"size_bytes": "size", "kind": "type"}


def problems_of_data(world: World, trial: World) -> list[Problem]:
    """What is wrong with data sets as ``trial`` would have them, in a world that is ``world`` now."""
    found = list(_about_the_journal(world, trial))
    for ident, data in trial.laws.datasets.items():
        if world.laws.datasets.get(ident) != data:
            found.extend(_wrong_with(world, trial, data))
    for ident in world.laws.datasets:
        if ident not in trial.laws.datasets:
            found.extend(_still_there(world, ident))
    return [*found, *_lost_with_it(world, trial)]


def _about_the_journal(world: World, trial: World) -> Iterator[Problem]:
    """A policy of the operator for its own state that there is not, or that would forbid the place where that lies now."""
    asked = trial.estate.operator.journal_policy if trial.estate is not None else PolicyRef()
    known = trial.laws.names(trial.policies)
    if asked.profile and asked.profile not in known:
        problem = unknown("policy", asked.profile, known)
        yield Problem(problem.code, problem.message, problem.next_step, "operator.journal_policy")
        return
    verdict = trial.laws.of_journal(trial, world.state.at)
    if verdict is not None and not verdict.allowed:
        yield journal_may_not_lie(verdict, world.state.at)


def _lost_with_it(world: World, trial: World) -> Iterator[Problem]:
    """Sites that would go and have copies; tenants and policies that would go and that data sets name."""
    for ident, copies in world.state.copies.items():
        for site in (one.site for one in copies.values() if one.state in HELD):
            if site not in trial.fleet.site_index:
                step = f"Remove it first: headrace data remove {ident} --at {site}"
                message = f"site {site} would go, but a copy of {ident} is there;"
                yield Problem(ProblemCode.IN_USE, message, step)
    names = trial.laws.names(trial.policies)
    for ident, data in trial.laws.datasets.items():
        if data.tenant not in trial.tenants and data.tenant in world.tenants:
            step = f"Remove it first: headrace remove dataset {ident}"
            yield Problem(ProblemCode.IN_USE, f"tenant {data.tenant} has the data set {ident};", step)
        name = data.policy.profile
        if name in world.laws.policies and name not in names:
            step = f"Apply {ident} with another policy first."
            yield Problem(ProblemCode.IN_USE, f"policy {name} is that of data set {ident};", step)


def _wrong_with(world: World, trial: World, data: Dataset) -> Iterator[Problem]:
    where, known = f"dataset {data.id}", trial.laws.names(trial.policies)
    problems: list[Problem] = []
    if data.tenant not in trial.tenants:
        problems.append(unknown("tenant", data.tenant, trial.tenants))
    if data.policy.profile and data.policy.profile not in known:
        problems.append(unknown("policy", data.policy.profile, known))
    sites = [one.id for one in trial.fleet.sites if one.dedicated_to in (None, data.tenant)]
    if data.site not in sites:
        problems.append(unknown("site", data.site, sites))
    before = world.laws.datasets.get(data.id)
    if before is not None:
        others = [name for name in _FIXED if getattr(before, name) != getattr(data, name)]
        if others:
            words = ", ".join(_WORDS.get(name, name) for name in others)
            message = f"{words} of a data set can't change: other bytes are another data set;"
            problems.append(Problem(ProblemCode.CONFLICT, message, "Apply it under another name."))
    if problems:
        yield from (Problem(one.code, one.message, one.next_step, where, one.related) for one in problems)
    elif before is None:
        yield from _first_copy(trial, data, where)


def _first_copy(trial: World, data: Dataset, where: str) -> Iterator[Problem]:
    verdict = trial.laws.of_action(trial, data, KEEP, trial.fleet.site_index[data.site])
    if not verdict.allowed:
        one = may_not_lie(trial, data, data.site, verdict)
        yield Problem(one.code, one.message, one.next_step, where)
        return
    try:
        _check_store(trial, data.site)
    except HeadraceError as error:
        yield Problem(error.problem.code, error.problem.message, error.problem.next_step, where)


def _still_there(world: World, ident: DataId) -> Iterator[Problem]:
    copies = world.state.copies.get(ident, {}).values()
    there = [one.site for one in copies if one.state in HELD]
    if there:
        step = f"Remove its copies first: headrace data remove {ident} --at {there[0]} --last"
        message = f"data set {ident} has copies at {', '.join(sorted(there))};"
        yield Problem(ProblemCode.IN_USE, message, step)
    users = [
        work.id
        for work in world.state.workloads.values()
        if work.state not in TERMINAL
        and any(data_id(work.tenant, name) == ident for name in work.spec.policy.data)
    ]
    if users:
        message = f"data set {ident} is used by workloads;"
        yield Problem(ProblemCode.IN_USE, message, "Stop them first.", related=tuple(users[:_MOST_NAMED]))
