"""Whether documents may change as asked: nothing in use goes, and no limit falls below what already draws on it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from headrace.core.contracts import Contract, Maintenance, Reservation
from headrace.core.data.deciding import problems_of_data
from headrace.core.errors import Problem, ProblemCode, unknown
from headrace.core.ids import NodeId, PowerNodeId, SiteId, TenantId
from headrace.core.metering import UsageKey
from headrace.core.sovereignty.holdings import flaws
from headrace.core.sovereignty.law import LAW
from headrace.core.sovereignty.owning import joined
from headrace.core.workload import TERMINAL
from headrace.core.world import World

_NEAR = 10_000
"""Names of a large estate among which the one that was meant is looked for."""
_MOST_FLAWS = 20
"""So many contradictions of owners' documents are named."""


def check_changes(
    world: World, wanted: Mapping[str, dict[str, Any]], removed: Sequence[str]
) -> list[Problem]:
    """Problems of applying ``wanted`` (by ``kind/name``) and dropping ``removed``; none when it may be done."""
    documents = {key: value for key, value in world.state.documents.items() if key not in removed} | dict(
        wanted
    )
    if documents == world.state.documents:
        return []
    problems = _one_estate(documents)
    if problems:
        return problems
    # A trial world of the same placements over the new documents: what it can't hold, the change would break.
    problems = _nodes_in_use(world, documents)
    if problems:
        return problems
    trial = World(replace(world.state, documents=documents, requests={}), world.policies)
    trial.at(world.day * 86_400_000)
    return [
        *(_removed_in_use(world, removed) or _references(trial)),
        *_owners_together(trial, wanted),
        *_tenants_in_use(world, trial),
        *_contracts_in_use(world, trial),
        *_reservations_in_use(world, trial),
        *_engines_in_use(world, trial),
        *problems_of_data(world, trial),
        *_limits(world, trial, only_law=_is_law_alone(world, documents)),
    ]


def _one_estate(documents: Mapping[str, dict[str, Any]]) -> list[Problem]:
    estates = [key for key in documents if key.startswith("estate/")]
    if len(estates) <= 1:
        return []
    step = "One control plane runs one operator's estate: remove the other first, or start another with its own state."
    return [
        Problem(
            ProblemCode.CONFLICT,
            f"there would be {len(estates)} estates;",
            step,
            related=tuple(sorted(estates)),
        )
    ]


def _nodes_in_use(world: World, documents: Mapping[str, dict[str, Any]]) -> list[Problem]:
    estate = {key: value for key, value in documents.items() if key.startswith("estate/")}
    if estate == {key: value for key, value in world.state.documents.items() if key.startswith("estate/")}:
        return []
    fresh = World(replace(world.state, documents=dict(estate), placements={}, workloads={}, requests={}))
    users: dict[str, list[str]] = {}
    for placement in world.state.placements.values():
        for rank in placement.ranks:
            if _hardware(fresh, rank.node) != _hardware(world, rank.node):
                users.setdefault(rank.node, []).append(placement.workload)
    return [
        _in_use(f"node {node} would go or change its hardware, but is in use;", by)
        for node, by in sorted(users.items())
    ]


def _hardware(world: World, node: str) -> object:
    index = world.fleet.node_index.get(NodeId(node))
    return None if index is None else world.fleet.hardware[world.fleet.node_hardware[index]]


def _in_use(message: str, by: Sequence[str]) -> Problem:
    step = "Stop or remove what uses it first: `headrace stop`, or `headrace remove KIND NAME`."
    return Problem(ProblemCode.IN_USE, message, step, related=tuple(sorted(set(by)))[:20])


def _removed_in_use(world: World, removed: Sequence[str]) -> list[Problem]:
    """Documents that are to go and that contracts or reservations name."""
    problems = []
    for key in removed:
        kind, _, name = key.partition("/")
        users = [one.id for one in world.contracts.values() if name in _named(one, kind)]
        if users:
            problems.append(_in_use(f"{kind} {name} is in use by contracts;", users))
        if kind == "policy":
            tenants = [one.id for one in world.tenants.values() if one.policy == name]
            if tenants:
                problems.append(_in_use(f"policy {name} is that of tenants;", tenants))
            waiting = [
                work.id
                for work in world.state.workloads.values()
                if work.state not in TERMINAL and work.spec.policy.profile == name
            ]
            if waiting:
                problems.append(_in_use(f"policy {name} is in use by workloads;", waiting))
        holders = [one.id for one in world.reservations.values() if kind == "tenant" and one.tenant == name]
        if holders:
            problems.append(_in_use(f"{kind} {name} is in use by reservations;", holders))
    return problems


def _named(contract: Contract, kind: str) -> tuple[str, ...]:
    return {"tenant": (contract.tenant,), "price-plan": (contract.plan,)}.get(kind, ())


def _of_law(trial: World) -> list[Problem]:
    """Policies that tenants name and nobody has, and sites that facts are stated of and that are not there."""
    policies, sites = trial.laws.names(trial.policies), trial.fleet.site_index
    shipped = [one for one in trial.laws.policies if one in trial.policies.profiles]
    named = [one for one in trial.tenants.values() if one.policy and one.policy not in policies]
    return [
        *(
            Problem(
                ProblemCode.CONFLICT,
                f"{one} is a policy that comes with headrace;",
                "Choose another name.",
                where=f"policy {one}",
            )
            for one in shipped
        ),
        *(replace(unknown("policy", one.policy, policies), where=f"tenant {one.id}") for one in named),
        *(
            replace(unknown("site", one, sites), where=f"facts {one}")
            for one in trial.laws.sites
            if one not in sites
        ),
    ]


def _owners_together(trial: World, wanted: Mapping[str, dict[str, Any]]) -> list[Problem]:
    """What can't be of owners' documents together, each of which is right by itself."""
    if not any(key.startswith("ownership/") for key in wanted):
        return []
    found = islice(flaws(joined(trial.laws.owners.values())), _MOST_FLAWS)
    return [Problem(ProblemCode.CONFLICT, f"{one.what}: {one.message}", one.next_step) for one in found]


def _references(trial: World) -> list[Problem]:
    """Names that documents refer to and nothing has."""
    problems = _of_law(trial)
    for contract in trial.contracts.values():
        where = f"contract {contract.id}"
        if contract.tenant not in trial.tenants:
            problems.append(replace(unknown("tenant", contract.tenant, trial.tenants), where=where))
        if contract.plan not in trial.plans:
            problems.append(replace(unknown("price-plan", contract.plan, trial.plans), where=where))
        if contract.site is not None and contract.site not in trial.fleet.site_index:
            problems.append(replace(unknown("site", contract.site, trial.fleet.site_index), where=where))
    # What is over refers to nothing any more: it must not hold up every later change of the estate.
    windows: list[Reservation | Maintenance] = [*trial.reservations.values(), *trial.maintenances.values()]
    for window in windows:
        if window.ends_ms > trial.now_ms:
            problems.extend(_window_references(trial, window))
    return problems


def _window_references(trial: World, window: Reservation | Maintenance) -> list[Problem]:
    """Names that a window refers to and nothing has: a site, a tenant, hardware or parts of the site."""
    where = f"{'reservation' if isinstance(window, Reservation) else 'maintenance'} {window.id}"
    problems = []
    if isinstance(window, Reservation) and window.tenant not in trial.tenants:
        problems.append(unknown("tenant", window.tenant, trial.tenants))
    if window.site not in trial.fleet.site_index:
        problems.append(unknown("site", window.site, trial.fleet.site_index))
    elif isinstance(window, Reservation):
        problems.extend(_unknown_model(trial, window))
        owner = trial.site(window.site).dedicated_to
        if owner not in (None, window.tenant):
            message = (
                f"site {window.site} is dedicated to {owner}: no work of {window.tenant} could run there;"
            )
            problems.append(Problem(ProblemCode.CONFLICT, message, "Reserve nodes of another site."))
    else:
        problems.extend(_unknown_parts(trial, window))
    return [replace(problem, where=where) for problem in problems]


def _unknown_model(trial: World, reservation: Reservation) -> list[Problem]:
    fleet = trial.fleet
    here = fleet.node_hardware[fleet.node_site == fleet.site_index[reservation.site]]
    models = {fleet.hardware[int(kind)].accelerator for kind in np.unique(here)}
    if reservation.model in models:
        return []
    return [unknown(f"node at site {reservation.site} with", reservation.model, models)]


def _unknown_parts(trial: World, window: Maintenance) -> list[Problem]:
    """Parts that are no block, rack or node; of a large estate only the nearest names are looked through."""
    fleet = trial.fleet
    problems = []
    for part in window.parts:
        element = fleet.power_index.get(PowerNodeId(part))
        stands = element is not None and fleet.power_kind[element] in ("block", "rack")
        if not stands and NodeId(part) not in fleet.node_index:
            names = [
                name
                for name, kind in zip(fleet.power_ids, fleet.power_kind, strict=True)
                if kind in ("block", "rack") and name.startswith(f"{window.site}/")
            ]
            problems.append(unknown("block, rack or node", part, names[:_NEAR]))
    return problems


def _tenants_in_use(world: World, trial: World) -> list[Problem]:
    problems = []
    gone = [tenant for tenant in world.tenants if tenant not in trial.tenants]
    for tenant in gone:
        live = [
            w.id for w in world.state.workloads.values() if w.tenant == tenant and w.state not in TERMINAL
        ]
        tokens = [t.id for t in world.state.tokens.values() if t.tenant == tenant and not t.revoked]
        if live or tokens:
            problems.append(_in_use(f"tenant {tenant} is in use;", [*live, *tokens]))
    for tenant, after in trial.tenants.items():
        before = world.tenants.get(tenant)
        lost = [p for p in before.projects if p not in after.projects] if before else []
        for project in lost:
            live = [w.id for w in _live(world, tenant) if w.spec.project == project]
            if live:
                problems.append(_in_use(f"project {project} of tenant {tenant} is in use;", live))
    return problems


def _live(world: World, tenant: TenantId) -> list[Any]:
    return [w for w in world.state.workloads.values() if w.tenant == tenant and w.state not in TERMINAL]


def _contracts_in_use(world: World, trial: World) -> list[Problem]:
    users: dict[str, list[str]] = {}
    for placement in world.state.placements.values():
        if placement.contract and placement.contract not in trial.contracts:
            users.setdefault(placement.contract, []).append(placement.workload)
    problems = [_in_use(f"contract {name} is in use;", by) for name, by in sorted(users.items())]
    problems.extend(_contracts_handed_over(world, trial))
    # Without it what was used could never be invoiced, nor anything else of the same period.
    billed = {UsageKey.parse(text).contract for text in world.state.usage.by_key}
    gone = [name for name in world.contracts if name not in trial.contracts and name in billed]
    step = "Let it end instead: apply it with the day on which it ends."
    problems.extend(Problem(ProblemCode.IN_USE, f"contract {name} has usage;", step) for name in gone)
    return problems


def _contracts_handed_over(world: World, trial: World) -> list[Problem]:
    """Contracts that would be another tenant's: what one used, the other would be shown, and pay."""
    step = "Apply a contract of another name for the other tenant."
    found = []
    for name, contract in world.contracts.items():
        after = trial.contracts.get(name)
        if after is not None and after.tenant != contract.tenant:
            message = f"contract {name} is tenant {contract.tenant}'s, and can't become {after.tenant}'s;"
            found.append(Problem(ProblemCode.CONFLICT, message, step))
    return found


def _reservations_in_use(world: World, trial: World) -> list[Problem]:
    """Reservations that would go, or become others, under the workloads that name them."""
    problems = []
    for name, before in world.reservations.items():
        after = trial.reservations.get(name)
        if after is not None and after.tenant != before.tenant:
            # In the one's stream it would never end, and the other's would have had it all along.
            step = "Remove it, and apply one of another name for the other tenant."
            message = f"reservation {name} is tenant {before.tenant}'s, and can't become {after.tenant}'s;"
            problems.append(Problem(ProblemCode.CONFLICT, message, step))
            continue
        if after is not None and (after.tenant, after.site, after.model) == (
            before.tenant,
            before.site,
            before.model,
        ):
            continue
        users = [work.id for work in _live(world, before.tenant) if work.spec.reservation == name]
        if users:
            would = "would go" if after is None else "would be another's, elsewhere or of other nodes"
            problems.append(_in_use(f"reservation {name} {would}, but is in use;", users))
    return problems


def _engines_in_use(world: World, trial: World) -> list[Problem]:
    """Sites, or blocks of them, whose engine would change under what runs there: the new one could not stop it."""
    users: dict[SiteId, list[str]] = {}
    for placement in world.state.placements.values():
        if trial.engine_of(placement) != world.engine_of(placement):
            users.setdefault(placement.site, []).append(placement.workload)
    return [
        _in_use(f"site {site} would change its engine, or a block's, but is in use;", by)
        for site, by in sorted(users.items())
    ]


def _is_law_alone(world: World, documents: Mapping[str, dict[str, Any]]) -> bool:
    """Whether nothing changes but what is allowed: that is as it is, and who runs where it may not has to move."""
    before = world.state.documents
    keys = [key for key in {**before, **documents} if before.get(key) != documents.get(key)]
    return all(key.partition("/")[0] in LAW for key in keys)


def _limits(world: World, trial: World, *, only_law: bool) -> list[Problem]:
    """Placements that the new documents would no longer allow where they are: by law, by dedication, by power."""
    problems = []
    loaded: dict[int, list[str]] = {}
    for placement in trial.state.placements.values():
        number = trial.fleet.site_index[placement.site]
        site = trial.fleet.sites[number]
        work = trial.state.workloads[placement.workload]
        if not only_law and not trial.place_verdict(placement.tenant, work.spec.policy, number).allowed:
            problems.append(
                _in_use(f"site {site.id} would no longer be allowed for what runs there;", [work.id])
            )
        if site.dedicated_to not in (None, placement.tenant):
            problems.append(
                _in_use(
                    f"site {site.id} would be dedicated to {site.dedicated_to}, but others use it;", [work.id]
                )
            )
        for rank in placement.ranks:
            node = trial.fleet.node_index[NodeId(rank.node)]
            for element in trial.fleet.path(int(trial.fleet.node_leaf[node])):
                loaded.setdefault(element, []).append(work.id)
    kept_w = trial.kept_w()
    for element, users in sorted(loaded.items()):
        drawn, limit = int(trial.power_w[element]), int(trial.fleet.power_limit_w[element])
        ident = trial.fleet.power_ids[element]
        before = world.fleet.power_index.get(ident)
        if before is None or limit < int(world.fleet.power_limit_w[before]):
            # Who is paused or capped for the grid could otherwise never go on.
            drawn += kept_w.get(element, 0)
        if drawn > limit:
            problems.append(
                _in_use(
                    f"{ident} would be limited to {limit} W of IT load, but up to {drawn} W draw on it;",
                    users,
                )
            )
    return problems
