"""Whoever makes law in a simulated world: buyers with policies, sites of which something is stated, and companies with holders.

All of it changes while things run: facts, holdings and policies by documents; certificates and dated holdings by themselves.
"""

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from headrace.core import commands as c
from headrace.core.contracts import Tenant
from headrace.core.errors import ProblemCode
from headrace.core.estate import Site
from headrace.core.units import MS_PER_DAY, MS_PER_MINUTE, MS_PER_SECOND
from headrace.core.workload import PolicyRef, WorkloadSpec
from headrace.sim.clients import Request, command, declared, submission
from headrace.sim.estates import Ground, aside, iso_day
from headrace.sim.script import SHORT, Scale, Step
from headrace.sim.statutes import NEW, STATUTES

if TYPE_CHECKING:
    from headrace.sim.world import Simulation

LAWS = (
    "fact-changed",
    "holding-changed",
    "policy-stricter",
    "policy-looser",
    "policy-declared",
    "policy-removed",
    "facts-removed",
)
"""What somebody changes while things run."""
LAPSES = ("certificate-lapsed", "holding-lapsed")
"""What changes by itself when a day begins (of UTC)."""
_KINDS = ("fact-changed",) * 4 + ("holding-changed",) * 3 + ("policy-stricter",) * 3 + LAWS[3:]
EVERY, EVERY_LONG, WHICH = 3, 6, 2
"""Every third short world has laws of its own, and every sixth long one: those whose seed leaves this rest."""
HOUSE, HOLDCO, FOUNDER, FUND, TREASURY = "house", "holdco", "founder", "fund", "treasury"
CAP_TABLE = "cap-table"
_CERTIFICATES = ("iso27001", "soc2", "c5", "cyber_essentials_plus")
_STRONG = ("eu-high", "uk-critical")
_DAYS = (0, 0, 0, 1, 1, 30, 400, -5)
"""How many days from the first on a certificate is good."""
_CHANGES = ("staff", "encryption", "energy", "certificate", "operator")
_ASKED = {
    "known-staff": ("staff",),
    NEW: ("staff",),
    "certified": ("certificate",),
    "held-at-home": ("operator",),
    "clean-power": ("energy",),
    "careful": ("encryption", "staff"),
    "no-us-exposure": ("staff", "operator"),
    **dict.fromkeys(_STRONG, ("staff", "certificate", "encryption")),
}
"""What of a site a policy asks for, so that a change of it matters."""
_FATAL, _PAUSED = 0.15, 0.25
"""How many changes the control plane dies of, before it acts on them; and how many come once something is paused."""
_WORSE = 0.75
"""How many changes of a fact take something away."""
_NAMED = 0.5
"""How many workloads name a policy that the world has for itself."""
_AHEAD = 0.7
"""How many changes come just as something starts that they concern."""

_LONG, _DEAF = ("sleep 1500",), ("trap '' TERM", "sleep 1500")
"""What starts just then: it runs for a while, and some of it hears no signal."""

Document = dict[str, Any]


def has_laws(seed: int, *, is_short: bool = True) -> bool:
    """Whether a world has policies, facts and holdings of its own."""
    return seed % (EVERY if is_short else EVERY_LONG) == WHICH


class Lawmakers:
    """Declares law and changes it, by chance of its own: worlds without are what they were."""

    def __init__(self, sim: "Simulation", seed: int, scale: Scale) -> None:
        self.sim, self.is_short = sim, scale.length_ms <= SHORT.length_ms
        self.is_on = has_laws(seed, is_short=self.is_short)
        self.chance = Random(f"law {seed}")
        self.version: dict[str, int] = {}
        self.facts: dict[str, Document] = {}
        self.table: Document | None = None
        self.steps = tuple(self._steps(scale)) if self.is_on else ()
        self._changes = 0

    def starts(self, at_ms: int) -> int:
        """When the world begins: half of the short ones shortly before a day of UTC does."""
        if not self.is_on or not self.is_short or self.chance.random() < 0.5:
            return at_ms
        day_ms = (at_ms // MS_PER_DAY + 1) * MS_PER_DAY
        return day_ms - self.chance.randint(3 * MS_PER_MINUTE, 25 * MS_PER_MINUTE)

    def _steps(self, scale: Scale) -> Iterator[Step]:
        count = self.chance.choice((2, 3, 4)) if self.is_short else self.chance.randint(5, 8)
        for _ in range(count):
            at_ms = self.chance.randrange(scale.length_ms // 20, scale.length_ms * 19 // 20)
            yield Step(at_ms, "law", self.chance.choice(_KINDS))

    # -- what is there at the beginning ---------------------------------------------------------------------

    def ground(self, ground: Ground, start_ms: int) -> list[Document]:
        """The first documents about law; some tenants of the ground have a policy among them for whatever names none."""
        if not self.is_on:
            return []
        chance = self.chance
        names = chance.sample([name for name in STATUTES if name != NEW], chance.randint(2, 4))
        self.version = {name: chance.choice((0, 0, 1)) for name in sorted(names)}
        sites = [site for site in ground.estate.sites if site.country]
        self.table = self._holdings(chance.choice(sites).country, sites, start_ms)
        for site in sites:
            if chance.random() < 0.9:
                self.facts[site.id] = self._facts(site, ground.tenants, start_ms)
        ground.tenants = [self._under(one) for one in ground.tenants]
        tables = [] if self.table is None else [self.table]
        return [*(self._policy(name) for name in self.version), *tables, *self.facts.values()]

    def _under(self, tenant: Tenant) -> Tenant:
        return (
            replace(tenant, policy=self.chance.choice(list(self.version)))
            if self.chance.random() < 0.3
            else tenant
        )

    def _policy(self, name: str) -> Document:
        return {"kind": "policy", "name": name, "cedar": STATUTES[name][self.version[name]].cedar}

    def _facts(self, site: Site, tenants: list[Tenant], start_ms: int) -> Document:
        chance, country = self.chance, site.country
        is_strong = site.dedicated_to == tenants[0].id
        staff = [country, *chance.choice(((), (), ("NO",), ("SE",), ("US",), ("GB", "NO")))]
        crypt = chance.choice((["at-rest", "in-transit"], ["at-rest", "in-transit"], ["in-transit"]))
        values: dict[str, Any] = {
            "staff_countries": sorted({country} if is_strong else set(staff)),
            "encryption": ["at-rest", "in-transit", "tenant-key"] if is_strong else crypt,
            "energy_source": chance.choice(("hydro", "hydro", "wind", "grid-mix", "gas")),
        }
        if is_strong:
            values["isolation"] = "container"
        for one in _CERTIFICATES:
            if is_strong or chance.random() < 0.7:
                values[f"certified_until.{one}"] = iso_day(start_ms, chance.choice(_DAYS))
        stated = {name: value for name, value in values.items() if is_strong or chance.random() < 0.9}
        # Whoever operates it is known by now, or not yet.
        operated = {"operator": HOUSE, "owner": HOUSE} if chance.random() < 0.5 else {}
        return {"kind": "facts", "site": site.id, "facts": _facts_of(stated), **operated}

    def _holdings(self, country: str, sites: list[Site], start_ms: int) -> Document | None:
        """Who holds the house that operates some sites; not known in some worlds."""
        chance = self.chance
        if chance.random() < 0.25:
            return None
        led = chance.choice((country, country, "NO"))
        operated = [site for site in sites if chance.random() < 0.6]
        document = _cap_table(country, led, [(one.id, one.country) for one in operated])
        return self._held(document, start_ms)

    def _held(self, document: Document, now_ms: int) -> Document:
        """The same companies; other holders."""
        chance = self.chance
        of, part = chance.choice((HOUSE, HOUSE, HOLDCO)), chance.choice((100, 80, 80, 60, 40))
        shares = [("founders", FOUNDER, of, part), ("funds", FUND, of, 100 - part)]
        dates: Document = {}
        if of == HOLDCO:
            shares.append(("houses", HOLDCO, HOUSE, 100))
        elif chance.random() < 0.4:
            # All of it is sold to the fund when a day begins.
            dates = {"until": iso_day(now_ms, chance.choice((1, 1, 2)))}
        interests = [_interest(*one) | dates for one in shares if one[3]]
        if dates:
            interests.append(_interest("sold", FUND, of, 100) | {"since": dates["until"]})
        return document | {"interests": [*interests, _interest("state", TREASURY, FUND, 100)]}

    # -- who names it ---------------------------------------------------------------------------------------

    def under(self, tenant: str, spec: WorkloadSpec) -> WorkloadSpec:
        """A workload; under one of these policies perhaps, sooner one that some site is allowed by."""
        if not self.version or self.chance.random() >= _NAMED:
            return spec
        return replace(spec, policy=PolicyRef(profile=self._some_policy(tenant)))

    def _some_policy(self, tenant: str) -> str:
        names = [*self.version, *self.version, "no-us-exposure", "public"]
        sites = self.sim.checkers.papers.sites.values()
        if any(site.dedicated_to == tenant for site in sites):
            names.extend(_STRONG * 2)
        name = self.chance.choice(names)
        for _ in range(4):
            if any(self.sim.checkers.papers.allows(PolicyRef(profile=name), tenant, one) for one in sites):
                break
            name = self.chance.choice(names)
        return name

    # -- change ---------------------------------------------------------------------------------------------

    def happen(self, kind: str) -> None:
        """Somebody changes the law; mostly just as something starts that it concerns."""
        sim, chance = self.sim, self.chance
        if sim.is_resting or not sim.people.members:
            return
        if chance.random() < _AHEAD:
            self._submit()
            sim.later(
                chance.choice((300, 2_000, 10_000, *(chance.randint(1, 60 * MS_PER_SECOND),) * 2)),
                lambda: self._change(kind),
            )
        else:
            self._change(kind)

    def _submit(self) -> None:
        people = self.sim.people
        tenant = self.chance.choice(list(people.members))
        items = []
        for _ in range(self.chance.randint(1, 3)):
            spec, values = people.maker.make(tenant)
            spec = people.maker.smaller(spec)
            spec = replace(
                spec,
                policy=PolicyRef(profile=self._some_policy(tenant)),
                commands=self.chance.choice((_LONG, _LONG, _DEAF)),
                max_duration_ms=0,
            )
            items.append((spec, values))
        self.sim.ask_for(submission(people.members[tenant], tenant, tuple(items), people.key()))

    def _change(self, kind: str, *, is_ready: bool = False) -> None:
        if self.sim.is_resting:
            return
        draw = aside(self.chance).random()
        if draw < _FATAL:
            # It is on record, and nobody has judged by it yet.
            self.sim.mischief.happen("crash-replied")
        elif draw > 1 - _PAUSED and not is_ready and self._pause():
            self.sim.later(3 * MS_PER_SECOND, lambda: self._change(kind, is_ready=True))
            return
        changes = {
            "fact-changed": self._change_fact,
            "holding-changed": self._change_holding,
            "policy-stricter": lambda: self._exchange(1),
            "policy-looser": lambda: self._exchange(-1),
            "policy-declared": self._declare,
            "policy-removed": self._remove_policy,
            "facts-removed": self._remove_facts,
        }
        # What nobody is under changes nothing for anybody: mostly something that runs is concerned.
        named = [name for name, _ in self._busy() if name in _ASKED]
        if named and self.chance.random() < _AHEAD:
            name = self.chance.choice(named)
            held = ("holding-changed",) * 3 if "operator" in _ASKED[name] else ()
            stricter = ("policy-stricter",) if self._may_be(name, 1) else ()
            kind = self.chance.choice((*held, *stricter, "fact-changed"))
        request = changes[kind]()
        if request is not None:
            self.sim.ask(request, lambda _request, _answer: self.sim.switches.fired.update([kind]))

    def _pause(self) -> bool:
        """Have something paused that a policy concerns; whether there is anything."""
        control, people = self.sim.plant.control, self.sim.people
        if control is None:
            return False
        state = control.world.state
        able = [
            one.workload for one in state.placements.values() if one.started_ms and one.stop_reason is None
        ]
        some = [one for one in able if state.workloads[one].spec.policy.profile in _ASKED]
        if some:
            asked = c.Pause(aside(self.chance).choice(some), True)
            self.sim.ask(command(people.operator, asked, people.key()))
        return bool(some)

    def _busy(self) -> list[tuple[str, str]]:
        """Policies that something runs under, and where."""
        control = self.sim.plant.control
        if control is None:
            return []
        laws, papers = control.world.state, self.sim.checkers.papers
        found = []
        for one in laws.placements.values():
            ref = laws.workloads[one.workload].spec.policy
            found.append((papers.laws.name_of(ref, papers.tenants.get(one.tenant)), str(one.site)))
        return found

    def _apply(self, document: Document) -> Request:
        return declared(self.sim.people.operator, [document], self.sim.people.key())

    def _change_fact(self) -> Request | None:
        """A fact of a site is another: sooner one that something runs at."""
        chance, now_ms = self.chance, self.sim.true.at_ms
        busy = [site for name, site in self._busy() if site in self.facts and name in _ASKED]
        if not self.facts:
            return None
        site = chance.choice(busy or list(self.facts))
        before = self.facts[site]
        stated = {one["fact"]: one["value"] for one in before["facts"]}
        what = chance.choice(
            ("staff", "staff", "encryption", "energy", "certificate", "certificate", "operator")
        )
        # Mostly for the worse, as far as those are concerned who are there.
        is_worse = chance.random() < _WORSE
        if what == "staff":
            words = set(stated.get("staff_countries", ()))
            words = words | {"IN", "US"} if is_worse else words ^ {chance.choice(("US", "NO", "GB"))}
            stated["staff_countries"] = sorted(words)
        elif what == "encryption":
            stated["encryption"] = ["tenant-key"] if is_worse else ["at-rest", "in-transit", "tenant-key"]
        elif what == "energy":
            stated["energy_source"] = "gas" if is_worse else chance.choice(("hydro", "wind", "grid-mix"))
        elif what == "certificate":
            day = iso_day(now_ms, chance.choice((-1, -1, 0)) if is_worse else chance.choice((1, 365)))
            stated |= {f"certified_until.{one}": day for one in _CERTIFICATES}
        after = before | {"facts": _facts_of(stated)}
        if what == "operator":
            has = "operator" in before
            after = {k: v for k, v in after.items() if k not in ("operator", "owner")} | (
                {} if has else {"operator": HOUSE, "owner": HOUSE}
            )
        self.facts[site] = after
        return self._apply(after)

    def _change_holding(self) -> Request | None:
        """A round closes, or what was stated of holdings is taken back."""
        if self.table is None:
            return None
        if self.chance.random() < 0.1:
            self.table = None
            return self._remove("ownership", CAP_TABLE)
        self.table = self._held(self.table, self.sim.true.at_ms)
        return self._apply(self.table)

    def _may_be(self, name: str, by: int) -> bool:
        return name in self.version and 0 <= self.version[name] + by < len(STATUTES[name])

    def _exchange(self, by: int) -> Request | None:
        """Another version of a policy."""
        able = [name for name in self.version if self._may_be(name, by)]
        if not able:
            return None
        busy = [name for name, _ in self._busy() if name in able]
        name = self.chance.choice(busy or able)
        self.version[name] += by
        return self._apply(self._policy(name))

    def _declare(self) -> Request:
        """A policy that nobody had; once it is there, the same once more."""
        self.version.setdefault(NEW, self.chance.choice((0, 1)))
        return self._apply(self._policy(NEW))

    def _remove_policy(self) -> Request | None:
        """A policy goes, unless somebody is under it."""
        name = self.chance.choice(list(self.version)) if len(self.version) > 1 else ""
        if not name:
            return None
        request = self._remove("policy", name)
        used = any(one.policy == name for one in self.sim.people.ground.tenants)
        if used:
            request.expect = ProblemCode.IN_USE
        return request

    def _remove_facts(self) -> Request | None:
        """Nothing is stated of a site any more: all of it is unknown."""
        if not self.facts:
            return None
        site = self.chance.choice(list(self.facts))
        del self.facts[site]
        return self._remove("facts", site)

    def _remove(self, kind: str, name: str) -> Request:
        people = self.sim.people
        return command(people.operator, c.RemoveDocument(kind, name), people.key())

    # -- days -----------------------------------------------------------------------------------------------

    def begin_days(self) -> None:
        """Look soon after each day begins, as a server does at any time; and count what lapsed by then."""
        if self.is_on:
            self._next_day()

    def _next_day(self) -> None:
        at_ms = self.sim.true.at_ms
        wait_ms = MS_PER_DAY - at_ms % MS_PER_DAY
        self.sim.later(wait_ms, self._day_begins)

    def _day_begins(self) -> None:
        sim = self.sim
        yesterday = iso_day(sim.true.at_ms, -1)
        today = iso_day(sim.true.at_ms)
        for document in self.facts.values():
            good = [one["value"] for one in document["facts"] if one["fact"].startswith("certified_until.")]
            if yesterday in good:
                sim.switches.fired["certificate-lapsed"] += good.count(yesterday)
        interests = () if self.table is None else self.table["interests"]
        if any(one.get("until") == today for one in interests):
            sim.switches.fired["holding-lapsed"] += 1
        if not sim.is_resting:
            sim.look_within(self.chance.randint(0, 2_000))
            self._next_day()


def legislature(sim: "Simulation", seed: int, scale: Scale, start_ms: int) -> tuple[Lawmakers, int]:
    """Whoever makes law in a world, and when it begins with them."""
    made = Lawmakers(sim, seed, scale)
    return made, made.starts(start_ms)


def _facts_of(stated: Document) -> list[Document]:
    return [{"fact": name, "value": stated[name], "source": "its operator"} for name in sorted(stated)]


def _interest(name: str, holder: str, of: str, percent: int) -> Document:
    return {
        "name": name,
        "type": "shares",
        "holder": holder,
        "of": of,
        "share": f"{percent}%",
        "source": "register",
    }


def _cap_table(country: str, led: str, sites: list[tuple[str, str]]) -> Document:
    """Companies and people, as they are in all worlds; who holds whom is added."""
    companies = ((HOUSE, country, led), (HOLDCO, country, country), (FUND, "US", "US"))
    return {
        "kind": "ownership",
        "name": CAP_TABLE,
        "sources": [{"name": "register", "title": "the register of companies"}],
        "parties": [
            *(
                {"name": name, "type": "company", "country": seat, "headquarters": at, "source": "register"}
                for name, seat, at in companies
            ),
            {
                "name": FOUNDER,
                "type": "person",
                "nationality": [country],
                "residence": [country],
                "source": "register",
            },
            {"name": TREASURY, "type": "state", "country": "US", "source": "register"},
        ],
        "coverage": [
            *({"of": one, "complete": True, "source": "register"} for one in (HOUSE, HOLDCO, FUND)),
            *(
                {"of": HOUSE, "list": one, "complete": True, "source": "register"}
                for one in ("staff", "suppliers")
            ),
        ],
        "sites": [{"name": name, "country": where, "operator": HOUSE} for name, where in sites],
    }
