"""``python -m benchmarks NAME [--quick]``, ``--list``, ``all --record``."""

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
    parser.add_argument("name", nargs="?", help="a benchmark's name, or all")
    parser.add_argument("--list", action="store_true", help="name them with their goals")
    parser.add_argument("--quick", action="store_true", help="a smaller size, within 45 seconds")
    parser.add_argument("--record", action="store_true", help="write benchmarks/RESULTS.md (with all)")
    options = parser.parse_args()
    if options.list or not options.name:
        for one in BENCHMARKS.values():
            sys.stdout.write(
                f"{one.name:22} {'>=' if one.at_least else '<='} {one.goal:g} {one.unit}: {one.what}\n"
            )
        return 0
    if options.name != "all" and options.name not in BENCHMARKS:
        parser.error(f"no benchmark {options.name!r}; known: {', '.join(BENCHMARKS)}, all")
    chosen = list(BENCHMARKS.values()) if options.name == "all" else [BENCHMARKS[options.name]]
    lines = [_run(one, quick=options.quick) for one in chosen]
    if options.record:
        RESULTS.write_text(_results(lines))
    return 0 if all(line["holds"] for line in lines) else 1


def _run(one: Benchmark, *, quick: bool) -> dict[str, object]:
    line = one.line(quick=quick)
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    return line


def _results(lines: list[dict[str, object]]) -> str:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    day = datetime.now(UTC).date().isoformat()
    rows = [
        "# Results\n",
        f"Commit {commit.stdout.strip()}, {day}, 2 cores. Each row: `python -m benchmarks NAME`.\n",
        "| name | figure | unit | goal | holds | notes |",
        "|---|---|---|---|---|---|",
    ]
    known = {"name", "figure", "unit", "goal", "holds", "quick"}
    for line in lines:
        notes = ", ".join(f"{key} {value}" for key, value in line.items() if key not in known)
        holds = "yes" if line["holds"] else "NO"
        rows.append(
            f"| {line['name']} | {line['figure']} | {line['unit']} | {line['goal']} | {holds} | {notes} |"
        )
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.exit(main())
