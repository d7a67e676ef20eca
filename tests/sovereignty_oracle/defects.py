"""Defects planted in production, through a seam or in place of a function, and undone after: the oracle must catch each."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from headrace.core.authority import Policy, Request, Verdict
from headrace.core.sovereignty import cascade, control, exposure, graph, groups, law, rows
from headrace.core.sovereignty.holdings import Answer
from headrace.core.world import World
from headrace.policy import described
from headrace.policy.compiled import Cell
from headrace.policy.engine import Policies
from headrace.policy.reading import Asked
from headrace.policy.reading import Rule as Read
from tests.sovereignty_oracle.cedar import Rule
from tests.sovereignty_oracle.worlds import TENANTS

Doc = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shown:
    """A small world that shows a defect: documents, the rules of a policy, and a document that comes after a first look."""

    documents: tuple[Doc, ...] = ()
    rules: tuple[Rule, ...] = ()
    then: tuple[Doc, ...] = ()


@dataclass(frozen=True, slots=True)
class Defect:
    """What is wrong, and a world that shows it; ``engine`` judges in production's place, ``seam`` is given the world, ``swaps``
    are (owner, name, what is made of the old)."""

    what: str
    shown: Shown
    engine: Callable[[], Policies] | None = None
    seam: Callable[[World], None] = lambda world: None
    swaps: tuple[tuple[Any, str, Callable[[Any], Any]], ...] = ()

    @contextmanager
    def planted(self) -> Iterator[dict[str, Any]]:
        """What a trial takes while the defect is there."""
        before = [(owner, name, getattr(owner, name)) for owner, name, _ in self.swaps]
        try:
            for owner, name, made in self.swaps:
                setattr(owner, name, made(getattr(owner, name)))
            yield {"seam": self.seam, **({"engine": self.engine()} if self.engine is not None else {})}
        finally:
            for owner, name, old in before:
                setattr(owner, name, old)


class _Facts(Policies):
    """Judges by other facts."""

    def __init__(self, changed: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        super().__init__()
        self._changed = changed

    def evaluate(self, policy: Policy, request: Request) -> Verdict:
        return super().evaluate(policy, replace(request, facts=self._changed(dict(request.facts))))


def _facts(changed: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[], Policies]:
    return lambda: _Facts(changed)


class _AnywhereKnown(Policies):
    """A country that isn't known is let through by lists of countries."""

    def evaluate(self, policy: Policy, request: Request) -> Verdict:
        found = super().evaluate(policy, request)
        return replace(found, allowed=True) if policy.is_plain and not request.facts.get("country") else found


def _clean(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        name: "no" if "exposure" in name and value == "unknown" else value for name, value in facts.items()
    }


def _no_forbids(_: Any) -> Any:
    def decide(asked: Asked, row: list[Cell]) -> tuple[bool, tuple[Read, ...]]:
        """Permits alone."""
        permits = tuple(rule for rule, ask in asked.permits if ask(row))
        return bool(permits), permits

    return decide


def _kept(world: World) -> None:
    """Verdicts stay when documents change."""
    world.laws.remembered = _Sticky()


class _Sticky(dict[Any, Any]):
    """Forgets nothing."""

    def clear(self) -> None:
        """Nothing goes."""

    def pop(self, key: Any, default: Any = None) -> Any:
        """Nothing goes."""
        return self.get(key, default)


class _Yesterday(_Facts):
    def __init__(self) -> None:
        super().__init__(lambda facts: {**facts, "day": facts["day"] - 1} if "day" in facts else facts)


def _first_owner(old: Any) -> Any:
    def made(documents: Any) -> Any:
        return old(list(documents)[:1])

    return made


def _ends_late(_: Any) -> Any:
    def current(interests: Any, day: str, number: Mapping[Any, int]) -> dict[int, list[Any]]:
        """The last day counts."""
        found: dict[int, list[Any]] = {}
        for one in interests:
            if one.since <= day and (not one.until or day <= one.until):
                found.setdefault(number[one.subject], []).append(one)
        return found

    return current


def _least_for_most(old: Any) -> Any:
    return lambda *args: replace(found := old(*args), most_ppm=found.least_ppm)


def _listed_alone(old: Any) -> Any:
    return lambda found: " ".join(sorted({*old(found).split()} - {"unknown"}))


def _no_largest(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: 0 if "largest" in name else value for name, value in facts.items()}


def _views(count: int) -> Callable[[Any], Any]:
    return lambda old: old[:count]


def _untied(old: Any) -> Any:
    return lambda *args, **more: Answer.NO if (found := old(*args, **more)) is Answer.UNKNOWN else found


def _of_operator(_: Any) -> Any:
    def both(name: str, parts: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
        """The operator's alone."""
        first = next(iter(parts))
        kinds = (f"{first}.control_", f"{first}.outside_")
        return {key.replace(first, name): value for key, value in facts.items() if key.startswith(kinds)}

    return both


def _dedicated(facts: dict[str, Any]) -> dict[str, Any]:
    return {**facts, "site.tenancy": "dedicated"}


# -- worlds that show them ----------------------------------------------------------------------------------------------


def _site(name: str, country: str, **more: Any) -> Doc:
    energy = {"carbon": 20, "price": 0.1, "currency": "EUR", "source": "wind"}
    connection = {"firm": "100kW"}
    site = {
        "name": name,
        "country": country,
        "zone": "UTC",
        "energy": energy,
        "connection": connection,
        "pue": 1.0,
    }
    return {**site, **more}


BASE: tuple[Doc, ...] = (
    *({"kind": "tenant", "name": name, "projects": ["main"], "country": "NO"} for name in TENANTS),
    {
        "kind": "estate",
        "operator": {"name": "op", "country": "NO", "zone": "Europe/Oslo", "currency": "EUR"},
        "sites": [_site("site-0", "NO", dedicated_to="borealis"), _site("site-1", "unknown")],
    },
)
"""Where all of them happen: a site in Norway that is one tenant's alone, and one that stands nobody knows where."""
_RUN: Doc = {"kind": "facts", "site": "site-0", "operator": "runs", "owner": "runs"}


def _owned(
    *interests: Doc, name: str = "owners", complete: str = "runs west north", lists: str = "", **more: Doc
) -> Doc:
    """A Norwegian company that runs the first site, an American one, and one of whose ties ``more`` says something else."""
    parties: list[Doc] = [
        {"name": who, "type": "company", "country": home, "headquarters": home, **more.get(who, {})}
        for who, home in (("runs", "NO"), ("north", "NO"), ("west", "US"))
    ]
    covered: list[Doc] = [{"of": who, "complete": True} for who in complete.split()]
    covered += [
        {"of": who, "list": what, "complete": True} for what in lists.split() for who in ("runs", "west")
    ]
    return {
        "kind": "ownership",
        "name": name,
        "parties": parties,
        "interests": list(interests),
        "coverage": covered,
    }


def _has(holder: str, share: str, kind: str = "shares", of: str = "runs", **more: Any) -> Doc:
    return {"type": kind, "holder": holder, "of": of, "share": share, "name": f"{kind}-{holder}-{of}", **more}


def _facts_of(**facts: object) -> Doc:
    stated = [
        {"fact": name.replace("__", "."), "value": value, "source": "s"} for name, value in facts.items()
    ]
    return {**_RUN, "facts": stated}


def _asks(op: str, path: str, word: object) -> tuple[Rule, ...]:
    return (Rule("asks", is_permit=True, when=((op, ("fact", path), ("lit", word)),)),)


_LITTLE = _asks("<", "resource.operator.control_max_ppm.US", 250_000)
_ALL_NORTH = _has("north", "100%")
_GOOD = Rule(
    "good",
    is_permit=True,
    when=((">=", ("fact", "resource.certified_until.iso27001"), ("fact", "context.day")),),
)
_HERE = Rule(
    "here",
    is_permit=True,
    when=(("containsAll", ("words", frozenset({"NO"})), ("fact", "resource.staff_countries")),),
)
_NORTHERN = _asks("==", "resource.country", "NO")
_HYDRO = Rule(
    "hydro", is_permit=False, unless=(("==", ("fact", "resource.energy_source"), ("lit", "hydro")),)
)
_MAJORITY = tuple((owner, "MAJORITY_PPM", lambda _: 500_000) for owner in (control, cascade))
_SAFE: Doc = {
    "type": "convertible",
    "holder": "west",
    "of": "runs",
    "becomes": {"share": "51%"},
    "name": "safe",
}
_KEYS: Doc = {"type": "supplier", "holder": "west", "of": "runs", "custody": ["keys"], "name": "keys"}

DEFECTS: tuple[Defect, ...] = (
    Defect(
        "a forbid is not looked at",
        Shown((), (*_NORTHERN, _HYDRO)),
        swaps=((Asked, "decide", _no_forbids),),
    ),
    Defect(
        "an unknown exposure is taken for none",
        Shown((_owned(_ALL_NORTH), _RUN), _asks("==", "resource.exposure.US", "no")),
        engine=_facts(_clean),
    ),
    Defect("a country that nobody stated is taken for an allowed one", Shown(), engine=_AnywhereKnown),
    Defect(
        "a certificate lasts a day longer",
        Shown((_facts_of(certified_until__iso27001="2026-11-17"),), (_GOOD,)),
        engine=_Yesterday,
    ),
    Defect(
        "verdicts stay as they were when something changes",
        Shown((_facts_of(staff_countries=["NO"]),), (_HERE,), (_facts_of(staff_countries=["NO", "US"]),)),
        seam=_kept,
    ),
    Defect(
        "a half is taken for a majority",
        Shown(
            (_owned(_has("west", "50%"), _has("north", "50%")), _RUN),
            _asks("==", "resource.operator.exposure_control.US", "no"),
        ),
        swaps=_MAJORITY,
    ),
    Defect(
        "only the first document of owners counts",
        Shown(
            (_owned(complete=""), _owned(_has("west", "60%"), name="more", complete=""), _RUN),
            _asks(">", "resource.operator.control_min_ppm.US", 500_000),
        ),
        swaps=((law, "joined", _first_owner),),
    ),
    Defect(
        "a holding ends a day late",
        Shown(
            (_owned(_has("west", "60%", until="2026-11-18"), complete=""), _RUN),
            _asks(">", "resource.operator.control_min_ppm.US", 500_000),
        ),
        swaps=((graph, "_current", _ends_late),),
    ),
    Defect(
        "what may be held at most is what is held at least",
        Shown((_owned(_has("west", "20%..60%"), _has("north", "40%..80%")), _RUN), _LITTLE),
        swaps=((described, "_share", _least_for_most),),
    ),
    Defect(
        "only shares are looked at, and not votes or what converts",
        Shown(
            (
                _owned(
                    _has("west", "10%"),
                    _has("north", "90%"),
                    _has("west", "60%", "votes"),
                    _has("north", "40%", "votes"),
                ),
                _RUN,
            ),
            _LITTLE,
        ),
        swaps=((described, "VIEWS", _views(1)),),
    ),
    Defect(
        "what converts is not counted",
        Shown((_owned(_ALL_NORTH, _SAFE), _RUN), _LITTLE),
        swaps=((rows, "_diluted", lambda _: lambda row, converting: row),),
    ),
    Defect(
        "who is tied to nothing known is tied to nothing",
        Shown((_owned(_ALL_NORTH, north={"headquarters": "unknown"}), _RUN), _LITTLE),
        swaps=((groups, "is_tied", _untied),),
    ),
    Defect(
        "a site is what its operator is, whoever owns it",
        Shown(
            (_owned(_has("west", "100%", of="north")), {**_RUN, "owner": "north"}),
            _asks("<", "resource.control_max_ppm.US", 250_000),
        ),
        swaps=((described, "_of_both", _of_operator),),
    ),
    Defect(
        "suppliers reach nobody",
        Shown(
            (_owned(_ALL_NORTH, _KEYS, lists="staff suppliers"), _RUN),
            _asks("==", "resource.operator.exposure_custody.US", "no"),
        ),
        swaps=((exposure, "_custody", lambda _: lambda *args: None),),
    ),
    Defect(
        "staff that nobody lists is no staff",
        Shown((_owned(_ALL_NORTH), _RUN), (_HERE,)),
        swaps=((described, "_staff", _listed_alone),),
    ),
    Defect(
        "the largest holder is left out",
        Shown((_owned(_has("west", "100%")), _RUN), _asks("<=", "resource.outside_eu_largest_ppm", 240_000)),
        engine=_facts(_no_largest),
    ),
    Defect(
        "everybody's dedicated site is one's own",
        Shown((), _asks("==", "resource.tenancy", "dedicated")),
        engine=_facts(_dedicated),
    ),
    Defect(
        "lists that are not complete count as complete",
        Shown((_owned(_has("north", "80%..100%"), complete=""), _RUN), _LITTLE),
        swaps=((graph, "_above", lambda old: lambda *args: old(*args) * 0),),
    ),
)
