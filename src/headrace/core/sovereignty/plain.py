"""The plain policy engine: countries by list, rights by role; and ``decide``, which every caller asks.

Of ``PROFILES``, ``public`` and ``nordic-only`` are also shipped as rules: an engine that reads rules decides by those, and the
lists stand in for a world without one, with the same answers (a property test holds them equal). A profile here is
a :class:`~headrace.core.authority.Policy` with a name. More expressive engines stand behind the same port.
"""

from collections.abc import Mapping

from headrace.core.authority import (
    Obstacle,
    Policy,
    PolicyEngine,
    Request,
    Role,
    Subject,
    Target,
    Verdict,
    digest_of,
)
from headrace.core.estate import Site
from headrace.core.ids import TenantId

_EEA = (
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE",
    "IS", "IT", "LI", "LT", "LU", "LV", "MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK",
)  # fmt: skip
PROFILES: dict[str, Policy] = {
    "public": Policy("public"),
    "nordic-only": Policy("nordic-only", ("DK", "FI", "IS", "NO", "SE")),
    "uk-only": Policy("uk-only", ("GB",)),
    "eea-only": Policy(
        "eea-only",
        _EEA,
    ),
}

OPERATOR_ONLY = "operator"
TENANT_WRITE = "tenant-write"
TENANT_READ = "tenant-read"

ACTIONS: dict[str, str] = {
    "document.apply": OPERATOR_ONLY,
    "document.remove": OPERATOR_ONLY,
    "document.read": TENANT_READ,
    "estate.read": OPERATOR_ONLY,
    "site.read": TENANT_READ,
    "token.issue": TENANT_WRITE,
    "token.revoke": TENANT_WRITE,
    "token.read": TENANT_READ,
    "whoami.read": TENANT_READ,
    "workload.submit": TENANT_WRITE,
    "workload.stop": TENANT_WRITE,
    "workload.pause": TENANT_WRITE,
    "workload.read": TENANT_READ,
    "workload.explain": TENANT_READ,
    "workload.logs": TENANT_READ,
    "workload.key": TENANT_WRITE,
    "node.read": OPERATOR_ONLY,
    "node.drain": OPERATOR_ONLY,
    "invoice.read": TENANT_READ,
    "invoice.issue": OPERATOR_ONLY,
    "invoice.credit": OPERATOR_ONLY,
    "dataset.apply": TENANT_WRITE,
    "dataset.read": TENANT_READ,
    "dataset.copy": TENANT_WRITE,
    "dataset.remove": TENANT_WRITE,
    "dataset.open": TENANT_READ,
    "data.observe": "system",
    "usage.meter": OPERATOR_ONLY,
    "tenant.erase": OPERATOR_ONLY,
    "journal.read": OPERATOR_ONLY,
    "evidence.export": TENANT_WRITE,
    "status.read": TENANT_READ,
    "plan.read": OPERATOR_ONLY,
    "plan.adopt": "system",
    "engine.observe": "system",
    "control.start": "system",
    "grid.read": OPERATOR_ONLY,
    "grid.instruct": OPERATOR_ONLY,
    "grid.follow": "system",
    "device.observe": "system",
    "law.follow": "system",
}
"""Every action there is, and who may do it: the one table of rights."""

RIGHTS: dict[str, frozenset[Role]] = {
    OPERATOR_ONLY: frozenset({Role.OPERATOR_ADMIN, Role.SYSTEM}),
    TENANT_WRITE: frozenset({Role.OPERATOR_ADMIN, Role.TENANT_ADMIN, Role.TENANT_MEMBER, Role.SYSTEM}),
    TENANT_READ: frozenset({Role.OPERATOR_ADMIN, Role.TENANT_ADMIN, Role.TENANT_MEMBER, Role.SYSTEM}),
    "system": frozenset({Role.SYSTEM}),
}
_TENANT_ADMIN_ONLY = frozenset({"evidence.export", "token.issue", "token.revoke"})
PLACES = frozenset({"workload.place", "data.copy", "backup.write", "journal.replicate"})
"""Actions that a list of countries decides by where the site is."""
ACCESS = frozenset({"logs.read", "support.access"})
"""Actions of people, whom a list of countries also asks from where they have access, unless they are the tenant's own."""
RIGHTS_POLICY = Policy("rights")
_RIGHTS_DIGEST = digest_of(
    [{action: ACTIONS[action] for action in sorted(ACTIONS)}, sorted(_TENANT_ADMIN_ONLY)]
)


class PlainPolicies:
    """The policy engine of the standard library: roles from ``ACTIONS``, countries from the policy."""

    profiles: frozenset[str] = frozenset()
    """It brings no rules along."""

    def evaluate(self, policy: Policy, request: Request) -> Verdict:
        """Judge rights for every action but those about places (``PLACES``, ``ACCESS``), which are judged by country."""
        if request.action in PLACES or request.action in ACCESS:
            return self._place(policy, request)
        return self._right(request)

    def obstacle(self, *_: object) -> Obstacle | None:
        """Nothing: a list says all in its reason."""
        return None

    def minds_the_day(self, _: Policy) -> bool:
        """A list of countries doesn't."""
        return False

    def describe(self, *_: object) -> dict[str, str | int | bool]:
        """Nothing: a list of countries asks for none."""
        return {}

    def _right(self, request: Request) -> Verdict:
        subject, target = request.subject, request.target
        allowed, reason = True, f"{subject.role} may {request.action}"
        if request.action not in ACTIONS:
            allowed, reason = False, f"there is no action {request.action}"
        elif subject.role not in RIGHTS[ACTIONS[request.action]] or (
            request.action in _TENANT_ADMIN_ONLY and subject.role is Role.TENANT_MEMBER
        ):
            allowed, reason = False, f"{subject.role} may not {request.action}"
        elif subject.tenant is not None and target.tenant != subject.tenant:
            allowed, reason = False, f"{subject.role} of {subject.tenant} has no right to what is not its own"
        whose = "own" if subject.tenant == target.tenant else (target.tenant or "operator")
        return Verdict(
            subject=subject.klass,
            action=request.action,
            place=f"{target.kind}:{whose}",
            allowed=allowed,
            reasons=(reason,),
            policy=_RIGHTS_DIGEST,
            facts=digest_of([subject.role, subject.tenant, target.kind, target.tenant]),
        )

    def _place(self, policy: Policy, request: Request) -> Verdict:
        country = str(request.facts.get("country", ""))
        if not policy.is_plain:
            allowed, reason = (
                False,
                f"policy {policy.name} is no list of countries, and nothing here reads others",
            )
        elif not country:
            allowed, reason = False, "the country of the site is not known: unknown is not allowed"
        elif policy.countries and country not in policy.countries:
            allowed, reason = (
                False,
                f"policy {policy.name} allows {', '.join(policy.countries)}; the site is in {country}",
            )
        else:
            allowed, reason = self._people(policy, request, country)
        return Verdict(
            subject=request.subject.klass,
            action=request.action,
            place=f"site:{request.target.id}",
            allowed=allowed,
            reasons=(reason,),
            policy=policy.digest,
            facts=digest_of(dict(request.facts)),
        )

    def _people(self, policy: Policy, request: Request, country: str) -> tuple[bool, str]:
        """Who may read what lies in a country that the policy allows: the tenant's own, and who comes from such a country."""
        said = str(request.facts.get("person.countries", ""))
        works_for = str(request.facts.get("person.works_for", "unknown"))
        if request.action not in ACCESS or works_for == "tenant" or not policy.countries:
            return True, f"policy {policy.name} allows {country}"
        if said and set(said.split()) <= set(policy.countries):
            return True, f"policy {policy.name} allows access from {said}"
        where = (
            f"they have access from {said}"
            if said
            else "from where they have access is not stated with their token"
        )
        return (
            False,
            f"policy {policy.name} allows people of the {works_for} from {', '.join(policy.countries)} alone; {where}",
        )


def decide(
    engine: PolicyEngine,
    policy: Policy,
    subject: Subject,
    action: str,
    target: Target,
    facts: Mapping[str, str | int | bool],
) -> Verdict:
    """The one authority: may ``subject`` do ``action`` to ``target``, given ``facts``."""
    return engine.evaluate(policy, Request(subject, action, target, dict(facts)))


def decide_place(
    engine: PolicyEngine,
    tenant: TenantId,
    policy: Policy,
    site: Site,
    facts: Mapping[str, str | int | bool] | None = None,
) -> Verdict:
    """May a workload of ``tenant`` under ``policy`` be placed at ``site``; ``facts``: what is known of it beyond the estate."""
    subject = Subject("workload", "", Role.SYSTEM, tenant)
    known: dict[str, str | int | bool] = {"country": site.country, "energy_source": site.energy_source}
    asked = known if policy.is_plain or facts is None else facts
    return decide(engine, policy, subject, "workload.place", Target("site", None, site.id), asked)
