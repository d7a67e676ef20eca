"""Policies of simulated buyers in a form of their own: the text in Cedar is made from it, and a checker reads it by itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

What = Literal["country", "staff", "good", "encrypted", "energy", "seat", "held", "unheld", "alone"]


@dataclass(frozen=True, slots=True)
class Demand:
    """One thing that is demanded of a place; what is not known of it does not fulfil it.

    - ``country``, ``energy``, ``seat``: where it stands, what feeds it, where its operator has its seat: one of ``words``.
    - ``staff``: nobody has access from elsewhere than ``words``. ``encrypted``: all of ``words`` are.
    - ``good``: one of the certificates ``words`` is good today.
    - ``held``: surely more than ``ppm`` of its operator is controlled from the country; ``unheld``: surely less.
    - ``alone``: it serves this tenant alone.
    """

    what: What
    words: tuple[str, ...] = ()
    ppm: int = 0

    @property
    def cedar(self) -> str:
        """The question in Cedar."""
        listed = ", ".join(f'"{word}"' for word in self.words)
        first = self.words[0] if self.words else ""
        match self.what:
            case "country":
                return f"[{listed}].contains(resource.country)"
            case "staff":
                return f"[{listed}].containsAll(resource.staff_countries)"
            case "good":
                each = (f"resource.certified_until.{word} >= context.day" for word in self.words)
                return f"({' || '.join(each)})"
            case "encrypted":
                return f"resource.encryption.containsAll([{listed}])"
            case "energy":
                return f"[{listed}].contains(resource.energy_source)"
            case "seat":
                return f"[{listed}].contains(resource.operator.seat)"
            case "held":
                return f"resource.operator.control_min_ppm.{first} > {self.ppm}"
            case "unheld":
                return f"resource.operator.control_max_ppm.{first} < {self.ppm}"
            case "alone":
                return 'resource.tenancy == "dedicated"'


Demands = tuple[Demand, ...]


@dataclass(frozen=True, slots=True)
class Statute:
    """A policy: work may be where all demands of one of ``permits`` hold, and all of ``unless``; ``keeping`` is about data."""

    permits: tuple[Demands, ...]
    unless: Demands = ()
    keeping: Demands = ()

    @property
    def cedar(self) -> str:
        """The policy's text."""
        return "\n".join(self._rules())

    def _rules(self) -> Iterator[str]:
        for number, demands in enumerate(self.permits):
            asked = " && ".join(one.cedar for one in demands)
            yield f'@id("permit-{number}")\npermit (principal, action, resource)\nwhen {{ {asked} }};'
        for number, one in enumerate(self.unless):
            yield f'@id("forbid-{number}")\nforbid (principal, action, resource)\nunless {{ {one.cedar} }};'
        for number, one in enumerate(self.keeping):
            keep = 'action in Action::"keep"'
            yield f'@id("keep-{number}")\nforbid (principal, {keep}, resource)\nunless {{ {one.cedar} }};'


_NORTH, _ALL = ("NO", "SE"), ("NO", "GB", "SE", "DE")


def _country(*words: str) -> Demand:
    return Demand("country", words)


def _staff(*words: str) -> Demand:
    return Demand("staff", words)


STATUTES: dict[str, tuple[Statute, ...]] = {
    "known-staff": (
        Statute(((_staff(*_ALL, "US"),),)),
        Statute(((_staff(*_ALL),),), keeping=(_country("NO"),)),
        Statute(((_staff("NO", "SE"), _country(*_NORTH)), (_staff("GB", "DE"), _country("GB", "DE")))),
        Statute(((_staff("NO", "SE"), _country(*_NORTH)),)),
    ),
    "certified": (
        Statute(((Demand("good", ("iso27001", "soc2")),),)),
        Statute(((Demand("good", ("iso27001",)),),)),
        Statute(((Demand("good", ("iso27001",)),),), unless=(Demand("encrypted", ("at-rest",)),)),
    ),
    "held-at-home": (
        Statute(
            tuple((_country(one), Demand("held", (one,), 300_000)) for one in _ALL),
        ),
        Statute(tuple((_country(one), Demand("held", (one,), 500_000)) for one in _ALL)),
        Statute(
            tuple((_country(one), Demand("held", (one,), 500_000)) for one in _ALL),
            unless=(Demand("unheld", ("US",), 300_000),),
        ),
    ),
    "clean-power": (
        Statute(((Demand("energy", ("hydro", "wind", "grid-mix")),),)),
        Statute(((Demand("energy", ("hydro", "wind")),),), unless=(_country(*_ALL),)),
        Statute(((Demand("energy", ("hydro",)),),), keeping=(Demand("encrypted", ("at-rest",)),)),
    ),
    "careful": (
        Statute(((_country(*_ALL), Demand("encrypted", ("in-transit",))), (Demand("alone"),))),
        Statute(
            ((_country(*_ALL), Demand("encrypted", ("at-rest", "in-transit"))), (Demand("alone"),)),
            unless=(Demand("seat", _ALL),),
        ),
        Statute(
            ((Demand("encrypted", ("at-rest", "in-transit")),),),
            unless=(_staff(*_ALL), Demand("good", ("iso27001", "c5"))),
        ),
    ),
}
"""By name, each from the loosest to the strictest. Few, since a process reads and proves each text once."""
NEW = "declared-late"
"""A policy that nobody has at the beginning of a world."""
STATUTES[NEW] = (Statute(((_country(*_ALL), _staff(*_ALL)),)), Statute(((_country(*_NORTH),),)))
BY_TEXT: dict[str, Statute] = {one.cedar: one for versions in STATUTES.values() for one in versions}
"""What each text says."""
