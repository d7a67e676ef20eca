"""Who goes for an equal is watched: only a job that saves its state, for another one, once it had its time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.core.events import (
    Committed,
    Event,
    EvictionRequested,
    PlacementMade,
    PlacementStarted,
    WorkloadSubmitted,
)
from headrace.core.ids import Digest, PlacementId, SiteId, WorkloadId
from headrace.core.workload import EndReason, Flex, WorkloadSpec, WorkloadType
from headrace.sim.checkers.equals import EqualsChecker
from tests.sim.checkers.streams import ACME, BETA, START_MS, spec

SAVES = spec(flex=Flex.PREEMPTIBLE, checkpoint_ms=3_600_000)
QUICK = replace(SAVES, checkpoint_ms=2_000, restart_ms=3_000)
NOTHING = replace(SAVES, checkpoint_ms=0)


def told(
    victim: WorkloadSpec,
    waiting: WorkloadSpec,
    ran_ms: int | None = 60_000,
    tenant: object = ACME,
    reason: EndReason = EndReason.PREEMPTED,
) -> EqualsChecker:
    """One goes for another, ``ran_ms`` after it started (None: it never did)."""
    checker, at_ms = EqualsChecker(), START_MS
    one, other, placement = WorkloadId("acme-1"), WorkloadId("acme-2"), PlacementId("acme-1.1")
    events: list[Event] = [
        WorkloadSubmitted(one, ACME, victim, "", ""),
        WorkloadSubmitted(other, tenant, waiting, "", ""),  # type: ignore[arg-type]
        PlacementMade(placement, one, ACME, SiteId("north"), (), Digest(""), 0),
        PlacementStarted(placement, {}, "none"),
        EvictionRequested(placement, reason, f"made room for {other}"),
    ]
    if ran_ms is None:
        del events[3]
    for seq, event in enumerate(events):
        at_ms += (ran_ms or 0) if isinstance(event, EvictionRequested) else 0
        checker.observe(Committed(seq, at_ms, event))
    return checker


@pytest.mark.parametrize(
    ("victim", "waiting", "ran_ms"),
    [
        (NOTHING, SAVES, 60_000),
        (SAVES, NOTHING, 60_000),
        (spec(), spec(), 60_000),
        (SAVES, replace(SAVES, type=WorkloadType.SERVICE), 60_000),
        (SAVES, SAVES, 59_999),
        (SAVES, SAVES, None),
        (QUICK, SAVES, 4_999),
    ],
)
def test_who_goes_for_an_equal_against_the_rule_is_found(
    victim: WorkloadSpec, waiting: WorkloadSpec, ran_ms: int | None
) -> None:
    """Promise 5: whatever of it does not hold."""
    checker = told(victim, waiting, ran_ms)
    assert [one.rule for one in checker.violations] == ["equals"]
    assert checker.swaps == 1


@pytest.mark.parametrize(("victim", "ran_ms"), [(SAVES, 60_000), (QUICK, 5_000)])
def test_who_goes_for_an_equal_by_the_rule_is_counted(victim: WorkloadSpec, ran_ms: int) -> None:
    """It broke nothing."""
    checker = told(victim, SAVES, ran_ms)
    assert (checker.violations, checker.swaps) == ([], 1)


def test_who_is_no_equal_is_none_of_its_business() -> None:
    """Others rank above it, or it goes for another reason."""
    found = [
        told(NOTHING, replace(SAVES, priority=1)),
        told(NOTHING, SAVES, tenant=BETA),
        told(replace(NOTHING, type=WorkloadType.FILLER), SAVES),
        told(NOTHING, SAVES, reason=EndReason.DRAINED),
    ]
    assert [(one.violations, one.swaps) for one in found] == [([], 0)] * len(found)
