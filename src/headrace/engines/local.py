"""The local engine: real processes on this machine, each rank under a runner that outlives the control plane."""

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.core.errors import ProblemCode
from headrace.core.ids import NodeId
from headrace.core.workload import WHOLE_MILLI
from headrace.engines import runner
from headrace.engines.machine import (
    PortPool,
    first_closed,
    first_unreadable,
    port_is_free,
    real_accelerators,
    share_cores,
)
from headrace.engines.orders import Runtime, environment, why_never
from headrace.engines.problems import engine_error, refuse_closed
from headrace.engines.ranks import Held, Rank, end_leftovers
from headrace.engines.spool import CANNOT_RUN, SpoolEngine, SpoolSettings
from headrace.ports import FIRST_TENANT_UID, Capabilities, NodeReport, RankState, StartOrder

_LOCK_FD = 3
_LOCK_TRIES = 250
_LOCK_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class LocalSettings(SpoolSettings):
    """What is seldom changed. ``None`` finds out: whether this is root, and which processors there are to share.

    ``runner_python`` runs the runners; ``devices`` is where accelerators are looked for.
    """

    privileged: bool | None = None
    runner_python: str = sys.executable
    ports: range = range(20_000, 30_000)
    cores: tuple[int, ...] | None = None
    devices: Path = Path("/dev")


class LocalEngine(SpoolEngine):
    """Runs placements on this machine; implements :class:`headrace.ports.Engine`.

    ``python`` is what a workload finds as ``python``: its directory comes first in ``PATH``, and ``runtime_paths`` in
    ``PYTHONPATH``. As root, each tenant runs under its own numeric user of ``uid_range``. Otherwise, or with
    ``isolate=False``, everything runs as this process's user; one tenant alone is served then, unless ``isolate`` is
    false.

    Raises EngineError when the tenants' users could not read what they need.
    """

    def __init__(
        self,
        root: Path,
        python: str,
        runtime_paths: Sequence[Path] = (),
        uid_range: range = range(FIRST_TENANT_UID, FIRST_TENANT_UID + 100_000),
        *,
        isolate: bool = True,
        settings: LocalSettings = LocalSettings(),
    ) -> None:
        privileged = os.geteuid() == 0 if settings.privileged is None else settings.privileged
        self._uids = uid_range if isolate and privileged else None
        super().__init__(root, settings, with_users=self._uids is not None)
        self._python = python
        self._runtime_paths = tuple(path.absolute() for path in runtime_paths)
        self._settings = settings
        self._one_tenant = isolate and self._uids is None
        self._pool = PortPool(settings.ports, root)
        self._cores = sorted(os.sched_getaffinity(0) if settings.cores is None else settings.cores)
        self._gpus = real_accelerators(settings.devices)
        self._boot = runner.boot_id()
        self._spawned: dict[int, Rank] = {}
        self._prepare()
        if self._uids is not None:
            work = self._root / "work"
            refuse_closed(work, first_closed(work.resolve()))
            for path in (Path(self._python), *self._runtime_paths):
                refuse_closed(path, first_unreadable(path))

    @property
    def capabilities(self) -> Capabilities:
        """``uid`` when each tenant has a Unix user of its own, else ``none``."""
        return Capabilities(
            isolation="none" if self._uids is None else "uid", pause=True, ports=True, pause_sheds=True
        )

    def nodes(self, of: Sequence[NodeId]) -> Sequence[NodeReport]:
        """Nothing: this machine is up, or nobody could ask."""
        return ()

    def host_of(self, node: NodeId) -> str:
        """The node itself: all of them are this machine."""
        return node

    def inventory(self) -> None:
        """Nothing: this machine plays whatever nodes the estate has."""
        return

    def cordon(self, nodes: Mapping[NodeId, str]) -> None:
        """Nothing: nobody else gives work to this machine's nodes."""

    def close(self) -> None:
        """Nothing: it does nothing by itself."""

    # --- starting -------------------------------------------------------------------------------------------------

    def _why_never(self, order: StartOrder) -> str:
        return why_never(order, self._uids) or self._other_tenant(order)

    def _other_tenant(self, order: StartOrder) -> str:
        if not self._one_tenant:
            return ""
        path = self._root / "tenant"
        served = runner.read_json(str(path))
        if served is None:
            runner.write_atomic(str(path), order.tenant)
            return ""
        if served == order.tenant:
            return ""
        return (
            f"not run as root, this machine serves tenant {served} alone; run it as root for a Unix user per tenant, "
            "or with --no-isolation"
        )

    def _allot(self, order: StartOrder, info: dict[str, Any]) -> None:
        taken: set[int] = set()
        used: Counter[int] = Counter()
        for held in self._held.values():
            if not held.final:
                taken.update(held.all_ports())
                used.update(core for cores in held.info["cores"] for core in cores)

        def take(name: str, fixed: int) -> int:
            port = fixed or self._pool.take(taken)
            if port is None:
                raise engine_error(
                    ProblemCode.ENGINE_UNAVAILABLE, "no port is free;", "widen the engine's port range."
                )
            if fixed and (port in taken or not port_is_free(port)):
                raise engine_error(
                    ProblemCode.CONFLICT, f"port {port} ({name}) is in use;", f"write `{name}: auto`."
                )
            taken.add(port)
            return port

        info["master_port"] = take("MASTER_PORT", 0)
        for place, accelerators, cpu_milli in zip(
            order.ranks, order.node_accelerators, order.node_cpu_milli, strict=True
        ):
            info["ports"].append({name: take(name, fixed) for name, fixed in sorted(order.ports.items())})
            part, whole = place.accelerators_milli, accelerators * WHOLE_MILLI
            part, whole = (part, whole) if place.mask else (place.cpu_milli, cpu_milli)
            cores = share_cores(self._cores, used, part, whole)
            used.update(cores)
            info["cores"].append(cores)

    def _environment(self, held: Held, rank: Rank, order: StartOrder, work: Path) -> dict[str, str]:
        runtime = Runtime(self._python, self._runtime_paths, self._gpus)
        return environment(order, rank.number, held.info, work, runtime)

    def _renew(self, held: Held) -> None:
        for rank in held.ranks:
            rank.spawned_pid = 0

    def _launch(self, held: Held, order: StartOrder) -> None:
        for rank in held.ranks:
            self._launch_rank(held, rank, order)

    def _launch_rank(self, held: Held, rank: Rank, order: StartOrder) -> None:
        """Hand one rank to a runner of its own, with the rank's lock, unless one has it or had it."""
        if rank.record_path.exists():
            return
        lock = runner.try_lock(str(rank.directory))
        if lock is None:
            if rank.spawned_pid:
                return
            # Of an earlier control plane: it will record its start, or find its epoch superseded and go.
            lock = self._await_lock(rank)
            if lock is None:
                return
        try:
            if rank.record_path.exists():
                return
            spec = rank.directory / runner.SPEC
            runner.write_atomic(str(spec), self._spec(held, rank, order), durable=False)
            try:
                pid = self._spawn(rank, spec, lock)
            except OSError:
                spec.unlink(missing_ok=True)
                raise
            self._spawned[pid] = rank
            rank.spawned_pid, rank.spawn_ended = pid, False
        finally:
            os.close(lock)

    def _await_lock(self, rank: Rank) -> int | None:
        for _ in range(_LOCK_TRIES):
            lock = runner.try_lock(str(rank.directory))
            if lock is not None or rank.record_path.exists():
                return lock
            time.sleep(_LOCK_PAUSE_S)
        raise engine_error(
            ProblemCode.ENGINE_UNAVAILABLE,
            f"a runner holds rank {rank.number} of {rank.info['placement']} and records nothing;",
            "look for a full disk.",
        )

    def _spawn(self, rank: Rank, spec: Path, lock: int) -> int:
        output = str(rank.directory / "runner.log")
        return os.posix_spawn(
            self._settings.runner_python,
            [self._settings.runner_python, "-I", "-S", runner.__file__, str(spec), str(_LOCK_FD)],
            {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, lock, _LOCK_FD),
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
        )

    # --- observing ------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        for pid in list(self._spawned):
            try:
                ended, _ = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                ended = pid
            if ended:
                self._spawned.pop(pid).spawn_ended = True

    def _lives(self, rank: Rank) -> bool:
        return rank.runner_lives(self._boot)

    def _wake(self, rank: Rank, number: int) -> None:
        rank.signal_runner(number, self._boot)

    def _close_unstarted(self, rank: Rank) -> bool:
        if not rank.spawned_pid or not rank.spawn_ended:
            return False
        rank.close(RankState.EXITED, CANNOT_RUN, reason="start_failed", detail=rank.runner_log())
        return True

    def _is_starting(self, rank: Rank) -> bool:
        lock = runner.try_lock(str(rank.directory))
        if lock is None:
            return True
        # It may have recorded and ended between reading and locking.
        rank.read()
        os.close(lock)
        return rank.record is not None

    def _end_leftovers(self, ranks: Sequence[Rank]) -> list[Rank]:
        same_boot = [rank for rank in ranks if rank.record and rank.record["boot_id"] == self._boot]
        return end_leftovers(same_boot) if same_boot else []
