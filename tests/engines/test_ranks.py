"""What is on record of a rank: without isolation a tenant can write it, and whatever it writes stops nobody from looking."""

from typing import Any

import pytest

from headrace.engines.ranks import is_sound

SOUND: dict[str, Any] = {
    "state": "running",
    "running_ms": 5,
    "paused_ms": 0,
    "runner": [1, 2],
    "child": [3, 4],
    "exit_code": None,
    "reason": "",
    "detail": "",
    "boot_id": "b",
    "estimated": False,
}


def test_what_a_runner_writes_is_sound() -> None:
    """Also with an end."""
    assert is_sound(SOUND)
    assert is_sound(SOUND | {"state": "exited", "exit_code": 143})


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("wrong", [[], {}, [[]], -1, 1.5, True, "x" * 3, [1], [1, "2"], [True, 1]], ids=str)
def test_whatever_else_stands_there_is_not_and_raises_nothing(name: str, wrong: Any) -> None:
    """In any of its fields; but for a text where a text belongs, and a truth where that does."""
    fits = (isinstance(wrong, str) and name in ("reason", "detail", "boot_id")) or (
        isinstance(wrong, bool) and name == "estimated"
    )
    assert is_sound(SOUND | {name: wrong}) is fits


@pytest.mark.parametrize("record", [None, [], 7, "running", {}], ids=str)
def test_what_is_no_record_at_all_is_not(record: Any) -> None:
    """Half a file, or something else."""
    assert not is_sound(record)
