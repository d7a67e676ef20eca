"""The control loop: what is acknowledged is durable, and what is not durable never was."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.control import SYSTEM, Caller, Control, request_digest
from headrace.core import commands as c
from headrace.core.authority import Role, Subject
from headrace.core.errors import HeadraceError, ProblemCode
from headrace.core.ids import WorkloadId
from headrace.core.observation import RankState
from headrace.journal.sqlite import JournalUnavailable, SqliteStore
from tests.journal.small import (
    ACME,
    BOREALIS,
    MEMBER,
    START_MS,
    SeededBytes,
    SetClock,
    begun,
    job,
    keys,
    live_a_life,
    opened,
    place,
    report,
    submit,
)


class Store(SqliteStore):
    """A store whose disk can be full."""

    full = False

    def append(self, *args: Any, **more: Any) -> None:
        if self.full:
            raise JournalUnavailable("disk full")
        super().append(*args, **more)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def control(tmp_path: Path, clock: SetClock) -> Iterator[Control]:
    begun(tmp_path, clock=clock).store.close()
    made = Control(Store(tmp_path / "journal.sqlite"), keys(), clock, random=SeededBytes("again"))
    yield made
    made.store.close()


def fill(control: Control, *, full: bool = True) -> None:
    assert isinstance(control.store, Store)
    control.store.full = full


def test_a_restarted_control_has_the_world_that_was_committed(tmp_path: Path) -> None:
    """Every kind of event, from the journal alone and from a checkpoint: state, chain and head are equal."""
    clock = SetClock()
    first = begun(tmp_path, clock=clock)
    live_a_life(first, clock)
    first.store.close()
    for _ in range(2):
        again = opened(tmp_path, clock=clock)
        assert again.world.state == first.world.state
        assert again.chain.size == first.chain.size == again.durable
        assert again.chain.streams == first.chain.streams
        assert again.head == first.head
        again.checkpoint()
        again.store.close()


def test_what_was_not_committed_is_gone_after_a_restart(
    control: Control, tmp_path: Path, clock: SetClock
) -> None:
    """And its names are given anew: nobody was told them."""
    size = control.chain.size
    control.submit(MEMBER, ACME, [(job("a"), {})], "k", "digest")
    assert control.has_pending
    assert control.durable == size
    again = opened(tmp_path, clock=clock, seed="third")
    assert again.world.state.workloads == {}
    assert submit(again, "other", job("b")) == (WorkloadId("acme-1"),)
    again.store.close()


def test_a_failed_commit_stops_every_decision_until_the_world_is_taken_again(control: Control) -> None:
    """What it would have made is gone, its secrets too; afterwards all goes on as if it had not been asked."""
    before = control.world.state.version
    fill(control)
    control.submit(MEMBER, ACME, [(job("a"), {"PASSWORD": "x"})], "k", "digest")
    with pytest.raises(JournalUnavailable):
        control.commit()
    for _ in range(2):
        with pytest.raises(HeadraceError) as raised:
            control.execute(SYSTEM, c.RaiseAlarm(1, "x", "y"))
        assert raised.value.problem.code is ProblemCode.JOURNAL_UNAVAILABLE
    generation = control.generation
    control.recover()
    assert control.generation == generation + 1
    assert control.world.state.version == control.durable == before
    assert not control.has_pending
    fill(control, full=False)
    reply = control.submit(MEMBER, ACME, [(job("a"), {"PASSWORD": "x"})], "k", "digest")
    assert not reply.repeated
    control.commit()
    ref = control.world.state.workloads[reply.workloads[0]].spec.secrets["PASSWORD"]
    assert control.reveal(ref) == "x"


def test_journal_time_never_goes_back(control: Control, clock: SetClock) -> None:
    """A clock that jumps back waits; one that jumps forward is believed."""
    at = []
    for now_ms in (START_MS + 5_000, START_MS, START_MS - 10**9, START_MS + 6_000):
        clock.at_ms = now_ms
        control.execute(SYSTEM, c.RaiseAlarm(1, "x", "y"))
        at.append(control.world.state.last_ms)
    control.commit()
    assert at == [START_MS + 5_000] * 3 + [START_MS + 6_000]


def test_one_callers_keys_never_meet_anothers() -> None:
    """A key is scoped by tenant (its tokens share one memory), the operator's by role; no key is none."""
    mate = Caller(Subject("token", "t-9", Role.TENANT_ADMIN, ACME), 9)
    other = Caller(Subject("token", "t-8", Role.TENANT_MEMBER, BOREALIS), 8)
    assert request_digest(MEMBER, "k") == request_digest(mate, "k")
    digests = {request_digest(one, key) for one in (MEMBER, other, SYSTEM) for key in ("k", "l")}
    assert len(digests) == 6
    assert {len(one) for one in digests} == {16}
    assert request_digest(MEMBER, "") == b""


def test_a_repeated_submission_keeps_no_second_copy_of_its_secrets(control: Control, tmp_path: Path) -> None:
    """The first one's references stand."""
    for _ in range(3):
        reply = control.submit(MEMBER, ACME, [(job("a"), {"PASSWORD": "correct horse"})], "k", "digest")
        control.commit()
        assert reply.workloads == (WorkloadId("acme-1"),)
    assert len(control.store.query("SELECT ref FROM vault")) == 1
    assert (tmp_path / "journal.sqlite").exists()


def test_a_group_is_one_head_and_it_grows_with_each(control: Control) -> None:
    """Whatever piles up is one commit; an empty one is none."""
    assert control.seal().group is None
    before = control.head
    for _ in range(3):
        control.execute(SYSTEM, c.RaiseAlarm(1, "x", "y"))
    batch = control.commit()
    assert batch.group is not None
    assert batch.group.count == len(batch.committed)
    assert [type(one.event).__name__ for one in batch.committed][-3:] == ["AlarmRaised"] * 3
    assert control.head == batch.group.head
    assert before is not None
    assert control.head.size == before.size + batch.group.count


def test_a_checkpoint_is_never_of_what_is_not_durable(control: Control) -> None:
    """It would outlive a crash that its events don't."""
    control.execute(SYSTEM, c.RaiseAlarm(1, "x", "y"))
    with pytest.raises(RuntimeError, match="commit first"):
        control.checkpoint()
    control.commit()
    assert control.checkpoint() == control.chain.size


def test_erasing_a_tenant_makes_its_secrets_unreadable_and_leaves_the_journal_whole(control: Control) -> None:
    """At once, and after a restart; another tenant's are untouched."""
    submit(control, "a", job("a"), secrets={"PASSWORD": "x"})
    mine = control.world.state.workloads[WorkloadId("acme-1")].spec.secrets["PASSWORD"]
    theirs = control.keep(BOREALIS, "token-holders", "Ada")
    control.execute(SYSTEM, c.Stop(WorkloadId("acme-1")))
    control.execute(SYSTEM, c.EraseTenant(ACME))
    control.commit()
    for _ in range(2):
        with pytest.raises(HeadraceError):
            control.reveal(mine)
        assert control.reveal(theirs) == "Ada"
        control.recover()
    assert control.world.state.tenants[ACME].erased


def test_events_are_attributed_to_the_token_that_asked(control: Control) -> None:
    """The control plane itself is number 0."""
    control.submit(MEMBER, ACME, [(job("a"), {})], "k", "digest")
    made = control.commit().committed
    assert {one.actor for one in made} == {MEMBER.number}
    (placement,) = place(control)
    report(control, placement, RankState.RUNNING)
    control.execute(SYSTEM, c.RaiseAlarm(1, "x", "y"))
    assert {one.actor for one in control.commit().committed} == {0}
