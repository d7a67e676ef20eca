"""The facts that a policy asks for, worked out from documents alone: what is stated of a site, what follows from who
holds what, and what the estate declares, in this order. What nobody states is unknown.

A fact is asked for *strictly* (where the oracle's answer is not settled, it is unknown) or *generously* (the most that
anybody may know from these documents). Production's answer must lie between.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from tests.sovereignty_oracle.cedar import Value
from tests.sovereignty_oracle.reach import CHANNELS, Reach, Said, any_of
from tests.sovereignty_oracle.shares import VIEWS, Group, group, outside, part_of, tied, whole_ppm
from tests.sovereignty_oracle.stated import WHOLE, Run, Stated, stated_on

_EU = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
EU = frozenset(_EU.split())
MS_PER_DAY = 86_400_000
UNKNOWN = "unknown"
NOT_KNOWN = frozenset({UNKNOWN})
NOWHERE = "-"
"""A country that nobody is tied to."""
Doc = Mapping[str, Any]


@dataclass(slots=True)
class Documents:
    """What was applied, by ``kind/name``, as people write it."""

    by_key: dict[str, Doc] = field(default_factory=dict)
    isolation: str = ""
    """What the engine says that it keeps tenants apart with."""

    def of_kind(self, kind: str) -> dict[str, Doc]:
        """All of a kind, by name."""
        return {
            key.partition("/")[2]: one for key, one in self.by_key.items() if key.partition("/")[0] == kind
        }

    @property
    def estate(self) -> Doc:
        return next(iter(self.of_kind("estate").values()))

    def site(self, name: str) -> Doc:
        found: Doc = next(one for one in self.estate["sites"] if one["name"] == name)
        return found


def iso(now_ms: int) -> str:
    """The day of UTC."""
    return datetime.fromtimestamp(now_ms // 1_000, UTC).date().isoformat()


@dataclass(slots=True)
class Company:
    """What is computed of one company."""

    stated: Stated
    reach: Reach
    name: str
    _parts: dict[tuple[str, str], Value] = field(default_factory=dict)

    def control(self, country: str, *, most: bool) -> Value:
        """Of it, what is controlled from a country: at least, or at most; the widest bounds of the four views."""
        key = ("most" if most else "least", country)
        if key not in self._parts:
            its = group(self.stated, {one.name: tied(one, country) for one in self.stated.who.values()})
            self._parts[key] = self._widest(its, most=most)
        return self._parts[key]

    def outside(self, which: str) -> Value:
        """At most so much of it is controlled from outside the EU: all together, or by the largest."""
        key = (which, "")
        if key not in self._parts:
            answers = {
                one.name: outside(one, EU) for one in self.stated.who.values() if one.name != self.name
            }
            if which == "outside_eu_ppm":
                self._parts[key] = self._widest(group(self.stated, answers), most=True)
            else:
                self._parts[key] = self._largest([name for name, answer in answers.items() if answer != "no"])
        return self._parts[key]

    def _largest(self, names: list[str]) -> Value:
        unnamed = frozenset(one.name for one in self.stated.who.values() if one.kind == "unnamed")
        groups = [Group(frozenset({name}), unnamed | {name}) for name in names]
        groups.append(Group(frozenset(), unnamed))
        found = [self._widest(one, most=True) for one in groups]
        return max(one for one in found if not isinstance(one, str | frozenset))

    def _widest(self, its: Group, *, most: bool) -> Value:
        bounds = {part_of(self.stated, view, self.name, its)[most] for view in VIEWS}
        found = max(bounds) if most else min(bounds)
        return found * WHOLE if self.stated.is_truth else whole_ppm(found, up=most)


@dataclass(slots=True)
class Sites:
    """Every site's facts at one instant."""

    documents: Documents
    now_ms: int
    stated: Stated
    guessed: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    """By site, values of facts that are otherwise unknown: of a completion."""
    _companies: dict[str, Company] = field(default_factory=dict)
    _found: dict[tuple[str, str, str, bool], Value] = field(default_factory=dict)
    _reach: Reach | None = None

    @classmethod
    def at(cls, documents: Documents, now_ms: int) -> "Sites":
        """By all documents, at an instant."""
        return cls(documents, now_ms, stated_on(documents.of_kind("ownership").values(), iso(now_ms)))

    @property
    def reach(self) -> Reach:
        if self._reach is None:
            self._reach = Reach(self.stated)
        return self._reach

    def asked(self, site: str, tenant: str, *, strict: bool) -> Callable[[str], Value]:
        """A lookup of the facts of a site for a tenant."""

        def fact(path: str) -> Value:
            key = (site, tenant if path in _OF_TENANT else "", path, strict)
            if key not in self._found:
                self._found[key] = self._fact(site, tenant, path, strict=strict)
            return self._found[key]

        return fact

    def _fact(self, site: str, tenant: str, path: str, *, strict: bool) -> Value:
        role, _, name = path.partition(".")
        if role != "resource":
            return self._of_asker(tenant, path)
        if name == "id":
            return site
        if name == "tenancy":
            return "dedicated" if self.documents.site(site).get("dedicated_to") == tenant else "shared"
        for found in (
            self._said(site, name),
            self._computed(site, name, strict=strict),
            self._declared(site, name),
        ):
            if found is not None:
                return found
        guessed = self.guessed.get(site, {}).get(name)
        return unknown_of(name) if guessed is None else guessed

    def _of_asker(self, tenant: str, path: str) -> Value:
        match path:
            case "context.day":
                return self.now_ms // MS_PER_DAY
            case "context.tenant.id":
                return tenant
            case "context.tenant.country":
                return str(self.documents.by_key[f"tenant/{tenant}"].get("country", UNKNOWN))
            case "context.consent":
                return False
        return UNKNOWN

    def _said(self, site: str, name: str) -> Value | None:
        """What ``kind: facts`` states."""
        document = self.documents.by_key.get(f"facts/{site}")
        stated = {} if document is None else {one["fact"]: one["value"] for one in document.get("facts", ())}
        family, _, last = name.rpartition(".")
        found = stated.get(name)
        if found is None and last.isupper() and not self._is_named(site, name):
            found = stated.get(f"{family}.*")
        if found is None or found == UNKNOWN:
            return None if found is None or self.guessed else unknown_of(name)
        if isinstance(found, list):
            return frozenset(found)
        if name.startswith("certified_until.") and isinstance(found, str):
            return (date.fromisoformat(found) - date(1970, 1, 1)).days
        value: Value = found
        return value

    def _is_named(self, site: str, name: str) -> bool:
        """Whether what is computed of a country is another thing than of one that nobody is tied to: then ``*``, which is every
        country that isn't named, is not about it."""
        family = name.rpartition(".")[0]
        here, elsewhere = (self._computed(site, one, strict=False) for one in (name, f"{family}.{NOWHERE}"))
        return here != elsewhere

    def _run(self, site: str) -> Run | None:
        """Who operates a site, and supplies it; None: nobody says."""
        document = self.documents.by_key.get(f"facts/{site}", {})
        run = self.stated.runs.get(site)
        if document.get("operator"):
            return Run(document["operator"], run.supplies if run is not None else ())
        return run

    def _company(self, name: str) -> Company | None:
        if name not in self.stated.who:
            return None
        if name not in self._companies:
            self._companies[name] = Company(self.stated, self.reach, name)
        return self._companies[name]

    def _owner(self, site: str) -> Company | None:
        document = self.documents.by_key.get(f"facts/{site}", {})
        name = document.get("owner") or self.guessed.get(site, {}).get("*owner", "")
        return self._company(str(name))

    def _computed(self, site: str, name: str, *, strict: bool) -> Value | None:
        """What follows from who holds what."""
        run = self._run(site)
        if run is None:
            return None
        operator, owner = self._company(run.operator), self._owner(site)
        head, _, rest = name.partition(".")
        if head in ("operator", "owner"):
            company = operator if head == "operator" else owner
            return unknown_of(name) if company is None else self._of_company(company, rest, strict=strict)
        if name == "staff_countries":
            return NOT_KNOWN if operator is None else self._staff(operator)
        if head.startswith(("control_", "outside_")):
            if operator is None or owner is None:
                return None
            both = [self._of_company(one, name, strict=strict) for one in (operator, owner)]
            numbers = [one for one in both if not isinstance(one, str | frozenset)]
            return min(numbers) if head == "control_min_ppm" else max(numbers)
        if head.startswith("exposure"):
            return UNKNOWN if operator is None else self._exposed(site, run, head, rest, strict=strict)
        return None

    def _of_company(self, company: Company, name: str, *, strict: bool) -> Value:
        head, _, country = name.partition(".")
        if head == "seat":
            return next(iter(self.stated.who[company.name].seat), UNKNOWN)
        if head.startswith("outside_"):
            return company.outside(head)
        if head.startswith("control_"):
            return company.control(country, most=head == "control_max_ppm")
        channels = CHANNELS if head == "exposure" else (head.removeprefix("exposure_"),)
        said = any_of(self.reach.through(channel, company.name, country) for channel in channels)
        return _flag(said, strict=strict)

    def _exposed(self, site: str, run: Run, head: str, country: str, *, strict: bool) -> Value:
        where = str(self._where(site))
        channels = CHANNELS if head == "exposure" else (head.removeprefix("exposure_"),)
        return _flag(any_of(self.reach.of_site(one, run, where, country) for one in channels), strict=strict)

    def _where(self, site: str) -> str:
        """Where a site stands, as the estate declares it; "" when it doesn't."""
        found = self.documents.site(site).get("country", UNKNOWN)
        guessed = self.guessed.get(site, {}).get("country", "")
        return str(guessed) if found == UNKNOWN else str(found)

    def _staff(self, operator: Company) -> Value:
        """What those on its list of staff are tied to: where they live, and where they belong."""
        people = [self.stated.who[one.holder] for one in self.stated.on("staff", operator.name)]
        ties = [tie for one in people for tie in one.ties.values()]
        found: frozenset[str] = frozenset().union(*(tie or NOT_KNOWN for tie in ties))
        if any(one.kind == "unnamed" for one in people):
            found |= NOT_KNOWN
        if not self.stated.is_complete(operator.name, "staff"):
            found |= NOT_KNOWN
        return found

    def _declared(self, site: str, name: str) -> Value | None:
        """What the estate and its engine say."""
        declared = self.documents.site(site)
        match name:
            case "country":
                return self._where(site) or None
            case "energy_source":
                found = declared["energy"].get("source", UNKNOWN)
                return None if found == UNKNOWN else str(found)
            case "isolation":
                return self.documents.isolation or None
            case "operator.seat":
                return str(self.documents.estate["operator"]["country"])
        return None


def _flag(said: Said, *, strict: bool) -> str:
    return UNKNOWN if strict and not said.settled else said.answer


_OF_TENANT = ("resource.tenancy", "context.tenant.id", "context.tenant.country")


def unknown_of(name: str) -> Value:
    """The value of a fact of a site that nobody states."""
    head = name.removeprefix("operator.").removeprefix("owner.").partition(".")[0]
    if head == "control_max_ppm" or head.startswith("outside_"):
        return WHOLE
    if head in ("control_min_ppm", "certified_until"):
        return 0
    return NOT_KNOWN if head in ("encryption", "staff_countries") else UNKNOWN
