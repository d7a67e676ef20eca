"""`headrace grid`: what is wrong with an instruction is named by the option that said it."""

import pytest

from headrace.cli.app import EXIT_CODES
from headrace.core.errors import ProblemCode
from tests.cli.conftest import Headrace


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--limit", "1kW", "--to", "tomorrow"], "headrace: --to: "),
        (["--limit", "1kW", "--from", "noon"], "headrace: --from: "),
        (["--limit", "much"], "headrace: --limit: "),
        (["--limit", "1kW", "--name", "no such/name"], "headrace: --name: "),
        (["--limit", "1kW", "--name", "person-7"], "headrace: --name: names like person-7 are given"),
        (["--limit", "2100mW"], "headrace: --limit: '2100mW' may be a thousandth of a watt, or a million;"),
        (["--limit", "2mw"], "Write MW, kW or W."),
        (
            ["--limit", "2.1GW"],
            "a limit of 2.1 GW for loughton is more than 10 times the 2 kW of its connection",
        ),
    ],
)
def test_a_mistake_is_named_by_its_option(headrace: Headrace, arguments: list[str], said: str) -> None:
    """And not by the field of the request that the command made of it; nothing is asked of the site."""
    found = headrace("grid", "instruct", "--site", "loughton", *arguments)
    assert found.code == EXIT_CODES[ProblemCode.BAD_INPUT], found
    assert said in found.err
    assert "no instructions" in headrace("grid", "ls", "--site", "loughton").out
