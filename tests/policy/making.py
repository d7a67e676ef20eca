"""Random rules over the schema, and random facts; whoever uses them says how many and from which seed."""

from collections.abc import Mapping
from random import Random

from headrace.core.countries import COUNTRIES as ALL_COUNTRIES
from headrace.policy import schema
from headrace.policy.schema import ACTIONS, GROUPS, PRINCIPAL_OF, UNKNOWN, Fact, Kind, Principal, Value

COUNTRIES = ("NO", "GB", "US", "SE", "DE", "CN")
"""Few, so that rules and facts meet."""
DAY = 20_800
TEXTS = (
    "site.country", "site.energy_source", "site.tenancy", "site.isolation", "site.exposure.US", "site.exposure_person.CN",
    "site.operator.seat", "site.owner.exposure.US", "tenant.country", "data.class", "site.id", "tenant.id",
)  # fmt: skip
SETS = ("site.staff_countries", "site.encryption")
NUMBERS = (
    "site.control_min_ppm.US", "site.control_max_ppm.US", "site.control_max_ppm.CN", "site.operator.control_min_ppm.GB",
    "site.outside_eu_ppm", "site.outside_eu_largest_ppm", "site.certified_until.c5", "site.certified_until.iso27001", "day",
)  # fmt: skip
PPM = (0, 240_000, 250_000, 390_000, 500_000, 1_000_000)
OF_PEOPLE = ("person.works_for", "person.company.seat", "person.company.exposure.US")
NAMES = ("glomfjord", "loughton", "albion-health")


def fact(name: str) -> Fact:
    found = schema.by_name(name)
    assert found is not None, name
    return found


def path(name: str) -> str:
    return ".".join(fact(name).path)


class Maker:
    """Makes rules as texts, in every form that is read."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance

    def policy(self, rules: int = 3) -> str:
        made = [self.rule(number) for number in range(self.chance.randint(1, rules))]
        return "\n".join(made)

    def rule(self, number: int) -> str:
        chance = self.chance
        effect = chance.choice(("permit", "permit", "forbid"))
        actions = chance.choice(
            ([*ACTIONS.values()], [*GROUPS["run"]], [*GROUPS["access"]], [*GROUPS["keep"]])
        )
        if chance.random() < 0.3:
            actions = [chance.choice([*ACTIONS.values()])]
        kinds = {PRINCIPAL_OF[one] for one in actions}
        who = "principal"
        if len(kinds) == 1 and chance.random() < 0.3:
            who = f"principal is {next(iter(kinds))}"
        what = "action"
        if len(actions) < len(ACTIONS):
            what = f"action in [{', '.join(self._action(one) for one in actions)}]"
        where = chance.choice(("resource", "resource is Site", 'resource == Site::"glomfjord"'))
        clauses = " ".join(
            f"{chance.choice(('when', 'unless'))} {{ {self.truth(3, kinds)} }}"
            for _ in range(chance.choice((0, 1, 1, 1, 2)))
        )
        return f'@id("r{number}") {effect} ({who}, {what}, {where}) {clauses};'

    def _action(self, name: str) -> str:
        return f'Action::"{name}"'

    def truth(self, depth: int, kinds: set[Principal]) -> str:
        chance = self.chance
        if depth == 0 or chance.random() < 0.3:
            return self.atom(kinds)
        below = [self.truth(depth - 1, kinds) for _ in range(3)]
        return chance.choice(
            (
                f"({below[0]} && {below[1]})",
                f"({below[0]} || {below[1]})",
                f"({below[0]} && {below[1]} && {below[2]})",
                f"!({below[0]})",
                f"(if {below[0]} then {below[1]} else {below[2]})",
                f"(({below[0]}) == ({below[1]}))",
            )
        )

    def atom(self, kinds: set[Principal]) -> str:
        chance = self.chance
        kind = chance.choice((Kind.TEXT, Kind.TEXT, Kind.WORDS, Kind.NUMBER, Kind.NUMBER, Kind.TRUTH))
        if chance.random() < 0.15 and kinds == {Principal.PERSON}:
            return (
                self._text(chance.choice(OF_PEOPLE))
                if chance.random() < 0.6
                else self._set("person.countries")
            )
        if chance.random() < 0.05:
            return chance.choice(
                ("true", "false", 'action in Action::"keep"', "resource is Site", '"a" == "a"')
            )
        if kind is Kind.TEXT:
            return self._text(chance.choice(TEXTS))
        if kind is Kind.WORDS:
            return self._set(chance.choice(SETS))
        return "context.consent" if kind is Kind.TRUTH else self._number()

    def _word(self, name: str) -> str:
        found = fact(name)
        if self.chance.random() < 0.1 and not found.is_known:
            return f'"{UNKNOWN}"'
        words = COUNTRIES if found.words is ALL_COUNTRIES else sorted(found.words or NAMES)
        return f'"{self.chance.choice(words)}"'

    def _list(self, name: str) -> str:
        return f"[{', '.join(self._word(name) for _ in range(self.chance.randint(1, 4)))}]"

    def _text(self, name: str) -> str:
        chance, where = self.chance, path(name)
        if name in ("site.country", "site.operator.seat") and chance.random() < 0.1:
            return f"{where} {chance.choice(('==', '!='))} {path('tenant.country')}"
        return chance.choice(
            (
                f"{where} == {self._word(name)}",
                f"{self._word(name)} == {where}",
                f"{where} != {self._word(name)}",
                f"{self._list(name)}.contains({where})",
                f'{where} like "{chance.choice(("*", "n*", "*O", "un*n", "NO*O", "G*B", "*o*", "unknown"))}"',
            )
        )

    def _set(self, name: str) -> str:
        where = path(name)
        return self.chance.choice(
            (
                f"{where}.contains({self._word(name)})",
                f"{where}.containsAll({self._list(name)})",
                f"{where}.containsAny({self._list(name)})",
                f"{self._list(name)}.containsAll({where})",
                f"{self._list(name)}.containsAny({where})",
                f"{where} == {self._list(name)}",
                f"{where}.isEmpty()",
                f"{where}.contains({path('site.country')})"
                if name == "site.staff_countries"
                else f"!{where}.isEmpty()",
            )
        )

    def _number(self) -> str:
        chance = self.chance
        name = chance.choice(NUMBERS)
        op = chance.choice(("<", "<=", ">", ">=", "==", "!="))
        where = path(name)
        if name == "day" or (name.startswith("site.certified_until") and chance.random() < 0.7):
            until = path(chance.choice(("site.certified_until.c5", "site.certified_until.iso27001")))
            return f"{until} - {chance.choice((0, 30, 90))} {op} {path('day')}"
        if name.startswith("site.certified_until"):
            return f"{where} {op} {DAY + chance.choice((-1, 0, 400))}"
        if chance.random() < 0.15:
            return f"{where} * 2 + {path('site.outside_eu_ppm')} {op} {chance.choice(PPM)}"
        return f"{chance.choice((where, f'{where} + 1', f'3 * {where}'))} {op} {chance.choice(PPM)}"


class CarefulMaker(Maker):
    """Makes rules in forms that are mostly shown not to take the unknown for clean: they ask for what is right."""

    def rule(self, number: int) -> str:
        chance = self.chance
        effect = chance.choice(("permit", "permit", "forbid"))
        wanted = self.right(chance.choice((1, 2, 3)))
        clause = chance.choice((f"when {{ {wanted} }}", f"unless {{ !({wanted}) }}"))
        if effect == "forbid":
            clause = chance.choice((f"unless {{ {wanted} }}", f"when {{ !({wanted}) }}"))
        return f'@id("r{number}") {effect} (principal, action, resource) {clause};'

    def right(self, depth: int) -> str:
        """Something that holds only if it is known to hold."""
        chance = self.chance
        if depth == 0 or chance.random() < 0.2:
            return self.right_atom()
        one, two = self.right(depth - 1), self.right(depth - 1)
        return chance.choice(
            (
                f"({one} && {two})",
                f"({one} || {two})",
                f"!(!({one}) || !({two}))",
                f'(if action in Action::"keep" then {one} else {two})',
            )
        )

    def right_atom(self) -> str:
        chance = self.chance
        name = chance.choice((*TEXTS, *SETS, *NUMBERS, "consent"))
        found, where = fact(name), path(name)
        listed = (
            ", ".join({self._known(name), self._known(name), self._known(name)})
            if found.words
            else '"glomfjord"'
        )
        match found.kind:
            case Kind.TEXT:
                return chance.choice((f"[{listed}].contains({where})", f"{where} == {listed.split(', ')[0]}"))
            case Kind.WORDS:
                ask = chance.choice(("containsAll", "containsAny"))
                return chance.choice((f"[{listed}].{ask}({where})", f"{where}.{ask}([{listed}])"))
            case Kind.TRUTH:
                return where
        if found.most == schema.MOST_DAYS:
            return f"{path('site.certified_until.c5')} >= {path('day')} + {chance.choice((0, 30))}"
        return f"{where} {'<' if found.drift > 0 else '>'} {chance.choice(PPM)}"

    def _known(self, name: str) -> str:
        word = self._word(name)
        return word if UNKNOWN not in word else self._known(name)


def some_facts(chance: Random, *, share: float = 0.85) -> dict[str, Value]:
    """Facts of a request; each is there with the probability ``share``, and some say that they are unknown."""
    found: dict[str, Value] = {"site.id": chance.choice(NAMES), "tenant.id": chance.choice(NAMES), "day": DAY}
    names = (
        *TEXTS,
        *SETS,
        *NUMBERS,
        *OF_PEOPLE,
        "person.countries",
        "consent",
        "work.kind",
        "site.exposure.*",
        "site.control_max_ppm.*",
    )
    for name in names:
        if name not in found and chance.random() < share:
            found[name] = _value(chance, fact(name))
    return found


def _value(chance: Random, one: Fact) -> Value:
    if one.kind is Kind.TRUTH:
        return chance.random() < 0.5
    if one.kind is Kind.NUMBER:
        if one.most == schema.MOST_DAYS:
            return DAY + chance.choice((-400, -1, 0, 1, 29, 30, 31, 89, 90, 400))
        return max(0, min(one.most, chance.choice(PPM) + chance.choice((-1, 0, 1))))
    words = [*(COUNTRIES if one.words is ALL_COUNTRIES else sorted(one.words or NAMES)), UNKNOWN]
    if one.kind is Kind.WORDS:
        return " ".join(sorted(chance.sample(words, chance.randint(0, min(3, len(words))))))
    return str(chance.choice(words))


def less_known(chance: Random, facts: Mapping[str, Value]) -> dict[str, Value]:
    """The same facts, some of them known less: gone, unknown, wider."""
    found = dict(facts)
    for name, value in facts.items():
        one = fact(name)
        if one.is_known or chance.random() < 0.6:
            continue
        if chance.random() < 0.3 and not name.endswith("*"):
            # Without it, what stands for the rest would be asked.
            found[name] = one.unknown
        elif one.kind is Kind.WORDS:
            kept = [word for word in str(value).split() if chance.random() < 0.5]
            found[name] = " ".join(sorted({*kept, UNKNOWN}))
        elif one.kind is Kind.NUMBER:
            found[name] = _wider(chance, one, int(value))
        else:
            found[name] = one.unknown
    return found


def _wider(chance: Random, one: Fact, value: int) -> int:
    by = one.drift * chance.choice((1, 1_000, 250_000, 1_000_000))
    return max(one.least, min(one.most, value + by))
