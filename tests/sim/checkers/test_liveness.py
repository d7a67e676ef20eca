"""At rest, what could be placed is placed, and nothing hangs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.core.contracts import Contract
from headrace.core.estate import Connection
from headrace.core.events import EvictionRequested, NodeStateChanged, StopRequested, WorkloadRequeued
from headrace.core.ids import ContractId, PlacementId, SiteId, WorkloadId
from headrace.core.workload import EndReason, PolicyRef, WorkloadSpec, WorkloadType
from headrace.sim.checkers.liveness import LivenessChecker
from tests.sim.checkers.streams import (
    ACME,
    END_MS,
    ESTATE,
    PLAN,
    RUNNING,
    SOUTHERN,
    Edit,
    chain,
    commit,
    document,
    drop,
    ended,
    insert,
    put,
    rules,
    spec,
    story,
    submitted,
    told,
)

ALL_NORTH = spec(4, nodes=3)


def waits(of: WorkloadSpec) -> Edit:
    """Return the edit with one more workload in the queue."""
    return insert("drain", submitted("acme-9", of))


BROKEN: dict[str, tuple[str, Edit]] = {
    "a job that fits": ("not-placed", waits(spec(4))),
    "a gang that fits on three ready nodes": ("not-placed", waits(ALL_NORTH)),
    "a cluster that fits": ("not-placed", waits(spec(4, type=WorkloadType.CLUSTER))),
    "one that fits what is left of the power": ("not-placed", drop("place-4", "start-4", "meter-4")),
    "one whose time has come": (
        "not-placed",
        put("requeue-6", WorkloadRequeued(WorkloadId("beta-2"), "x", END_MS)),
    ),
    "one on a reservation that is free": (
        "not-placed",
        chain(
            waits(spec(2, contract=ContractId("acme-held"))),
            put(
                "acme-held",
                document(
                    "contract", Contract(ContractId("acme-held"), ACME, PLAN.id, "reserved", None, "lab", 6)
                ),
            ),
        ),
    ),
    "placed and never started": ("stuck", drop("start-4")),
    "evicted and never ended": ("stuck", chain(drop("end-6", "requeue-6"))),
    "told to stop and never ended": ("stuck", insert("start-4", StopRequested(WorkloadId("acme-3")))),
}
CLEAN: dict[str, Edit] = {
    "the story": lambda steps: steps,
    "a gang that wants the node that drains": waits(spec(4, nodes=4)),
    "a gang that wants a node that is down": chain(
        waits(ALL_NORTH), insert("drain", NodeStateChanged("north/a/g-0-0", "down"))
    ),
    "a cluster beside another": waits(spec(4, type=WorkloadType.CLUSTER, site=SiteId("own"))),
    "one whose policy forbids it": waits(spec(4, policy=PolicyRef(countries=("SE",)))),
    "one that no contract covers": chain(waits(spec(2)), drop("acme-all"), drop("submit-5")),
    "one on a reservation that is in use": chain(
        waits(spec(2, contract=ContractId("acme-held"))), drop("submit-5")
    ),
    "too much for the power": chain(
        put(
            "estate",
            document(
                "estate",
                replace(
                    ESTATE, sites=(replace(ESTATE.sites[0], connection=Connection(3_199)), *ESTATE.sites[1:])
                ),
            ),
        ),
        waits(ALL_NORTH),
    ),
    "a node that came back": chain(
        insert("drain", NodeStateChanged("north/a/g-0-0", "down"), NodeStateChanged("north/a/g-0-0", "ready"))
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_hangs_at_rest_is_found(name: str) -> None:
    """Everything placeable is placed, everything stopped has ended."""
    rule, edit = BROKEN[name]
    checkers = told(edit)
    live = [placement for placement in (*RUNNING, "beta-2.1") if placement in checkers.occupancy.live]
    checkers.liveness.at_rest(END_MS, live)
    assert rules(checkers.liveness.violations) == {rule}


@pytest.mark.parametrize("name", CLEAN)
def test_what_must_wait_may_wait(name: str) -> None:
    """By the checker alone: law, contract, power, state and capacity are reasons."""
    checker = LivenessChecker()
    for committed in commit(CLEAN[name](story())):
        checker.observe(committed)
    checker.at_rest(END_MS, RUNNING)
    assert checker.violations == []


def test_the_journal_and_the_engine_agree_on_what_runs() -> None:
    """Neither has what the other has not."""
    checkers = told()
    checkers.liveness.at_rest(END_MS, ["beta-1.1", "acme-1.1"])
    assert [(one.rule, one.subject) for one in checkers.liveness.violations] == [
        ("not-running", "acme-3.1"),
        ("still-running", "acme-1.1"),
    ]


def test_an_eviction_that_ended_is_settled() -> None:
    """A stop is over when its end is recorded."""
    checkers = told(
        insert(
            "start-4",
            EvictionRequested(PlacementId("acme-3.1"), EndReason.DRAINED),
            ended("acme-3", (2_000, 0), reason=EndReason.DRAINED),
        )
    )
    checkers.liveness.at_rest(END_MS, ["beta-1.1"])
    # The south is free now: who waits for it should have it.
    assert [(one.rule, one.subject) for one in checkers.liveness.violations] == [("not-placed", "acme-4")]
    assert SOUTHERN.site == "south"
