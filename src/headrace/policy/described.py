"""The facts of policies from what is computed of control and exposure: the one place where both vocabularies meet.

What is computed has bounds and answers with unknowns in them; they go over as they are: a lower and an upper bound in ppm, and
``yes``, ``no`` or ``unknown``. Of several views (shares, votes, each as it is and fully diluted) the widest bounds count.
"""

from collections.abc import Collection, Iterable, Mapping

from headrace.core.sovereignty.control import Scope
from headrace.core.sovereignty.exposure import Exposures, Place, Through, exposures, exposures_of_site
from headrace.core.sovereignty.graph import VIEWS, Graph
from headrace.core.sovereignty.groups import countries_of, group_in, group_outside, ties_of
from headrace.core.sovereignty.holdings import Answer, PartyId, Share
from headrace.core.sovereignty.integrated import Group, reach
from headrace.core.sovereignty.limits import Limit, against
from headrace.policy.schema import ALL, UNKNOWN, WHOLE_PPM, Value

EU = (
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT", "LU", "LV", "MT", "NL",
    "PL", "PT", "RO", "SE", "SI", "SK",
)  # fmt: skip
_NOBODY = ""
"""A country that no party is tied to: who may be tied to it may be tied to any."""


def of_company(graph: Graph, name: str, company: PartyId | None) -> dict[str, Value]:
    """The facts of a company, as ``name`` (``site.operator``); none of a company that isn't known: all of it is unknown."""
    if company is None or company not in graph.number:
        return {}
    party = graph.parties[graph.number[company]]
    return {
        f"{name}.seat": party.country or UNKNOWN,
        **of_exposures(name, exposures(graph, company)),
        **of_control(name, graph, company),
    }


def of_exposures(name: str, found: Exposures) -> dict[str, Value]:
    """Which countries reach something, through anything and through each channel; all others are out, or unknown."""
    facts: dict[str, Value] = {}
    for through in (None, *Through):
        family = f"{name}.exposure" if through is None else f"{name}.exposure_{through}"
        rest = found.answer(_NOBODY, through)
        facts[f"{family}.{ALL}"] = str(rest)
        for country in sorted({flag.country for flag in found.flags}):
            answer = found.answer(country, through)
            if answer is not rest:
                facts[f"{family}.{country}"] = str(answer)
    return facts


def of_control(name: str, graph: Graph, company: PartyId) -> dict[str, Value]:
    """How much of a company is controlled from each country, and from outside the EU: alone and together."""
    scope = Scope(graph, company)
    over = [graph.parties[int(number)] for number in scope.parties]
    countries = {country for party in over for tie in ties_of(party) for country in countries_of(party, tie)}
    facts: dict[str, Value] = {}
    rest = _share(scope, group_in(graph, _NOBODY))
    facts[f"{name}.control_max_ppm.{ALL}"] = rest.most_ppm
    for country in sorted(countries):
        share = _share(scope, group_in(graph, country))
        if share.least_ppm:
            facts[f"{name}.control_min_ppm.{country}"] = share.least_ppm
        if share.most_ppm != rest.most_ppm:
            facts[f"{name}.control_max_ppm.{country}"] = share.most_ppm
    held = against(graph, company, Limit("outside the EU", EU, WHOLE_PPM, WHOLE_PPM))
    together = _share(scope, group_outside(graph, EU)).most_ppm
    alone = max((single.share.most_ppm for one in held for single in one.singles), default=0)
    # Nobody alone has more than all together.
    facts[f"{name}.outside_eu_ppm"] = together
    facts[f"{name}.outside_eu_largest_ppm"] = min(alone, together)
    return facts


def _share(scope: Scope, group: Group) -> Share:
    """What a group has of the scope's entity, by the widest bounds of all views."""
    certain, possible = group.certain[scope.parties], group.possible[scope.parties]
    # The entity's own seat says nothing of who holds it.
    certain[scope.row] = possible[scope.row] = False
    found = [reach(scope.books[view], Group(certain, possible)).share(scope.row) for view in VIEWS]
    return Share(min(one.least_ppm for one in found), max(one.most_ppm for one in found))


def of_site(
    graph: Graph, place: Place, owner: PartyId | None, known: Mapping[str, Value] | None = None
) -> dict[str, Value]:
    """The facts of a site: its own, its operator's and its owner's; ``known`` are attested ones (certificates, encryption).

    As much of the site counts as controlled from a country as of its operator or its owner, whichever is more, and at least as
    much as of both. An owner that isn't known leaves all of that unknown, and an operator that isn't known all but the owner.
    """
    if place.operator not in graph.number:
        # Said, and not left out: what the estate's operator is counts for sites that nobody else is named for.
        nobody: dict[str, Value] = {"site.country": place.country or UNKNOWN, "site.operator.seat": UNKNOWN}
        return dict(sorted({**nobody, **of_company(graph, "site.owner", owner), **(known or {})}.items()))
    operator = of_company(graph, "site.operator", place.operator)
    # Most own what they operate: the same facts of the same company, by another name.
    owned = (
        {name.replace("site.operator", "site.owner", 1): value for name, value in operator.items()}
        if owner == place.operator
        else of_company(graph, "site.owner", owner)
    )
    reached = exposures_of_site(graph, place)
    facts: dict[str, Value] = {
        "site.country": place.country or UNKNOWN,
        "site.staff_countries": _staff(reached),
        **of_exposures("site", reached),
        **operator,
        **owned,
    }
    if operator and owned:
        facts |= _of_both("site", ("site.operator", "site.owner"), facts)
    return dict(sorted({**facts, **(known or {})}.items()))


def _staff(found: Exposures) -> str:
    """The countries that people who work there are tied to, and whether more are possible."""
    people = [flag for flag in found.flags if flag.through is Through.PERSON]
    words = {flag.country for flag in people}
    if found.gaps.get(Through.PERSON) or any(flag.answer is not Answer.YES for flag in people):
        words.add(UNKNOWN)
    return " ".join(sorted(words))


def _of_both(name: str, parts: Collection[str], facts: Mapping[str, Value]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for family, pick, unstated in (("control_max_ppm", max, WHOLE_PPM), ("control_min_ppm", min, 0)):
        keys = {key for part in parts for key in _keys(facts, f"{part}.{family}")}
        for key in sorted(keys):
            rests = {part: facts.get(f"{part}.{family}.{ALL}", unstated) for part in parts}
            found[f"{name}.{family}.{key}"] = pick(
                int(facts.get(f"{part}.{family}.{key}", rests[part])) for part in parts
            )
    for part in ("outside_eu_ppm", "outside_eu_largest_ppm"):
        found[f"{name}.{part}"] = max(int(facts[f"{one}.{part}"]) for one in parts)
    return found


def _keys(facts: Iterable[str], family: str) -> set[str]:
    return {name.rpartition(".")[2] for name in facts if name.rpartition(".")[0] == family}
