"""What people ask of the control plane beside submitting: chosen by chance among what they know of."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from headrace.core import commands as c
from headrace.core.authority import Role
from headrace.core.codec import Core
from headrace.core.contracts import Contract
from headrace.core.errors import ProblemCode
from headrace.core.estate import Block, Estate, Site
from headrace.core.fleet import compile_fleet
from headrace.core.ids import ContractId, InvoiceNumber, NodeId, ProjectId, TenantId, TokenId, WorkloadId
from headrace.core.metering import period_of
from headrace.core.workload import Resources, WorkloadSpec, WorkloadType
from headrace.sim.clients import (
    JSON,
    YAML,
    Person,
    Request,
    applied_workload,
    command,
    declaration,
    declared,
    submission,
    token,
)
from headrace.sim.estates import Ground, aside, iso_day, with_quotas
from headrace.sim.wire import document
from headrace.sim.work import SpecMaker


@dataclass(slots=True)
class People:
    """An operator and the members of its tenants, and what each remembers."""

    chance: Random
    ground: Ground
    maker: SpecMaker
    start_ms: int
    operator: Person
    members: dict[str, Person] = field(default_factory=dict)
    workloads: list[tuple[str, WorkloadSpec]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    invoices: list[str] = field(default_factory=list)
    drained: list[str] = field(default_factory=list)
    laws: list[dict[str, Any]] = field(default_factory=list)
    _keys: int = 0

    def key(self) -> str:
        """A new idempotency key."""
        self._keys += 1
        return f"key-{self._keys}"

    def documents(self) -> Request:
        """The first documents."""
        ground = self.ground
        values: list[Core] = [ground.estate, *ground.plans, *ground.tenants, *ground.contracts]
        return declared(self.operator, [*(document(value) for value in values), *self.laws], self.key())

    def token(self, role: Role, tenant: str) -> Request:
        """A new token of a tenant; its value comes with the answer."""
        return token(self.operator, role, tenant, self.key())

    def submit(self, size: int) -> Request:
        """Some workloads of one tenant."""
        tenant = self.chance.choice(list(self.members))
        items = tuple(self.maker.make(tenant) for _ in range(size))
        who = self.members[tenant] if self.chance.random() < 0.9 else self.operator
        if size == 1 and who is self.operator:
            return applied_workload(who, tenant, *items[0], self.key())
        return submission(who, tenant, items, self.key())

    def ask_for_less(self, request: Request) -> Request | None:
        """What can never be placed, once more: one node each, anywhere."""
        if all(spec.nodes == 1 and spec.site is None for spec, _ in request.items):
            return None
        items = tuple((self.maker.smaller(spec), values) for spec, values in request.items)
        first = next(iter(self.members)) if request.who is self.operator else ""
        tenant = request.who.caller.subject.tenant or first
        return submission(request.who, tenant, items, self.key())

    def act(self, what: str, now_ms: int) -> Request | None:
        """One action; None when there is nothing to do it to."""
        return _ACTIONS[what](self, now_ms)

    def _someones(self) -> tuple[str, Person] | None:
        if not self.workloads:
            return None
        ident, _ = self.chance.choice(self.workloads[-40:])
        tenant = ident.rpartition("-")[0]
        return ident, self.members[tenant] if self.chance.random() < 0.7 else self.operator

    def stop(self, _now_ms: int) -> Request | None:
        """Stop a workload."""
        found = self._someones()
        return command(found[1], c.Stop(WorkloadId(found[0])), self.key()) if found else None

    def pause(self, _now_ms: int) -> Request | None:
        """Pause a workload."""
        found = self._someones()
        return command(found[1], c.Pause(WorkloadId(found[0]), True), self.key()) if found else None

    def resume(self, _now_ms: int) -> Request | None:
        """Let a workload go on."""
        found = self._someones()
        return command(found[1], c.Pause(WorkloadId(found[0]), False), self.key()) if found else None

    def read_log(self, _now_ms: int) -> Request | None:
        """Read a log, which is audited."""
        found = self._someones()
        return command(found[1], c.ReadLog(WorkloadId(found[0]), 0)) if found else None

    def drain(self, _now_ms: int) -> Request | None:
        """Drain a node or two."""
        nodes = list(compile_fleet(self.ground.estate).node_ids)
        chosen = tuple(self.chance.sample(nodes, min(len(nodes), self.chance.randint(1, 2))))
        self.drained.extend(chosen)
        return command(
            self.operator,
            c.SetNodes(chosen, "draining", "work on it", self.chance.random() < 0.6),
            self.key(),
        )

    def undrain(self, _now_ms: int) -> Request | None:
        """Take the drained nodes back."""
        known = compile_fleet(self.ground.estate).node_index
        back = tuple(dict.fromkeys(NodeId(node) for node in self.drained if node in known))
        self.drained.clear()
        return command(self.operator, c.SetNodes(back, "ready"), self.key()) if back else None

    def token_for_somebody(self, _now_ms: int) -> Request | None:
        """Issue a token that nobody uses yet."""
        return self.token(Role.TENANT_MEMBER, self.chance.choice(list(self.members)))

    def revoke(self, _now_ms: int) -> Request | None:
        """Revoke a token that nobody uses."""
        return (
            command(self.operator, c.RevokeToken(TokenId(self.tokens.pop())), self.key())
            if self.tokens
            else None
        )

    def invoice(self, now_ms: int) -> Request | None:
        """Issue a tenant's invoices of this month, or of the month that it was at the start."""
        zone = self.ground.estate.operator.zone
        period = period_of(self.chance.choice((now_ms, self.start_ms)), zone)
        tenant = TenantId(self.chance.choice(list(self.members)))
        return command(self.operator, c.IssueInvoices(tenant, period), self.key())

    def credit(self, _now_ms: int) -> Request | None:
        """Give some of an invoice back."""
        if not self.invoices:
            return None
        number = InvoiceNumber(self.chance.choice(self.invoices))
        amount = self.chance.choice((1, 1_000, 10**7, 10**12))
        return command(self.operator, c.IssueCreditNote(number, amount, "a slow day"), self.key())

    def estate(self, now_ms: int) -> Request | None:
        """Change the estate: more or less power, another date, another tenant alone."""
        return self.apply(self._changed(now_ms))

    def apply(self, value: Core) -> Request:
        """Apply one document; people write contracts as YAML."""
        return declaration(self.operator, [value], self.key(), YAML if isinstance(value, Contract) else JSON)

    def _changed(self, now_ms: int) -> Estate:
        chance, estate = self.chance, self.ground.estate
        index = chance.randrange(len(estate.sites))
        site = estate.sites[index]
        change: Callable[[Site, int], Site] = chance.choice(
            (self._power, self._power, self._date, self._dedicate)
        )
        sites = (*estate.sites[:index], change(site, now_ms), *estate.sites[index + 1 :])
        return replace(estate, sites=sites)

    def _power(self, site: Site, _now_ms: int) -> Site:
        firm_w = site.connection.firm_w * self.chance.choice((700, 900, 1_100, 1_300)) // 1_000
        return replace(site, connection=replace(site.connection, firm_w=firm_w))

    def _date(self, site: Site, now_ms: int) -> Site:
        day = iso_day(now_ms, self.chance.choice((0, 1)))
        first, *rest = site.blocks
        blocks: list[Block] = [replace(block, commissioned=block.commissioned or day) for block in rest]
        return replace(site, blocks=(first, *blocks))

    def _dedicate(self, site: Site, _now_ms: int) -> Site:
        tenant = TenantId(self.chance.choice(list(self.members)))
        return replace(site, dedicated_to=None if site.dedicated_to else tenant)

    def some_documents(self, now_ms: int) -> Request | None:
        """Apply a new contract, or the same one again, or remove one; or give a tenant other quotas."""
        chance, tenant = self.chance, TenantId(self.chance.choice(list(self.members)))
        ident = ContractId(f"{tenant}-extra")
        more = aside(chance)
        if more.random() < 0.3:
            return self.apply(with_quotas(more, next(one for one in self.ground.tenants if one.id == tenant)))
        if chance.random() < 0.3:
            return command(self.operator, c.RemoveDocument("contract", ident), self.key())
        plan = chance.choice(self.ground.plans).id
        kind: Contract = Contract(
            ident, tenant, plan, "on-demand", chance.choice((None, self.ground.estate.sites[0].id))
        )
        return self.apply(replace(kind, starts=iso_day(now_ms, chance.choice((-3, 0, 1)))))

    def wrong(self, _now_ms: int) -> Request | None:
        """Ask for what must be denied."""
        chance, names = self.chance, list(self.members)
        tenant = chance.choice(names)
        who = self.members[tenant]
        others = [ident for ident, _ in self.workloads if not ident.startswith(f"{tenant}-")]
        draw = chance.randrange(4)
        if draw == 0 and others:
            request, code = (
                command(who, c.Stop(WorkloadId(chance.choice(others))), self.key()),
                ProblemCode.NOT_FOUND,
            )
        elif draw == 1:
            operator_only = c.SetNodes((), "draining")
            request, code = command(who, operator_only, self.key()), ProblemCode.FORBIDDEN
        elif draw == 2:
            request, code = (
                command(who, c.Stop(WorkloadId(f"{tenant}-99999")), self.key()),
                ProblemCode.NOT_FOUND,
            )
        else:
            spec = WorkloadSpec(
                "wrong", WorkloadType.JOB, ProjectId("no-project"), Resources("", 0, 100, 1), ("sleep 1",)
            )
            request = submission(who, tenant, ((spec, {}),), self.key())
            code = ProblemCode.NOT_FOUND
        request.expect = code
        return request


_ACTIONS: dict[str, Callable[[People, int], Request | None]] = {
    "stop": People.stop,
    "pause": People.pause,
    "resume": People.resume,
    "drain": People.drain,
    "undrain": People.undrain,
    "estate": People.estate,
    "documents": People.some_documents,
    "token": People.token_for_somebody,
    "revoke": People.revoke,
    "invoice": People.invoice,
    "credit": People.credit,
    "read-log": People.read_log,
    "wrong": People.wrong,
}
