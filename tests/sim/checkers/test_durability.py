"""Promise 3 is watched: what was acknowledged stays, once, and nothing is done twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headrace.core.events import Committed
from headrace.core.workload import EndReason
from headrace.sim.checkers.durability import DurabilityChecker
from tests.sim.checkers.streams import (
    KEYS,
    Edit,
    commit,
    drop,
    ended,
    insert,
    placed,
    rank,
    rules,
    same,
    started,
    story,
    submitted,
    told,
)

SEQ = {name: seq for seq, name in enumerate(story())}
STREAM: dict[str, tuple[str, Edit]] = {
    "a workload submitted twice": ("made-twice", insert("submit-1", submitted("acme-1"))),
    "a placement made twice": (
        "made-twice",
        insert("place-1", placed("acme-1", "north", rank("north/a/g-1-0"))),
    ),
    "a placement started twice": ("started-twice", insert("start-1", started("acme-1"))),
    "a placement ended twice": (
        "ended-twice",
        insert("end-6", ended("beta-2", (700, 0), reason=EndReason.PREEMPTED)),
    ),
}
KEYED = {
    "a key that acts again later": KEYS | {"submit-7": b"key-1"},
    "a key of another request": KEYS | {"stop-7": b"key-2"},
}


def check(act: Callable[[DurabilityChecker], object]) -> set[str]:
    """Return the rules found broken when the clean story is followed by ``act`` and rest."""
    checker = told().durability
    act(checker)
    checker.at_rest()
    return rules(checker.violations)


@pytest.mark.parametrize("name", STREAM)
def test_what_happens_twice_is_found(name: str) -> None:
    """Promise 3: in the journal itself."""
    rule, edit = STREAM[name]
    assert rules(told(edit).durability.violations) == {rule}


@pytest.mark.parametrize("name", KEYED)
def test_a_key_that_acts_twice_is_found(name: str) -> None:
    """Promise 3: an idempotency key does its work once, however often it is sent."""
    assert rules(told(same, KEYED[name]).durability.violations) == {"key-twice"}


def test_a_batch_of_one_key_is_no_repetition() -> None:
    """A thousand submissions of one request are a thousand events at one moment, each alike but for its name."""
    checker = DurabilityChecker()
    for seq in range(1_000):
        checker.observe(Committed(seq, 5, submitted(f"acme-{seq}"), b"key"))
    checker.acknowledged(b"key", [f"acme-{seq}" for seq in range(1_000)], 999)
    checker.at_rest()
    assert checker.violations == []


def test_a_batch_that_made_more_than_it_answered_is_found() -> None:
    """The same request, decided twice within one commit: the names are new, the key is not."""
    checker = DurabilityChecker()
    for seq in range(4):
        checker.observe(Committed(seq, 5, submitted(f"acme-{seq}"), b"key"))
    checker.acknowledged(b"key", ["acme-2", "acme-3"], 3)
    checker.at_rest()
    assert [(one.rule, one.subject) for one in checker.violations] == [
        ("key-twice", "acme-0"),
        ("key-twice", "acme-1"),
    ]


def test_the_same_act_twice_under_one_key_is_found() -> None:
    """What makes nothing new is known by its content."""
    steps = list(commit(insert("stop-7", story()["stop-7"])(story())))
    at = next(seq for seq, one in enumerate(steps) if one.request == b"key-7")
    steps[at + 1] = steps[at + 1]._replace(request=b"key-7", at_ms=steps[at].at_ms)
    checker = DurabilityChecker()
    for committed in steps:
        checker.observe(committed)
    assert rules(checker.violations) == {"key-twice"}


def run_twice(checker: DurabilityChecker) -> None:
    """Start one rank's process, and then another for it."""
    checker.engine_ran("acme-3.1", 0)
    checker.engine_ran("acme-3.1", 0)


ACTS: dict[str, tuple[set[str], Callable[[DurabilityChecker], object]]] = {
    "what is there": (set(), lambda c: c.acknowledged(b"key-1", ["acme-1"], SEQ["submit-1"])),
    "an act that makes nothing": (set(), lambda c: c.acknowledged(b"key-7", ["acme-5"], SEQ["stop-7"])),
    "a request that did nothing": (set(), lambda c: c.acknowledged(b"key-0", [], -1)),
    "a workload that is lost": ({"lost"}, lambda c: c.acknowledged(b"", ["acme-77"], 0)),
    "an act that is lost": ({"lost"}, lambda c: c.acknowledged(b"key-9", ["acme-1"], SEQ["stop-7"])),
    "an act answered before it was": ({"lost"}, lambda c: c.acknowledged(b"key-7", [], SEQ["stop-7"] - 1)),
    "events past the end": ({"lost"}, lambda c: c.acknowledged(b"", [], 10_000)),
    "processes of a placement": (set(), lambda c: c.engine_ran("acme-3.1", 0)),
    "a rank that ran twice": (
        {"ran-twice"},
        run_twice,
    ),
    "a placement that nobody made": ({"ran-unknown"}, lambda c: c.engine_ran("acme-99.1", 0)),
    "a rank that nobody placed": ({"ran-unknown"}, lambda c: c.engine_ran("acme-3.1", 1)),
    "a process after the end": ({"ran-after-end"}, lambda c: c.engine_ran("acme-1.1", 1)),
}


@pytest.mark.parametrize("name", ACTS)
def test_what_clients_and_engines_say_is_held_against_the_journal(name: str) -> None:
    """Promise 3: acknowledged means there, once; started means placed, once, and not yet ended."""
    wanted, act = ACTS[name]
    assert check(act) == wanted


def test_a_journal_that_lost_its_tail_is_found_on_reopening() -> None:
    """Even when nobody was told of the tail: it had been committed."""
    events = commit(story())
    assert check(lambda c: c.reopened(events[:-1])) == {"lost"}


def test_a_journal_that_lost_an_acknowledged_event_says_which() -> None:
    """The client's key is named, and the workload that is gone."""
    checker = told().durability
    checker.acknowledged(b"key-4", ["acme-3"], SEQ["submit-4"])
    checker.reopened(commit(story())[: SEQ["submit-4"]])
    assert {one.subject for one in checker.violations} == {
        "journal",
        "acme-3",
        f"key {b'key-4'.hex()[:12]}",
        f"event {SEQ['submit-4']}",
    }


def test_a_journal_whose_past_changed_is_found_on_reopening() -> None:
    """Not one event may read otherwise than it was committed."""
    assert check(lambda c: c.reopened(commit(drop("pause-2")(story()) | {"x": story()["pause-2"]}))) >= {
        "changed"
    }


def test_a_tail_that_nobody_was_told_of_may_be_there() -> None:
    """A crash between commit and reply: the client asks again, and the key has acted."""
    events = commit(story())
    checker = DurabilityChecker()
    for committed in events[:-5]:
        checker.observe(committed)
    checker.reopened(events)
    for committed in events[-5:]:
        checker.observe(committed)
    checker.at_rest()
    assert checker.violations == []


def test_sequence_and_time_only_go_forward() -> None:
    """A gap, a repetition, or a clock that goes back is found at once."""
    first, second, *_ = commit(story())
    for wrong, rule in (
        (second._replace(seq=2), "sequence"),
        (second._replace(seq=0), "sequence"),
        (second._replace(at_ms=first.at_ms - 1), "time"),
    ):
        checker = DurabilityChecker()
        checker.observe(first)
        checker.observe(wrong)
        assert rules(checker.violations) == {rule}
