"""A whole truth that fits what is stated: every unknown is filled in by chance, and nothing that is known is changed.

Whatever production allows must be allowed in each: that is what "unknown is not clean" and "less knowledge never allows
more" mean, and it is judged without any rule for bounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

from tests.sovereignty_oracle.cedar import Value
from tests.sovereignty_oracle.facts import NOT_KNOWN, UNKNOWN, Documents, Sites, unknown_of
from tests.sovereignty_oracle.shares import row_of
from tests.sovereignty_oracle.stated import ANY, WHOLE, Becomes, Holding, Run, Stated, Who

WORDS: dict[str, tuple[str, ...]] = {
    "encryption": ("in-transit", "at-rest", "tenant-key", "in-use"),
    "energy_source": ("hydro", "wind", "gas", "grid-mix"),
    "isolation": ("none", "uid", "container"),
    "tenancy": ("shared", "dedicated"),
}


class Impossible(Exception):
    """What is stated fits no truth, or none that was found."""


def completed(
    documents: Documents, sites: Sites, asked: Sequence[str], countries: Sequence[str], chance: Random
) -> Sites:
    """A completion of all facts of all sites: ``asked`` are the paths that policies ask for. Raises Impossible."""
    made = _Making(sites.stated, tuple(countries), chance)
    names = [one["name"] for one in documents.estate["sites"]]
    runs, guessed = {}, {}
    for name in names:
        runs[name], guessed[name] = made.run_of(documents, name)
    truth = made.whole()
    truth.runs = {name: run for name, run in runs.items() if run is not None}
    for name in names:
        guessed[name] |= made.facts_of(asked)
    by_key = dict(documents.by_key)
    for key, one in documents.by_key.items():
        if key.startswith("facts/"):
            by_key[key] = {**one, "operator": "", "owner": "", "facts": made.stated_facts(one["facts"])}
        if key.startswith("tenant/") and "country" not in one:
            by_key[key] = {**one, "country": chance.choice(made.countries)}
    whole = Documents(by_key, documents.isolation or chance.choice(WORDS["isolation"]))
    return Sites(whole, sites.now_ms, truth, guessed)


def _check(truth: Stated) -> None:
    """Everybody's votes are all there, and somebody owns whoever is owned: companies that only hold each other are no truth."""
    rows = {
        (one.name, votes): row_of(truth, one.name, votes=votes, diluted=False)
        for one in truth.who.values()
        if one.is_held
        for votes in (False, True)
    }
    for row in rows.values():
        if sum(low for low, _ in row.held.values()) not in (0, WHOLE):
            raise Impossible
    for votes in (False, True):
        owned = {one.name for one in truth.who.values() if not one.is_held or not rows[one.name, votes].held}
        while more := {
            name
            for (name, of_votes), row in rows.items()
            if of_votes is votes
            and name not in owned
            and any(row.held[one][0] and one in owned for one in row.held)
        }:
            owned |= more
        if len(owned) < len(truth.who):
            raise Impossible


@dataclass(slots=True)
class _Making:
    stated: Stated
    countries: tuple[str, ...]
    chance: Random
    who: dict[str, Who] = field(default_factory=dict)
    held: list[Holding] = field(default_factory=list)
    same: dict[str, str] = field(default_factory=dict)
    fresh: int = 0
    companies: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.who = {name: self._tied(one) for name, one in self.stated.who.items() if one.kind != "unnamed"}

    # -- parties -------------------------------------------------------------------------------------------------------

    def _some(self, known: frozenset[str]) -> frozenset[str]:
        return known or frozenset({self.chance.choice(self.countries)})

    def _tied(self, one: Who) -> Who:
        if one.kind == "person":
            return replace(one, nationality=self._some(one.nationality), residence=self._some(one.residence))
        if one.kind == "state":
            return replace(one, seat=self._some(one.seat))
        return replace(one, seat=self._some(one.seat), headquarters=self._some(one.headquarters))

    def _person(self) -> str:
        self.fresh += 1
        name = f"~person-{self.fresh}"
        self.who[name] = self._tied(Who(name, "person"))
        return name

    def _company(self) -> str:
        """A company that nobody knew, wholly a person's or another known party's."""
        self.fresh += 1
        name = f"~company-{self.fresh}"
        holder = self._person()
        self.who[name] = self._tied(Who(name, "company"))
        self.held.append(Holding("shares", holder, name, (WHOLE, WHOLE)))
        self.companies.append(name)
        return name

    def _party(self) -> str:
        known = sorted(self.who)
        pick = self.chance.random()
        if known and pick < 0.4:
            return self.chance.choice(known)
        return self._person() if pick < 0.8 else self._company()

    def _named(self, name: str) -> str:
        """Who a party is: one without a name is anybody, always the same."""
        if name in self.who:
            return name
        if name not in self.same:
            self.same[name] = self._party()
        return self.same[name]

    # -- who holds what ------------------------------------------------------------------------------------------------

    def whole(self) -> Stated:
        """Everything that is held, wholly known."""
        names = [one.name for one in self.stated.who.values() if one.is_held and one.kind != "unnamed"]
        for name in sorted(names):
            for kind in ("shares", "votes"):
                self._list(name, kind)
            self._rights(name)
            self._others(name)
        found = Stated(dict(self.who), self.held, is_truth=True)
        for name, one in self.who.items():
            if one.is_held:
                found.above |= {(name, what): 0 for what in ("holders", "staff", "suppliers")}
        _check(found)
        return found

    def _list(self, of: str, kind: str) -> None:
        stated = self.stated.on(kind, of)
        if kind == "votes" and not stated:
            return
        is_complete = self.stated.is_complete(of, "holders")
        if kind == "votes":
            have = {one.holder for one in stated}
            shares = {one.holder for one in self.stated.on("shares", of)}
            stated = [*stated, *(Holding("votes", one, of, ANY) for one in sorted(shares - have))]
        if not stated and is_complete:
            return
        parts = self._parts([one.share for one in stated], is_complete=is_complete)
        for one, part in zip(stated, parts, strict=True):
            self.held.append(
                replace(one, holder=self._named(one.holder), share=(part, part), since="", until="")
            )
        left = WHOLE - sum(parts)
        above = self.stated.above.get((of, "holders"), WHOLE)
        while left:
            piece = min(left, above, max(1, self.chance.choice((left, left // 2, left))))
            # Who is not listed has no more than the list allows: a fresh person's shell, or anybody's where it says nothing.
            who = self._shell() if above == WHOLE else self._company()
            self.held.append(Holding(kind, who, of, (piece, piece)))
            left -= piece

    def _shell(self) -> str:
        """Somebody who is not on the list: a person, or a company that anybody has, also who is on the list."""
        if self.chance.random() < 0.4:
            return self._person()
        self.fresh += 1
        name = f"~shell-{self.fresh}"
        persons = sorted(one.name for one in self.who.values() if not one.is_held)
        holder = self.chance.choice(persons) if persons and self.chance.random() < 0.7 else self._person()
        self.who[name] = self._tied(Who(name, "company"))
        self.held.append(Holding("shares", holder, name, (WHOLE, WHOLE)))
        return name

    def _parts(self, pairs: Sequence[tuple[int, int]], *, is_complete: bool) -> list[int]:
        """A part for each, within its bounds; together all, or no more than all."""
        least, most = sum(low for low, _ in pairs), sum(high for _, high in pairs)
        if least > WHOLE or (is_complete and most < WHOLE):
            raise Impossible
        spare = (
            WHOLE - least
            if is_complete or self.chance.random() < 0.5
            else self.chance.randint(0, WHOLE - least)
        )
        parts = [low for low, _ in pairs]
        order = list(range(len(pairs)))
        self.chance.shuffle(order)
        for last in (False, True):
            for at in order:
                room = min(spare, pairs[at][1] - parts[at])
                more = (
                    room
                    if last and is_complete
                    else self.chance.choice((room, 0, self.chance.randint(0, room)))
                )
                parts[at] += more
                spare -= more
        return parts

    def _rights(self, of: str) -> None:
        for kind in ("warrant", "convertible"):
            for one in self.stated.on(kind, of):
                part = self.chance.randint(*one.becomes.part)
                becomes = Becomes((part, part), one.becomes.basis, one.becomes.votes)
                self.held.append(replace(one, holder=self._named(one.holder), becomes=becomes))
        self._fit_conversions(of)
        seats = self.stated.on("board", of)
        for one, part in zip(
            seats, self._parts([one.share for one in seats], is_complete=False), strict=True
        ):
            self.held.append(replace(one, holder=self._named(one.holder), share=(part, part)))
        for one in (*self.stated.on("influence", of), *self.stated.on("loan", of)):
            decisive = one.decisive if one.decisive != UNKNOWN else self.chance.choice(("yes", "no"))
            self.held.append(replace(one, holder=self._named(one.holder), decisive=decisive))

    def _fit_conversions(self, of: str) -> None:
        """Parts of diluted capital are no more than all together."""
        mine = [one for one in self.held if one.of == of and one.kind in ("warrant", "convertible")]
        if sum(one.becomes.part[0] for one in mine if one.becomes.basis == "diluted") > WHOLE:
            raise Impossible

    def _others(self, of: str) -> None:
        """Who works there, and who supplies it."""
        for one in self.stated.on("staff", of):
            self.held.append(replace(one, holder=self._named(one.holder)))
        if not self.stated.is_complete(of, "staff") and self.chance.random() < 0.6:
            self.held.append(Holding("staff", self._person(), of))
        for one in self.stated.on("supplier", of):
            custody = one.custody or (self.chance.choice(("nothing", "keys")),)
            self.held.append(replace(one, holder=self._named(one.holder), custody=custody))
        if not self.stated.is_complete(of, "suppliers") and self.chance.random() < 0.6:
            self.held.append(Holding("supplier", self._company(), of, custody=("keys",)))

    # -- sites ---------------------------------------------------------------------------------------------------------

    def run_of(self, documents: Documents, site: str) -> tuple[Run | None, dict[str, Value]]:
        """Who operates a site, and its owner and country."""
        document = documents.by_key.get(f"facts/{site}", {})
        stated = self.stated.runs.get(site)
        operator = document.get("operator") or (stated.operator if stated is not None else "")
        supplies = stated.supplies if stated is not None else ()
        guessed: dict[str, Value] = {"*owner": self._known(document.get("owner", ""))}
        guessed["country"] = self.chance.choice(self.countries)
        if not operator:
            return None, guessed
        its = tuple(
            (self._named(one), custody or (self.chance.choice(("nothing", "data")),))
            for one, custody in supplies
        )
        return Run(self._known(operator), its), guessed

    def _known(self, name: str) -> str:
        """A company of that name; some other where none is stated."""
        return name if name in self.who else self._company()

    def facts_of(self, asked: Sequence[str]) -> dict[str, Value]:
        """Values for facts of a site that nothing else says."""
        found: dict[str, Value] = {}
        for path in asked:
            role, _, name = path.partition(".")
            if role == "resource" and name not in ("country", "id"):
                found[name] = self._value(name)
        return found

    def stated_facts(self, facts: Sequence[dict[str, object]]) -> list[dict[str, object]]:
        """The same facts with what is unknown of them filled in, or left for the others to say."""
        found = []
        for one in facts:
            value = one["value"]
            if value == UNKNOWN:
                continue
            if isinstance(value, list) and UNKNOWN in value:
                more = self._value(str(one["fact"]))
                value = sorted({*value} - NOT_KNOWN | (set(more) if isinstance(more, frozenset) else set()))
            found.append({**one, "value": value})
        return found

    def _value(self, name: str) -> Value:
        unknown = unknown_of(name)
        head = name.partition(".")[0]
        if head == "encryption":
            return frozenset(one for one in WORDS["encryption"] if self.chance.random() < 0.5)
        if head == "staff_countries":
            return frozenset(self.chance.choices(self.countries, k=self.chance.randint(0, 2)))
        if isinstance(unknown, int):
            return (
                self.chance.choice((0, 1, 20_000, WHOLE))
                if head == "certified_until"
                else self.chance.randint(0, WHOLE)
            )
        if "exposure" in name:
            return self.chance.choice(("yes", "no"))
        return self.chance.choice(WORDS.get(head, self.countries))
