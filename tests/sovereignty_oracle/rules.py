"""Policies by chance: trees of every form that the language has room for, at thresholds that just hold or just don't.

Most go the way that a rule must go (what is permitted must be known to be so); some don't, and must not be accepted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.sovereignty_oracle.cedar import Rule, Tree
from tests.sovereignty_oracle.facts import EU

COUNTRIES = ("NO", "GB", "US", "DE", "FR", "SE", "CN", "VI")
LIMITS = (0, 1, 240_000, 250_000, 333_333, 390_000, 499_999, 500_000, 500_001, 750_000, 999_999, 1_000_000)
CERTIFICATES = ("iso27001", "c5", "ens_high", "cyber_essentials_plus", "secnumcloud")
ENCRYPTIONS = ("in-transit", "at-rest", "tenant-key", "in-use")
WHOSE = ("resource", "resource.operator", "resource.owner")
CHANNELS = ("", "_seat", "_headquarters", "_control", "_person", "_custody")


def fact(path: str) -> Tree:
    return ("fact", path)


def words(found: Sequence[str]) -> Tree:
    return ("words", frozenset(found))


def literal(found: object) -> Tree:
    return ("lit", found)


@dataclass(slots=True)
class Rules:
    """``numbers``: what numbers are in the world; thresholds lie at and beside them."""

    chance: Random
    numbers: Sequence[int] = ()
    sites: Sequence[str] = ()
    tenants: Sequence[str] = ()

    def policy(self) -> tuple[Rule, ...]:
        """Permits and forbids."""
        chance = self.chance
        permits = [
            self._rule(f"permit-{number}", is_permit=True) for number in range(chance.choice((1, 1, 1, 2)))
        ]
        forbids = [
            self._rule(f"forbid-{number}", is_permit=False)
            for number in range(chance.choice((0, 0, 1, 1, 2)))
        ]
        found = [*permits, *forbids]
        chance.shuffle(found)
        return tuple(found)

    def _rule(self, ident: str, *, is_permit: bool) -> Rule:
        chance = self.chance
        actions = chance.choice(((), (), (), ("place",), ("run",), ("place", "copy-data"), ("keep",)))
        kind = chance.choice(("", "", "", "Work", "Person"))
        if kind == "Person" or (is_permit and actions == ("keep",)):
            kind, actions = "", ()
        careful = chance.random() < 0.93
        when: list[Tree] = []
        unless: list[Tree] = []
        for _ in range(chance.choice((1, 1, 1, 2))):
            tree = self.known(chance.choice((0, 1, 1, 2)))
            if (chance.random() < 0.5) is is_permit:
                (when if is_permit is careful else unless).append(tree)
            else:
                (unless if is_permit is careful else when).append(self.turned(tree))
        return Rule(ident, is_permit, actions, kind, tuple(when), tuple(unless))

    def turned(self, tree: Tree) -> Tree:
        """Its opposite, written in one of several ways."""
        if tree[0] == "==" and self.chance.random() < 0.5:
            return ("!=", *tree[1:])
        opposite = {"<": ">=", ">=": "<", ">": "<=", "<=": ">"}
        if tree[0] in opposite and self.chance.random() < 0.5:
            return (opposite[str(tree[0])], *tree[1:])
        if tree[0] in ("and", "or") and self.chance.random() < 0.5:
            other = "or" if tree[0] == "and" else "and"
            return (other, *(self.turned(one) for one in tree[1:] if isinstance(one, tuple)))
        return ("not", tree)

    def known(self, depth: int) -> Tree:
        """Something that is only true when it is known."""
        if not depth:
            return self._atom()
        one, two = self.known(depth - 1), self.known(depth - 1)
        form = self.chance.random()
        if form < 0.45:
            return ("and", one, two)
        if form < 0.85:
            return ("or", one, two)
        if form < 0.93:
            # The condition is about what is always known.
            return ("if", self._sure(), one, two)
        return ("not", self.turned(one))

    def _sure(self) -> Tree:
        pick = self.chance.random()
        if pick < 0.4 and self.sites:
            return ("==", fact("resource.id"), literal(self.chance.choice(self.sites)))
        if pick < 0.7 and self.tenants:
            return ("==", fact("context.tenant.id"), literal(self.chance.choice(self.tenants)))
        return ("like", fact("resource.id"), self.chance.choice(("s*", "*-1", "site-*", "*2*")))

    def _atom(self) -> Tree:
        return self.chance.choice(
            (
                self._where,
                self._flag,
                self._flag,
                self._least,
                self._least,
                self._most,
                self._most,
                self._outside,
                self._certified,
                self._certified,
                self._set,
                self._word,
                self._sums,
                self._sure,
            )
        )()

    def _some(self) -> list[str]:
        return self.chance.sample(COUNTRIES, self.chance.choice((1, 2, 3, 5)))

    def _where(self) -> Tree:
        path = self.chance.choice(
            ("resource.country", "resource.operator.seat", "resource.owner.seat", "context.tenant.country")
        )
        if self.chance.random() < 0.4:
            return ("==", fact(path), literal(self.chance.choice(COUNTRIES)))
        return ("contains", words(sorted(EU) if self.chance.random() < 0.3 else self._some()), fact(path))

    def _flag(self) -> Tree:
        whose, channel = self.chance.choice(WHOSE), self.chance.choice(CHANNELS)
        path = f"{whose}.exposure{channel}.{self.chance.choice(COUNTRIES)}"
        return ("==", fact(path), literal("no" if self.chance.random() < 0.75 else "yes"))

    def _limit(self) -> Tree:
        if self.numbers and self.chance.random() < 0.65:
            near = self.chance.choice(self.numbers) + self.chance.choice((-1, 0, 0, 1))
            return literal(min(1_000_000, max(0, near)))
        return literal(self.chance.choice(LIMITS))

    def _share(self, which: str) -> Tree:
        return fact(f"{self.chance.choice(WHOSE)}.{which}.{self.chance.choice(COUNTRIES)}")

    def _least(self) -> Tree:
        if self.chance.random() < 0.2:
            return (self.chance.choice(("<", "<=")), self._limit(), self._share("control_min_ppm"))
        return (self.chance.choice((">", ">=")), self._share("control_min_ppm"), self._limit())

    def _most(self) -> Tree:
        return (self.chance.choice(("<", "<=")), self._share("control_max_ppm"), self._limit())

    def _outside(self) -> Tree:
        path = (
            f"{self.chance.choice(WHOSE)}.{self.chance.choice(('outside_eu_ppm', 'outside_eu_largest_ppm'))}"
        )
        return (self.chance.choice(("<", "<=")), fact(path), self._limit())

    def _certified(self) -> Tree:
        path = f"resource.certified_until.{self.chance.choice(CERTIFICATES)}"
        today: Tree = fact("context.day")
        if self.chance.random() < 0.4:
            today = ("+", today, literal(self.chance.choice((1, 2, 30))))
        return (self.chance.choice((">=", ">=", ">")), fact(path), today)

    def _set(self) -> Tree:
        pick = self.chance.random()
        if pick < 0.5:
            return ("containsAll", words(self._some()), fact("resource.staff_countries"))
        if pick < 0.75:
            found = self.chance.sample(ENCRYPTIONS, 2)
            return ("containsAll", fact("resource.encryption"), words(found))
        if pick < 0.9:
            return ("contains", fact("resource.encryption"), literal(self.chance.choice(ENCRYPTIONS)))
        risky = words([*self._some(), "unknown"])
        return ("not", ("containsAny", risky, fact("resource.staff_countries")))

    def _word(self) -> Tree:
        return self.chance.choice(
            (
                ("==", fact("resource.energy_source"), literal(self.chance.choice(("hydro", "wind", "gas")))),
                ("==", fact("resource.tenancy"), literal(self.chance.choice(("dedicated", "shared")))),
                ("==", fact("resource.isolation"), literal(self.chance.choice(("container", "uid")))),
                ("contains", words(("container", "uid")), fact("resource.isolation")),
                ("like", fact("resource.country"), self.chance.choice(("N*", "*S", "*E"))),
            )
        )

    def _sums(self) -> Tree:
        one, two = self._share("control_max_ppm"), self._share("control_max_ppm")
        if self.chance.random() < 0.5:
            return ("<=", ("+", one, two), self._limit())
        return (">", ("-", self._share("control_min_ppm"), one), literal(self.chance.choice((0, 1, 100_000))))


def _people(countries: Sequence[str], *, consent: bool) -> Rule:
    inside: Tree = ("containsAll", words(countries), fact("principal.countries"))
    agreed: Tree = ("and", fact("context.consent"), inside) if consent else inside
    own: Tree = ("==", fact("principal.works_for"), literal("tenant"))
    return Rule("people", is_permit=False, kind="Person", unless=(("or", own, agreed),))


def _certified(*names: str) -> list[Tree]:
    return [(">=", fact(f"resource.certified_until.{name}"), fact("context.day")) for name in names]


_CLASSES = ("contains", words(("confidential", "internal", "public")), fact("context.data_class"))
_OWN: Tree = (
    "and",
    ("==", fact("resource.tenancy"), literal("dedicated")),
    ("contains", fact("resource.encryption"), literal("tenant-key")),
)
_RESTRICTED = Rule("restricted", is_permit=False, unless=(("or", _CLASSES, _OWN),))
_SAFE: Tree = (
    "and",
    ("containsAll", fact("resource.encryption"), words(("at-rest", "in-transit"))),
    ("==", fact("resource.isolation"), literal("container")),
)
_US = ("AS", "GU", "MP", "PR", "UM", "US", "VI", "unknown")
SHIPPED: dict[str, tuple[Rule, ...]] = {
    "uk-critical": (
        Rule(
            "uk-site",
            is_permit=True,
            when=(
                (
                    "and",
                    ("==", fact("resource.country"), literal("GB")),
                    ("==", fact("resource.operator.seat"), literal("GB")),
                    (">", fact("resource.operator.control_min_ppm.GB"), literal(500_000)),
                    ("containsAll", words(("GB",)), fact("resource.staff_countries")),
                ),
                _SAFE,
                ("and", *_certified("cyber_essentials_plus", "iso27001")),
            ),
        ),
        _RESTRICTED,
        _people(("GB",), consent=True),
    ),
    "eu-high": (
        Rule(
            "eu-site",
            is_permit=True,
            when=(
                (
                    "and",
                    ("contains", words(sorted(EU)), fact("resource.country")),
                    ("contains", words(sorted(EU)), fact("resource.operator.seat")),
                    ("containsAll", words(sorted(EU)), fact("resource.staff_countries")),
                ),
                (
                    "and",
                    ("<=", fact("resource.outside_eu_ppm"), literal(390_000)),
                    ("<=", fact("resource.outside_eu_largest_ppm"), literal(240_000)),
                ),
                _SAFE,
                ("or", *_certified("c5", "ens_high", "secnumcloud")),
            ),
        ),
        _RESTRICTED,
        _people(sorted(EU), consent=True),
    ),
    "no-us-exposure": (
        Rule(
            "not-exposed",
            is_permit=True,
            when=(
                (
                    "and",
                    ("==", fact("resource.exposure.US"), literal("no")),
                    ("==", fact("resource.operator.exposure.US"), literal("no")),
                    ("==", fact("resource.owner.exposure.US"), literal("no")),
                    ("<", fact("resource.control_max_ppm.US"), literal(250_000)),
                ),
            ),
        ),
        Rule("not-there", is_permit=False, when=(("contains", words(_US), fact("resource.country")),)),
        Rule(
            "nobody-there",
            is_permit=False,
            when=(("containsAny", words(_US), fact("resource.staff_countries")),),
        ),
    ),
}
"""The shipped profiles, restated from what each says that it demands."""
_EEA = EU | {"IS", "LI", "NO"}
LISTS: dict[str, frozenset[str]] = {
    "public": frozenset(),
    "nordic-only": frozenset({"DK", "FI", "IS", "NO", "SE"}),
    "uk-only": frozenset({"GB"}),
    "eea-only": _EEA,
}
"""Profiles that are lists of countries; none: anywhere, as long as it is known where."""
