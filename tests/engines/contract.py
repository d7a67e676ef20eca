"""What every engine promises, written once: a file of tests subclasses `EngineContract` with its own harness."""

from collections.abc import Callable
from typing import Protocol

import pytest

from headrace.core.ids import Epoch, NodeId, PlacementId, SiteId, TenantId, WorkloadId
from headrace.core.workload import RankPlace
from headrace.ports import Engine, EngineError, PlacementReport, RankState, StartOrder

FIRST = PlacementId("acme-1.1")
SECOND = PlacementId("acme-2.1")
FINAL = (RankState.EXITED, RankState.LOST)
LONG_GRACE_MS = 20_000


class Harness(Protocol):
    """What a test needs beside the engine itself."""

    engine: Engine

    def reopened(self) -> Engine:
        """What a restarted control plane finds: a new engine on the same state."""
        ...

    def until(self, condition: Callable[[], bool]) -> None:
        """Let time go on until `condition` holds."""
        ...

    def pass_ms(self, duration_ms: int) -> None:
        """Let at least `duration_ms` go by."""
        ...

    def kill_runner(self, placement: PlacementId, rank: int) -> None:
        """End the runner of a rank as the kernel would in want of memory."""
        ...


def order_of(
    *commands: str,
    placement: PlacementId = FIRST,
    epoch: int = 1,
    nodes: int = 1,
    accelerators: int = 1,
    tenant: str = "acme",
    uid: int = 200_001,
    env: dict[str, str] | None = None,
    ports: dict[str, int] | None = None,
    max_duration_ms: int = 0,
    grace_ms: int = LONG_GRACE_MS,
) -> StartOrder:
    """An order of `nodes` ranks on lab nodes of four accelerators."""
    return StartOrder(
        placement=placement,
        workload=WorkloadId(placement.rpartition(".")[0]),
        tenant=TenantId(tenant),
        tenant_uid=uid,
        site=SiteId("glomfjord"),
        epoch=Epoch(epoch),
        commands=commands,
        env=env or {},
        ranks=tuple(
            RankPlace(NodeId(f"glomfjord/a/lab-0-{rank}"), (1 << accelerators) - 1, 1_000, 500)
            for rank in range(nodes)
        ),
        node_accelerators=(4,) * nodes,
        node_cpu_milli=(4_000,) * nodes,
        accelerator="lab",
        ports=ports or {},
        grace_ms=grace_ms,
        max_duration_ms=max_duration_ms,
    )


def report_of(engine: Engine, placement: PlacementId = FIRST) -> PlacementReport | None:
    """The one report of a placement."""
    found = [report for report in engine.observe() if report.placement == placement]
    assert len(found) <= 1, f"{placement} is reported twice"
    return found[0] if found else None


def states(engine: Engine, placement: PlacementId = FIRST) -> list[RankState]:
    """States of the ranks, in order; empty for a placement that is not reported."""
    report = report_of(engine, placement)
    return [rank.state for rank in report.ranks] if report else []


def ended(harness: Harness, placement: PlacementId = FIRST) -> PlacementReport:
    """The report of a placement once every rank has ended."""
    harness.until(lambda: {*FINAL}.issuperset(states(harness.engine, placement) or [RankState.STARTING]))
    report = report_of(harness.engine, placement)
    assert report is not None
    return report


def become(harness: Harness, *wanted: RankState, placement: PlacementId = FIRST) -> None:
    """Wait until the ranks are in these states."""
    harness.until(lambda: states(harness.engine, placement) == list(wanted))


def read_all(engine: Engine, placement: PlacementId, rank: int, stream: str = "stdout") -> str:
    """A whole log."""
    text, offset = b"", 0
    while True:
        chunk = engine.logs(placement, rank, stream, offset, 1 << 16)
        text, offset = text + chunk.data, chunk.next_offset
        if not chunk.data:
            return text.decode()


class HoldingContract:
    """The promises of every engine, also of one that runs no commands: ``LASTING`` are those of work that lasts."""

    LASTING: tuple[str, ...] = ()

    def test_an_order_without_commands_is_there_until_it_is_stopped(self, harness: Harness) -> None:
        """A cluster that is leased bare: every rank holds its node, and ends when it is told to."""
        harness.engine.start(order_of(nodes=2))
        become(harness, RankState.RUNNING, RankState.RUNNING)
        harness.pass_ms(500)
        assert states(harness.engine) == [RankState.RUNNING, RankState.RUNNING]
        harness.engine.stop(FIRST, LONG_GRACE_MS)
        assert len(ended(harness).ranks) == 2

    def test_what_a_node_does_not_have_fails_to_start_with_the_reason(self, harness: Harness) -> None:
        """It ends at once and says what is missing; it is not tried for ever."""
        harness.engine.start(order_of(*self.LASTING, accelerators=5, nodes=2))
        for rank in ended(harness).ranks:
            assert (rank.state, rank.exit_code, rank.reason) == (RankState.EXITED, 126, "start_failed")
            assert "has 4 accelerators" in rank.detail
            assert rank.running_ms == 0

    def test_stop_lets_a_rank_end_by_itself(self, harness: Harness) -> None:
        """SIGTERM comes first."""
        harness.engine.start(order_of(*self.LASTING, nodes=2))
        become(harness, RankState.RUNNING, RankState.RUNNING)
        harness.engine.stop(FIRST, LONG_GRACE_MS)
        assert [rank.exit_code for rank in ended(harness).ranks] == [143, 143]

    def test_a_placement_stopped_while_it_starts_ends(self, harness: Harness) -> None:
        """However early a stop comes, nothing is left running."""
        harness.engine.start(order_of(*self.LASTING, nodes=2))
        harness.engine.stop(FIRST, LONG_GRACE_MS)
        assert [rank.exit_code for rank in ended(harness).ranks] == [143, 143]

    def test_paused_time_is_counted_apart_from_running_time(self, harness: Harness) -> None:
        """A pause stops the work, so that the sum is longer than the work alone."""
        harness.engine.start(order_of(*self.LASTING))
        become(harness, RankState.RUNNING)
        harness.engine.pause(FIRST)
        become(harness, RankState.PAUSED)
        harness.engine.pause(FIRST)
        harness.pass_ms(300)
        harness.engine.resume(FIRST)
        become(harness, RankState.RUNNING)
        harness.engine.stop(FIRST, LONG_GRACE_MS)
        rank = ended(harness).ranks[0]
        assert rank.paused_ms >= 300
        assert rank.running_ms < 30_000

    def test_a_paused_placement_can_be_stopped(self, harness: Harness) -> None:
        """A stopped process hears SIGTERM only once it goes on."""
        harness.engine.start(order_of(*self.LASTING))
        become(harness, RankState.RUNNING)
        harness.engine.pause(FIRST)
        become(harness, RankState.PAUSED)
        harness.engine.stop(FIRST, LONG_GRACE_MS)
        assert ended(harness).ranks[0].exit_code == 143

    def test_max_duration_ends_a_rank_and_says_so(self, harness: Harness) -> None:
        """Counted in running time."""
        harness.engine.start(order_of(*self.LASTING, max_duration_ms=300))
        rank = ended(harness).ranks[0]
        assert (rank.exit_code, rank.reason) == (143, "max_duration")
        assert 300 <= rank.running_ms < 30_000

    def test_pauses_do_not_count_towards_max_duration(self, harness: Harness) -> None:
        """A rank that was paused for longer than its limit has not run for as long."""
        harness.engine.start(order_of(*self.LASTING, max_duration_ms=1_000))
        become(harness, RankState.RUNNING)
        harness.engine.pause(FIRST)
        become(harness, RankState.PAUSED)
        harness.pass_ms(1_100)
        assert states(harness.engine) == [RankState.PAUSED]
        harness.engine.resume(FIRST)
        rank = ended(harness).ranks[0]
        assert rank.reason == "max_duration"
        assert rank.running_ms >= 1_000
        assert rank.paused_ms >= 1_000

    def test_an_order_of_a_superseded_epoch_is_refused_for_good(self, harness: Harness) -> None:
        """Also by a later engine, and a control plane can't fence its way back."""
        harness.engine.fence(Epoch(5))
        with pytest.raises(EngineError, match="epoch 4 is superseded by 5"):
            harness.engine.start(order_of(*self.LASTING, epoch=4))
        again = harness.reopened()
        with pytest.raises(EngineError, match="superseded"):
            again.start(order_of(*self.LASTING, epoch=4))
        with pytest.raises(EngineError, match="superseded"):
            again.fence(Epoch(4))
        assert report_of(again) is None

    def test_what_runs_is_not_forgotten(self, harness: Harness) -> None:
        """Forgetting it would leave it running unseen."""
        harness.engine.start(order_of(*self.LASTING))
        become(harness, RankState.RUNNING)
        with pytest.raises(EngineError, match="still runs"):
            harness.engine.forget(FIRST)
        assert states(harness.engine) == [RankState.RUNNING]

    def test_an_unknown_placement_is_nothing_to_stop_pause_or_forget(self, harness: Harness) -> None:
        """The loop repeats what it is not sure of."""
        unknown = PlacementId("nobody-7.1")
        harness.engine.stop(unknown, 0)
        harness.engine.pause(unknown)
        harness.engine.resume(unknown)
        harness.engine.forget(unknown)
        harness.engine.erase_logs(unknown)
        assert list(harness.engine.observe()) == []
        assert harness.engine.logs(unknown, 0, "stdout", 0, 10).ended

    def test_an_order_that_is_repeated_changes_nothing(self, harness: Harness) -> None:
        """Neither while it starts, nor while it runs, nor after its end."""
        order = order_of(*self.LASTING)
        for _ in range(3):
            harness.engine.start(order)
        become(harness, RankState.RUNNING)
        harness.engine.start(order)
        assert states(harness.engine) == [RankState.RUNNING]
        harness.engine.stop(FIRST, LONG_GRACE_MS)
        report = ended(harness)
        harness.engine.start(order)
        assert report_of(harness.engine) == report

    def test_a_later_control_plane_takes_up_what_runs(self, harness: Harness) -> None:
        """It is there from the first look, with what it has run; it is not started anew, and can be stopped."""
        harness.engine.start(order_of(*self.LASTING))
        become(harness, RankState.RUNNING)
        harness.pass_ms(300)
        harness.engine = harness.reopened()
        harness.engine.fence(Epoch(2))
        harness.engine.start(order_of(*self.LASTING, epoch=2))
        become(harness, RankState.RUNNING)
        harness.engine.stop(FIRST, LONG_GRACE_MS)
        assert ended(harness).ranks[0].exit_code == 143

    def test_what_has_ended_is_there_for_a_later_control_plane_until_it_is_forgotten(
        self, harness: Harness
    ) -> None:
        """And is never started a second time."""
        harness.engine.start(order_of(*self.LASTING))
        become(harness, RankState.RUNNING)
        harness.engine.stop(FIRST, LONG_GRACE_MS)
        ended(harness)
        harness.engine = harness.reopened()
        harness.engine.fence(Epoch(2))
        assert states(harness.engine) == [RankState.EXITED]
        harness.engine.forget(FIRST)
        assert report_of(harness.engine) is None
        harness.engine = harness.reopened()
        assert report_of(harness.engine) is None
        with pytest.raises(EngineError, match="has ended"):
            harness.engine.start(order_of(*self.LASTING, epoch=2))


class EngineContract(HoldingContract):
    """The promises of engines that run commands, and keep what they write."""

    LASTING = ("sleep 30",)

    def test_a_gang_runs_every_rank_and_reports_each_exit_code(self, harness: Harness) -> None:
        """Ranks come in order, each with its own end."""
        harness.engine.start(order_of("sleep 0.1", "exit 4", nodes=2))
        report = ended(harness)
        assert [(rank.rank, rank.state, rank.exit_code) for rank in report.ranks] == [
            (0, RankState.EXITED, 4),
            (1, RankState.EXITED, 4),
        ]
        assert all(rank.running_ms >= 100 and not rank.estimated and not rank.reason for rank in report.ranks)
        assert report.epoch == 1

    def test_each_rank_finds_its_place_in_the_gang_in_its_environment(self, harness: Harness) -> None:
        """The variables that frameworks of distributed training read, and Headrace's own."""
        harness.engine.start(
            order_of(
                "echo $RANK of $WORLD_SIZE local $LOCAL_RANK at $MASTER_ADDR $MASTER_PORT",
                "echo $HEADRACE_WORKLOAD $HEADRACE_PLACEMENT $HEADRACE_TENANT $HEADRACE_SITE $HEADRACE_NODE",
                "echo $HEADRACE_EPOCH $HEADRACE_ACCELERATORS $HEADRACE_ACCELERATOR_MODEL $GREETING",
                nodes=2,
                accelerators=3,
                env={"GREETING": "hei", "RANK": "99"},
            )
        )
        ended(harness)
        first, second = (read_all(harness.engine, FIRST, rank).splitlines() for rank in range(2))
        master = first[0].split()
        assert master[:-1] == ["0", "of", "2", "local", "0", "at", "127.0.0.1"]
        assert second[0].split() == ["1", *master[1:]]
        assert first[1] == "acme-1 acme-1.1 acme glomfjord glomfjord/a/lab-0-0"
        assert second[1] == "acme-1 acme-1.1 acme glomfjord glomfjord/a/lab-0-1"
        assert first[2] == "1 3 lab hei"

    def test_starting_twice_runs_once(self, harness: Harness) -> None:
        """A repeated order changes nothing, neither while it runs nor after its end."""
        order = order_of("echo once", "sleep 0.2", ports={"http": 0})
        for _ in range(3):
            harness.engine.start(order)
        become(harness, RankState.RUNNING)
        before = report_of(harness.engine)
        harness.engine.start(order)
        assert before is not None
        assert before.endpoints == ended(harness).endpoints
        harness.engine.start(order)
        assert states(harness.engine) == [RankState.EXITED]
        assert read_all(harness.engine, FIRST, 0) == "once\n"

    def test_ports_are_chosen_told_and_reported(self, harness: Harness) -> None:
        """`auto` ports of two placements differ; the endpoint is rank 0's."""
        for placement in (FIRST, SECOND):
            harness.engine.start(
                order_of("echo $HEADRACE_PORT_HTTP", "sleep 30", placement=placement, ports={"http": 0})
            )
            become(harness, RankState.RUNNING, placement=placement)
        addresses = []
        for placement in (FIRST, SECOND):
            harness.until(lambda: read_all(harness.engine, placement, 0) != "")  # noqa: B023 - called at once
            report = report_of(harness.engine, placement)
            assert report is not None
            port = read_all(harness.engine, placement, 0).strip()
            assert report.endpoints == {"http": f"127.0.0.1:{port}"}
            addresses.append(port)
        assert addresses[0] != addresses[1]

    @pytest.mark.parametrize(
        ("command", "code"), [("kill -9 $$", 137), ("kill -15 $$", 143), ("nosuchcommand", 127)]
    )
    def test_an_end_by_signal_or_by_a_bad_command_has_the_code_of_a_shell(
        self, harness: Harness, command: str, code: int
    ) -> None:
        """128 + n after signal n; 127 for a command that does not exist."""
        harness.engine.start(order_of(command))
        report = ended(harness)
        assert (report.ranks[0].exit_code, report.ranks[0].reason) == (code, "")

    def test_the_first_failing_command_ends_the_rank(self, harness: Harness) -> None:
        """Commands run in one shell that stops at an error."""
        harness.engine.start(order_of("nosuchcommand", "echo never"))
        assert ended(harness).ranks[0].exit_code == 127
        assert read_all(harness.engine, FIRST, 0) == ""

    def test_stop_kills_what_ignores_it_after_its_grace(self, harness: Harness) -> None:
        """SIGKILL comes after the grace, and not before."""
        harness.engine.start(order_of("trap '' TERM", "echo deaf", "sleep 30"))
        harness.until(lambda: read_all(harness.engine, FIRST, 0) == "deaf\n")
        harness.engine.stop(FIRST, 300)
        rank = ended(harness).ranks[0]
        assert rank.exit_code == 137
        assert rank.running_ms >= 300

    def test_a_repeated_stop_never_prolongs_the_first(self, harness: Harness) -> None:
        """The loop repeats what it wants until it sees it."""
        harness.engine.start(order_of("trap '' TERM", "echo deaf", "sleep 30"))
        harness.until(lambda: read_all(harness.engine, FIRST, 0) == "deaf\n")
        harness.engine.stop(FIRST, 200)
        harness.engine.stop(FIRST, LONG_GRACE_MS)
        assert ended(harness).ranks[0].exit_code == 137

    def test_a_restarted_control_plane_finds_what_runs_and_what_ended_meanwhile(
        self, harness: Harness
    ) -> None:
        """Adoption: nothing is lost, nothing is started again."""
        harness.engine.start(order_of("echo one", "sleep 30"))
        harness.engine.start(order_of("sleep 0.1", "exit 9", placement=SECOND))
        become(harness, RankState.RUNNING)
        harness.until(lambda: RankState.STARTING not in states(harness.engine, SECOND))
        harness.engine = harness.reopened()
        harness.engine.fence(Epoch(2))
        assert ended(harness, SECOND).ranks[0].exit_code == 9
        harness.engine.start(order_of("echo one", "sleep 30", epoch=2))
        become(harness, RankState.RUNNING)
        harness.engine.stop(FIRST, LONG_GRACE_MS)
        assert ended(harness).ranks[0].exit_code == 143
        assert read_all(harness.engine, FIRST, 0) == "one\n"

    def test_a_rank_whose_runner_is_killed_is_lost_at_its_last_heartbeat(self, harness: Harness) -> None:
        """The other rank is not touched; the end is an estimate and final."""
        harness.engine.start(order_of("sleep 30", nodes=2))
        become(harness, RankState.RUNNING, RankState.RUNNING)
        harness.kill_runner(FIRST, 1)
        become(harness, RankState.RUNNING, RankState.LOST)
        report = report_of(harness.engine)
        assert report is not None
        assert (report.ranks[1].exit_code, report.ranks[1].estimated) == (None, True)
        harness.engine = harness.reopened()
        assert states(harness.engine) == [RankState.RUNNING, RankState.LOST]
        again = report_of(harness.engine)
        # The other one goes on meanwhile.
        assert again is not None
        assert again.ranks[1] == report.ranks[1]
        harness.engine.stop(FIRST, LONG_GRACE_MS)
        assert [rank.exit_code for rank in ended(harness).ranks] == [143, None]

    def test_what_ended_is_reported_until_it_is_forgotten(self, harness: Harness) -> None:
        """Its log stays until it is erased; its order is not carried out a second time."""
        harness.engine.start(order_of("echo kept"))
        ended(harness)
        harness.engine = harness.reopened()
        assert states(harness.engine) == [RankState.EXITED]
        harness.engine.forget(FIRST)
        assert report_of(harness.engine) is None
        assert report_of(harness.reopened()) is None
        assert read_all(harness.engine, FIRST, 0) == "kept\n"
        with pytest.raises(EngineError, match="has ended"):
            harness.engine.start(order_of("echo twice"))
        harness.engine.erase_logs(FIRST)
        assert read_all(harness.engine, FIRST, 0) == ""

    def test_logs_are_read_by_offset_and_say_when_they_end(self, harness: Harness) -> None:
        """Each read goes on where the last one ended, never past its limit."""
        harness.engine.start(order_of("echo glomfjord", "sleep 30"))
        harness.until(lambda: read_all(harness.engine, FIRST, 0) == "glomfjord\n")
        first = harness.engine.logs(FIRST, 0, "stdout", 0, 4)
        assert (first.data, first.offset, first.next_offset, first.ended) == (b"glom", 0, 4, False)
        rest = harness.engine.logs(FIRST, 0, "stdout", first.next_offset, 100)
        assert rest.data == b"fjord\n"
        assert not harness.engine.logs(FIRST, 0, "stdout", rest.next_offset, 100).ended
        harness.engine.stop(FIRST, LONG_GRACE_MS)
        ended(harness)
        assert harness.engine.logs(FIRST, 0, "stdout", rest.next_offset, 100).ended
        assert harness.engine.logs(FIRST, 0, "stderr", 0, 100).data == b""
        with pytest.raises(EngineError, match="no stream 'stdlog'"):
            harness.engine.logs(FIRST, 0, "stdlog", 0, 100)
