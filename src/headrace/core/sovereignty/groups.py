"""Which parties belong to a country, or stand outside a set of them: facts about seats, headquarters, nationalities
and residences.

What is not stated is unknown. A buyer's profile says which ties count.
"""

from collections.abc import Callable, Collection
from enum import StrEnum

import numpy as np

from headrace.core.sovereignty.graph import Graph
from headrace.core.sovereignty.holdings import Answer, Party, PartyId, PartyKind
from headrace.core.sovereignty.integrated import Group


class Tie(StrEnum):
    """What ties a party to a country."""

    SEAT = "seat"
    """Where a company is registered; a state's own country."""
    HEADQUARTERS = "headquarters"
    NATIONALITY = "nationality"
    RESIDENCE = "residence"


ALL_TIES = frozenset(Tie)
_OF_PERSONS = frozenset({Tie.NATIONALITY, Tie.RESIDENCE})
_OF_STATES = frozenset({Tie.SEAT})
_OF_COMPANIES = frozenset({Tie.SEAT, Tie.HEADQUARTERS})


def countries_of(party: Party, tie: Tie) -> tuple[str, ...]:
    """The countries that a tie leads to; none: not known."""
    match tie:
        case Tie.SEAT:
            return (party.country,) if party.country else ()
        case Tie.HEADQUARTERS:
            return (party.headquarters,) if party.headquarters else ()
        case Tie.NATIONALITY:
            return party.nationalities
        case Tie.RESIDENCE:
            return party.residences


def ties_of(party: Party) -> frozenset[Tie]:
    """The ties that a party of its kind has."""
    if party.kind is PartyKind.PERSON:
        return _OF_PERSONS
    return _OF_STATES if party.kind is PartyKind.STATE else _OF_COMPANIES


def is_tied(party: Party, country: str, by: Collection[Tie] = ALL_TIES) -> Answer:
    """Whether one of the ties that count leads to a country."""
    if party.kind is PartyKind.UNNAMED:
        return Answer.UNKNOWN
    known = [countries_of(party, tie) for tie in ties_of(party) if tie in by]
    if any(country in one for one in known):
        return Answer.YES
    return Answer.UNKNOWN if any(not one for one in known) else Answer.NO


def is_outside(party: Party, countries: Collection[str], by: Collection[Tie] = ALL_TIES) -> Answer:
    """Whether a party stands outside of a set of countries: a seat, headquarters or residence there does, a
    nationality when none is inside.
    """
    if party.kind is PartyKind.UNNAMED:
        return Answer.UNKNOWN
    known = {tie: countries_of(party, tie) for tie in ties_of(party) if tie in by}
    for tie, found in known.items():
        out = [country not in countries for country in found]
        if found and (all(out) if tie is Tie.NATIONALITY else any(out)):
            return Answer.YES
    return Answer.UNKNOWN if any(not found for found in known.values()) else Answer.NO


def group_of(graph: Graph, parties: Collection[PartyId]) -> Group:
    """Some parties by name; whoever has no name may be one of them."""
    certain = np.zeros(len(graph), np.bool_)
    certain[[graph.number[party] for party in parties]] = True
    return Group(certain, certain | graph.unnamed)


def group_in(graph: Graph, country: str, by: Collection[Tie] = ALL_TIES) -> Group:
    """Everybody who is tied to a country."""
    return _group(graph, lambda party: is_tied(party, country, by))


def group_outside(graph: Graph, countries: Collection[str], by: Collection[Tie] = ALL_TIES) -> Group:
    """Everybody outside of a set of countries."""
    return _group(graph, lambda party: is_outside(party, countries, by))


def _group(graph: Graph, ask: Callable[[Party], Answer]) -> Group:
    # Parties with the same ties have the same answer: there are few ways to be tied, and many parties.
    known: dict[tuple[object, ...], Answer] = {}
    answers = []
    for party in graph.parties:
        key = (party.kind, party.country, party.headquarters, party.nationalities, party.residences)
        answer = known.get(key)
        if answer is None:
            answer = known[key] = ask(party)
        answers.append(answer)
    certain = np.array([answer is Answer.YES for answer in answers], np.bool_)
    possible = np.array([answer is not Answer.NO for answer in answers], np.bool_)
    return Group(certain, possible)
