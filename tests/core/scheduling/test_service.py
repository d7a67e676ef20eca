"""What may be expected of a workload: stated durations, siblings, ranks and ageing."""

from itertools import pairwise
from random import Random

import numpy as np
import pytest

from headrace.core.ids import WorkloadId
from headrace.core.scheduling.service import (
    BINS,
    EDGES_MS,
    FIRST_MS,
    GRACE_MS,
    MOST_KINDS,
    PRIOR_HAZARD,
    REACH,
    STRETCH,
    History,
    bin_of,
    expect,
    ranks_ms,
)
from headrace.core.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_MINUTE

NAMES = [WorkloadId(f"w-{number}") for number in range(200)]


def history(count: int, kind: str = "8") -> History:
    made = History()
    for name in NAMES[:count]:
        made.enter(name, kind)
    return made


def rows(made: History, count: int) -> list[list[int]]:
    return [list(made.rests_ms(name)) for name in NAMES[:count] if name in made]


def test_bins_double_from_ten_minutes_on() -> None:
    """An edge belongs to the bin that it begins; the last bin has no end."""
    assert [bin_of(each) for each in (0, FIRST_MS - 1, FIRST_MS, 2 * FIRST_MS - 1)] == [0, 0, 1, 1]
    assert [bin_of(edge) for edge in EDGES_MS] == list(range(BINS))
    assert bin_of(100 * EDGES_MS[-1]) == BINS - 1


def test_a_rank_is_the_least_over_all_attempts() -> None:
    """Certain to end in the first bin: half of it remains. Never before the second: all of that and half of the next."""
    hazards = np.full((2, BINS), PRIOR_HAZARD)
    hazards[0, 0] = 1
    hazards[1, :2] = 0, 1
    found = ranks_ms(hazards)
    assert found[0, 0] == FIRST_MS // 2
    assert found[1, 0] == FIRST_MS + FIRST_MS // 2
    assert found.dtype == np.int64


def test_without_siblings_the_longer_it_ran_the_longer_it_will() -> None:
    """The prior is a heavy tail: what remains grows with what was attained, from the second bin (as long as the first) on."""
    rests_ms = history(1).rests_ms(NAMES[0])
    assert all(before < after for before, after in pairwise(rests_ms[1:-3]))


def test_siblings_that_ended_early_shorten_what_remains() -> None:
    """Neighbours of the same kind that ended within ten minutes make an early end likely; others say nothing."""
    made = history(9)
    before = made.rest_ms(NAMES[4], 0)
    for name in (NAMES[3], NAMES[5]):
        made.end(name, 2 * MS_PER_MINUTE)
    assert made.rest_ms(NAMES[4], 0) < before / 3
    other = WorkloadId("other")
    made.enter(other, "16")
    assert made.rest_ms(other, 0) == before


def test_siblings_that_go_on_for_long_lengthen_what_remains() -> None:
    """They count before they end, by what they have attained."""
    made = history(9)
    before = made.rest_ms(NAMES[4], 0)
    for name in (NAMES[3], NAMES[5]):
        made.attain(name, 40 * MS_PER_HOUR)
    assert made.rest_ms(NAMES[4], 0) > 2 * before


def test_who_was_stopped_does_not_count_as_ended() -> None:
    """Somebody's stop says that it ran for so long, not that it would have ended then."""
    stopped, ended = history(2), history(2)
    stopped.end(NAMES[0], MS_PER_MINUTE, by_itself=False)
    ended.end(NAMES[0], MS_PER_MINUTE)
    assert rows(stopped, 2) == [list(history(1).rests_ms(NAMES[0]))]
    assert stopped.rest_ms(NAMES[1], 0) > ended.rest_ms(NAMES[1], 0)


def test_only_neighbours_count() -> None:
    """Nobody beyond the reach is heard; those concerned are named once, the one that ended is not."""
    count = 3 * REACH
    made = history(count)
    since, changed = made.changes(0)
    assert changed is not None
    assert set(changed) == set(NAMES[:count])
    assert made.changes(since) == (since, ())
    made.end(NAMES[0], MS_PER_MINUTE)
    then, changed = made.changes(since)
    assert sorted(changed or ()) == sorted(NAMES[1 : REACH + 1])
    made.attain(NAMES[count - 1], MS_PER_DAY)
    assert sorted(made.changes(then)[1] or ()) == sorted(NAMES[count - 1 - REACH : count])
    assert made.changes(since)[1] is not None


def test_depends_on_what_was_told_not_on_when_or_how_often_somebody_asked() -> None:
    """A history that was asked at every step says the same as one that is told all at once."""
    chance = Random(7)
    asked = History()
    attained = dict.fromkeys(NAMES, 0)
    ended = []
    for number, name in enumerate(NAMES):
        asked.enter(name, str(number % 2))
        other = NAMES[chance.randrange(number + 1)]
        if other in asked:
            attained[other] += chance.choice((MS_PER_MINUTE, MS_PER_HOUR, MS_PER_DAY))
            asked.attain(other, attained[other])
            if chance.random() < 0.4:
                asked.end(other, attained[other])
                ended.append(other)
        asked.changes(0)
    told = History()
    for number, name in enumerate(NAMES):
        told.enter(name, str(number % 2))
    for name in reversed(NAMES):
        if name in ended:
            told.end(name, attained[name])
        else:
            told.attain(name, attained[name])
    assert rows(asked, len(NAMES)) == rows(told, len(NAMES))
    assert len(ended) > 20


def test_a_workload_enters_once() -> None:
    """Twice is a mistake of whoever tells it."""
    with pytest.raises(ValueError, match="w-0 has entered already"):
        history(1).enter(NAMES[0], "8")


def test_a_stated_duration_is_believed_until_it_has_passed() -> None:
    """Before: exactly what remains. After: what its siblings say."""
    made = history(1)
    known = expect(made, NAMES[0], 8, MS_PER_HOUR, MS_PER_HOUR, 3 * MS_PER_HOUR)
    assert (known.index, known.exact, known.outlook) == (8 * 2 * MS_PER_HOUR, True, ())
    passed = expect(made, NAMES[0], 8, 3 * MS_PER_HOUR, MS_PER_HOUR, 3 * MS_PER_HOUR)
    assert (passed.index, passed.exact) == (8 * made.rest_ms(NAMES[0], 3 * MS_PER_HOUR), False)


def test_the_outlook_says_what_the_index_will_be() -> None:
    """At each later edge of attained time it is what would be expected there."""
    made = history(1)
    found = expect(made, NAMES[0], 4, MS_PER_HOUR, 0)
    assert [attained_ms for attained_ms, _ in found.outlook] == [
        edge for edge in EDGES_MS if edge > MS_PER_HOUR
    ]
    for attained_ms, index in found.outlook:
        assert index == expect(made, NAMES[0], 4, attained_ms, 0).index


def test_the_index_halves_with_each_doubling_of_age_beyond_the_stretch() -> None:
    """Not before twice the stretch of a day; then when `ripens_ms` said."""
    made = History()
    fresh = expect(made, NAMES[0], 1, 0, 0, MS_PER_HOUR)
    assert fresh.ripens_ms == 2 * STRETCH * GRACE_MS
    age_ms = 0
    for halvings in range(4):
        found = expect(made, NAMES[0], 1, 0, age_ms, MS_PER_HOUR)
        assert found.index == MS_PER_HOUR >> halvings
        assert expect(made, NAMES[0], 1, 0, found.ripens_ms - 1, MS_PER_HOUR) == found
        age_ms = found.ripens_ms


def test_no_index_is_less_than_one() -> None:
    """However old: what it is worth can be divided by it."""
    assert expect(History(), NAMES[0], 1, 0, 1 << 70, 1).index == 1


def test_what_it_rests_on_makes_it_again() -> None:
    """From the rows alone, and what those that have not ended have attained, comes a history that says the same for ever."""
    for seed in range(10):
        chance = Random(seed)
        made, attained = History(), dict[WorkloadId, int]()
        for number in range(400):
            name = WorkloadId(f"w-{number}")
            made.enter(name, str(number % 2))
            attained[name] = 0
            other = chance.choice(list(attained))
            attained[other] += chance.choice((MS_PER_MINUTE, MS_PER_HOUR, MS_PER_DAY))
            made.attain(other, attained[other])
            if chance.random() < 0.95:
                made.end(other, attained.pop(other), by_itself=chance.random() < 0.8)
            if number % 100 == 99:
                again = History({kind: list(rows) for kind, rows in made.kinds.items()})
                for name, ran_ms in attained.items():
                    again.attain(name, ran_ms)
                assert [made.rests_ms(name) for name in attained] == [
                    again.rests_ms(name) for name in attained
                ]
                made = again


def test_what_is_too_far_from_everybody_is_dropped_and_changes_nothing() -> None:
    """A thousand that ended beside one that goes on leave as little as it can hear; it expects what it would with all of them."""
    made, first, near = History(), WorkloadId("first"), list[int]()
    made.enter(first, "8")
    for number in range(1_000):
        name = WorkloadId(f"w-{number}")
        made.enter(name, "8")
        made.end(name, MS_PER_HOUR)
        if number == REACH - 1:
            near = list(made.rests_ms(first))
    assert len(made.kinds["8"]) < 128
    assert list(made.rests_ms(first)) == near
    last = WorkloadId("last")
    made.enter(last, "8")
    few = History()
    for number in range(REACH):
        few.enter(NAMES[number], "8")
        few.end(NAMES[number], MS_PER_HOUR)
    few.enter(last, "8")
    assert list(made.rests_ms(last)) == list(few.rests_ms(last))


def test_what_was_measured_counts_and_not_what_a_planner_counted_by_its_clock() -> None:
    """Told of more in between, or not: the same is kept, and the same is expected of a sibling."""
    found = []
    for counted in (True, False):
        history = History()
        for name in ("first", "second"):
            history.enter(WorkloadId(name), "kind")
        if counted:
            history.attain(WorkloadId("first"), 8 * FIRST_MS)
            history.rests_ms(WorkloadId("second"))
        history.end(WorkloadId("first"), FIRST_MS // 2)
        found.append((history.kinds, list(history.rests_ms(WorkloadId("second")))))
    assert found[0] == found[1]


def test_kinds_of_which_everybody_has_ended_are_forgotten_at_last() -> None:
    """Whoever invents kinds fills no memory, and those that go on are kept."""
    made = History()
    made.enter(NAMES[0], "kept")
    for number in range(2 * MOST_KINDS):
        made.enter(WorkloadId("one"), f"kind {number}")
        made.end(WorkloadId("one"), MS_PER_MINUTE)
    assert len(made.kinds) <= MOST_KINDS + 64
    assert "kept" in made.kinds
    assert list(made.rests_ms(NAMES[0])) == list(made.rests_ms(WorkloadId("never entered")))
