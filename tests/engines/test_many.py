"""Many placements at once: what nothing happens to costs next to nothing, and what happens to one is seen soon all the same."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.core.ids import Epoch, NodeId, PlacementId
from headrace.engines import runner
from headrace.engines.slurm.client import Commands, Job, SlurmNode, Submission
from headrace.engines.slurm.engine import SlurmEngine, SlurmSettings
from headrace.engines.slurm.listing import Listing
from headrace.ports import PlacementReport, RankState
from tests.engines.contract import order_of

NODE = NodeId("glomfjord/a/lab-0-0")
MANY = tuple(PlacementId(f"acme-{number}.1") for number in range(1, 6))
AT_ONCE = 2
TURN = -(-len(MANY) // AT_ONCE)
"""So many looks see every placement."""


class Cluster:
    """A Slurm that starts whatever it is given at once, and lists the very same as long as nothing happens."""

    user, uid, trouble = "root", 0, ""

    def __init__(self) -> None:
        self.found: list[Job] = []
        self.cancelled: list[int] = []
        node = SlurmNode("lab-0-0", "idle", False, False, 4, 16, 64_000, "22.05.8", "lab", "up", "")
        self.seen = [node]

    def submit(self, job: Submission) -> int:
        number, node = len(self.found) + 1, job.nodes[0]
        made = Job(
            number, str(number), "RUNNING", "", node, 0, "root", "", "lab", "", 0.0, job.name, job.comment
        )
        self.found = [*self.found, made]
        return number

    def cancel(self, jobs: Sequence[int]) -> None:
        self.cancelled += jobs
        self.found = [one for one in self.found if one.id not in jobs]

    def jobs(self) -> list[Job]:
        return self.found

    def nodes(self) -> list[SlurmNode]:
        return self.seen

    def version(self) -> str:
        return "22.05.8"

    def drain(self, nodes: Mapping[str, str]) -> None:
        """Nothing here is drained."""

    def undrain(self, nodes: Sequence[str]) -> None:
        """Nothing here is drained."""

    def run(self, command: str, *_arguments: str) -> str:
        raise AssertionError(command)

    def interrupt(self) -> None:
        """It answers at once."""

    def close(self) -> None:
        """It holds nothing."""


@pytest.fixture
def cluster() -> Cluster:
    """One node."""
    return Cluster()


@pytest.fixture
def engine(tmp_path: Path, cluster: Cluster) -> Iterator[SlurmEngine]:
    """An engine with more placements than it looks at at once, each running on a host that isn't this one."""
    settings = SlurmSettings(
        uids=None, partition="lab", leases=False, look_at_most=AT_ONCE, poll_ms=10, patience_ms=0
    )
    with closing(SlurmEngine(tmp_path / "spool", cluster, settings)) as made:
        made.fence(Epoch(1), "journal")
        for placement in MANY:
            made.start(order_of("sleep 60", placement=placement))
            record(tmp_path, placement)
        until(
            made, lambda reports: [one.ranks[0].state for one in reports] == [RankState.RUNNING] * len(MANY)
        )
        yield made


def until(engine: SlurmEngine, holds: Callable[[Sequence[PlacementReport]], bool]) -> None:
    """Look until it is so."""
    for _ in range(100_000):
        if holds(engine.observe()):
            return
    raise TimeoutError


def look(engine: SlurmEngine) -> None:
    """Let it look at its cluster some times more."""
    looks = engine._looks
    until(engine, lambda _: engine._looks > looks + 2)


def record(root: Path, placement: PlacementId, **more: object) -> None:
    """Write what a runner on another host records."""
    directory = root / "spool" / "placements" / placement
    info = json.loads((directory / "placement.json").read_bytes())
    known = {
        "placement": placement,
        "rank": 0,
        "epoch": info["epoch"],
        "mark": info["mark"],
        "boot_id": "another",
        "runner": [5, 5],
        "child": [6, 6],
        "state": "running",
        "running_ms": 5_000,
        "paused_ms": 0,
        "exit_code": None,
        "reason": "",
        "detail": "",
        "estimated": False,
    }
    runner.write_atomic(str(directory / "0" / runner.RECORD), known | more)


def round_of(engine: SlurmEngine) -> Sequence[PlacementReport]:
    """What is reported after as many looks as see every placement."""
    return [engine.observe() for _ in range(TURN)][-1]


def test_when_nothing_happens_it_is_the_very_list_that_is_reported(engine: SlurmEngine) -> None:
    """So that who asks ten times a second can tell at once."""
    before = engine.observe()
    assert round_of(engine) is before
    assert [one.placement for one in before] == list(MANY)


@pytest.mark.parametrize("number", range(len(MANY)))
def test_an_end_is_seen_after_one_turn_wherever_it_is_in_it(
    engine: SlurmEngine, tmp_path: Path, number: int
) -> None:
    """The others are reported by the very objects of before."""
    before = engine.observe()
    record(tmp_path, MANY[number], state="exited", exit_code=3, running_ms=7_000)
    after = round_of(engine)
    assert [one for one, old in zip(after, before, strict=True) if one is not old] == [after[number]]
    assert (after[number].ranks[0].exit_code, after[number].ranks[0].running_ms) == (3, 7_000)


def test_what_is_held_newly_and_what_is_forgotten_shows_in_a_turn(
    engine: SlurmEngine, tmp_path: Path
) -> None:
    """Also in the middle of one."""
    engine.observe()
    record(tmp_path, MANY[0], state="exited", exit_code=0)
    round_of(engine)
    engine.forget(MANY[0])
    late = PlacementId("acme-9.1")
    engine.start(order_of("sleep 60", placement=late))
    until(engine, lambda reports: [one.placement for one in reports] == [*MANY[1:], late])


def test_a_job_whose_placement_ended_is_cancelled_although_the_cluster_says_nothing_new(
    engine: SlurmEngine, cluster: Cluster, tmp_path: Path
) -> None:
    """What is not looked through again as long as nothing changes is, as soon as anything does."""
    look(engine)
    before = cluster.found
    assert cluster.cancelled == []
    record(tmp_path, MANY[2], state="exited", exit_code=0)
    until(engine, lambda _: cluster.cancelled != [])
    assert cluster.cancelled == [before[2].id]


def test_a_node_that_changes_is_reported_and_else_the_very_list(
    engine: SlurmEngine, cluster: Cluster
) -> None:
    """Thousands of nodes are not made out anew each second."""
    of = (NODE,)
    before = engine.nodes(of)
    look(engine)
    assert engine.nodes(of) is before
    cluster.seen = [replace(cluster.seen[0], state="down", reason="unplugged")]
    until(engine, lambda _: not engine.nodes(of)[0].up)
    assert engine.nodes(of)[0].reason == "unplugged"


# -- what a command lists ----------------------------------------------------------------------------------------------


class Lines:
    """A list of two columns whose lines are counted as they are made out."""

    def __init__(self) -> None:
        self.made: list[tuple[str, ...]] = []
        self.listing = Listing("squeue", ("%i", "%j"), self._make)

    def _make(self, line: Sequence[str]) -> tuple[str, ...] | None:
        self.made.append(tuple(line))
        return tuple(line) if len(line) == 2 else None

    def said(self, secret: str, *lines: tuple[str, str]) -> list[tuple[str, ...]]:
        """What is read of these lines, framed as they were asked for."""
        form = self.listing.form(secret)
        return self.listing.read(
            "".join(f"{form}\n".replace("%i", one).replace("%j", two) for one, two in lines), secret
        )


def test_an_answer_that_says_the_same_is_the_very_list_whatever_it_was_framed_by() -> None:
    """And of one that says more, only what is new is made out."""
    lines = Lines()
    first = lines.said("a" * 16, ("1", "x"), ("2", "y"))
    assert lines.said("b" * 16, ("1", "x"), ("2", "y")) is first
    assert lines.said("c" * 16, ("2", "y"), ("3", "z")) == [("2", "y"), ("3", "z")]
    assert lines.made == [("1", "x"), ("2", "y"), ("3", "z")]
    assert lines.said("d" * 16) == []


def test_what_once_framed_an_answer_is_mere_text_in_the_next() -> None:
    """Who saw the frame of one question forges nothing in another's answer."""
    lines = Lines()
    forged = f"x{'a' * 16}>\n{'a' * 16}<9{'a' * 16}|y"
    assert lines.said("a" * 16, ("1", "x")) == [("1", "x")]
    assert lines.said("b" * 16, ("1", forged)) == [("1", forged)]
    assert lines.said("c" * 16, ("1", forged)) == [("1", forged)]


def test_what_belongs_to_no_line_is_an_error_and_what_was_known_stays() -> None:
    """Half an answer ends nothing."""
    lines = Lines()
    first = lines.said("a" * 16, ("1", "x"))
    with pytest.raises(ValueError, match=r"^slurm_load_jobs error$"):
        lines.listing.read("slurm_load_jobs error\n", "b" * 16)
    assert lines.said("c" * 16, ("1", "x")) is first


def test_a_line_that_nothing_can_be_made_of_is_told_as_long_as_it_is_there() -> None:
    """Also while it says the same."""
    lines = Lines()
    for secret in ("a" * 16, "b" * 16):
        broken = f"{secret}<7{secret}|x{secret}|y{secret}>\n"
        assert lines.listing.read(broken, secret) == []
        assert lines.listing.strange == ["'7'"]
    lines.said("c" * 16, ("1", "x"))
    assert lines.listing.strange == []


# -- when many jobs are listed -----------------------------------------------------------------------------------------


class Site:
    """Slurm's commands as scripts: what they say lies in files, and how often squeue was asked in another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "slurm.conf").touch()
        for name, text in {
            "squeue": f'echo >>{folder}/asked; echo "$SQUEUE_FORMAT" | sed -f {folder}/job',
            "sdiag": f"cat {folder}/counts",
            "scancel": "true",
        }.items():
            path = folder / name
            path.write_text(f"#!/bin/sh\n{text}\n")
            path.chmod(0o755)
        self.job("RUNNING")
        self.count(started=1)

    def job(self, state: str) -> None:
        """What squeue says of the only job."""
        values = {"i": 7, "A": 7, "T": state, "r": "None", "N": "lab-0-0", "U": 0, "S": 5}
        script = "".join(f"s/%{sign}\\(.\\{{16\\}}[|>]\\)/{value}\\1/\n" for sign, value in values.items())
        (self.folder / "job").write_text(script)

    def count(self, started: int) -> None:
        """What sdiag says."""
        kinds = {"submitted": 1, "started": started, "completed": 0, "canceled": 0, "failed": 0}
        lines = "".join(f"Jobs {kind}: {number}\n" for kind, number in kinds.items())
        (self.folder / "counts").write_text(f"Data since      Mon Nov 23\n{lines}Jobs pending: 0\n")

    @property
    def asked(self) -> int:
        """How often squeue was."""
        return len((self.folder / "asked").read_bytes())


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Commands that are found before the real ones."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Site(tmp_path)


def states(client: Commands) -> list[str]:
    """Of the jobs that it lists."""
    return [one.state for one in client.jobs()]


def test_many_jobs_are_listed_anew_only_when_slurm_counts_differently(scripted: Site) -> None:
    """It takes squeue a fifth of a second to list ten thousand, and sdiag a fiftieth of that to say that it is not worth it."""
    client = Commands(scripted.folder / "slurm.conf", many=1, again_s=3_600)
    assert [states(client) for _ in range(5)] == [["RUNNING"]] * 5
    # The second time too: the first list had no count to go with.
    assert scripted.asked == 2
    scripted.job("CANCELLED")
    assert states(client) == ["RUNNING"]
    scripted.count(started=2)
    assert [states(client) for _ in range(3)] == [["CANCELLED"]] * 3
    assert scripted.asked == 3


@pytest.mark.parametrize(
    ("many", "again_s", "state", "counts"),
    [
        (2, 3_600, "RUNNING", "as it is"),
        (1, 0, "RUNNING", "as it is"),
        (1, 3_600, "COMPLETING", "as it is"),
        (1, 3_600, "RUNNING", "Jobs submitted: 1\n"),
        (1, 3_600, "RUNNING", "sdiag: access denied\n"),
    ],
    ids=["few", "an old list", "one that is about to end", "half an answer", "no answer"],
)
def test_jobs_are_listed_each_time_as_long_as_nothing_says_that_it_is_not_worth_it(
    scripted: Site, many: int, again_s: float, state: str, counts: str
) -> None:
    """Rather too often than too late."""
    scripted.job(state)
    if counts != "as it is":
        (scripted.folder / "counts").write_text(counts)
    client = Commands(scripted.folder / "slurm.conf", many=many, again_s=again_s)
    assert [states(client) for _ in range(5)] == [[state]] * 5
    assert scripted.asked == 5


def test_what_was_asked_of_slurm_from_here_shows_in_the_next_list(scripted: Site) -> None:
    """A job that is not in a list made after its submission would be taken as lost."""
    client = Commands(scripted.folder / "slurm.conf", many=1, again_s=3_600)
    for _ in range(3):
        client.jobs()
    asked = scripted.asked
    client.cancel([7])
    scripted.job("CANCELLED")
    assert states(client) == ["CANCELLED"]
    assert scripted.asked == asked + 1
