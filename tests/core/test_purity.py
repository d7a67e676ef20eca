"""The core is pure, and the house is in order: imports, sizes, and what must share no code."""

import ast
import sys
from pathlib import Path

import pytest

import headrace

SOURCE = Path(headrace.__file__).parent
CORE = SOURCE / "core"
IMPURE_MODULES = {
    "asyncio", "builtins", "concurrent", "ctypes", "fcntl", "ftplib", "getpass", "glob", "http", "importlib", "io",
    "locale", "logging", "mmap", "multiprocessing", "os", "pathlib", "pickle", "platform", "pty", "queue", "random",
    "resource", "sched", "secrets", "select", "selectors", "shelve", "shutil", "signal", "smtplib", "socket",
    "socketserver", "sqlite3", "ssl", "subprocess", "sys", "syslog", "tempfile", "termios", "threading", "time",
    "tkinter", "urllib", "uuid", "webbrowser", "_thread",
}  # fmt: skip
"""Clock, chance, I/O, async, threads and logging of the standard library."""
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "__import__", "breakpoint", "globals"}
IMPURE_METHODS = {
    "now", "utcnow", "today",  # clocks
    "fromfile", "tofile", "loadtxt", "savetxt", "memmap",  # files, by numpy
}  # fmt: skip
PUBLIC_TYPES = {
    "headrace.core.contracts": {"Contract", "Maintenance", "Quota", "Reservation", "Tenant"},
    "headrace.core.errors": {"HeadraceError"},
    "headrace.core.estate": {"Block", "NodeGroup", "Site"},
    "headrace.core.hardware": {"HardwareType"},
    # An independent check itself, of what happens when something is lost.
    "headrace.core.power.survive": {"above", "overloads", "several_ways"},
    "headrace.core.ids": {"ContractId", "DataId", "NodeId", "PlacementId", "ProjectId", "SiteId",
                          "TenantId", "WindowId", "WorkloadId"},
    "headrace.core.observation": {"Capabilities"},
    "headrace.core.scheduling.proposal": {"Eviction", "Plan", "ProposedPlacement"},
    "headrace.core.scheduling.snapshot": {"Snapshot", "Taken"},
    "headrace.core.sovereignty.plain": {"PROFILES"},
    "headrace.core.units": {"MS_PER_DAY", "PERMILLE", "ceil_div"},
    "headrace.core.workload": {
        "HOLDING", "LEVELS", "WHOLE_MILLI", "Alternative", "Flex", "Level", "Placement", "PolicyRef", "RankPlace", "Resources",
        "State", "Topology", "Workload", "WorkloadSpec", "WorkloadType"
    },
}  # fmt: skip
"""All that the independent check may take from the core: types and tables, and no function. (Of the simulation's
checkers, tests/sim/checkers/test_checkers.py asks the same.)"""
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 600, 60
LONGER_FILES = {"engines/runner.py": "one file, so that it can be shipped to any node as it is"}
LONGER_FUNCTIONS = {
    "core/metering.py:usage_row": "a fact to a line, as they are passed on: two screens would hide one",
    "core/scheduling/singles.py:_place": "one loop, a hundred thousand times in a plan: as calls it costs a tenth more",
}


def files(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*.py"))
    assert len(found) > 5
    return found


def imported(tree: ast.AST) -> list[str]:
    """The modules that a file imports, with all parts of their names."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.append("." * node.level + (node.module or ""))
    return found


def impurities(source: str) -> list[str]:
    """What a file does that the core may not."""
    tree = ast.parse(source)
    found = [f"imports {name}" for name in imported(tree) if not _may_import(name)]
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            found.append("is asynchronous")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            found.append(f"calls {node.func.id}")
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in IMPURE_METHODS
        ):
            found.append(f"calls .{node.func.attr}")
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("np.random", "numpy.random"):
            found.append("uses numpy's chance")
    return found


def _may_import(name: str) -> bool:
    top = name.partition(".")[0]
    if top == "headrace":
        return name == "headrace.core" or name.startswith("headrace.core.")
    if top == "numpy":
        return not name.startswith("numpy.random")
    return top in sys.stdlib_module_names and top not in IMPURE_MODULES


@pytest.mark.parametrize("path", files(CORE), ids=lambda path: str(path.relative_to(CORE)))
def test_the_core_has_no_clock_chance_io_async_or_logging(path: Path) -> None:
    """It imports the standard library's pure part, numpy and itself; time and chance are arguments."""
    assert impurities(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "finding"),
    [
        ("import time", "imports time"),
        ("import os.path", "imports os.path"),
        ("from random import choice", "imports random"),
        ("import msgspec", "imports msgspec"),
        ("from headrace.ports import Clock", "imports headrace.ports"),
        ("from .. import control", "imports .."),
        ("import datetime\nx = datetime.datetime.now()", "calls .now"),
        ("from datetime import date\nx = date.today()", "calls .today"),
        ("open('x')", "calls open"),
        ("print(1)", "calls print"),
        ("import numpy as np\nx = np.random.default_rng()", "uses numpy's chance"),
        ("async def f(): pass", "is asynchronous"),
    ],
)
def test_an_impure_core_would_be_noticed(source: str, finding: str) -> None:
    """The test above can fail, for each of its reasons."""
    assert impurities(source) == [finding]


def test_the_independent_check_shares_no_code_with_the_planner() -> None:
    """It imports public types of the core alone: what it judges by, it says itself."""
    own = ("check", "driven", "ground", "equals", "timely", "lawful")
    for file in (*(f"scheduling/{name}.py" for name in own), "power/survive.py"):
        tree = ast.parse((CORE / file).read_text(encoding="utf-8"))
        taken: dict[str, set[str]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("headrace"):
                taken.setdefault(node.module or "", set()).update(alias.name for alias in node.names)
        assert taken
        for module, names in taken.items():
            if module not in (f"headrace.core.scheduling.{name}" for name in own):
                assert names <= PUBLIC_TYPES.get(module, set()), f"{file} imports {names} of {module}"


def test_no_file_grows_beyond_what_can_be_read_in_one_go() -> None:
    """Under 600 lines; an exception has its reason, and goes when it is no longer needed."""
    long = {
        str(path.relative_to(SOURCE)): lines
        for path in files(SOURCE)
        if (lines := path.read_text(encoding="utf-8").count("\n")) >= MOST_LINES
    }
    assert set(long) == set(LONGER_FILES), long


def test_no_function_grows_beyond_a_screen() -> None:
    """Under 60 lines: parents branch, leaves compute."""
    long = {}
    for path in files(SOURCE):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines >= MOST_LINES_OF_A_FUNCTION:
                    long[f"{path.relative_to(SOURCE)}:{node.name}"] = lines
    assert set(long) == set(LONGER_FUNCTIONS), long
