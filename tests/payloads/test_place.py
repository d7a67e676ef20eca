"""A rank knows where it stands from the environment alone, and refuses one that can't be."""

import pytest

from headrace.payloads.place import EnvironmentRefusedError, Place, place_from

GANG = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def test_a_process_without_an_engine_is_the_only_rank() -> None:
    assert place_from({}) == Place(0, 1, 0, "127.0.0.1", 0, 0)


def test_an_engine_says_which_rank_this_is() -> None:
    assert place_from(GANG | {"HEADRACE_ACCELERATORS": "4"}) == Place(1, 2, 0, "127.0.0.1", 29500, 4)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"RANK": "2"}, "WORLD_SIZE=2"),
        ({"RANK": "-1"}, "RANK='-1'"),
        ({"RANK": "one"}, "RANK='one'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE='0'"),
        ({"MASTER_PORT": "65536"}, "MASTER_PORT='65536'"),
        ({"HEADRACE_ACCELERATORS": "1.5"}, "HEADRACE_ACCELERATORS='1.5'"),
    ],
)
def test_an_environment_that_cannot_be_is_refused_by_name(change: dict[str, str], named: str) -> None:
    with pytest.raises(EnvironmentRefusedError, match=named):
        place_from(GANG | change)


def test_a_gang_must_be_told_where_to_meet() -> None:
    with pytest.raises(EnvironmentRefusedError, match="MASTER_PORT"):
        place_from({"RANK": "0", "WORLD_SIZE": "2"})
