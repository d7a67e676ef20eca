"""``headrace estate show``: the estate as tables and trees, from a file or as it is applied."""

from datetime import UTC, datetime
from pathlib import Path

import typer

from headrace.cli.common import client, print_json
from headrace.core.codec import from_normalised, to_plain
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.estate import Estate
from headrace.documents import load
from headrace.documents.show import print_estate
from headrace.sdk import Client

app = typer.Typer(rich_markup_mode=None)
estate = typer.Typer(
    rich_markup_mode=None, help="The estate as a table, and what physics says to its claims."
)
app.add_typer(estate, name="estate")


@app.callback()
def group() -> None:
    """The estate."""


@estate.callback()
def estate_group() -> None:
    """The estate as a table, and what physics says to its claims."""


@estate.command()
def show(
    file: Path | None = typer.Argument(
        None, help="A file with an estate; without one, the estate that is applied."
    ),
    day: str = typer.Option(
        "", help="The day (like 2027-06-30) by which blocks are commissioned or not [default: today]."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Print the estate as a table, its power trees, what is commissioned when, and what contradicts a claim."""
    found = from_file(file) if file is not None else applied()
    if as_json:
        print_json(to_plain(found))
        return
    print_estate(found, day or datetime.now(UTC).date().isoformat())


def from_file(file: Path) -> Estate:
    """The estate in a file; raises HeadraceError when there is none."""
    for document in load(file):
        if isinstance(document.value, Estate):
            return document.value
    step = "Give a file with a document of kind: estate."
    raise HeadraceError(Problem(ProblemCode.BAD_INPUT, f"no estate in {file}.", step))


def applied() -> Estate:
    """The estate that is applied; raises HeadraceError when none is."""
    with client() as control:
        found = estate_of(control)
    if found is None:
        step = "Apply one: headrace apply -f examples/estates/lab.yaml"
        raise HeadraceError(Problem(ProblemCode.NOT_FOUND, "no estate is applied yet.", step))
    return found


def estate_of(control: Client) -> Estate | None:
    """The estate that a control plane has, if any is applied."""
    for one in control.documents():
        if one.kind == "estate":
            value = from_normalised("estate", control.document("estate", one.name).document)
            if isinstance(value, Estate):
                return value
    return None
