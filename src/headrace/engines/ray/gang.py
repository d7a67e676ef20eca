"""What a placement is on a Ray cluster: one job, which takes its nodes all at once and has a runner on each.

    python gang.py place GANG.json               the job's driver, by a Python that has `ray`
    python3 -I -S gang.py launch RANK PARENT     beside each runner, by any Python

It is one file, shipped to the spool beside ``runner.py``; it is run there and not imported here. ``GANG.json`` has ``name``,
``root`` (where this file is), ``python`` and ``ranks``: for each its ``directory``, ``node`` and ``resources``.

No rank starts before all nodes are taken. From then on the placement is a whole: when a worker of Ray, a raylet or this driver
goes, Ray ends the job, and with it every worker that launched a runner. No runner outlives its launcher for longer than the
order's grace: the kernel tells it (``SIGUSR2``, see the runner), and it records what it ran and that it was lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from importlib import import_module

# `typing` costs a tenth of a launcher's start; type checkers know this name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_NODE_ID = "ray.io/node-id"
_LOOK_S = 1.0
_KILL_TRIES, _KILL_PAUSE_S = 40, 0.025


# --- the driver -----------------------------------------------------------------------------------------------------


def place(path: str) -> int:
    """Take the nodes of a gang, launch its runners and wait for their ends; 1 when Ray fails it half way."""
    gang = _read(path)
    if gang is None:
        return 0
    ray = import_module("ray")
    ray.init(log_to_driver=False)
    group = _take_nodes(ray, gang)
    if group is None:
        print("nobody wants it any more")
        return 0
    why = _run(ray, gang, group)
    print(why or "every rank has ended")
    return 1 if why else 0


def _take_nodes(ray: Any, gang: dict[str, Any]) -> Any:
    """A placement group with a bundle for each rank on exactly its node; None when nobody wants the gang any more."""
    groups = import_module("ray.util.placement_group")
    while _is_wanted(gang):
        ids = {one["NodeName"]: one["NodeID"] for one in ray.nodes() if one["Alive"]}
        wanted = [ids[rank["node"]] for rank in gang["ranks"] if rank["node"] in ids]
        if len(wanted) == len(gang["ranks"]):
            group = groups.placement_group(
                [rank["resources"] for rank in gang["ranks"]],
                # The labels say where each bundle goes; this is the strategy that never contradicts them.
                strategy="SPREAD",
                name=gang["name"],
                bundle_label_selector=[{_NODE_ID: ident} for ident in wanted],
            )
            if _is_placed(ray, gang, group, wanted):
                return group
            groups.remove_placement_group(group)
        time.sleep(_LOOK_S)
    return None


def _is_placed(ray: Any, gang: dict[str, Any], group: Any, wanted: list[str]) -> bool:
    """Wait until a group has its nodes; False when one of them went, or nobody waits for it any more."""
    while not group.wait(timeout_seconds=_LOOK_S):
        alive = {one["NodeID"] for one in ray.nodes() if one["Alive"]}
        if not alive.issuperset(wanted) or not _is_wanted(gang):
            return False
    table = import_module("ray.util").placement_group_table(group)
    return [table["bundles_to_node_id"][number] for number in range(len(wanted))] == wanted


def _is_wanted(gang: dict[str, Any]) -> bool:
    """Whether any rank waits for its runner: the order of one that was stopped, or superseded, is gone."""
    return any(
        os.path.exists(os.path.join(rank["directory"], "spec.json"))
        and not os.path.exists(os.path.join(rank["directory"], "record.json"))
        for rank in gang["ranks"]
    )


def _run(ray: Any, gang: dict[str, Any], group: Any) -> str:
    """Launch the runners and wait for all of them; why the gang can't go on, or ""."""
    strategy = import_module("ray.util.scheduling_strategies").PlacementGroupSchedulingStrategy
    script = os.path.join(gang["root"], "gang.py")

    def launched(directory: str) -> int:
        # Pickled by value: workers know nothing of this file.
        os_, subprocess = import_module("os"), import_module("subprocess")
        with open(os_.path.join(directory, "runner.log"), "ab") as log:
            command = [gang["python"], "-I", "-S", script, "launch", directory, str(os_.getpid())]
            # A session of its own, so that it goes when its worker does, and not with a group.
            launcher = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        return int(launcher.wait())

    task = ray.remote(launched)
    left = {}
    for number, rank in enumerate(gang["ranks"]):
        given = dict(rank["resources"])
        options = task.options(
            name=f"{gang['name']} {number}",
            num_cpus=given.pop("CPU", 0),
            num_gpus=given.pop("GPU", 0),
            memory=given.pop("memory", None),
            resources=given,
            max_retries=0,
            scheduling_strategy=strategy(placement_group=group, placement_group_bundle_index=number),
        )
        left[options.remote(rank["directory"])] = number
    return _watch(ray, gang, group, left)


def _watch(ray: Any, gang: dict[str, Any], group: Any, left: dict[Any, int]) -> str:
    """Wait for the tasks in ``left``, by rank; why the gang can't go on, or ""."""
    table = import_module("ray.util").placement_group_table
    while left:
        done, _ = ray.wait(list(left), num_returns=1, timeout=_LOOK_S)
        if not done and table(group)["state"] != "CREATED":
            # A task that has not begun there would wait for its node for ever.
            return "one of its nodes is gone"
        for task in done:
            number = left.pop(task)
            try:
                code = ray.get(task)
            except Exception as error:  # noqa: BLE001 - whatever Ray says, the gang is no whole any more
                return f"rank {number}: {' '.join(str(error).split())[:400]}"
            directory = gang["ranks"][number]["directory"]
            if code and not os.path.exists(os.path.join(directory, "record.json")):
                return f"rank {number} could not be launched (exit code {code}); see {directory}/runner.log"
    return ""


# --- beside each runner ---------------------------------------------------------------------------------------------


def launch(directory: str, parent: int) -> int:
    """Run a rank's runner as long as the worker of Ray lives that asked for it; the runner's exit code.

    Ray kills what its workers started itself, but no further; so the runner is a child of this process.
    """
    sys.dont_write_bytecode = True
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    runner = import_module("runner")
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return 1
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _be_ordinary()
    me = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(runner, directory, me)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return code
    _end_orphans(runner)
    _close(runner, directory)
    return 128 - code


def _become(runner: Any, directory: str, launcher: int) -> None:
    """In the child: turn into the runner."""
    with contextlib.suppress(BaseException):
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGUSR2)
        if os.getppid() == launcher:
            spec = os.path.join(directory, runner.SPEC)
            os.execv(sys.executable, [sys.executable, "-I", "-S", runner.__file__, spec])
    os._exit(1)


def _be_ordinary() -> None:
    """Workers of Ray are nice to others and the first to go when memory is short; what was placed here is neither."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("0")


def _end_orphans(runner: Any) -> None:
    """Kill what a runner left behind that was killed itself: it came to this process."""
    for _ in range(_KILL_TRIES):
        children: dict[int, list[int]] = {}
        for pid, state, parent, _session in runner.processes():
            if state not in "ZX":
                children.setdefault(parent, []).append(pid)
        below, todo = [], [os.getpid()]
        while todo:
            found = children.get(todo.pop(), [])
            below += found
            todo += found
        if not below:
            return
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_KILL_PAUSE_S)


def _close(runner: Any, directory: str) -> None:
    """Record the end of a rank whose runner can't any more: on another host nobody else would learn of it."""
    path = os.path.join(directory, runner.RECORD)
    record = runner.read_json(path)
    if isinstance(record, dict) and record.get("state") in (runner.RUNNING, runner.PAUSED):
        end = {"state": runner.LOST, "exit_code": None, "estimated": True, "detail": "its runner vanished"}
        with contextlib.suppress(OSError):
            runner.write_atomic(path, record | end)


def _prctl(option: int, value: int) -> None:
    # Here, not above: the driver has no use for it.
    ctypes = import_module("ctypes")
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl {option}: {os.strerror(code)}")


def _read(path: str) -> Any:
    """The gang to place; None when its placement was forgotten meanwhile."""
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
        return json.load(file)
    return None


def main(argv: list[str]) -> int:
    """Place a gang, or launch one of its runners."""
    if argv[1] == "place":
        return place(argv[2])
    os.umask(0o077)
    return launch(argv[2], int(argv[3]))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
