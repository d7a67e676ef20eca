"""The judge of the kills sees what it is there to see: each sort of damage to a sound run is called by its name."""

import copy
import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.durability import harness
from tests.durability.client import Kept
from tests.durability.evidence import read_journal
from tests.durability.judge import as_text, judge


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, harness.Report]:
    """A short run with two kills, and all that it left."""
    folder = tmp_path_factory.mktemp("kills")
    report = harness.run_in(folder, 2, 5, pace_s=0.06)
    assert not report.violations, as_text(report.violations)
    return folder, report


def _sql(folder: Path, *statements: str) -> None:
    with sqlite3.connect(folder / "state" / "journal.sqlite") as db:
        for statement in statements:
            db.execute(statement)
    db.close()


def _lose_the_tail(folder: Path, kept: Kept) -> None:
    newest = max(head.size for head in kept.heads)
    _sql(folder, f"delete from groups where first + count >= {newest}")


def _flip_a_bit(folder: Path, _: Kept) -> None:
    with sqlite3.connect(folder / "state" / "journal.sqlite") as db:
        first, bodies = db.execute(
            "select first, bodies from groups order by first limit 1 offset 3"
        ).fetchone()
        # The first byte of a salt: nothing else notices.
        db.execute(
            "update groups set bodies = ? where first = ?", (bytes([bodies[0] ^ 1]) + bodies[1:], first)
        )
    db.close()


def _forge_a_head(folder: Path, _: Kept) -> None:
    _sql(folder, "update groups set at_ms = at_ms + 1 where first = 0")


def _first_record(folder: Path) -> Path:
    return min((folder / "state" / "engine" / "records").iterdir())


def _bill_a_millisecond_less(folder: Path, _: Kept) -> None:
    path = _first_record(folder)
    record = json.loads(path.read_bytes())
    path.write_text(json.dumps(record | {"running_ms": record["running_ms"] + 1}))


def _lose_a_record(folder: Path, _: Kept) -> None:
    _first_record(folder).unlink()


def _start_twice(folder: Path, _: Kept) -> None:
    with min((folder / "witness").iterdir()).open("a") as file:
        file.write("4711\n")


def _start_unasked(folder: Path, _: Kept) -> None:
    (folder / "witness" / "acme-999999.1.0").write_text("4711\n")


def _never_start(folder: Path, _: Kept) -> None:
    journal = read_journal(folder / "state" / "journal.sqlite")
    ended = next(one for one in journal.of("PlacementEnded") if 0 in one.payload["exit_codes"])
    rank = ended.payload["exit_codes"].index(0)
    (folder / "witness" / f"{ended.payload['placement']}.{rank}").unlink()


def _unbalance(folder: Path, _: Kept) -> None:
    _sql(folder, "update transfers set amount_micros = amount_micros + 1 where rowid = 1")


def _meter_twice(folder: Path, _: Kept) -> None:
    _sql(
        folder,
        """insert into usage select seq, idx + 1, at_ms, usage_key, tenant, period, workload, placement, accelerator_ms,
        running_ms, paused_ms, energy_mj, input_tokens, output_tokens, estimated from usage limit 1""",
    )


def _acknowledge_another(_: Path, kept: Kept) -> None:
    kept.submitted[0] = replace(kept.submitted[0], ids=("acme-999999",) * len(kept.submitted[0].ids))


def _answer_two_keys_alike(_: Path, kept: Kept) -> None:
    kept.submitted.append(replace(kept.submitted[0], key="another"))


def _ask_for_something_else(_: Path, kept: Kept) -> None:
    asked = tuple(one | {"commands": ["true"]} for one in kept.submitted[0].asked)
    kept.submitted[0] = replace(kept.submitted[0], asked=asked)


def _hold_another_head(_: Path, kept: Kept) -> None:
    kept.heads[0] = replace(kept.heads[0], root=bytes(32))


def _stop_in_vain(_: Path, kept: Kept) -> None:
    running = next(done for done in kept.submitted if done.ids[0] not in {one for one, _, _ in kept.steered})
    kept.steered.append((running.ids[0], "stop", replace(running.head, size=1)))


DAMAGE: dict[str, Callable[[Path, Kept], None]] = {
    "was acknowledged, the journal has": _lose_the_tail,
    "is not the tree's": _flip_a_bit,
    "is not signed": _forge_a_head,
    "by its runner": _bill_a_millisecond_less,
    "by the records": _lose_a_record,
    "was started 2 times": _start_twice,
    "nobody had placed it": _start_unasked,
    "never ran": _never_start,
    "is not what was booked": _unbalance,
    "is metered twice": _meter_twice,
    "is lost": _acknowledge_another,
    "under two keys": _answer_two_keys_alike,
    "commands was": _ask_for_something_else,
    "of another past": _hold_another_head,
    "was placed after its stop": _stop_in_vain,
}


@pytest.mark.parametrize("said", DAMAGE)
def test_the_judge_names_the_damage(said: str, sound: tuple[Path, harness.Report], tmp_path: Path) -> None:
    """A sound run that is damaged in one way is no longer judged sound, and the verdict says why."""
    folder, report = sound
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    kept = copy.deepcopy(report.kept)
    DAMAGE[said](tmp_path, kept)
    found = judge(tmp_path / "state", tmp_path / "witness", kept, report.public)
    assert any(said in one for one in found.violations), as_text(found.violations)
