"""`headrace power impact`: what is wrong with an element is named as the argument that it is."""

import json

import pytest

from tests.cli.conftest import Headrace


@pytest.mark.parametrize(
    ("element", "code", "said"),
    [
        ("", 2, "headrace: ELEMENT: no element is named. Name one like glomfjord/feed-a;"),
        (
            "glomfjord/feed-c",
            4,
            "headrace: ELEMENT: no element of the power tree 'glomfjord/feed-c'; known: ",
        ),
        ("nowhere/feed-a", 4, "headrace: ELEMENT: no site 'nowhere'"),
    ],
)
def test_an_element_that_is_not_there_is_named_as_an_argument(
    headrace: Headrace, element: str, code: int, said: str
) -> None:
    """There is no option of that name."""
    found = headrace("power", "impact", element)
    assert (found.code, found.err.count("\n")) == (code, 1)
    assert found.err.startswith(said), found.err
    assert "--element" not in found.err


@pytest.mark.parametrize(
    "element", ["glomfjord/block-1", "glomfjord/block-1/lab-0", "glomfjord/block-1/lab-0-0"]
)
def test_the_loss_of_a_load_shows_survivors(headrace: Headrace, element: str) -> None:
    """Everything above it stays live, and carries less."""
    said = headrace("power", "impact", element).out
    assert "feed glomfjord/feed-a" in said
    survivors = json.loads(headrace("power", "impact", element, "--json").out)["survivors"]
    feed = next(one for one in survivors if one["id"] == "glomfjord/feed-a")
    assert feed["after_w"] < feed["before_w"]
