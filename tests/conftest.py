"""What every test may rely on: a missing program is named, and nothing is skipped in CI unseen."""

import os
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest

ALLOWED_SKIPS = Path(__file__).with_name("allowed-skips.txt")
WITH_PROCESSES = frozenset(
    (
        "attack",
        "benchmarks",
        "cli",
        "demo",
        "devices",
        "docs",
        "durability",
        "engines",
        "lab",
        "plant",
        "sdk",
        "signals",
    )
)
"""Folders whose tests start daemons, clusters or control planes: one after the other, however many workers there are."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep what starts processes on one worker: on few processors two of them would be late for each other."""
    here = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(here).parts[0]
        if folder in WITH_PROCESSES or folder.startswith(
            ("test_server", "test_planner", "test_apart", "test_actuate")
        ):
            item.add_marker(pytest.mark.xdist_group("processes"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose `needs_program` is not installed, and say what would bring it."""
    for marker in item.iter_markers("needs_program"):
        program, package = _program_and_package(*marker.args, **marker.kwargs)
        if shutil.which(program) is None:
            pytest.skip(f"no {program} on PATH; to run this test: apt-get install {package}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, turn a skip that nobody allowed into a failure."""
    report = yield
    # An expected failure is reported as skipped too, but it did run.
    if report.skipped and not hasattr(report, "wasxfail"):
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """In CI, the same for a whole file that skips itself."""
    report = yield
    if report.skipped:
        _refuse_skip(report)
    return report


def _program_and_package(program: str, package: str | None = None) -> tuple[str, str]:
    return program, package or program


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("CI") != "true" or report.nodeid in _allowed_skips():
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = (
        f"{report.nodeid} was skipped in CI: {reason}\n"
        f"Install what it wants in .ci/run, or add a line to tests/{ALLOWED_SKIPS.name}: {report.nodeid} -> why"
    )


def _allowed_skips() -> dict[str, str]:
    """Return reason by test id; a line without a reason allows nothing."""
    lines = ALLOWED_SKIPS.read_text().splitlines()
    pairs = (line.split(" -> ", 1) for line in lines if not line.startswith("#"))
    return {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2 and pair[1].strip()}
