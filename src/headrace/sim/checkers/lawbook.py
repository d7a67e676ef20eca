"""The law in force by a reading of its own: policies, facts of sites and who holds their operators, as the journal has them.

It shares no code with what decides: policies are read in the form that their texts were made from (or, of those that come with
headrace, written down here once more), facts and holdings as plain documents. It looks at what simulated worlds state alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from headrace.core.contracts import Tenant
from headrace.core.estate import Site
from headrace.core.units import MS_PER_DAY
from headrace.core.workload import PolicyRef
from headrace.sim.statutes import BY_TEXT, Demand, Demands, Statute

UNKNOWN = "unknown"
WHOLE_PPM = 1_000_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_UNION = (
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT", "LU", "LV", "MT", "NL",
    "PL", "PT", "RO", "SE", "SI", "SK",
)  # fmt: skip
LISTS: dict[str, frozenset[str]] = {
    "public": frozenset(),
    "nordic-only": frozenset({"DK", "FI", "IS", "NO", "SE"}),
    "uk-only": frozenset({"GB"}),
    "eea-only": frozenset({*_UNION, "IS", "LI", "NO"}),
}
"""Profiles that list countries; none: any that is known."""
_AMERICAN = frozenset({"AS", "GU", "MP", "PR", "UM", "US", "VI", UNKNOWN})
_HOLDING = ("shares",)
_SEATS = ("NO", "GB", "SE", "DE", "US")


class Held:
    """Who holds whom on a day, by all ownership documents together: small graphs without cycles, of shares alone."""

    def __init__(self, documents: Iterable[Mapping[str, Any]], day: str) -> None:
        self.parties: dict[str, Mapping[str, Any]] = {}
        self.over: dict[str, list[tuple[str, int, int]]] = {}
        self.complete: set[tuple[str, str]] = set()
        for document in documents:
            self.parties |= {one["id"]: one for one in document.get("parties", ())}
            for one in document.get("interests", ()):
                if one["kind"] in _HOLDING and _goes_on(one, day):
                    share = one["share"]
                    holder = (one["holder"], share["least_ppm"], share["most_ppm"])
                    self.over.setdefault(one["subject"], []).append(holder)
            for one in document.get("coverage", ()):
                if not one.get("above_ppm") and _goes_on(one, day):
                    self.complete.add((one["subject"], one.get("of", "shares")))

    def _ties(self, name: str) -> list[Sequence[str]]:
        """The countries of each tie that a party has; an empty one is not known."""
        party = self.parties[name]
        if party["kind"] == "person":
            return [party.get("nationalities", ()), party.get("residences", ())]
        seat = [party["country"]] if party.get("country") else []
        led = [party["headquarters"]] if party.get("headquarters") else []
        return [seat] if party["kind"] == "state" else [seat, led]

    def is_of(self, name: str, country: str) -> bool | None:
        """Whether a party belongs to a country; None: not known."""
        ties = self._ties(name)
        if any(country in one for one in ties):
            return True
        return False if all(ties) else None

    def is_outside(self, name: str, countries: Sequence[str]) -> bool | None:
        """Whether a party stands outside of some countries; None: not known."""
        ties = self._ties(name)
        if any(one and not set(one) & set(countries) for one in ties):
            return True
        return False if all(ties) else None

    def share(self, name: str, is_in: Callable[[str], bool | None]) -> tuple[int, int]:
        """What a group has of a party through others, at least and at most."""
        party = self.parties.get(name)
        if party is None:
            return 0, WHOLE_PPM
        if party["kind"] in ("person", "state"):
            return 0, 0
        least = most = listed = 0
        for holder, low, high in self.over.get(name, ()):
            belongs = is_in(holder)
            below = (WHOLE_PPM, WHOLE_PPM) if belongs else self.share(holder, is_in)
            least += low * below[0] // WHOLE_PPM
            most += high * (WHOLE_PPM if belongs is None else below[1]) // WHOLE_PPM
            listed += low
        if (name, "shares") not in self.complete:
            most += WHOLE_PPM - listed
        return least, min(most, WHOLE_PPM)

    def largest(self, name: str, is_in: Callable[[str], bool | None]) -> int:
        """What one of a group has at most by itself, directly or through others; all, where somebody may be unlisted."""
        alone = [
            self.share(name, party.__eq__)[1]
            for party in self.parties
            if party != name and is_in(party) is not False
        ]
        return max(alone, default=0)

    def reaches(self, name: str, country: str) -> str:
        """Whether a country reaches a company by its seat, where it is led from, or who has most of it: yes, no or unknown."""
        if name not in self.parties:
            return UNKNOWN
        if self.is_of(name, country):
            return "yes"
        chain = [name]
        for one in chain:
            chain.extend(holder for holder, low, _ in self.over.get(one, ()) if 2 * low > WHOLE_PPM)
        if any(self.is_of(one, country) for one in chain):
            return "yes"
        lists = [(name, of) for of in ("shares", "staff", "supplier")]
        lists += [(one, "shares") for one in chain if self.over.get(one)]
        known = self.complete.issuperset(lists) and all(self.is_of(one, country) is False for one in chain)
        return "no" if known else UNKNOWN


def _goes_on(one: Mapping[str, Any], day: str) -> bool:
    return one.get("since", "") <= day and (not one.get("until") or day < one["until"])


@dataclass(slots=True)
class Place:
    """What is known of a site for a tenant on a day (counted from 1970-01-01)."""

    country: str
    day: int
    is_alone: bool
    stated: Mapping[str, Any]
    seat: str
    operator: str = ""
    owner: str = ""
    held: Held = field(default_factory=lambda: Held((), ""))

    @property
    def staff(self) -> frozenset[str]:
        """From where people have access, as far as it is stated; with ``unknown`` in it where others may."""
        if "staff_countries" in self.stated:
            return frozenset(self.stated["staff_countries"].split())
        return frozenset() if (self.operator, "staff") in self.held.complete else frozenset({UNKNOWN})

    @property
    def operators_seat(self) -> str:
        """Where its operator has its seat: the estate's, where no other is named; one that nobody describes anywhere."""
        if not self.operator:
            return self.seat
        party = self.held.parties.get(self.operator)
        return UNKNOWN if party is None else str(party.get("country") or UNKNOWN)

    def words(self, fact: str) -> frozenset[str]:
        """A stated set."""
        return frozenset(str(self.stated.get(fact, UNKNOWN)).split())

    def is_good(self, certificate: str) -> bool:
        """Whether a certificate is good on the day."""
        return int(self.stated.get(f"certified_until.{certificate}", 0)) >= self.day

    def of(self, company: str, country: str) -> tuple[int, int]:
        """How much of a company is controlled from a country, at least and at most."""
        return (
            self.held.share(company, lambda one: self.held.is_of(one, country)) if company else (0, WHOLE_PPM)
        )

    def most_of_both(self, country: str) -> int:
        """The same of the site, at most: of its operator or of its owner, whichever is more."""
        if not (self.operator in self.held.parties and self.owner in self.held.parties):
            return WHOLE_PPM
        return max(self.of(self.operator, country)[1], self.of(self.owner, country)[1])

    def reaches(self, country: str) -> bool:
        """Whether a country may reach the site, its operator or its owner."""
        answers = {self.held.reaches(one, country) for one in (self.operator, self.owner)}
        return self.country == country or answers != {"no"}

    def from_outside(self, countries: Sequence[str]) -> tuple[int, int]:
        """How much of the site is controlled from outside of some countries at most: together, and by the largest."""
        if not (self.operator in self.held.parties and self.owner in self.held.parties):
            return WHOLE_PPM, WHOLE_PPM

        def is_out(one: str) -> bool | None:
            return self.held.is_outside(one, countries)

        companies = (self.operator, self.owner)
        together = max(self.held.share(one, is_out)[1] for one in companies)
        return together, max(self.held.largest(one, is_out) for one in companies)


def fulfils(place: Place, demand: Demand) -> bool:
    """Whether a place is known to be what is demanded."""
    words, first = frozenset(demand.words), (*demand.words, "")[0]
    match demand.what:
        case "country":
            return place.country in words
        case "staff":
            return place.staff <= words
        case "good":
            return any(place.is_good(one) for one in demand.words)
        case "encrypted":
            return words <= place.words("encryption")
        case "energy":
            return str(place.stated.get("energy_source", UNKNOWN)) in words
        case "seat":
            return place.operators_seat in words
        case "held":
            return place.of(place.operator, first)[0] > demand.ppm
        case "unheld":
            return place.of(place.operator, first)[1] < demand.ppm
        case "alone":
            return place.is_alone


def allows(statute: Statute, place: Place) -> bool:
    """Whether a policy allows work at a place."""

    def all_of(demands: Demands) -> bool:
        return all(fulfils(place, one) for one in demands)

    return any(all_of(one) for one in statute.permits) and all_of(statute.unless)


def _is_kept_well(place: Place) -> bool:
    """What both profiles for critical work demand of encryption and engines, for data that nobody says the class of."""
    crypt = place.words("encryption")
    return (
        {"at-rest", "in-transit", "tenant-key"} <= crypt
        and place.stated.get("isolation") == "container"
        and place.is_alone
    )


def _uk_critical(place: Place) -> bool:
    return (
        place.country == "GB"
        and place.operators_seat == "GB"
        and place.of(place.operator, "GB")[0] > 500_000
        and place.staff <= {"GB"}
        and _is_kept_well(place)
        and place.is_good("cyber_essentials_plus")
        and place.is_good("iso27001")
    )


def _eu_high(place: Place) -> bool:
    together, alone = place.from_outside(_UNION)
    return (
        place.country in _UNION
        and place.operators_seat in _UNION
        and place.staff <= set(_UNION)
        and together <= 390_000
        and alone <= 240_000
        and _is_kept_well(place)
        and any(place.is_good(one) for one in ("c5", "ens_high", "secnumcloud"))
    )


def _no_us_exposure(place: Place) -> bool:
    return (
        not place.reaches("US")
        and place.most_of_both("US") < 250_000
        and place.country not in _AMERICAN
        and not place.staff & _AMERICAN
    )


SHIPPED: dict[str, Callable[[Place], bool]] = {
    "eu-high": _eu_high,
    "no-us-exposure": _no_us_exposure,
    "uk-critical": _uk_critical,
}
"""The profiles that come with headrace and are no lists of countries, as their heads say what they demand."""


class LawBook:
    """What is declared, and what it allows. ``stamp`` grows with each change; ``unreadable`` names policies of other making."""

    def __init__(self) -> None:
        self.stamp = 0
        self.policies: dict[str, str] = {}
        self.facts: dict[str, Mapping[str, Any]] = {}
        self.owners: dict[str, Mapping[str, Any]] = {}
        self.unreadable: list[str] = []
        self._known: dict[object, bool] = {}
        self._held: dict[str, Held] = {}

    def changed(self) -> None:
        """Some document is another, or gone."""
        self.stamp += 1
        self._known.clear()
        self._held.clear()

    def take(self, kind: str, name: str, document: Mapping[str, Any]) -> bool:
        """Take a document; False for one that is not about law."""
        if kind == "policy":
            self.policies[name] = str(document.get("cedar", ""))
            if self.policies[name] not in BY_TEXT:
                self.unreadable.append(f"policy/{name}")
        elif kind == "facts":
            self.facts[name] = document
        elif kind == "ownership":
            self.owners[name] = document
        else:
            return False
        return True

    def drop(self, kind: str, name: str) -> None:
        """Forget a document."""
        tables: dict[str, dict[str, Any]] = {
            "policy": self.policies,
            "facts": self.facts,
            "ownership": self.owners,
        }
        tables.get(kind, {}).pop(name, None)

    def name_of(self, ref: PolicyRef, tenant: Tenant | None) -> str:
        """What the policy is called that counts: the workload's own, else its tenant's; "" where countries are listed."""
        if ref.countries:
            return ""
        return ref.profile or (tenant.policy if tenant is not None else "") or "public"

    def meaning(self, ref: PolicyRef, tenant: Tenant | None) -> object:
        """What a policy says, so that two that say the same are equal."""
        name = self.name_of(ref, tenant)
        if not name:
            return "countries", frozenset(ref.countries)
        if name in self.policies:
            return "declared", self.policies[name]
        return ("countries", LISTS[name]) if name in LISTS else ("named", name)

    def allows(
        self, ref: PolicyRef, tenant: Tenant | None, site: Site, at_ms: int, seat: str = UNKNOWN
    ) -> bool:
        """Whether work under ``ref`` may be at a site at a moment; ``seat`` is the operator's of the whole estate."""
        if not site.country:
            return False
        whose = None if tenant is None else (tenant.id, tenant.policy)
        key = (ref, whose, site.id, at_ms // MS_PER_DAY)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._judge(ref, tenant, site, at_ms // MS_PER_DAY, seat)
        return found

    def _judge(self, ref: PolicyRef, tenant: Tenant | None, site: Site, day: int, seat: str) -> bool:
        name = self.name_of(ref, tenant)
        if not name or (name in LISTS and name not in self.policies):
            listed = frozenset(ref.countries) if not name else LISTS[name]
            return not listed or site.country in listed
        place = self.place(site, tenant, day, seat)
        if name in self.policies:
            statute = BY_TEXT.get(self.policies[name])
            return statute is not None and allows(statute, place)
        return name in SHIPPED and SHIPPED[name](place)

    def place(self, site: Site, tenant: Tenant | None, day: int, seat: str) -> Place:
        """What is known of a site."""
        document = self.facts.get(site.id, {})
        stated = {one["fact"]: one["value"] for one in document.get("facts", ())}
        operator = str(document.get("operator", ""))
        for one in self.owners.values():
            here = [each["operator"] for each in one.get("places", ()) if each["site"] == site.id]
            operator = operator or (here[0] if here else "")
        owner = str(document.get("owner", "")) if operator else ""
        is_alone = tenant is not None and site.dedicated_to == tenant.id
        return Place(site.country, day, is_alone, stated, seat, operator, owner, self._held_on(day))

    def facts_for(self, ref: PolicyRef, tenant: Tenant | None, site: Site, at_ms: int, seat: str) -> object:
        """What is known of a site for a decision: two that are different never have one digest.

        But for the day, which most policies don't ask for: whether it was judged as of today the decision itself shows.
        """
        meaning = self.meaning(ref, tenant)
        if isinstance(meaning, tuple) and meaning[0] == "countries":
            return "country", site.country, site.energy_source
        place = self.place(site, tenant, at_ms // MS_PER_DAY, seat)
        stated = tuple(sorted((name, str(value)) for name, value in place.stated.items()))
        company = place.operator if place.operator in place.held.parties else ""
        held = tuple((place.of(company, country), country) for country in _SEATS) if company else ()
        return "place", place.country, place.is_alone, stated, place.operators_seat, held

    def _held_on(self, day: int) -> Held:
        iso = date.fromordinal(_EPOCH_DAY + day).isoformat()
        found = self._held.get(iso)
        if found is None:
            found = self._held[iso] = Held(self.owners.values(), iso)
        return found
