"""Following a gang, and waiting for several workloads at once."""

from pathlib import Path

import pytest

from headrace.cli.common import seconds
from headrace.cli.follow import MOST_FOLLOWED, follow_ranks
from headrace.core.errors import HeadraceError
from tests.cli.conftest import Headrace
from tests.cli.plane import client_of
from tests.cli.test_workloads import submit

TALK = "echo rank $RANK begins; sleep 2; printf 'rank %s ends' $RANK; echo aside >&2"


def test_the_ranks_of_a_gang_are_followed_at_once_each_line_with_its_rank(headrace: Headrace) -> None:
    """Every line of every rank, in the order of each, also a last one without its end."""
    said = submit(headrace, "choir", TALK, "--nodes", "2", "--follow")
    assert said.code == 0, said
    assert sorted(said.out.splitlines()[1:]) == [
        "[0] rank 0 begins",
        "[0] rank 0 ends",
        "[1] rank 1 begins",
        "[1] rank 1 ends",
    ]
    # Both began before either ended: one after the other would give all of rank 0 first.
    assert all("begins" in line for line in said.out.splitlines()[1:3])
    assert sorted(headrace("logs", "-f", "choir").out.splitlines()) == sorted(said.out.splitlines()[1:])
    aside = headrace("logs", "-f", "choir", "--stderr").out
    assert sorted(aside.splitlines()) == ["[0] aside", "[1] aside"]


def test_one_rank_is_followed_as_it_is(headrace: Headrace) -> None:
    """`--rank` chooses one; of a job alone there is nothing to tell apart."""
    submit(headrace, "duo", "echo $RANK", "--nodes", "2", "--follow")
    assert headrace("logs", "-f", "duo", "--rank", "1").out == "1\n"
    said = submit(headrace, "solo", "echo alone", "--follow")
    assert said.out.splitlines()[1:] == ["alone"]
    assert headrace("logs", "-f", "duo", "--rank", "7").code == 2


def test_more_ranks_than_one_can_read_are_not_followed(headrace: Headrace, plane: Path) -> None:
    """The error says how to choose."""
    with client_of(plane) as control, pytest.raises(HeadraceError, match="--rank N"):
        follow_ranks(control, "none", range(MOST_FOLLOWED + 1), "stdout")


def test_a_follower_ends_with_what_ended_one_of_its_ranks(headrace: Headrace, plane: Path) -> None:
    """Nobody waits for a rank that will say nothing more."""
    with client_of(plane) as control, pytest.raises(HeadraceError, match="no workload 'none-1'"):
        follow_ranks(control, "none-1", range(2), "stdout")


def test_several_workloads_are_waited_for_at_once(headrace: Headrace) -> None:
    """Each is told when it is there; one that failed makes the exit code 1."""
    submit(headrace, "slow", "sleep 1")
    submit(headrace, "quick", "true")
    said = headrace("wait", "slow", "quick", "--timeout", "60")
    assert said.code == 0, said
    idents = {headrace("explain", name).out.split()[0] for name in ("slow", "quick")}
    assert {line.split()[0] for line in said.out.splitlines()} == idents
    assert said.out.count("succeeded") == 2
    submit(headrace, "bad", "exit 4")
    assert headrace("wait", "slow", "bad", "--timeout", "60").code == 1


def test_a_wait_that_takes_too_long_names_what_is_missing(headrace: Headrace) -> None:
    """Those that are there have been told; exit code 8."""
    submit(headrace, "long", "sleep 60")
    submit(headrace, "short", "true", "--follow")
    said = headrace("wait", "long", "short", "--timeout", "0")
    ident = headrace("explain", "long").out.split()[0]
    assert said.code == 8
    assert "succeeded" in said.out
    assert f"still waiting for workload {ident} (" in said.err
    headrace("stop", "long")


@pytest.mark.parametrize(
    ("text", "wanted_s", "said"),
    [
        ("20", 20, ""),
        ("0.5", 0.5, ""),
        ("0", 0, ""),
        ("20s", 20, ""),
        ("1h30m", 5_400, ""),
        ("200ms", 0.2, ""),
        ("-1", None, "--timeout: '-1' is no time to wait."),
        ("nan", None, "--timeout: 'nan' is no time to wait."),
        ("soon", None, "--timeout: no duration: 'soon'; write it like 90s, 30m, 2h, 1h30m or 2d."),
    ],
)
def test_a_time_has_a_unit_or_is_in_seconds(text: str, wanted_s: float | None, said: str) -> None:
    """As durations are everywhere; a plain number is what it was before."""
    if wanted_s is not None:
        assert seconds(text, "--timeout") == wanted_s
        return
    with pytest.raises(HeadraceError) as caught:
        seconds(text, "--timeout")
    assert str(caught.value).startswith(said)


def test_a_wait_takes_a_time_with_its_unit(headrace: Headrace) -> None:
    """`--timeout 100ms` is over soon, with the exit code of a wait that is."""
    ident = submit(headrace, "awaited", "sleep 60").out.split()[-1]
    said = headrace("wait", ident, "--timeout", "100ms")
    assert (said.code, "after 0.1 s" in said.err) == (8, True)
    assert headrace("wait", ident, "--timeout", "soon").code == 2
    headrace("stop", ident)
