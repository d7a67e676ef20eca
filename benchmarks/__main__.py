"""``python -m benchmarks NAME... [--quick]``, ``--list``, ``all --record``: the rows of RESULTS.md, each of its own commit."""

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import BENCHMARKS
from benchmarks.registry import Benchmark

RESULTS = Path(__file__).parent / "RESULTS.md"


def main() -> int:
    """Run what was asked; exit status 1 when a figure does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help="a benchmark's name, or all")
    parser.add_argument("--list", action="store_true", help="name them with their goals")
    parser.add_argument("--quick", action="store_true", help="a smaller size, within 45 seconds")
    parser.add_argument("--record", action="store_true", help="put the rows into benchmarks/RESULTS.md")
    options = parser.parse_args()
    if options.list or not options.names:
        for one in BENCHMARKS.values():
            sys.stdout.write(
                f"{one.name:22} {'>=' if one.at_least else '<='} {one.goal:g} {one.unit}: {one.what}\n"
            )
        return 0
    for name in options.names:
        if name != "all" and name not in BENCHMARKS:
            parser.error(f"no benchmark {name!r}; known: {', '.join(BENCHMARKS)}, all")
    holds = True
    for name in BENCHMARKS if "all" in options.names else options.names:
        line = _run(BENCHMARKS[name], quick=options.quick)
        if options.record and not options.quick:
            RESULTS.write_text(_results([line], RESULTS.read_text() if RESULTS.exists() else ""))
        holds = holds and bool(line["holds"])
    return 0 if holds else 1


def _run(one: Benchmark, *, quick: bool) -> dict[str, object]:
    line = one.line(quick=quick)
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    return line


_HEAD = """# Results

On 2 cores. Each row by its command at its commit; `python -m benchmarks all --record` writes them all.

| name | figure | unit | goal | holds | commit | date | command | notes |
|---|---|---|---|---|---|---|---|---|
"""
_KNOWN = frozenset({"name", "figure", "unit", "goal", "holds", "quick"})


def _results(lines: list[dict[str, object]], before: str) -> str:
    """The table with ``lines`` in it; rows of benchmarks that were not run stay as they were."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    day = datetime.now(UTC).date().isoformat()
    rows = {row.split("|")[1].strip(): row for row in before.splitlines() if row.startswith("| ")}
    for line in lines:
        notes = ", ".join(f"{key} {value}" for key, value in line.items() if key not in _KNOWN)
        holds = "yes" if line["holds"] else "NO"
        cells = (line["name"], line["figure"], line["unit"], line["goal"], holds, commit, day)
        command = f"`python -m benchmarks {line['name']}`"
        rows[str(line["name"])] = f"| {' | '.join(map(str, cells))} | {command} | {notes} |"
    return _HEAD + "".join(f"{rows[name]}\n" for name in BENCHMARKS if name in rows)


if __name__ == "__main__":
    sys.exit(main())
