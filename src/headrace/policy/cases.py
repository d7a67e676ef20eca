"""A tenant's own table of cases: facts, and whether they must be allowed or forbidden; and its runner.

::

    policy: nordic-only            # a profile's name, or a file beside this one: ours.cedar
    facts:                         # for every case, unless it says otherwise
      site: {country: NO, staff_countries: [NO]}
    cases:
      - name: support from the United States
        action: support-access     # one, or a list of them; place where none is given
        facts: {person: {works_for: operator, countries: [NO, US]}}
        expect: forbid
        by: [nordic-people]        # if given: exactly these rules determine it

Facts have the names of :mod:`headrace.policy.schema`, nested or with dots. A day may be a date, a share a percentage. What
no case states is unknown.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from headrace.core.errors import HeadraceError, Problem, ProblemCode, did_you_mean, unknown
from headrace.documents.source import Place, Raw, Source, parse, show
from headrace.policy.check import DisagreementError
from headrace.policy.reading import PolicySet, shown
from headrace.policy.schema import ACTIONS, WHOLE_PPM, Kind, Value, by_name, checked

MOST_CASES = 10_000
_TABLE = ("policy", "facts", "cases")
_CASE = ("name", "action", "facts", "expect", "by")
_EXPECTED = {"allow": True, "forbid": False}
_EPOCH = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Case:
    """One row: an action with facts, and what must come of it. ``by``: the rules that must determine it, None for any."""

    name: str
    action: str
    facts: Mapping[str, Value]
    expect: bool
    by: tuple[str, ...] | None
    where: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table of cases and the policy that it is about: a profile's name or a file's."""

    policy: str
    cases: tuple[Case, ...]
    where: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case: whether allowed, the rules that determined it, and else the facts that stood in the way."""

    case: Case
    allowed: bool
    rules: tuple[str, ...]
    why: str

    @property
    def is_expected(self) -> bool:
        """Whether it is what the table says."""
        by = self.case.by
        return self.allowed == self.case.expect and (by is None or sorted(by) == sorted(self.rules))


def run(policy: PolicySet, table: Table) -> list[Outcome]:
    """Every case, decided by the compiled rules and by Cedar itself.

    Raises HeadraceError where a case names a rule that the policy doesn't have, DisagreementError where the two differ.
    """
    known = {rule.id for rule in policy.rules}
    problems = [
        _problem(case.where, f"policy {policy.name} has no rule {name!r};", did_you_mean(name, known))
        for case in table.cases
        for name in case.by or ()
        if name not in known
    ]
    if problems:
        raise HeadraceError(*problems)
    return [_outcome(policy, case) for case in table.cases]


def _outcome(policy: PolicySet, case: Case) -> Outcome:
    found = policy.decide(case.action, case.facts)
    if found != policy.by_cedar(case.action, case.facts):
        raise DisagreementError(f"{case.where}: {policy.name} decides {case.name!r} otherwise than Cedar")
    allowed, rules = found
    asked = policy.by_action[case.action]
    row = asked.read(case.facts)
    if not rules:
        why = asked.in_the_way(row) or f"no permit for {case.action}"
    else:
        why = ", ".join(f"{fact.name} is {shown(row[slot])}" for slot, fact in enumerate(asked.facts))
    return Outcome(case, allowed, tuple(rule.id for rule in rules), why)


# -- reading -------------------------------------------------------------------------------------------------------------


def read_table(raw: bytes, file: str) -> Table:
    """A table from YAML; HeadraceError with everything that is wrong with it, each with line and column."""
    found = parse(raw, file)
    if len(found) != 1 or not isinstance(found[0].data, dict):
        raise HeadraceError(
            _problem(f"{file}:1:1", "not one table of cases.", "Begin with policy: and cases:.")
        )
    return _Reader(found[0], file).table()


def _problem(where: str, message: str, step: str) -> Problem:
    return Problem(ProblemCode.BAD_INPUT, message, step, where)


class _Reader:
    """Reads one table, gathering what is wrong."""

    def __init__(self, raw: Raw, file: str) -> None:
        self.data: dict[str, Any] = raw.data
        self.source: Source = raw.source
        self.file = file
        self.problems: list[Problem] = []

    def table(self) -> Table:
        """The table; HeadraceError with all problems."""
        self._keys((), self.data, _TABLE)
        policy = self.data.get("policy")
        if not isinstance(policy, str) or not policy:
            self._wrong(("policy",), f"{show(policy)} is not a policy.", "Name a profile, or a .cedar file.")
        rows = self.data.get("cases")
        if not isinstance(rows, list) or not rows:
            self._wrong(("cases",), "no cases.", "Write cases: with at least one, each with expect.")
            rows = []
        if len(rows) > MOST_CASES:
            self._wrong(("cases",), f"more than {MOST_CASES} cases.", "Split the table.")
            rows = []
        common = self._facts(("facts",), self.data.get("facts"))
        cases = [case for number, row in enumerate(rows) for case in self._case(number, row, common)]
        if self.problems:
            raise HeadraceError(*self.problems)
        return Table(str(policy), tuple(cases), self.file)

    def _wrong(self, place: Place, message: str, step: str) -> None:
        self.problems.append(_problem(self.source.where(place), message, step))

    def _keys(self, place: Place, found: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for key in found:
            if key not in known:
                where = self.source.where((*place, key), at_key=True)
                self.problems.append(_problem(where, f"no field {key!r};", did_you_mean(key, known)))

    def _case(self, number: int, row: object, common: Mapping[str, Value]) -> Iterator[Case]:
        place: Place = ("cases", number)
        if not isinstance(row, dict):
            self._wrong(place, f"{show(row)} is not a case.", "Write name:, action:, facts:, expect:.")
            return
        self._keys(place, row, _CASE)
        name = str(row.get("name") or f"case {number + 1}")
        expect = row.get("expect")
        if expect not in _EXPECTED:
            self._wrong((*place, "expect"), f"{show(expect)} is not expected.", "Write allow or forbid.")
        facts = {**common, **self._facts((*place, "facts"), row.get("facts"))}
        by = self._by((*place, "by"), row.get("by"))
        for action in self._actions((*place, "action"), row.get("action", "place")):
            yield Case(name, action, facts, _EXPECTED.get(str(expect), False), by, self.source.where(place))

    def _actions(self, place: Place, found: object) -> list[str]:
        names = found if isinstance(found, list) else [found]
        known = sorted(ACTIONS.values())
        actions: list[str] = []
        for name in names:
            action = ACTIONS.get(str(name), str(name))
            if action in known:
                actions.append(action)
            else:
                problem = unknown("action", str(name), known)
                self._wrong(place, problem.message, problem.next_step)
        return actions

    def _by(self, place: Place, found: object) -> tuple[str, ...] | None:
        if found is None:
            return None
        names = found if isinstance(found, list) else [found]
        if not all(isinstance(name, str) for name in names):
            self._wrong(place, "not rules.", "Write their ids, like by: [nordic-site].")
            return None
        return tuple(names)

    def _facts(self, place: Place, found: object) -> dict[str, Value]:
        if found is None:
            return {}
        if not isinstance(found, dict):
            self._wrong(place, f"{show(found)} is not facts.", "Write site: {country: NO}.")
            return {}
        facts: dict[str, Value] = {}
        for name, value, where in _flat("", found, place):
            try:
                facts |= checked({name: _value(name, value)}, self.source.where(where, at_key=True))
            except HeadraceError as error:
                self.problems.extend(error.problems)
        return facts


def _flat(name: str, found: Mapping[str, Any], place: Place) -> Iterator[tuple[str, Any, Place]]:
    """Nested facts, by their names with dots."""
    for key, value in found.items():
        full = f"{name}.{key}" if name else key
        if isinstance(value, dict):
            yield from _flat(full, value, (*place, key))
        else:
            yield full, value, (*place, key)


def _value(name: str, value: object) -> object:
    """A fact as people write it: days as dates, shares in percent; anything else as it is."""
    fact = by_name(name)
    if fact is None or fact.kind is not Kind.NUMBER or not isinstance(value, str):
        return value
    if fact.most == WHOLE_PPM and value.endswith("%"):
        return _share(value)
    try:
        return date.fromisoformat(value).toordinal() - _EPOCH
    except ValueError:
        return value


def _share(text: str) -> object:
    try:
        ppm = Decimal(text[:-1]) * (WHOLE_PPM // 100)
    except ArithmeticError:
        return text
    return int(ppm) if ppm.is_finite() and ppm == ppm.to_integral_value() else text
