"""The demo's own judgement: it fails when a chapter did not happen, and takes nothing for granted elsewhere."""

from dataclasses import replace
from pathlib import Path

import pytest

from headrace.demo.narrate import Narrator
from headrace.demo.plant import Plant
from headrace.demo.run import examples, options
from headrace.demo.story import Failed, Outcome, Story, until
from headrace.sdk import Client

RUNS = Outcome("big", "fjord-ai-1", "running", "", "runs: 2 nodes at site glomfjord")


def story(tmp_path: Path, *, strict: bool) -> Story:
    """A story whose clients are never asked."""
    told = replace(options(None, "Hello?", 2), strict=strict)
    return Story(Narrator(), Plant(tmp_path), told, Client("http://127.0.0.1:9", "hr_none"))


def test_with_the_shipped_estate_another_outcome_fails_the_demo(tmp_path: Path) -> None:
    """What the API says decides, and the sentence is in the failure."""
    with pytest.raises(Failed, match="2 nodes at site glomfjord"):
        story(tmp_path, strict=True).expect(RUNS, "waiting", "POWER")


def test_with_another_estate_the_outcome_is_what_it_is(tmp_path: Path) -> None:
    """A newcomer who raises the watts sees the wait go, and no failure."""
    assert not story(tmp_path, strict=False).expect(RUNS, "waiting", "POWER")
    assert story(tmp_path, strict=False).expect(RUNS, "running")


def test_a_wait_that_is_not_rewarded_fails_by_name() -> None:
    """The failure says what did not happen."""
    with pytest.raises(Failed, match="the moon"):
        until("the moon", lambda: False, 0)


def test_the_workloads_are_the_shipped_examples(tmp_path: Path) -> None:
    """The demo submits the files that a user would, with no more changed than how much the gang scores."""
    document = story(tmp_path, strict=True).document("score")
    assert document["commands"] == ["python -m headrace.payloads.score --paragraphs 2"]
    assert document["nodes"] == 2
    assert (examples() / "estates" / "lab.yaml").exists()


def test_the_picture_asks_no_other_host(tmp_path: Path) -> None:
    """An SVG in a README must not load fonts from anywhere."""
    say = Narrator()
    say.pictured = True
    say.chapter("A chapter")
    say.good("something <odd> & true")
    say.save(tmp_path / "picture.svg")
    drawn = (tmp_path / "picture.svg").read_text()
    assert "&lt;odd&gt;" in drawn
    assert "font-face" not in drawn
    assert "url(http" not in drawn
