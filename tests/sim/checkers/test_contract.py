"""Promise 5 is watched as far as it is enforced: dedicated sites, and what a reservation holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.core.contracts import Contract
from headrace.core.ids import ContractId, SiteId
from headrace.sim.checkers.contract import ContractChecker
from tests.sim.checkers.streams import (
    ACME,
    BETA,
    ESTATE,
    GANG,
    NORTH,
    PLAN,
    Edit,
    chain,
    commit,
    document,
    insert,
    placed,
    put,
    rank,
    rules,
    spec,
    story,
    submitted,
    told,
)

HELD = replace(GANG, contract=ContractId("acme-held"))
RESERVED = Contract(
    ContractId("acme-held"), ACME, PLAN.id, "reserved", None, "lab", 4, "2026-01-01", "2026-01-11"
)
SOLD = Contract(ContractId("beta-north"), BETA, PLAN.id, "dedicated", SiteId("north"))


def held(**changes: object) -> Edit:
    """Return the edit in which the gang of four accelerators runs under a reservation."""
    contract = document("contract", replace(RESERVED, **changes))  # type: ignore[arg-type]
    return chain(put("acme-held", contract), put("submit-1", submitted("acme-1", HELD)))


def at_north(**changes: object) -> Edit:
    """Return the edit that declares the northern site otherwise."""
    north = replace(NORTH, **changes)  # type: ignore[arg-type]
    return put("estate", document("estate", replace(ESTATE, sites=(north, *ESTATE.sites[1:]))))


BROKEN: dict[str, tuple[str, Edit]] = {
    "at another's dedicated site": ("dedicated", at_north(dedicated_to=BETA)),
    "at a site that was sold whole": ("dedicated", insert("beta-all", document("contract", SOLD))),
    "more than it holds": ("over-held", held(accelerators=3)),
    "more than it holds, in two": (
        "over-held",
        chain(
            held(),
            insert(
                "start-1",
                submitted("acme-9", spec(1, contract=ContractId("acme-held"))),
                placed("acme-9", "north", rank("north/a/g-1-0", 1)),
            ),
        ),
    ),
    "before it starts": ("contract", held(starts="2026-01-11", ends="")),
    "after it ended": ("contract", held(ends="2026-01-10")),
    "at another site": ("contract", held(site=SiteId("south"))),
    "of another model": ("contract", held(model="H100")),
    "of another tenant": ("contract", held(tenant=BETA)),
    "of nobody": ("contract", put("submit-1", submitted("acme-1", replace(HELD, contract=ContractId("x"))))),
}
CLEAN: dict[str, Edit] = {
    "the story": lambda steps: steps,
    "as much as it holds": held(),
    "as much again after an end": chain(
        held(),
        insert(
            "end-1",
            submitted("acme-9", HELD),
            placed("acme-9", "north", rank("north/a/g-0-0"), rank("north/a/g-0-1")),
        ),
    ),
    "a site that was sold for later": insert(
        "beta-all", document("contract", replace(SOLD, starts="2026-02-01"))
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_capacity_that_was_sold_to_another_is_found_taken(name: str) -> None:
    """Promise 5: dedicated sites alone; nobody holds more than was sold."""
    rule, edit = BROKEN[name]
    assert rules(told(edit).contract.violations) == {rule}


@pytest.mark.parametrize("name", CLEAN)
def test_what_is_within_a_contract_is_found_clean(name: str) -> None:
    """By the checker alone."""
    checker = ContractChecker()
    for committed in commit(CLEAN[name](story())):
        checker.observe(committed)
    assert checker.violations == []
