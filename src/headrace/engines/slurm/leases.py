"""Clusters that are leased whole: a reservation of Slurm for the account of a placement's tenant, on exactly its nodes.

Nothing of ours runs on these nodes, so that no runner keeps the record of a rank. The engine's agent does, at each of its looks,
in the same files: a rank runs from when the reservation is first seen active until it is deleted. Durations are by the boot-time
clock of the host that looks; over a reboot of it, or a move, by its wall clock. While nobody looks the reservation stands, and
its time counts.

A lease ends by its stop, after its time, with a node, or when somebody deletes the reservation. Before it is deleted it is shut,
so that nothing new begins in it, and the jobs in it get SIGTERM, and SIGKILL when the grace is over.

Which jobs are in it is not told by their reservation alone: a person can take it from a job that runs, or name several. Nothing
else than what was let in begins on reserved nodes, so that a job of the tenant's account that began there since is the lease's,
whatever it says. Others stay: what another account or this control plane's user has there, what runs there by another
reservation of these nodes, and what is on a node that was taken out, came there through whoever may change reservations.

What is asked of Slurm here is asked under the lock of the epoch: an old control plane makes, shuts and deletes nothing.
"""

import contextlib
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from headrace.core.errors import ProblemCode
from headrace.core.units import MS_PER_DAY
from headrace.engines import runner
from headrace.engines.agent import Postponed, Refused
from headrace.engines.problems import as_engine_error, engine_error
from headrace.engines.ranks import Held, Rank
from headrace.engines.slurm.client import Job, SlurmClient, SlurmNode, hosts_of, named
from headrace.ports import EngineError, RankState, StartOrder

LEASE = "slurm"
"""What a workload asks for that is to be leased so."""
INFO = "lease"
"""Where a placement's own file has what its lease is like."""
_MARK_DIGITS = 8
_NAME = re.compile(rf"hr\..+\.e([0-9]+)\.([0-9a-f]{{{_MARK_DIGITS}}})")
_FIELD = re.compile(r"(\w+)=(\S*)")
_CLUSTER = re.compile(r"^ClusterName\s*=\s*(\S+)", re.MULTILINE)
_ENFORCED = re.compile(r"^AccountingStorageEnforce\s*=.*\bassociations\b", re.MULTILINE)
_EXTEND_BEFORE_S = 90 * MS_PER_DAY // 1_000
"""What Slurm calls unlimited is a year."""
_TERMINATED = 128 + 15
_ELEMENT = re.compile("[_+]")
"""Between a job's number and which part of it is meant."""
_ENDED = re.compile("invalid job id|already complet|can not be altered", re.IGNORECASE)
"""What is said of a job that ended, or was given back, since it was listed."""
_GONE = frozenset({"down", "error", "fail", "powered_down", "powering_down", "power_down"})


@dataclass(frozen=True, slots=True)
class Reservation:
    """A reservation as Slurm has it. ``ends_s``, ``begins_s``: by the wall clock, None where it can't be told."""

    name: str
    hosts: tuple[str, ...]
    accounts: str
    users: tuple[str, ...]
    is_active: bool
    ends_s: float | None
    begins_s: float | None = None


def mark_of(name: str) -> tuple[int, str] | None:
    """The epoch, and the beginning of the mark, that a reservation's name tells; None for one of somebody else's."""
    found = _NAME.fullmatch(name)
    return None if found is None else (int(found[1]), found[2])


def parsed(text: str) -> list[Reservation]:
    """What ``scontrol show reservation --oneliner`` prints."""
    found = []
    for line in text.split("\n"):
        # The first of a name: what people write comes last.
        fields = dict(reversed(_FIELD.findall(line)))
        if line.startswith("ReservationName="):
            users = fields.get("Users", "")
            found.append(
                Reservation(
                    fields["ReservationName"],
                    hosts_of(_said(fields.get("Nodes", ""))),
                    _said(fields.get("Accounts", "")),
                    tuple(_said(users).split(",")) if _said(users) else (),
                    fields.get("State", "") == "ACTIVE",
                    _seconds(fields.get("EndTime", "")),
                    _seconds(fields.get("StartTime", "")),
                )
            )
    return found


def are_accounts_checked(client: SlurmClient) -> bool:
    """Whether Slurm looks who uses an account: else who is in a reservation is what people say of themselves."""
    return _ENFORCED.search(client.run("scontrol", "show", "config")) is not None


def lease_of(
    order: StartOrder, mark: str, hosts: Sequence[str], account: str, partition: str
) -> dict[str, Any]:
    """What is kept of a lease with its placement. Its reservation's name is its own, whatever else is on the cluster."""
    return {
        "reservation": f"hr.{order.placement}.e{order.epoch}.{mark[:_MARK_DIGITS]}",
        "account": account,
        "partition": partition,
        "hosts": list(hosts),
        "grace_ms": order.grace_ms,
        "max_duration_ms": order.max_duration_ms,
    }


class Leases:
    """The leases of one engine. ``guard`` keeps later control planes waiting inside, and raises EngineError behind one.

    ``recording`` is that, and what the engine holds stands still inside: it is never entered inside ``guard``, and Slurm is not
    asked there. ``save`` makes durable how a lease is reached.
    """

    def __init__(
        self,
        client: SlurmClient,
        guard: Callable[[], AbstractContextManager[None]],
        recording: Callable[[], AbstractContextManager[None]],
        save: Callable[[Held, Mapping[str, str]], None],
        heartbeat_ms: int,
    ) -> None:
        self._client, self._guard, self._recording = client, guard, recording
        self._save, self._heartbeat_ms = save, heartbeat_ms
        self._boot = runner.boot_id()
        self._seen: dict[str, Reservation] = {}
        self._jobs: Mapping[str, Sequence[Job]] = {}
        self._tried: dict[str, None] = {}
        self._overrun: dict[str, None] = {}
        self._down: dict[str, str] = {}
        self._told: dict[str, dict[int, None]] = {}
        self._until_ms: dict[str, int] = {}
        self._cluster = ""
        self.trouble = ""

    # --- looking ----------------------------------------------------------------------------------------------------

    def look(self, jobs: Iterable[Job]) -> Mapping[str, Reservation]:
        """All reservations, by name, and what runs in each."""
        if not self._cluster:
            found = _CLUSTER.search(self._client.run("scontrol", "show", "config"))
            self._cluster = found[1] if found else ""
        said = self._client.run("scontrol", "show", "reservation", "--oneliner")
        self._seen = {one.name: one for one in parsed(said)}
        self._jobs = jobs_in(jobs, self._seen, self._client.uid)
        self._tried = {name: None for name in self._tried if name in self._seen}
        return self._seen

    def jobs_of(self, name: str) -> Sequence[Job]:
        """What waits for a reservation or runs in it."""
        return self._jobs.get(name, ())

    def look_at_nodes(self, nodes: Mapping[str, SlurmNode]) -> None:
        """Which nodes are lost to those who lease them: one that only does not answer yet is not."""
        self._down = {
            one.name: one.reason or f"Slurm says {one.state}" for one in nodes.values() if one.state in _GONE
        }

    # --- making and ending a reservation ----------------------------------------------------------------------------

    def make(self, lease: Mapping[str, Any]) -> str:
        """Make the reservation, or take the one of its name. Refused: never; Postponed: when its nodes are free."""
        with self._guard():
            if not are_accounts_checked(self._client):
                raise _refused(
                    "Slurm does not check here who may use an account, so that anybody could use the reservation;",
                    "set AccountingStorageEnforce=associations in slurm.conf, which needs a slurmdbd; or lease bare nodes.",
                )
            name, partition = str(lease["reservation"]), lease["partition"]
            wanted = [
                f"ReservationName={name}",
                f"Accounts={lease['account']}",
                f"Nodes={','.join(lease['hosts'])}",
                "StartTime=now",
                "Duration=UNLIMITED",
                *([f"PartitionName={partition}"] if partition else []),
            ]
            try:
                self._client.run("scontrol", "create", "reservation", *wanted)
            except EngineError as error:
                self._failed(error, lease)
            return name

    def _failed(self, error: EngineError, lease: Mapping[str, Any]) -> None:
        """Raise what a reservation that was not made comes to; nothing when it is there already."""
        said = error.problem.message
        lower = said.lower()
        if "duplicate reservation name" in lower:
            return
        if "overlap" in lower:
            raise self._overlapping(lease) from error
        if "busy" in lower:
            where = ", ".join(lease["hosts"])
            raise Postponed(
                *engine_error(
                    ProblemCode.ENGINE_UNAVAILABLE,
                    f"Slurm still has jobs on {where};",
                    "it is reserved when they have ended; `squeue -w` says whose they are.",
                ).problems
            ) from error
        for pattern, step in (
            (
                "invalid user id|permission denied|not authorized",
                f"let this control plane make reservations: `sacctmgr modify user {self._client.user} set adminlevel=Operator`.",
            ),
            (
                "invalid account",
                f"`sacctmgr add account {lease['account']}`, or map the tenant to another under accounts: of the engine.",
            ),
            ("invalid node|invalid partition", "compare: `headrace engines`, and partition: of the engine."),
        ):
            if re.search(pattern, lower):
                what = said.removeprefix("Slurm refuses it: ").removeprefix("scontrol: ")
                raise _refused(f"Slurm refuses the reservation: {what}", step) from error
        raise error

    def _overlapping(self, lease: Mapping[str, Any]) -> EngineError:
        """Who has its nodes already; of ours that is one which is about to go."""
        wanted = frozenset(lease["hosts"])
        others = [
            one
            for one in parsed(self._client.run("scontrol", "show", "reservation", "--oneliner"))
            if not wanted.isdisjoint(one.hosts)
        ]
        names = named(f"{one.name} of {one.accounts or ','.join(one.users) or 'nobody'}" for one in others)
        hosts = named(host for one in others for host in one.hosts if host in wanted)
        what = f"reservation {names or 'of somebody else'} has {hosts or 'its nodes'};"
        if all(mark_of(one.name) for one in others):
            step = "it is tried again when that has ended."
            return Postponed(*engine_error(ProblemCode.ENGINE_UNAVAILABLE, what, step).problems)
        step = "wait for its end, or end it with `scontrol delete ReservationName=NAME`; drain these nodes until then."
        return _refused(what, step)

    def drop(self, names: Iterable[str]) -> None:
        """End reservations that nobody wants any more, with what runs in them; those in use go at a later look."""
        with self._guard():
            each_of([partial(self._release, name, is_late=True) for name in names])

    def _release(self, name: str, *, is_late: bool) -> bool:
        """Shut it, end what is in it, delete it when nothing is; whether that was done.

        None of these waits for another, so that nothing of it rests on what a person can keep from succeeding; what failed is
        raised at the end, and is done again at the next look. It is deleted only when it was shut before the jobs were listed.
        """
        jobs, was_tried = self.jobs_of(name), name in self._tried
        self._tried[name] = None
        try:
            each_of([partial(self._shut, name), partial(self._kill if is_late else self._tell, name, jobs)])
        except EngineError:
            if jobs or not was_tried or not self._delete(name):
                raise
            return True
        return not jobs and was_tried and self._delete(name)

    def _shut(self, name: str) -> None:
        """Let nobody begin anything in it any more: who is of the account and also this control plane's user."""
        found = self._seen.get(name)
        if found is not None and self._client.user not in found.users:
            # Without the flag no job on its nodes may be outside of it, and a person can put one there.
            self._update(name, f"Users={self._client.user}")

    def _update(self, name: str, change: str) -> None:
        self._client.run("scontrol", "update", f"ReservationName={name}", change, "Flags=IGNORE_JOBS")

    def _delete(self, name: str) -> bool:
        """Delete it; False while jobs are in it."""
        try:
            self._client.run("scontrol", "delete", f"ReservationName={name}")
        except EngineError as error:
            said = error.problem.message.lower()
            if "in use" in said:
                return False
            if "reservation is invalid" not in said:
                raise
        return True

    def _tell(self, name: str, jobs: Sequence[Job]) -> None:
        """Tell what runs in it to end, each once; take what waits out of the queue."""
        told = self._told.setdefault(name, {})
        new = [job for job in jobs if not job.waits and job.id not in told]
        each_of(
            [partial(self._cancel_waiting, jobs), partial(self._signal, "TERM", [job.full_id for job in new])]
        )
        told.update(dict.fromkeys(job.id for job in new))

    def _kill(self, _name: str, jobs: Sequence[Job]) -> None:
        """End jobs at once: Slurm's own way is SIGTERM first, and its KillWait after that."""
        begun = [job.full_id for job in jobs if not job.waits and job.state != "COMPLETING"]
        each_of(
            [
                partial(self._cancel_waiting, jobs),
                partial(self._signal, "KILL", begun),
                partial(self._scancel, *begun),
            ]
        )

    def _signal(self, name: str, jobs: Sequence[str]) -> None:
        if jobs:
            self._scancel(f"--signal={name}", "--full", *jobs)

    def _cancel_waiting(self, jobs: Sequence[Job]) -> None:
        """Take jobs out of the queue, but for what has begun since: elements of one array may run and wait."""
        waiting = dict.fromkeys(_ELEMENT.split(job.full_id)[0] for job in jobs if job.waits)
        if waiting:
            self._scancel("--state=PENDING", *waiting)

    def _scancel(self, *arguments: str) -> None:
        if arguments:
            try:
                self._client.run("scancel", "--quiet", *arguments)
            except EngineError as error:
                if not _ENDED.search(error.problem.message):
                    raise

    # --- keeping the records ----------------------------------------------------------------------------------------

    def keep(self, leases: Iterable[Held]) -> None:
        """After a look: begin, count and end what is leased. What keeps one of them from it is no trouble of the others."""
        said = ""
        for held in leases:
            try:
                self._keep(held)
            except EngineError as error:
                said = said or f"placement {held.info['placement']}: {error.problem.line()}"
        self.trouble = said

    def _keep(self, held: Held) -> None:
        lease = held.info[INFO]
        name = lease["reservation"]
        seen, until_ms = self._seen.get(name), None
        with self._recording(), as_engine_error(f"the lease {name} can't be recorded now"):
            for rank in held.ranks:
                rank.read()
            live = [rank for rank in held.ranks if not rank.final]
            if not live:
                for kept in (self._told, self._until_ms, self._overrun):
                    kept.pop(name, None)
                return
            if any(rank.record is None for rank in live):
                if seen is not None and seen.is_active:
                    self._begin(held, live)
                return
            self._note_overrun(name)
            until_ms = self._ends_ms(live, lease)
            if seen is None:
                self._close_gone(live, lease, is_ending=until_ms is not None)
                return
            for rank in live:
                self._count(rank, seen, lease)
        if until_ms is not None:
            self._end(seen, live, lease, until_ms)
        elif seen.ends_s is not None and seen.ends_s - time.time() < _EXTEND_BEFORE_S:
            with self._guard():
                self._update(name, "EndTime=now+365days")

    def _note_overrun(self, name: str) -> None:
        # Only of what was to have ended at an earlier look it is known that it was there all the while.
        if self._until_ms.get(name, math.inf) <= runner.boot_ms() and self.jobs_of(name):
            self._overrun[name] = None

    def _begin(self, held: Held, live: Sequence[Rank]) -> None:
        lease = held.info[INFO]
        access = {"reservation": lease["reservation"], "account": lease["account"], "cluster": self._cluster}
        if lease["partition"]:
            access["partition"] = lease["partition"]
        self._save(held, access)
        for rank in live:
            now_ms, wall_ms = runner.boot_ms(), time.time_ns() // 1_000_000
            self._write(
                rank,
                {
                    "version": 1,
                    "placement": rank.info["placement"],
                    "rank": rank.number,
                    "epoch": rank.info["epoch"],
                    "mark": rank.info["mark"],
                    "boot_id": self._boot,
                    "runner": [0, 0],
                    "child": [0, 0],
                    "state": str(RankState.RUNNING),
                    "running_ms": 0,
                    "paused_ms": 0,
                    "exit_code": None,
                    "reason": "",
                    "detail": "",
                    "estimated": False,
                    "heartbeat_ms": now_ms,
                    "started_wall_ms": wall_ms,
                    "heartbeat_wall_ms": wall_ms,
                },
            )

    def _count(self, rank: Rank, seen: Reservation, lease: Mapping[str, Any]) -> None:
        """Add what passed since the last count, when that is due; end the rank whose node is gone."""
        record = _of(rank)
        host = lease["hosts"][rank.number]
        lost = self._down.get(host, "") if host in seen.hosts else "its node was taken out of the reservation"
        is_due = runner.boot_ms() - record["heartbeat_ms"] >= self._heartbeat_ms
        if lost or is_due or record["boot_id"] != self._boot:
            self._write(rank, record | self._counted(record, lease))
        if lost:
            rank.close(RankState.LOST, None, detail=f"{host}: {lost}")

    def _counted(self, record: Mapping[str, Any], lease: Mapping[str, Any]) -> dict[str, Any]:
        """A record's durations up to now.

        Never more than was asked for, as nobody may have been there to end it in time; but for one whose nodes are still in
        use though they are asked for.
        """
        now_ms, wall_ms = runner.boot_ms(), time.time_ns() // 1_000_000
        if record["boot_id"] == self._boot:
            passed_ms = now_ms - record["heartbeat_ms"]
        else:
            passed_ms = max(0, wall_ms - record["heartbeat_wall_ms"])
        ran_ms = record["running_ms"] + passed_ms
        if lease["max_duration_ms"] and lease["reservation"] not in self._overrun:
            ran_ms = min(ran_ms, lease["max_duration_ms"] + lease["grace_ms"])
        return {
            "running_ms": max(record["running_ms"], ran_ms),
            "boot_id": self._boot,
            "heartbeat_ms": now_ms,
            "heartbeat_wall_ms": wall_ms,
        }

    def _write(self, rank: Rank, record: Mapping[str, Any]) -> None:
        runner.write_atomic(str(rank.record_path), dict(record))
        rank.read()

    # --- ending -----------------------------------------------------------------------------------------------------

    def _ends_ms(self, live: Sequence[Rank], lease: Mapping[str, Any]) -> int | None:
        """Until when what runs in a lease that is to end may run, by the boot-time clock; None for one that goes on."""
        name, now_ms = lease["reservation"], runner.boot_ms()
        control = runner.read_json(str(live[0].directory / runner.CONTROL)) or {}
        until_ms = control.get("stop_until_ms")
        if until_ms is not None and control.get("boot_id") != self._boot:
            until_ms = now_ms + control["stop_grace_ms"]
        if self._is_over(live[0], lease):
            late_ms = now_ms + lease["grace_ms"]
            until_ms = late_ms if until_ms is None else min(until_ms, late_ms)
        if until_ms is None:
            return None
        # The first deadline stands, but for one that a later stop brought forward.
        self._until_ms[name] = min(until_ms, self._until_ms.get(name, until_ms))
        return self._until_ms[name]

    def _is_over(self, rank: Rank, lease: Mapping[str, Any]) -> bool:
        """Whether its time is over."""
        most_ms = lease["max_duration_ms"]
        return bool(most_ms) and self._counted(_of(rank), lease)["running_ms"] >= most_ms

    def _end(self, seen: Reservation, live: Sequence[Rank], lease: Mapping[str, Any], until_ms: int) -> None:
        """Tell what runs in it to end, then make it end; delete it when nothing is left, and only then is it over."""
        with self._guard():
            if not self._release(seen.name, is_late=runner.boot_ms() >= until_ms):
                return
        with self._recording():
            for rank in [one for one in live if not one.final]:
                reason = self._why_over(rank, lease)
                with contextlib.suppress(OSError):
                    self._write(rank, _of(rank) | self._counted(_of(rank), lease))
                rank.close(RankState.EXITED, _TERMINATED, reason=reason)

    def _why_over(self, rank: Rank, lease: Mapping[str, Any]) -> str:
        return "max_duration" if self._is_over(rank, lease) else ""

    def _close_gone(self, live: Sequence[Rank], lease: Mapping[str, Any], *, is_ending: bool) -> None:
        """It is not there any more: what was counted when it last was stands for its end."""
        for rank in live:
            if is_ending:
                # Also when it was deleted for its time, and that could not be recorded any more.
                why = self._why_over(rank, lease)
                rank.close(RankState.EXITED, _TERMINATED, reason=why, estimated=True)
            else:
                what = f"its reservation {lease['reservation']} is not in Slurm any more: somebody deleted it there"
                rank.close(RankState.LOST, None, estimated=True, detail=what)


def jobs_in(jobs: Iterable[Job], seen: Mapping[str, Reservation], uid: int) -> Mapping[str, Sequence[Job]]:
    """The jobs whose end is that of a reservation, by its name; ``uid``: whose jobs are there by our own hand."""
    leased: dict[str, dict[str, None]] = {}
    for one in seen.values():
        if mark_of(one.name):
            for host in one.hosts:
                leased.setdefault(host, {})[one.name] = None
    found: dict[str, list[Job]] = {}
    for job in jobs:
        if job.is_alive:
            for name in _reservations_of(job, seen, leased, uid):
                found.setdefault(name, []).append(job)
    return found


def _reservations_of(
    job: Job, seen: Mapping[str, Reservation], leased: Mapping[str, Mapping[str, None]], uid: int
) -> Iterable[str]:
    named_ = dict.fromkeys(name for name in job.reservation.split(",") if name in seen)
    if job.waits or not leased:
        return named_
    hosts = hosts_of(job.nodes)
    there = dict.fromkeys(name for host in hosts for name in leased.get(host, ()))
    slipped = [
        name
        for name in there
        if name not in named_ and job.uid != uid and _slipped_in(job, hosts, seen[name], named_, seen)
    ]
    # Of several that it names it is in the one whose nodes it has.
    inside = [name for name in named_ if not frozenset(hosts).isdisjoint(seen[name].hosts)]
    return [*(inside or named_), *slipped]


def _slipped_in(
    job: Job, hosts: Sequence[str], one: Reservation, names: Iterable[str], seen: Mapping[str, Reservation]
) -> bool:
    """Whether a job that does not say so came to its hosts through a reservation of its account."""
    common = frozenset(hosts) & frozenset(one.hosts)
    return (
        job.account.lower() in one.accounts.lower().split(",")
        and job.began_s is not None
        and one.begins_s is not None
        and job.began_s >= one.begins_s
        and not any(common <= frozenset(seen[name].hosts) for name in names)
    )


def each_of(steps: Iterable[Callable[[], object]]) -> None:
    """Take all of them, whichever fail; then raise what the first that failed said."""
    errors = []
    for step in steps:
        try:
            step()
        except EngineError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def shared_account(account: str, tenant: str, accounts: Mapping[Any, str]) -> str:
    """Why an account is not one tenant's alone, or ""."""
    others = sorted(name for name, one in accounts.items() if one == account and name != tenant)
    if not others:
        return ""
    return (
        f"account {account} is tenant {named(others)}'s too, and a reservation of it would be both's; give each an "
        "account of its own under accounts: of the engine"
    )


def taken_account(account: str, tenant: str, accounts: Mapping[Any, str]) -> str:
    """Why a tenant that is not among ``accounts`` has no account of its own name, or ""."""
    others = sorted(name for name, one in accounts.items() if one == account)
    if not others:
        return ""
    return (
        f"account {account} is tenant {named(others)}'s here; write which account tenant {tenant} has under accounts: of "
        "the engine"
    )


def unstarted(name: str) -> str:
    """What becomes of a lease whose reservation went before it was seen."""
    return f"its reservation {name} went before it began: somebody deleted it there"


def _of(rank: Rank) -> dict[str, Any]:
    if rank.record is None:
        raise TypeError(f"{rank.directory} has no record")
    return rank.record


def _refused(what: str, step: str) -> Refused:
    return Refused(*engine_error(ProblemCode.UNPLACEABLE, what, step).problems)


def _said(value: str) -> str:
    return "" if value == "(null)" else value


def _seconds(value: str) -> float | None:
    if value.isdecimal():
        return float(value)
    try:
        # As scontrol writes it, by the zone of this host.
        return datetime.fromisoformat(value).timestamp()
    except ValueError:
        return None
