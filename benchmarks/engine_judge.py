"""Judges from outside what a run of faults on clusters left: the journal's file, the runners' records, and what was seen running.

Shares no code with the product. What it believes, in this order: what processes themselves wrote and what was seen of them in
/proc; the runners' records; the journal. Each must agree with the one before it.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.durability.evidence import Entry, Journal, read_journal

CLOSE_MS = 1_000
"""So much may a placement's meter differ from its record, and its record from its process."""
HEARTBEAT_MS = 5_000
_LOGGED = re.compile(
    r"\[(?P<at>\S+)\] (?:(?P<began>sched: Allocate|sched/backfill: _start_job: Started)|_job_complete:) JobId=(?P<job>[0-9]+) "
)
"""Lines of slurmctld's log: a job has its nodes, or has ended."""
SEEN_LATE_MS = 300
"""A process that was killed may be seen a little later than its end was written down."""
LIMIT = 20
REQUEUED = frozenset({"node_lost", "preempted", "drained", "start_failed"})
"""Ends of a placement after which its job waits again; any other end is the job's."""
EXPECTED = {
    "good": {("exited", True)},
    "bad": {("exited", False), ("rank_failed", False)},
    "held": {("stopped", True), ("stopped", False)},
}
"""How a job of each sort may end: the reason, and whether all codes are 0. ``held`` runs until somebody stops it."""


@dataclass
class Sighting:
    """A rank's session of processes, as it was seen running: journal time (ms UTC) and boot time (ms)."""

    first_ms: int
    last_ms: int
    first_boot_ms: int
    last_boot_ms: int


@dataclass
class Evidence:
    """What a run left. ``jobs``: what was acknowledged and of which sort (see EXPECTED), by workload.

    ``stopped``: workloads whose stop was acknowledged. ``seen``: by placement, rank and leading process. ``left``: what still ran
    at the end. ``witness``: a folder with a file for each rank that began, ``PLACEMENT.RANK``. ``completions``: what Slurm itself
    wrote of its jobs' ends; ``disturbed``: when a daemon of Slurm was down, so that it could not see an end (ms UTC).
    """

    state: Path
    spools: tuple[Path, ...]
    witness: Path
    jobs: dict[str, str] = field(default_factory=dict)
    stopped: dict[str, None] = field(default_factory=dict)
    seen: dict[tuple[str, int, int], Sighting] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    completions: Path | None = None
    disturbed: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Found:
    """The verdict."""

    violations: list[str] = field(default_factory=list)
    notes: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """All of it, read: the journal, the records by placement and rank, what each rank wrote itself."""

    journal: Journal
    records: dict[tuple[str, int], dict[str, Any]]
    written: dict[tuple[str, int], list[tuple[str, int]]]
    """Lines of each rank's own: (what, boot time in ms)."""
    evidence: Evidence
    made: dict[str, dict[str, Any]]
    ends: dict[str, list[Entry]]


def judge(evidence: Evidence) -> Found:
    """Everything that can be told from outside; the control plane has ended."""
    return judge_case(read_case(evidence))


def judge_case(case: Case) -> Found:
    """The same of what was read already."""
    checks = {
        "journal": iter(case.journal.problems),
        "placements": _placements(case),
        "jobs": _jobs(case),
        "requeues": _requeues(case),
        "usage": _usage(case),
        "records": _records(case),
        "twice": _twice(case),
        "overlaps": _overlaps(case),
        "accounting": _accounting(case),
        "after the end": _after_its_end(case),
        "left": (f"still runs at the end: {one}" for one in case.evidence.left),
    }
    found = Found()
    for sort, check in checks.items():
        said = list(check)
        found.violations.extend(f"{sort}: {one}" for one in said[:LIMIT])
        found.violations.extend(f"{sort}: one more" for _ in said[LIMIT:])
    found.notes = _notes(case)
    return found


def read_case(evidence: Evidence) -> Case:
    journal = read_journal(evidence.state / "journal.sqlite")
    records: dict[tuple[str, int], dict[str, Any]] = {}
    for spool in evidence.spools:
        kept = sorted((spool / "records").glob("*.json"))
        # What the engine had no time to forget has its record where the runner wrote it.
        for path in (*kept, *sorted((spool / "placements").glob("*/*/record.json"))):
            record = json.loads(path.read_bytes())
            records.setdefault((record["placement"], record["rank"]), record)
    written = {}
    for path in sorted(evidence.witness.iterdir()):
        placement, _, rank = path.name.rpartition(".")
        lines = [line.split() for line in path.read_text().splitlines()]
        written[placement, int(rank)] = [(what, round(float(at_s) * 1_000)) for what, at_s in lines]
    ends: dict[str, list[Entry]] = defaultdict(list)
    for one in journal.of("PlacementEnded"):
        ends[one.payload["placement"]].append(one)
    made = {one.payload["placement"]: one.payload for one in journal.of("PlacementMade")}
    return Case(journal, records, written, evidence, made, dict(ends))


def _workload(placement: str) -> str:
    return placement.rpartition(".")[0]


# -- each job ends once --------------------------------------------------------------------------------------------------


def _placements(case: Case) -> Iterator[str]:
    """Each placement is made once and ends once; a job has one at a time, and none after its end."""
    current: dict[str, str] = {}
    made: set[str] = set()
    over: dict[str, str] = {}
    for one in case.journal.of("PlacementMade", "PlacementEnded", "StopRequested"):
        if one.kind == "StopRequested":
            over.setdefault(one.payload["workload"], "a stop")
            continue
        ident = one.payload["placement"]
        workload = _workload(ident)
        if one.kind == "PlacementMade":
            if ident in made or workload in current:
                yield f"{ident} was made while {current.get(workload, ident)} was there"
            if workload in over:
                yield f"{ident} was made after {over[workload]} had ended its job"
            made.add(ident)
            current[workload] = ident
            continue
        if current.pop(workload, "") != ident:
            yield f"{ident} ended twice, or was never made"
        if one.payload["reason"] not in REQUEUED:
            over[workload] = ident
    yield from (f"{ident} never ended" for ident in current.values())


def _jobs(case: Case) -> Iterator[str]:
    """Each job that was acknowledged is there once, and ends as its sort does."""
    times = Counter(one.payload["workload"] for one in case.journal.of("WorkloadSubmitted"))
    yield from (f"{ident} was submitted {count} times" for ident, count in times.items() if count > 1)
    jobs = case.evidence.jobs
    yield from (f"{ident} was acknowledged and is lost" for ident in jobs if ident not in times)
    yield from (f"{ident} is in nobody's acknowledgements" for ident in times if ident not in jobs)
    last: dict[str, Entry] = {}
    stops = {one.payload["workload"]: one for one in case.journal.of("StopRequested")}
    for one in case.journal.of("PlacementEnded"):
        last[_workload(one.payload["placement"])] = one
    for ident, sort in jobs.items():
        if ident in times:
            yield from _end_of(ident, sort, last.get(ident), stops.get(ident), ident in case.evidence.stopped)


def _end_of(
    ident: str, sort: str, last: Entry | None, stop: Entry | None, was_stopped: bool
) -> Iterator[str]:
    if last is None or last.payload["reason"] in REQUEUED:
        # It waited when it was told to stop, and that was its end.
        since = -1 if last is None else last.seq
        if stop is None or stop.seq < since:
            yield f"{ident} ({sort}) has no end; its last placement: {last and last.payload}"
        return
    reason, codes = last.payload["reason"], last.payload["exit_codes"]
    is_well = all(code == 0 for code in codes)
    if (reason, is_well) in EXPECTED[sort]:
        return
    if was_stopped and reason == "stopped":
        return
    yield f"{ident} is {sort} and ended {reason} {codes}: {last.payload['detail']}"


def _requeues(case: Case) -> Iterator[str]:
    """After an end that is not the job's it is requeued, with a reason, before it is placed again."""
    waiting: dict[str, str] = {}
    for one in case.journal.of("PlacementEnded", "WorkloadRequeued", "PlacementMade"):
        if one.kind == "WorkloadRequeued":
            if waiting.pop(one.payload["workload"], "") == "":
                yield f"{one.payload['workload']} was requeued, and nothing of it had ended"
            if not one.payload["reason"]:
                yield f"{one.payload['workload']} was requeued without a reason"
            continue
        ident = one.payload["placement"]
        if one.kind == "PlacementMade" and _workload(ident) in waiting:
            yield f"{ident} was made without a requeue after {waiting[_workload(ident)]}"
        elif one.kind == "PlacementEnded" and one.payload["reason"] in REQUEUED:
            waiting[_workload(ident)] = ident
    yield from (f"{ident} ended and its job was never requeued" for ident in waiting.values())


# -- what was used is what is billed -------------------------------------------------------------------------------------


def _usage(case: Case) -> Iterator[str]:
    """What the journal bills for each rank is what its runner recorded, and an estimate is called one."""
    left = dict(case.records)
    for ident, ends in case.ends.items():
        for end in ends:
            for rank, (running_ms, paused_ms) in enumerate(end.payload["ranks"]):
                record = left.pop((ident, rank), None)
                used = (record["running_ms"], record["paused_ms"]) if record else (0, 0)
                if max(abs(running_ms - used[0]), abs(paused_ms - used[1])) > CLOSE_MS:
                    yield f"rank {rank} of {ident} used {used} ms by its runner, {(running_ms, paused_ms)} are billed"
                if record and record["estimated"] and not end.payload["estimated"]:
                    yield f"the end of rank {rank} of {ident} is estimated, and the journal does not say so"
                if record and record["state"] not in ("exited", "lost"):
                    yield f"rank {rank} of {ident} is {record['state']} by its runner, and its placement has ended"
    yield from (f"rank {rank} of {ident} is on record, and never ended" for ident, rank in left)
    yield from _meters(case)


def _meters(case: Case) -> Iterator[str]:
    """What was metered on the way never goes back, and never goes on after the end."""
    before: dict[str, list[list[int]]] = {}
    over: set[str] = set()
    for one in case.journal.of("UsageMetered", "PlacementEnded"):
        ident, ranks = one.payload["placement"], one.payload["ranks"]
        for rank, (old, new) in enumerate(zip(before.get(ident, ranks), ranks, strict=True)):
            if new[0] < old[0] or new[1] < old[1]:
                yield f"the meter of rank {rank} of {ident} went from {old} to {new}"
        if ident in over:
            yield f"{ident} was metered after its end"
        before[ident] = ranks
        if one.kind == "PlacementEnded":
            over.add(ident)


def _records(case: Case) -> Iterator[str]:
    """What a runner recorded is what its rank did: by what the rank itself wrote, and by what was seen of it."""
    seen: dict[tuple[str, int], list[Sighting]] = defaultdict(list)
    for (ident, rank, _), sighting in case.evidence.seen.items():
        seen[ident, rank].append(sighting)
    for key in sorted(set(case.written) | set(seen)):
        name = f"rank {key[1]} of {key[0]}"
        record = case.records.get(key)
        if record is None:
            yield f"{name} ran, and no runner recorded it"
            continue
        recorded_ms = record["running_ms"] + record["paused_ms"]
        ran_ms = _least_ms(case.written.get(key, []), seen.get(key, []))
        missing_ms = ran_ms - recorded_ms
        if missing_ms > CLOSE_MS + (HEARTBEAT_MS if record["estimated"] else 0):
            yield f"{name} ran for {ran_ms} ms at least, its record says {recorded_ms} (estimated: {record['estimated']})"
        whole_ms = _whole_ms(case.written.get(key, []))
        if whole_ms is not None and recorded_ms - whole_ms > CLOSE_MS:
            yield f"{name} ran for {whole_ms} ms, its record says {recorded_ms}"


def _least_ms(lines: list[tuple[str, int]], seen: list[Sighting]) -> int:
    """For how long a rank ran at least."""
    times = [at_ms for _, at_ms in lines]
    times += [at_ms for one in seen for at_ms in (one.first_boot_ms, one.last_boot_ms)]
    return max(times) - min(times)


def _whole_ms(lines: list[tuple[str, int]]) -> int | None:
    """For how long a rank ran that came to its own end; None for one that did not."""
    at = dict(lines)
    return at["end"] - at["begin"] if "begin" in at and "end" in at else None


@dataclass(frozen=True)
class _Account:
    """A rank of a placement that Slurm saw undisturbed, all of it.

    ``stamps_ms``: Slurm's start and end, whole seconds; ``moments_ms``: the same two by slurmctld's log, where it has them.
    ``ran_ms``: when its runner began and wrote last, by the wall clock; ``held_ms``: what it recorded, by the boot-time clock.
    """

    placement: str
    stamps_ms: tuple[int, int]
    moments_ms: tuple[int, int] | None
    ran_ms: tuple[int, int]
    held_ms: int

    @property
    def lags_ms(self) -> tuple[int, int]:
        """The launch before the runner's time and the end after it, as Slurm saw them."""
        begin_ms, end_ms = self.moments_ms or self.stamps_ms
        return self.ran_ms[0] - begin_ms, end_ms - self.ran_ms[1]

    @property
    def off_ms(self) -> int:
        """What launch, metered time and end together differ from Slurm's elapsed time."""
        begin_ms, end_ms = self.moments_ms or self.stamps_ms
        return abs(end_ms - begin_ms - sum(self.lags_ms) - self.held_ms)


def _accounting(case: Case) -> Iterator[str]:
    """Launch, metered time and end of each rank are what Slurm accounts for, and its time lies within Slurm's."""
    for one in _accounts(case):
        if one.off_ms > CLOSE_MS:
            yield f"{one.placement} was held for {one.held_ms} ms by its runner, which ran from and to {one.ran_ms}"
        # Slurm's own stamps are of whole seconds: the last of it may have been anywhere in its second.
        launch_ms, end_ms = one.lags_ms
        if launch_ms < 0 or end_ms < (0 if one.moments_ms else -1_000):
            yield f"{one.placement} ran outside of what Slurm accounts for: {one}"


def _accounts(case: Case) -> list[_Account]:
    """Each rank of each placement that Slurm saw undisturbed, all of it."""
    path = case.evidence.completions
    if path is None or not path.exists():
        return []
    moments = _moments(path.with_name("slurmctld.log"))
    records: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for (placement, _), record in case.records.items():
        records[placement].append(record)
    out = []
    for line in path.read_text().splitlines():
        said = dict(part.partition("=")[::2] for part in line.split())
        ident = said["Name"].removeprefix("hr.").rpartition(".e")[0]
        begin_ms, end_ms = (_at_ms(said[name]) for name in ("StartTime", "EndTime"))
        ours = records.get(ident, [])
        is_whole = ours and all(record["state"] == "exited" and record["runner"][0] for record in ours)
        # One that Slurm was told to cancel has ended there before it has.
        if said["JobState"] == "CANCELLED" or not is_whole or _was_disturbed(case.evidence, begin_ms, end_ms):
            continue
        found = moments.get((said["JobId"], begin_ms))
        out += [
            _Account(
                ident,
                (begin_ms, end_ms),
                found,
                (record["started_wall_ms"], record["heartbeat_wall_ms"]),
                record["running_ms"] + record["paused_ms"],
            )
            for record in ours
        ]
    return out


def _moments(log: Path) -> dict[tuple[str, int], tuple[int, int]]:
    """When slurmctld gave jobs their nodes and heard of their ends, in ms; by number and second: numbers are given again."""
    began: dict[str, int] = {}
    out: dict[tuple[str, int], tuple[int, int]] = {}
    for line in log.read_text(errors="replace").splitlines() if log.exists() else ():
        found = _LOGGED.match(line)
        if found is not None and found["began"]:
            began[found["job"]] = _at_ms(found["at"])
        elif found is not None and found["job"] in began:
            begin_ms = began.pop(found["job"])
            for second in (begin_ms // 1_000, begin_ms // 1_000 - 1):
                # Slurm's own stamp is taken just before the line is written.
                out[found["job"], second * 1_000] = begin_ms, _at_ms(found["at"])
    return out


def _at_ms(stamp: str) -> int:
    return round(datetime.fromisoformat(stamp).astimezone(UTC).timestamp() * 1_000)


def _was_disturbed(evidence: Evidence, begin_ms: int, end_ms: int) -> bool:
    return any(
        since_ms <= end_ms + CLOSE_MS and until_ms + CLOSE_MS >= begin_ms
        for since_ms, until_ms in evidence.disturbed
    )


# -- nothing twice -------------------------------------------------------------------------------------------------------


def _twice(case: Case) -> Iterator[str]:
    """No rank of a placement begins twice, and nobody runs who was not placed."""
    for (ident, rank), lines in case.written.items():
        begun = sum(what == "begin" for what, _ in lines)
        if begun > 1:
            yield f"rank {rank} of {ident} began {begun} times"
        if ident not in case.made or rank >= len(case.made[ident]["ranks"]):
            yield f"rank {rank} of {ident} ran, and nobody had placed it"
    leaders = Counter((ident, rank) for ident, rank, _ in case.evidence.seen)
    for (ident, rank), count in leaders.items():
        if count > 1:
            yield f"rank {rank} of {ident} was seen as {count} processes"
    for ident, ends in case.ends.items():
        for rank, code in enumerate(ends[0].payload["exit_codes"]):
            if code == 0 and ("end" not in dict(case.written.get((ident, rank), []))):
                is_held = case.evidence.jobs.get(_workload(ident)) == "held"
                if not is_held:
                    yield f"rank {rank} of {ident} is said to have succeeded, and did not come to its end"


@dataclass(frozen=True, order=True)
class _Interval:
    begin_ms: int
    end_ms: int
    placement: str
    rank: int
    node: str
    mask: int


def _intervals(case: Case) -> list[_Interval]:
    """When each rank ran by the boot-time clock: its record, widened by what was seen."""
    out = []
    seen: dict[tuple[str, int], list[Sighting]] = defaultdict(list)
    for (ident, rank, _), sighting in case.evidence.seen.items():
        seen[ident, rank].append(sighting)
    for key, record in case.records.items():
        held_ms = record["running_ms"] + record["paused_ms"]
        if key[0] not in case.made or (not held_ms and key not in seen):
            continue
        place = case.made[key[0]]["ranks"][key[1]]
        node, mask = (place["node"], place["mask"]) if isinstance(place, dict) else place[:2]
        # Without a runner there is no heartbeat: then only what was seen counts.
        beat_ms = record["heartbeat_ms"]
        times = [beat_ms - held_ms, beat_ms] if beat_ms else []
        times += [at_ms for one in seen[key] for at_ms in (one.first_boot_ms, one.last_boot_ms)]
        out.append(_Interval(min(times), max(times), key[0], key[1], node, mask))
    return sorted(out)


def _overlaps(case: Case) -> Iterator[str]:
    """No job runs in two placements at a time, and no accelerator has two ranks at a time."""
    running: list[_Interval] = []
    for one in _intervals(case):
        running = [other for other in running if other.end_ms > one.begin_ms]
        for other in running:
            both_ms = min(one.end_ms, other.end_ms) - one.begin_ms
            if other.placement != one.placement and _workload(other.placement) == _workload(one.placement):
                yield f"{other.placement} and {one.placement} ran together for {both_ms} ms"
            elif other.node == one.node and other.mask & one.mask:
                who = f"rank {other.rank} of {other.placement} and rank {one.rank} of {one.placement}"
                yield f"{who} had the same accelerator of {one.node} for {both_ms} ms"
        running.append(one)


def _after_its_end(case: Case) -> Iterator[str]:
    """When the journal says that a placement has ended, nothing of it runs."""
    for (ident, rank, pid), sighting in case.evidence.seen.items():
        ends = case.ends.get(ident)
        if ends and sighting.last_ms - ends[0].at_ms > SEEN_LATE_MS:
            late_ms = sighting.last_ms - ends[0].at_ms
            yield f"rank {rank} of {ident} (process {pid}) was seen {late_ms} ms after its end was said"


# -- what there was ------------------------------------------------------------------------------------------------------


def _notes(case: Case) -> dict[str, object]:
    requeues: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    worst_ms, accounts = 0, _accounts(case)
    lags_ms = [sum(one.lags_ms) for one in accounts if one.moments_ms] or [0]
    for ident, said in case.ends.items():
        payload = said[0].payload
        ends[payload["reason"]] += 1
        if payload["reason"] in REQUEUED:
            requeues[f"{payload['reason']}: {_plain(payload['detail'])}"] += 1
        for rank, used in enumerate(payload["ranks"]):
            record = case.records.get((ident, rank))
            if record:
                worst_ms = max(worst_ms, abs(sum(used) - record["running_ms"] - record["paused_ms"]))
    return {
        "jobs": len(case.evidence.jobs),
        "placements": len(case.made),
        "by_site": dict(Counter(one["site"] for one in case.made.values())),
        "ends": dict(ends),
        "requeues": dict(requeues.most_common(12)),
        "ranks_on_record": len(case.records),
        "estimated_ends": sum(record["estimated"] for record in case.records.values()),
        "lost_ranks": sum(record["state"] == "lost" for record in case.records.values()),
        "ranks_seen": len(case.evidence.seen),
        "worst_ms_off_the_record": worst_ms,
        "held_against_slurm": len(accounts),
        "worst_ms_off_slurm": max((one.off_ms for one in accounts), default=0),
        "launch_and_end_in_slurm_ms": {"middle": sorted(lags_ms)[len(lags_ms) // 2], "most": max(lags_ms)},
        "events": len(case.journal.entries),
    }


def _plain(detail: str) -> str:
    """A detail without what is another number each time."""
    return "".join("N" if one.isdigit() else one for one in detail)[:90].replace("NN", "N").replace("NN", "N")
