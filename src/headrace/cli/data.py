"""Data sets: what there is, where it may lie, copies."""

import sys
import time
from pathlib import Path

import typer

from headrace.api.views_data import DatasetView
from headrace.cli.common import client, confirm, print_json, print_table, say, seconds
from headrace.core.data.model import CopyState
from headrace.stores.digest import digest_of

app = typer.Typer(rich_markup_mode=None)
data = typer.Typer(rich_markup_mode=None)
app.add_typer(data, name="data")
AS_JSON = typer.Option(False, "--json", help="Print JSON.")
NAME = typer.Argument(..., help="The data set: its name, or TENANT.NAME.")
_POLL_S = 0.25
_ENDED = (CopyState.PRESENT, CopyState.FAILED, CopyState.GONE)


@data.callback()
def group() -> None:
    """Data sets, weights and checkpoints: where each copy is, where it may be, and moving it."""


@data.command("list")
def list_data(
    tenant: str = typer.Option("", help="Whose [default: the token's; the operator's shows all]."),
    as_json: bool = AS_JSON,
) -> None:
    """List data sets and where they lie; a copy that may not lie where it is any more is marked."""
    with client() as control:
        found = control.data(tenant)
    if as_json:
        print_json(found)
        return
    rows = [
        (one.id, one.type, one.data_class or "-", one.policy, one.size_bytes, _copies(one)) for one in found
    ]
    columns = ("DATA", "TYPE", "CLASS", "POLICY", "BYTES", "COPIES")
    print_table(columns, rows, "no data sets: headrace apply -f FILE", right=("BYTES",))


def _copies(one: DatasetView) -> str:
    return ", ".join(
        f"{copy.site} {copy.state}{' (held, not lawful)' if copy.unlawful and copy.state == CopyState.PRESENT else ''}"
        for copy in one.copies
    )


@data.command()
def show(name: str = NAME, as_json: bool = AS_JSON) -> None:
    """Show a data set: what it is, and how each of its copies is."""
    with client() as control:
        one = control.dataset(name)
    if as_json:
        print_json(one)
        return
    say(
        f"{one.id}: {one.type}, class {one.data_class or 'unknown'}, {one.size_bytes} bytes, policy {one.policy}"
    )
    say(f"digest   {one.digest}")
    say(f"licence  {one.licence or '-'}")
    say(f"a copy that may not lie where it is any more: {one.on_forbidden}")
    rows = [
        (
            copy.site,
            copy.state,
            copy.since,
            copy.source or "-",
            f"held, not lawful: {copy.unlawful}" if copy.unlawful else copy.problem,
        )
        for copy in one.copies
    ]
    print_table(("SITE", "STATE", "SINCE", "FROM", "WHY"), rows, "no copies.")


@data.command()
def where(name: str = NAME, as_json: bool = AS_JSON) -> None:
    """Say of each site whether the data may lie there and be used there by its policy, and why."""
    with client() as control:
        found = control.where_data(name)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one.site,
            one.country or "-",
            "yes" if one.may_lie else "no",
            "yes" if one.may_be_used else "no",
            one.state or "-",
            "yes" if one.has_store else "no",
            one.why,
        )
        for one in found.sites
    ]
    print_table(("SITE", "COUNTRY", "MAY LIE", "MAY BE USED", "COPY", "STORE", "WHY"), rows, "no sites.")


@data.command()
def copy(
    name: str = NAME,
    to: str = typer.Option(..., "--to", metavar="SITE", help="The site to copy it to."),
    wait: bool = typer.Option(False, "--wait", help="Wait until it is there, or failed."),
    timeout: str = typer.Option("10m", help="How long to wait at most."),
    as_json: bool = AS_JSON,
) -> None:
    """Copy a data set to a site, if its policy lets it lie there."""
    patience_s = seconds(timeout, "--timeout")
    with client() as control:
        asked = control.copy_data(name, to)
        if as_json and not wait:
            print_json(asked)
            return
        say(f"{asked.copy}: {'is on its way' if asked.changed else 'was asked for already'}")
        until = time.monotonic() + patience_s
        while wait:
            found = next((one for one in control.dataset(name).copies if one.site == to), None)
            if found is not None and found.state in _ENDED:
                say(f"{asked.copy}: {found.state}{f': {found.problem}' if found.problem else ''}")
                if found.state != CopyState.PRESENT:
                    raise typer.Exit(1)
                return
            if time.monotonic() >= until:
                raise TimeoutError(f"{asked.copy} is not there after {timeout}")
            time.sleep(_POLL_S)


@data.command()
def remove(
    name: str = NAME,
    at: str = typer.Option(..., "--at", metavar="SITE", help="The site whose copy goes."),
    last: bool = typer.Option(False, "--last", help="Also if it is the last copy that is present."),
    yes: bool = typer.Option(False, "-y", "--yes", help="Don't ask."),
) -> None:
    """Remove a copy that nothing uses."""
    with client() as control:
        control.dataset(name)
        if not confirm(f"Remove the copy of {name} at {at}?", yes=yes):
            say("nothing was removed.")
            raise typer.Exit(1)
        asked = control.remove_copy(name, at, last=last)
    say(f"{asked.copy}: {'goes' if asked.changed else 'is gone, or goes already'}")


@data.command()
def read(
    name: str = NAME,
    file: str = typer.Argument(..., help="The file's path in the data set."),
    at: str = typer.Option("", "--at", metavar="SITE", help="Which copy [default: the first copy's site]."),
) -> None:
    """Print a file of a data set from where it lies. Decided by its policy: whose people read it, and from where."""
    with client() as control:
        for piece in control.read_data(name, file, at):
            sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


@data.command()
def digest(directory: Path = typer.Argument(..., help="A directory with the files.")) -> None:
    """Print digest and size of a directory as a data set's document states them."""
    found, size, files = digest_of(directory)
    say(f"digest: {found}")
    say(f"size: {size}  # bytes, in {files} files")
