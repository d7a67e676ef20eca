"""Documents: apply, list, remove."""

import sys
from pathlib import Path

import typer

from headrace.api.views import Applied, ChangeView
from headrace.cli.common import client, confirm, print_json, print_table, say
from headrace.documents import Change, Document, load, load_all

app = typer.Typer(rich_markup_mode=None)
FILES = typer.Option(
    ..., "-f", "--file", help="A file of documents, or - for standard input; may be repeated."
)


@app.command()
def apply(
    file: list[str] = FILES,
    yes: bool = typer.Option(False, "-y", "--yes", help="Don't ask."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only show what would change."),
    tenant: str = typer.Option(
        "", help="Whose the workloads in the files are, where their project does not say."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show what documents would change, ask, and apply them. Workloads among them are submitted. Twice changes nothing."""
    text = read_documents(file)
    with client() as control:
        plan = control.apply(text, dry_run=True, tenant=tenant)
        if not as_json:
            show_changes(plan)
        if dry_run or all(change.what == "unchanged" for change in plan.changes):
            if as_json:
                print_json(plan)
            return
        if not confirm("Apply this?", yes=yes):
            say("nothing was applied.")
            raise typer.Exit(1)
        applied = control.apply(text, tenant=tenant)
    if as_json:
        print_json(applied)
        return
    for change in applied.changes:
        if change.workload:
            say(
                f"submitted {change.name} as {change.workload}{f': {change.reason}' if change.reason else ''}"
            )
    size = f"; the journal holds {applied.head.size} events" if applied.head else ""
    say(f"applied{size}.")


def read_documents(files: list[str]) -> str:
    """The text of all files, once each is valid by itself; raises HeadraceError with file, line and column."""
    texts = []
    found: list[Document] = []
    for name in files:
        raw = sys.stdin.buffer.read() if name == "-" else None
        found.extend(load(raw, "<stdin>") if raw is not None else load(Path(name)))
        texts.append((raw if raw is not None else Path(name).read_bytes()).decode())
    if "-" not in files:
        load_all([Path(name) for name in files])
    return "\n---\n".join(texts)


def show_changes(plan: Applied) -> None:
    """Print what applying does, a line for each value that changes."""
    for change in plan.changes:
        say(_headline(change))
        if change.what != "created":
            for one in change.differences:
                say(f"    {Change(one.path, one.before, one.after).line()}")


def _headline(change: ChangeView) -> str:
    sign = {"created": "+", "changed": "~", "removed": "-"}.get(change.what, "=")
    already = f" (it is {change.workload})" if change.workload else ""
    return f"{sign} {change.kind} {change.name}: {change.what}{already}"


@app.command()
def documents(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """List the documents that are applied."""
    with client() as control:
        found = control.documents()
    if as_json:
        print_json(found)
        return
    rows = [(one.kind, one.name) for one in found]
    print_table(("KIND", "NAME"), rows, "nothing is applied yet: headrace apply -f FILE")


@app.command()
def remove(
    kind: str = typer.Argument(..., help="estate, tenant, price-plan or contract."),
    name: str = typer.Argument(..., help="The document's name; an estate's is its operator's."),
    yes: bool = typer.Option(False, "-y", "--yes", help="Don't ask."),
) -> None:
    """Remove a document that nothing uses. Refused with the list of who uses it."""
    with client() as control:
        control.document(kind, name)
        if not confirm(f"Remove {kind} {name}?", yes=yes):
            say("nothing was removed.")
            raise typer.Exit(1)
        control.remove(kind, name)
    say(f"removed {kind} {name}.")
