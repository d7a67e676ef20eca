"""Worlds by chance: estates, tenants, owners, facts and policies as documents, and what changes in their midst."""

from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from random import Random
from typing import Any

from tests.sovereignty_oracle.rules import CERTIFICATES, COUNTRIES, ENCRYPTIONS
from tests.sovereignty_oracle.stated import WHOLE

Doc = dict[str, Any]
ZONES = ("UTC", "Europe/Oslo", "America/Los_Angeles", "Asia/Tokyo", "Pacific/Auckland")
SPLITS = (
    (500_000, 500_000),
    (500_001, 499_999),
    (499_999, 500_001),
    (250_000, 750_000),
    (240_000, 760_000),
    (390_000, 610_000),
    (333_333, 333_333, 333_334),
    (1_000_000,),
    (990_000, 10_000),
    (600_000, 400_000),
    (300_000, 300_000, 400_000),
    (510_000, 400_000, 90_000),
)
SLIVERS = ((999_999, 1),)
"""Companies that nearly hold themselves."""
TENANTS = ("acme", "borealis", "corvus")


def percent(ppm: int) -> str:
    """A share as people write it."""
    return f"{ppm // 10_000}.{ppm % 10_000:04d}%"


@dataclass(slots=True)
class Maker:
    """Makes the documents of one world. ``knowing``: how likely it is that something is known (1: all of it is)."""

    chance: Random
    today: date
    knowing: float = 1.0
    companies: list[str] = field(default_factory=list)
    persons: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)

    def knows(self) -> bool:
        return self.chance.random() < self.knowing

    def country(self) -> str:
        return self.chance.choice(COUNTRIES)

    # -- estate and tenants --------------------------------------------------------------------------------------------

    def estate(self) -> Doc:
        sites = [self.site(f"site-{number}") for number in range(self.chance.randint(3, 5))]
        return {
            "kind": "estate",
            "operator": {
                "name": "op",
                "country": self.country(),
                "zone": self.chance.choice(ZONES),
                "currency": "EUR",
            },
            "sites": sites,
        }

    def site(self, name: str) -> Doc:
        energy: Doc = {"carbon": 20, "price": 0.1, "currency": "EUR"}
        if self.knows():
            energy["source"] = self.chance.choice(("hydro", "wind", "gas", "grid-mix"))
        found: Doc = {
            "name": name,
            "country": self.country() if self.chance.random() < 0.5 + self.knowing / 2 else "unknown",
            "zone": "UTC",
            "energy": energy,
            "connection": {"firm": "100kW"},
            "pue": 1.0,
            "engine": "local",
            "blocks": [
                {
                    "name": "b",
                    "delivered": "2024-12-01",
                    "commissioned": "2025-01-01",
                    "groups": [{"name": "g", "hardware": "lab", "racks": 1, "nodes_per_rack": 4}],
                }
            ],
        }
        if self.chance.random() < 0.15:
            found["dedicated_to"] = self.chance.choice(TENANTS)
        return found

    def tenant(self, name: str, policy: str = "") -> Doc:
        found: Doc = {"kind": "tenant", "name": name, "projects": ["main"]}
        if self.chance.random() < 0.7:
            found["country"] = self.country()
        if policy:
            found["policy"] = policy
        return found

    def paid(self) -> list[Doc]:
        """What lets tenants run something at all."""
        plan = {
            "kind": "price-plan",
            "name": "prices",
            "currency": "EUR",
            "prices": {"accelerator_per_hour": {"*": 1}},
        }
        contracts = [
            {
                "kind": "contract",
                "name": f"c-{name}",
                "tenant": name,
                "plan": "prices",
                "starts": "2025-01-01",
            }
            for name in TENANTS
        ]
        return [plan, *contracts]

    # -- who holds what ------------------------------------------------------------------------------------------------

    def ownership(self, sites: list[str]) -> list[Doc]:
        """One document, or two that are joined."""
        chance = self.chance
        self.companies = [f"co-{number}" for number in range(chance.randint(2, 6))]
        self.persons = [f"p-{number}" for number in range(chance.randint(2, 4))]
        self.extra = ["crown"] if chance.random() < 0.3 else []
        unnamed = [f"u-{number}" for number in range(chance.choice((0, 0, 1, 2)))] if not self.knows() else []
        parties = [self.company(name) for name in self.companies] + [
            self.person(name) for name in self.persons
        ]
        parties += [{"name": name, "type": "state", **self._maybe("country")} for name in self.extra]
        parties += [
            {
                "name": name,
                "type": "unnamed",
                "why": "nobody says",
                **self._maybe("country"),
                **self._maybe("headquarters"),
            }
            for name in unnamed
        ]
        self.extra += unnamed
        interests, coverage = [], []
        for name in self.companies:
            held, listed = self.holders(name)
            interests += held
            coverage += listed
            interests += self.rights(name) + self.people(name)
            coverage += [
                {"of": name, "list": what, "complete": True}
                for what in ("staff", "suppliers")
                if self.knows()
            ]
        runs = [self.run(name) for name in sites if chance.random() < 0.85]
        for number, one in enumerate(interests):
            one["name"] = f"i-{number}"
        return self._split(
            {
                "name": "owners",
                "parties": parties,
                "interests": interests,
                "coverage": coverage,
                "sites": runs,
            }
        )

    def _split(self, whole: Doc) -> list[Doc]:
        whole = {"kind": "ownership", "sources": [{"name": "register", "title": "The register"}], **whole}
        if self.chance.random() < 0.7:
            return [whole]
        # The second has the same parties: of the same party the last one counts, and they are alike. A list is in one of both.
        mine = set(self.chance.sample(self.companies, len(self.companies) // 2))
        parts: list[Doc] = []
        for name, is_first in (("owners", True), ("owners-2", False)):
            lists = {
                key: [one for one in whole[key] if (one["of"] in mine) is is_first]
                for key in ("interests", "coverage")
            }
            parts.append({**whole, **lists, "name": name, "sites": []})
        parts[0]["sites"] = whole["sites"]
        # Of a site both may say who supplies it.
        parts[1]["sites"] = [self._supplied(one) for one in whole["sites"] if self.chance.random() < 0.3]
        return parts

    def _supplied(self, site: Doc) -> Doc:
        return {**site, "suppliers": [{"supplier": self.chance.choice(self.companies), **self._custody()}]}

    def company(self, name: str) -> Doc:
        kind = self.chance.choice(("company", "company", "company", "arrangement"))
        home = self._maybe("country")
        led = self._maybe("headquarters")
        if "country" in home and "headquarters" in led and self.chance.random() < 0.6:
            led["headquarters"] = home["country"]
        return {"name": name, "type": kind, **home, **led}

    def person(self, name: str) -> Doc:
        found: Doc = {"name": name, "type": "person"}
        for tie in ("nationality", "residence"):
            if self.knows():
                found[tie] = sorted({self.country() for _ in range(self.chance.choice((1, 1, 1, 2)))})
        return found

    def _maybe(self, tie: str) -> Doc:
        return {tie: self.country()} if self.knows() else {}

    def holders(self, of: str) -> tuple[list[Doc], list[Doc]]:
        """Who holds it; chains, rings and several at once."""
        chance = self.chance
        if chance.random() < 0.04:
            return [], [{"of": of, "complete": True}]
        parts = (
            list(chance.choice(SPLITS if chance.random() < 0.97 else SLIVERS))
            if chance.random() < 0.6
            else self._parts(chance.randint(1, 4))
        )
        chance.shuffle(parts)
        known = [one for one in (*self.companies, *self.persons, *self.persons, *self.extra) if one != of]
        names = chance.sample(known, min(len(parts), len(known)))
        if len(set(names)) < len(names):
            names = list(dict.fromkeys(names))
        parts = [*parts[: len(names) - 1], sum(parts[len(names) - 1 :])]
        held = [self._share(name, of, part) for name, part in zip(names, parts, strict=True)]
        is_complete = self.knows()
        listed: list[Doc] = [{"of": of, "complete": True}] if is_complete else []
        if not is_complete:
            held = held[: chance.randint(0, len(held))]
            if chance.random() < 0.4:
                listed = [{"of": of, "above": chance.choice(("5%", "25%", "10%"))}]
        since = max((one["since"] for one in held if "since" in one), default="")
        if since and is_complete:
            # Before, somebody else had that part; who it was is not known.
            listed[0]["since"] = since
        if chance.random() < 0.15:
            held += self.voting(of, names, is_complete=is_complete)
        return held, listed

    def _parts(self, count: int) -> list[int]:
        cuts = sorted(self.chance.randint(1, WHOLE - 1) for _ in range(count - 1))
        return [high - low for low, high in zip((0, *cuts), (*cuts, WHOLE), strict=True) if high > low]

    def _share(self, holder: str, of: str, part: int, kind: str = "shares") -> Doc:
        found: Doc = {"type": kind, "holder": holder, "of": of, "share": self._text(part)}
        day = self.today + timedelta(days=self.chance.choice((-400, -1, 0)))
        if self.chance.random() < 0.1:
            found["since"] = day.isoformat()
        return found

    def _text(self, part: int) -> str:
        """A share that is known, or a range around it."""
        if part == 333_333 and self.chance.random() < 0.5:
            return "1/3"
        if self.knows():
            return percent(part)
        bands = ((0, 250_000, "<=25%"), (250_001, 500_000, ">25%..50%"), (500_001, 749_999, ">50%..<75%"))
        forms = ["unknown", f"{percent(part * 9 // 10)}..{percent(min(WHOLE, part * 11 // 10 + 1))}"]
        forms += [text for low, high, text in bands if low <= part <= high]
        if part >= 750_000:
            forms.append(">=75%")
        return self.chance.choice(forms)

    def voting(self, of: str, names: list[str], *, is_complete: bool) -> list[Doc]:
        """Votes that don't follow the shares."""
        parts = list(self.chance.choice([one for one in SPLITS if len(one) <= max(2, len(names))]))
        self.chance.shuffle(parts)
        voters = self.chance.sample(names, min(len(names), len(parts)))
        if is_complete and self.knows():
            parts = [*parts[: len(voters) - 1], sum(parts[len(voters) - 1 :])]
            rest = [name for name in names if name not in voters]
            voters, parts = [*voters, *rest], [*parts, *(0 for _ in rest)]
        return [self._share(name, of, part, "votes") for name, part in zip(voters, parts, strict=False)]

    def rights(self, of: str) -> list[Doc]:
        """What converts, seats of the board, loans, and influence that somebody attests."""
        chance, found = self.chance, []
        known = [one for one in (*self.companies, *self.persons, *self.extra) if one != of]
        if chance.random() < 0.15:
            becomes: Doc = {"share": percent(chance.choice((100_000, 300_000, 510_000)))}
            pick = chance.random()
            if pick < 0.3:
                becomes = {"amount": chance.choice((1_000_000, 433_000_000)), "cap": 900_000_000}
            elif pick < 0.6:
                becomes["of"] = "existing"
            elif pick < 0.6 + (1 - self.knowing):
                becomes = {}
            if chance.random() < 0.3:
                becomes["votes"] = False
            kind = chance.choice(("warrant", "convertible"))
            found.append({"type": kind, "holder": chance.choice(known), "of": of, "becomes": becomes})
        if chance.random() < 0.15:
            seats = self._share(
                chance.choice(known),
                of,
                chance.choice((500_000, 500_001, 600_000, 300_000, 210_000)),
                "board",
            )
            found.append(seats)
            if chance.random() < 0.5:
                found.append({**seats, "holder": chance.choice(known), "share": percent(300_000)})
        if chance.random() < 0.1:
            decisive = chance.choice(("yes", "yes", "no")) if self.knows() else "unknown"
            found.append(
                {
                    "type": "influence",
                    "holder": chance.choice(known),
                    "of": of,
                    "decisive": decisive,
                    "source": "register",
                }
            )
        if chance.random() < 0.06:
            found.append({"type": "loan", "holder": chance.choice(known), "of": of, "terms": "consent"})
        return found

    def people(self, of: str) -> list[Doc]:
        """Staff and suppliers."""
        chance = self.chance
        staff = chance.sample(self.persons, chance.choice((0, 1, 1, 2)))
        suppliers = chance.sample(self.companies, min(len(self.companies), chance.choice((0, 0, 1, 2))))
        found: list[Doc] = [
            {"type": "staff", "holder": name, "of": of, "terms": "director"} for name in staff
        ]
        found += [
            {"type": "supplier", "holder": name, "of": of, **self._custody()}
            for name in suppliers
            if name != of
        ]
        return found

    def _custody(self) -> Doc:
        if not self.knows():
            return {}
        return {"custody": self.chance.choice((["keys"], ["data", "operations"], ["nothing"]))}

    def run(self, site: str) -> Doc:
        found: Doc = {"name": site, "operator": self.chance.choice(self.companies)}
        if self.chance.random() < 0.3:
            found["suppliers"] = [{"supplier": self.chance.choice(self.companies), **self._custody()}]
        return found

    # -- facts ---------------------------------------------------------------------------------------------------------

    def facts(self, site: str) -> Doc:
        """What is stated of a site; certificates end about today."""
        chance = self.chance
        found = self._claimed()
        if chance.random() < 0.7:
            found["encryption"] = chance.choice(
                (list(ENCRYPTIONS), ["at-rest", "in-transit"], ["at-rest"], ["unknown"])
            )
        for name in CERTIFICATES:
            if chance.random() < 0.5:
                last = self.today + timedelta(days=chance.choice((-1, 0, 0, 1, 2, 5, 400)))
                found[f"certified_until.{name}"] = last.isoformat()
        if chance.random() < 0.35:
            staff = [self.country() for _ in range(chance.choice((1, 1, 2)))]
            found["staff_countries"] = sorted({*staff, *(["unknown"] if chance.random() < 0.2 else [])})
        stated = [{"fact": name, "value": value, "source": "stated"} for name, value in found.items()]
        document: Doc = {"kind": "facts", "site": site, "facts": stated}
        companies = self.companies or ["co-0"]
        if chance.random() < 0.75:
            document["owner"] = chance.choice(companies)
        if chance.random() < 0.3:
            document["operator"] = chance.choice(
                (*companies, "nobody-knows") if not self.knows() else companies
            )
        return document

    def _claimed(self) -> dict[str, object]:
        """What somebody states that is computed elsewhere."""
        chance = self.chance
        found: dict[str, object] = {}
        if chance.random() < 0.15:
            found["operator.seat"] = chance.choice((self.country(), "unknown"))
        if chance.random() < 0.1:
            found[f"exposure.{self.country()}"] = chance.choice(("no", "unknown", "yes"))
        if chance.random() < 0.1:
            found["exposure.*"] = chance.choice(("no", "unknown"))
        if chance.random() < 0.1:
            found[f"operator.control_min_ppm.{self.country()}"] = chance.choice((500_000, 500_001, 0))
        return found

    def moved(self, document: Doc) -> Doc:
        """An ownership document after somebody bought something: another holder, another part, or an end in some days."""
        interests = [dict(one) for one in document["interests"]]
        shares = [one for one in interests if one["type"] == "shares"]
        if not shares:
            return document
        one = self.chance.choice(shares)
        pick = self.chance.random()
        others = [name for name in (*self.companies, *self.persons) if name != one["of"]]
        if pick < 0.4:
            one["holder"] = self.chance.choice(others)
        elif pick < 0.7:
            # It is sold in some days: the end is exclusive, and the next has it from that day.
            day = (self.today + timedelta(days=self.chance.choice((1, 2, 7)))).isoformat()
            interests.append(
                {**one, "name": f"{one['name']}-then", "holder": self.chance.choice(others), "since": day}
            )
            interests[-1].pop("until", None)
            one["until"] = day
        else:
            of = [other for other in shares if other["of"] == one["of"]]
            texts = [other["share"] for other in of]
            self.chance.shuffle(texts)
            for other, text in zip(of, texts, strict=True):
                other["share"] = text
        return {**document, "interests": interests}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of world: how much of it is known."""

    name: str
    knowing: float


KINDS = (
    Kind("all known", 1.0),
    Kind("nearly all known", 0.96),
    Kind("half known", 0.8),
    Kind("hardly known", 0.5),
)


def later(maker: Maker, today: date) -> Maker:
    """The same maker on another day."""
    return replace(maker, today=today)
