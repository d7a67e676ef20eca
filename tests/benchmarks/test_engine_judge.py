"""The judge of faults on clusters sees what it is there to see: each sort of damage to a sound run is called by its name."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.engine_judge import Case, Evidence, Sighting, judge_case
from tests.durability.evidence import Entry, Journal

JOB, OTHER = "bench-1", "bench-2"
MASK = 1


@dataclass
class Run:
    """A run in parts, as a test may damage them."""

    events: list[tuple[int, str, dict[str, Any]]]
    records: dict[tuple[str, int], dict[str, Any]]
    written: dict[tuple[str, int], list[tuple[str, int]]]
    jobs: dict[str, str]
    seen: dict[tuple[str, int, int], Sighting] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def case(self) -> Case:
        """What the judge reads."""
        entries = [
            Entry(number, at_ms, kind, b"", (), payload)
            for number, (at_ms, kind, payload) in enumerate(self.events)
        ]
        made = {one[2]["placement"]: one[2] for one in self.events if one[1] == "PlacementMade"}
        ends: dict[str, list[Entry]] = defaultdict(list)
        for one in entries:
            if one.kind == "PlacementEnded":
                ends[one.payload["placement"]].append(one)
        evidence = Evidence(Path(), (), Path(), self.jobs, {}, self.seen, self.left)
        journal = Journal(entries, [], self.problems)
        return Case(journal, self.records, self.written, evidence, made, dict(ends))

    def find(self, kind: str, placement: str) -> dict[str, Any]:
        """The payload of an event."""
        return next(one[2] for one in self.events if one[1] == kind and one[2].get("placement") == placement)


def made(placement: str) -> dict[str, Any]:
    """One rank on a node."""
    return {"placement": placement, "ranks": [["site/b/lab-0-0", MASK, 100, 64, 1000]], "site": "site"}


def ended(placement: str, used: list[int], **changes: Any) -> dict[str, Any]:
    """A good end, but for ``changes``."""
    good = {"reason": "exited", "exit_codes": [0], "estimated": False, "detail": "ended by itself"}
    return good | {"placement": placement, "ranks": [used]} | changes


def record(running_ms: int, end_ms: int, **changes: Any) -> dict[str, Any]:
    """A runner's."""
    good = {"state": "exited", "running_ms": running_ms, "paused_ms": 0, "estimated": False}
    return good | {"heartbeat_ms": end_ms} | changes


def sound() -> Run:
    """Two jobs, of which the first lost its node once."""
    first, second, third = f"{JOB}.1", f"{JOB}.2", f"{OTHER}.1"
    lost = ended(first, [900, 0], reason="node_lost", exit_codes=[-1], estimated=True, detail="was lost")
    events = [
        (0, "WorkloadSubmitted", {"workload": JOB}),
        (0, "WorkloadSubmitted", {"workload": OTHER}),
        (1, "PlacementMade", made(first)),
        (2_000, "PlacementEnded", lost),
        (2_000, "WorkloadRequeued", {"workload": JOB, "reason": "rank 0 was lost"}),
        (2_100, "PlacementMade", made(second)),
        (3_000, "UsageMetered", {"placement": second, "ranks": [[500, 0]]}),
        (5_000, "PlacementEnded", ended(second, [2_000, 0])),
        (5_100, "PlacementMade", made(third)),
        (9_000, "PlacementEnded", ended(third, [3_000, 0], exit_codes=[3])),
    ]
    return Run(
        events,
        {
            (first, 0): record(900, 1_000, state="lost", estimated=True),
            (second, 0): record(2_000, 4_500),
            (third, 0): record(3_000, 8_500),
        },
        {
            (first, 0): [("begin", 110)],
            (second, 0): [("begin", 2_510), ("end", 4_490)],
            (third, 0): [("begin", 5_510)],
        },
        {JOB: "good", OTHER: "bad"},
        {(second, 0, 77): Sighting(2_600, 4_400, 2_600, 4_400)},
    )


def test_a_sound_run_has_nothing_that_is_wrong() -> None:
    """A lost node with its requeue, and a job that failed by its own doing, are no violations."""
    found = judge_case(sound().case())
    assert found.violations == []
    assert (found.notes["placements"], found.notes["estimated_ends"]) == (3, 1)


def _end_twice(run: Run) -> None:
    run.events.append((9_500, "PlacementEnded", ended(f"{OTHER}.1", [3_000, 0], exit_codes=[3])))


def _never_end(run: Run) -> None:
    run.events.pop()


def _run_again(run: Run) -> None:
    run.events.append((9_500, "PlacementMade", made(f"{OTHER}.2")))


def _lose_a_job(run: Run) -> None:
    run.jobs["bench-3"] = "good"


def _fail_a_good_job(run: Run) -> None:
    run.find("PlacementEnded", f"{JOB}.2")["exit_codes"] = [143]


def _forget_to_requeue(run: Run) -> None:
    del run.events[4]


def _requeue_without_a_reason(run: Run) -> None:
    run.events[4][2]["reason"] = ""


def _bill_too_much(run: Run) -> None:
    run.find("PlacementEnded", f"{JOB}.2")["ranks"] = [[3_100, 0]]


def _bill_a_pause_as_work(run: Run) -> None:
    run.records[f"{JOB}.2", 0] |= {"running_ms": 600, "paused_ms": 1_400}


def _hide_an_estimate(run: Run) -> None:
    run.find("PlacementEnded", f"{JOB}.1")["estimated"] = False


def _meter_backwards(run: Run) -> None:
    run.find("UsageMetered", f"{JOB}.2")["ranks"] = [[2_500, 0]]


def _lose_a_record(run: Run) -> None:
    del run.records[f"{JOB}.2", 0]


def _record_too_little(run: Run) -> None:
    run.written[f"{JOB}.2", 0][1] = ("end", 6_000)


def _record_too_much(run: Run) -> None:
    run.written[f"{JOB}.2", 0][1] = ("end", 3_000)


def _miss_more_than_a_heartbeat(run: Run) -> None:
    run.seen[f"{JOB}.1", 0, 76] = Sighting(200, 1_900, 200, 8_000)


def _begin_twice(run: Run) -> None:
    run.written[f"{JOB}.2", 0].insert(1, ("begin", 2_700))


def _be_two_processes(run: Run) -> None:
    run.seen[f"{JOB}.2", 0, 78] = Sighting(2_700, 2_800, 2_700, 2_800)


def _succeed_without_running(run: Run) -> None:
    run.written[f"{JOB}.2", 0].pop()


def _run_beside_itself(run: Run) -> None:
    run.seen[f"{JOB}.1", 0, 76] = Sighting(200, 1_900, 200, 3_000)


def _share_an_accelerator(run: Run) -> None:
    run.records[f"{OTHER}.1", 0]["running_ms"] = 5_000


def _outlive_its_end(run: Run) -> None:
    run.seen[f"{JOB}.2", 0, 77] = replace(run.seen[f"{JOB}.2", 0, 77], last_ms=5_900)


def _stay(run: Run) -> None:
    run.left.append("rank 0 of bench-1.2")


def _break_the_journal(run: Run) -> None:
    run.problems.append("event 3 says that it is 4")


DAMAGES: dict[Callable[[Run], None], str] = {
    _end_twice: "placements: bench-2.1 ended twice",
    _never_end: "placements: bench-2.1 never ended",
    _run_again: "placements: bench-2.2 was made after bench-2.1",
    _lose_a_job: "jobs: bench-3 was acknowledged and is lost",
    _fail_a_good_job: "jobs: bench-1 is good and ended exited [143]",
    _forget_to_requeue: "requeues: bench-1.2 was made without a requeue",
    _requeue_without_a_reason: "requeues: bench-1 was requeued without a reason",
    _bill_too_much: "usage: rank 0 of bench-1.2 used (2000, 0) ms by its runner, (3100, 0) are billed",
    _bill_a_pause_as_work: "usage: rank 0 of bench-1.2 used (600, 1400) ms",
    _hide_an_estimate: "usage: the end of rank 0 of bench-1.1 is estimated",
    _meter_backwards: "usage: the meter of rank 0 of bench-1.2 went from [2500, 0]",
    _lose_a_record: "records: rank 0 of bench-1.2 ran, and no runner recorded it",
    _record_too_little: "records: rank 0 of bench-1.2 ran for 3490 ms at least, its record says 2000",
    _record_too_much: "records: rank 0 of bench-1.2 ran for 490 ms, its record says 2000",
    _miss_more_than_a_heartbeat: "records: rank 0 of bench-1.1 ran for 7890 ms at least",
    _begin_twice: "twice: rank 0 of bench-1.2 began 2 times",
    _be_two_processes: "twice: rank 0 of bench-1.2 was seen as 2 processes",
    _succeed_without_running: "twice: rank 0 of bench-1.2 is said to have succeeded",
    _run_beside_itself: "overlaps: bench-1.1 and bench-1.2 ran together for 500 ms",
    _share_an_accelerator: "overlaps: rank 0 of bench-1.2 and rank 0 of bench-2.1 had the same accelerator",
    _outlive_its_end: "after the end: rank 0 of bench-1.2 (process 77) was seen 900 ms after its end",
    _stay: "left: still runs at the end: rank 0 of bench-1.2",
    _break_the_journal: "journal: event 3",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: one.__name__.strip("_"))
def test_each_damage_is_called_by_its_name(damage: Callable[[Run], None]) -> None:
    """A judge that lets one through would let the product do it."""
    run = sound()
    damage(run)
    said = judge_case(run.case()).violations
    assert any(one.startswith(DAMAGES[damage]) for one in said), said
