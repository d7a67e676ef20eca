"""Who controls a company and which countries reach it, by plain reasoning over sets: what is so in every completion of what is
unknown, and what may be so in one.

An answer comes with whether it is *settled*: all that it rests on is known, so that nobody may answer ``unknown`` instead. Where
it is not, ``unknown`` is always right, and the answer here is the most that anybody may say.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.sovereignty_oracle.shares import Row, row_of, tied
from tests.sovereignty_oracle.stated import WHOLE, Run, Stated

MAJORITY = WHOLE // 2 + 1
"""More than half, in whole ppm."""
CHANNELS = ("seat", "headquarters", "control", "person", "custody")


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: yes, no or unknown; ``settled``: all that it rests on is known."""

    answer: str
    settled: bool = True


NO = Said("no")


def any_of(said: Iterable[Said]) -> Said:
    """Whether one of several is so. A settled yes settles it."""
    found = list(said)
    if any(one.answer == "yes" for one in found):
        return Said("yes", any(one.answer == "yes" and one.settled for one in found))
    answer = "unknown" if any(one.answer == "unknown" for one in found) else "no"
    return Said(answer, all(one.settled for one in found))


def both(one: str, two: str) -> str:
    if "no" in (one, two):
        return "no"
    return "yes" if one == two == "yes" else "unknown"


def _in_hand(custody: tuple[str, ...], reaches: Said) -> Said:
    """What reaches a supplier reaches through it, if it has something in hand."""
    if set(custody) == {"nothing"}:
        return NO
    return Said(both("yes" if custody else "unknown", reaches.answer), reaches.settled)


@dataclass(slots=True)
class Reach:
    """The questions, about what is stated on one day; remembered."""

    stated: Stated
    _rows: dict[tuple[str, bool], Row] = field(default_factory=dict)
    _control: dict[str, tuple[dict[str, str], bool]] = field(default_factory=dict)
    _any: dict[tuple[str, str, str], Said] = field(default_factory=dict)

    def votes(self, of: str, *, diluted: bool = False) -> Row:
        key = (of, diluted)
        if key not in self._rows:
            self._rows[key] = row_of(self.stated, of, votes=True, diluted=diluted)
        return self._rows[key]

    # -- control -------------------------------------------------------------------------------------------------------

    def controllers(self, of: str) -> tuple[dict[str, str], bool]:
        """Who controls a company, with yes or unknown; "" is somebody whom nobody names. And whether all of that is known."""
        if of not in self._control:
            found = {}
            for party in (*self.stated.who, ""):
                if party == of:
                    continue
                sure = of in self.under(party, certain=True)
                if sure or of in self.under(party, certain=False):
                    found[party] = "yes" if sure and party else "unknown"
            # Whether a covenant is control nobody computes: a lender may control, by its own ties, whomever it lends to.
            for party, has in [(of, "yes"), *found.items()]:
                for loan in self.stated.on("loan", party):
                    covenant = both(has, loan.decisive)
                    if loan.holder != of and covenant != "no" and found.get(loan.holder) != "yes":
                        found[loan.holder] = covenant
            self._control[of] = found, self._is_known_above(of)
        return self._control[of]

    def under(self, party: str, *, certain: bool) -> set[str]:
        """Whom a party has the majority of, through those of whom it has it: in every completion, or in some."""
        inside = {party} if certain else {party, *self._unnamed()}
        while True:
            more = {
                one.name
                for one in self.stated.who.values()
                if one.is_held
                and one.name not in inside
                and self._falls(one.name, inside, party, certain=certain)
            }
            if not more:
                return inside - {party}
            inside |= more

    def _falls(self, of: str, inside: set[str], party: str, *, certain: bool) -> bool:
        if self._board(of, inside, certain=certain) or self._influenced(of, inside, certain=certain):
            return True
        row = self.votes(of)
        mine = [pair for name, pair in row.held.items() if name in inside]
        theirs = [pair for name, pair in row.held.items() if name not in inside]
        if certain:
            left = WHOLE - sum(high for _, high in theirs)
            have = max(sum(low for low, _ in mine), left if row.is_whole else 0)
            return have >= MAJORITY and sum(high for _, high in (*mine, *theirs)) >= MAJORITY
        unlisted = 0 if row.is_whole else WHOLE
        can = min(sum(high for _, high in mine) + unlisted, WHOLE - sum(low for low, _ in theirs))
        return can >= MAJORITY

    def _board(self, of: str, inside: set[str], *, certain: bool) -> bool:
        seats = [one for one in self.stated.on("board", of) if one.holder in inside]
        return sum(one.share[0] if certain else one.share[1] for one in seats) >= MAJORITY

    def _influenced(self, of: str, inside: set[str], *, certain: bool) -> bool:
        wanted = {"yes"} if certain else {"yes", "unknown"}
        return any(one.holder in inside and one.decisive in wanted for one in self.stated.on("influence", of))

    def _unnamed(self) -> set[str]:
        return {one.name for one in self.stated.who.values() if one.kind == "unnamed"}

    def above(self, of: str) -> set[str]:
        """Everybody from whom a chain of votes, seats or influence leads to a company, itself included."""
        found, todo = {of}, [of]
        while todo:
            name = todo.pop()
            if not self.stated.who[name].is_held:
                continue
            rights = [one.holder for kind in ("board", "influence") for one in self.stated.on(kind, name)]
            for holder in (*self.votes(name).held, *rights):
                if holder not in found:
                    found.add(holder)
                    todo.append(holder)
        return found

    def _is_known_above(self, of: str) -> bool:
        """Whether nothing that control rests on is unknown: complete lists of exact votes, named parties, and nothing that
        converts."""
        for name in self.above(of):
            who = self.stated.who[name]
            if who.kind == "unnamed":
                return False
            if who.is_held and not self._is_known(name):
                return False
        return True

    def _is_known(self, name: str) -> bool:
        row = self.votes(name)
        kinds = ("warrant", "convertible", "loan")
        return (
            row.is_whole
            and all(low == high for low, high in row.held.values())
            and sum(low for low, _ in row.held.values()) in (0, WHOLE)
            and not any(self.stated.on(kind, name) for kind in kinds)
            and all(one.decisive != "unknown" for one in self.stated.on("influence", name))
            and all(one.share[0] == one.share[1] for one in self.stated.on("board", name))
        )

    # -- exposure ------------------------------------------------------------------------------------------------------

    def through(self, channel: str, of: str, country: str) -> Said:
        """Whether a country reaches a company through one channel."""
        who = self.stated.who[of]
        match channel:
            case "seat":
                return self._tie(who.seat, country)
            case "headquarters":
                return self._tie(who.headquarters, country)
            case "control":
                return self._by_control(of, country)
            case "person":
                return self._by_people(of, country)
        return any_of((*self._by_suppliers(of, country), self._listed(of, "suppliers")))

    def _tie(self, found: frozenset[str], country: str) -> Said:
        return Said("unknown") if not found else Said("yes" if country in found else "no")

    def _by_control(self, of: str, country: str) -> Said:
        found, is_known = self.controllers(of)
        said = []
        for party, has in found.items():
            reaches = tied(self.stated.who[party], country) if party else "unknown"
            said.append(Said(both(has, reaches), is_known))
        return any_of((*said, Said("no", is_known)))

    def _by_people(self, of: str, country: str) -> Said:
        staff = [self.stated.who[one.holder] for one in self.stated.on("staff", of)]
        return any_of((*(Said(tied(one, country)) for one in staff), self._listed(of, "staff")))

    def _listed(self, of: str, what: str) -> Said:
        return NO if self.stated.is_complete(of, what) else Said("unknown")

    def _by_suppliers(self, of: str, country: str) -> list[Said]:
        return [
            _in_hand(one.custody, self.anyhow(one.holder, country, besides=of))
            for one in self.stated.on("supplier", of)
            if one.holder != of
        ]

    def anyhow(self, of: str, country: str, *, besides: str) -> Said:
        """Whether a country reaches a party through anything but ``besides``: a company doesn't reach itself through who supplies
        it. It is the least that fits, so that a ring of suppliers adds nothing."""
        key = (of, country, besides)
        if key not in self._any:
            said = dict.fromkeys(self._suppliers_of(of, besides), NO)
            before: dict[str, Said] = {}
            while said != before:
                before = said
                said = {party: self._once(party, country, before) for party in before}
            self._any |= {(party, country, besides): found for party, found in said.items()}
        return self._any[key]

    def _suppliers_of(self, of: str, besides: str) -> list[str]:
        """A party with all who supply it, and them, and so on."""
        found, todo = [of], [of]
        while todo:
            for one in self.stated.on("supplier", todo.pop()):
                if one.holder not in found and one.holder != besides:
                    found.append(one.holder)
                    todo.append(one.holder)
        return found

    def _once(self, of: str, country: str, known: Mapping[str, Said]) -> Said:
        who = self.stated.who[of]
        if not who.is_held or who.kind == "unnamed":
            return Said(tied(who, country))
        through = [self.through(channel, of, country) for channel in CHANNELS[:-1]]
        suppliers = [
            _in_hand(one.custody, known[one.holder])
            for one in self.stated.on("supplier", of)
            if one.holder in known
        ]
        return any_of((*through, *suppliers, self._listed(of, "suppliers")))

    # -- of a site -----------------------------------------------------------------------------------------------------

    def of_site(self, channel: str, run: Run, site_country: str, country: str) -> Said:
        """Whether a country reaches a site: where it stands, and all that reaches who operates and supplies it."""
        mine = [self.through(channel, run.operator, country)]
        if channel == "seat":
            mine.append(self._tie(frozenset({site_country} - {""}), country))
        if channel == "custody":
            mine += [
                _in_hand(custody, self.anyhow(name, country, besides=run.operator))
                for name, custody in run.supplies
                if name != run.operator
            ]
        return any_of(mine)
