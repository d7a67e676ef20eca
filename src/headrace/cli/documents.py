"""Documents: apply, list, remove."""

from dataclasses import dataclass
from pathlib import Path

import typer

from headrace.api.views import Applied, ChangeView
from headrace.cli.common import client, confirm, print_json, print_table, read_file, say
from headrace.cli.places import BETWEEN, in_texts
from headrace.core.errors import HeadraceError
from headrace.documents import Change, Document, load, load_all
from headrace.sdk import Client

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
    read = read_documents(file)
    with client() as control:
        plan = read.apply(control, dry_run=True, tenant=tenant)
        if not as_json:
            show_changes(plan)
        if dry_run or all(change.what == "unchanged" for change in plan.changes):
            if as_json:
                print_json(plan)
            return
        if not confirm("Apply this?", yes=yes):
            say("nothing was applied.")
            raise typer.Exit(1)
        applied = read.apply(control, dry_run=False, tenant=tenant)
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


@dataclass(frozen=True, slots=True)
class Read:
    """Files of documents: their names and texts, and the documents in them."""

    texts: list[tuple[str, str]]
    documents: list[Document]

    def apply(self, control: Client, *, dry_run: bool, tenant: str) -> Applied:
        """Apply them as one; raises HeadraceError with file, line and column."""
        texts = BETWEEN.join(text for _, text in self.texts)
        try:
            if self.documents and all(one.kind == "dataset" for one in self.documents):
                # A tenant's own to apply: it has no right to any other kind.
                own = control.whoami().tenant
                if own is not None:
                    return control.apply_data(own, texts, dry_run=dry_run)
            return control.apply(texts, dry_run=dry_run, tenant=tenant)
        except HeadraceError as error:
            raise in_texts(error, self.texts, self.documents) from None


def read_documents(files: list[str]) -> Read:
    """What stands in all files, once each is valid by itself; raises HeadraceError with file, line and column."""
    texts = []
    found: list[Document] = []
    for name in files:
        raw, called = read_file(name), "<stdin>" if name == "-" else name
        found.extend(load(raw, called))
        texts.append((called, raw.decode("utf-8-sig")))
    if "-" not in files:
        load_all([Path(name) for name in files])
    return Read(texts, found)


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
    kind: str = typer.Argument(
        ..., help="estate, tenant, price-plan, contract, reservation, maintenance, policy, facts or dataset."
    ),
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
