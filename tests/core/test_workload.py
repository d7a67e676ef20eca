"""The states of a workload: the table of transitions says all that can happen, and nothing that can't."""

import pytest

from headrace.core.workload import HOLDING, TERMINAL, TRANSITIONS, RankPlace, State


def test_every_state_is_in_the_table_and_can_be_reached() -> None:
    """From the queue, where everything begins."""
    assert set(TRANSITIONS) == set(State)
    reached, new = {State.QUEUED}, {State.QUEUED}
    while new:
        new = {after for state in new for after in TRANSITIONS[state]} - reached
        reached |= new
    assert reached == set(State)


@pytest.mark.parametrize("state", State)
def test_a_state_is_an_end_or_leads_to_one(state: State) -> None:
    """Nothing leads out of an end; what holds nodes can always be stopped; what waits holds none."""
    assert (state in TERMINAL) is (not TRANSITIONS[state])
    assert state not in TRANSITIONS[state]
    if state in HOLDING:
        assert State.STOPPED in TRANSITIONS[state]
        assert State.QUEUED in TRANSITIONS[state]
    assert {state} & (TERMINAL | HOLDING | {State.QUEUED}) == {state}
    assert not TERMINAL & HOLDING


def test_only_what_waits_is_placed_or_refused() -> None:
    """Everything else was judged before."""
    for wanted in (State.PLACED, State.REFUSED):
        assert [state for state in State if wanted in TRANSITIONS[state]] == [State.QUEUED]


@pytest.mark.parametrize(("mask", "count"), [(0, 0), (1, 1), (0b1010, 2), ((1 << 72) - 1, 72)])
def test_a_rank_has_an_accelerator_for_each_bit_of_its_mask(mask: int, count: int) -> None:
    """Also beyond 64 of them."""
    assert RankPlace("n", mask, 0, 0).accelerators == count
