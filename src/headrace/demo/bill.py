"""The chapters about money and proof."""

import base64
import subprocess
import sys
from pathlib import Path

import msgspec

from headrace.api.views import InvoiceView
from headrace.cli.common import table
from headrace.cli.journal import detail
from headrace.cli.money import this_month, usage_cells
from headrace.core.errors import HeadraceError, ProblemCode
from headrace.core.events import InvoiceIssued
from headrace.core.units import format_money
from headrace.demo.story import Failed, Story
from headrace.journal.merkle import root_from_inclusion
from headrace.money.render import quantity_text

_NOTHING = (ProblemCode.NOT_FOUND, ProblemCode.CONFLICT, ProblemCode.BAD_INPUT)
HEAD_FILE = "kept-head.json"


def the_bill(story: Story) -> list[InvoiceView]:
    """Stop everything, then issue and print an invoice for each tenant."""
    say = story.say
    say.chapter("The bill")
    left = story.plant.stop_work()
    if left:
        raise Failed(f"{', '.join(left)} did not stop")
    say.good("every workload is stopped; no process of theirs is left")
    say.text("""Usage is the integral over the time on the nodes, by the hosts' own clocks. Tokens are the replica's own
        counters, watts the catalogue's model, carbon and energy price constants that the site declares: each line says so.
        Money is integers, in double entry.""")
    period = this_month(story.operator)
    issued: list[InvoiceView] = []
    for tenant in story.tenants:
        say.command(f"invoice issue {tenant} {period}")
        issued.extend(_issue(story, tenant, period))
    _adds_up(story, issued)
    return issued


def _issue(story: Story, tenant: str, period: str) -> list[InvoiceView]:
    try:
        numbers = story.operator.issue_invoices(tenant, period).invoices
    except HeadraceError as error:
        if story.options.strict or error.problem.code not in _NOTHING:
            raise
        story.say.line(error.problem.line(), "yellow")
        return []
    found = [story.tenants[tenant].invoice(number) for number in numbers]
    for one in found:
        _print(story, one.invoice)
    return found


def _print(story: Story, invoice: InvoiceIssued) -> None:
    """Two rows for each line: what it is for; and its quantity, price, amount, and where the quantity comes from."""
    story.say.line(f"Invoice {invoice.invoice}", "bold")
    for number, line in enumerate(invoice.lines, 1):
        project = f" (project {line.project})" if line.project else ""
        story.say.line(f"{number:>2}  {line.description}{project}")
        if line.item == "note":
            continue
        price = f"at {format_money(line.price_micros, invoice.currency)} per {line.price_unit}"
        amount = format_money(line.amount_micros, invoice.currency)
        priced = price if line.price_micros else "no price"
        story.say.line(f"{quantity_text(line):>26}  {priced:<48}{amount:>16}  {line.source}", "cyan")
    tax = "tax not computed" if invoice.tax_permille is None else f"{invoice.tax_name} included"
    story.say.line(f"total {format_money(invoice.total_micros, invoice.currency)}, {tax}", "bold")


def _adds_up(story: Story, issued: list[InvoiceView]) -> None:
    """The lines sum to the total; the tokens billed are those that the OpenAI client saw."""
    for one in issued:
        if sum(line.amount_micros for line in one.invoice.lines) != one.invoice.net_micros:
            raise Failed(f"the lines of {one.invoice.invoice} do not sum to its net")
    tokens = sum(
        line.quantity
        for one in issued
        for line in one.invoice.lines
        if line.item in ("tokens-input", "tokens-output")
    )
    if tokens != story.tokens_seen:
        raise Failed(f"{tokens} tokens are billed; the OpenAI client counted {story.tokens_seen}")
    story.say.good(
        f"{tokens} tokens billed, and {story.tokens_seen} counted by the client that asked: the same"
    )


def the_way_back(story: Story, issued: list[InvoiceView]) -> None:
    """Walk a line back to its events, and prove that one of them is in the journal."""
    say = story.say
    say.chapter("Back from a line to its events")
    choice = _line_to_walk(issued)
    if choice is None:
        say.text("With this estate nothing was used, so that no line has events behind it.")
        return
    view, number = choice
    line = view.invoice.lines[number - 1]
    say.command(f"invoice show {view.invoice.invoice} --line {number}")
    say.line(
        f"{line.description}: {quantity_text(line)}, {format_money(line.amount_micros, view.invoice.currency)}"
    )
    rows = story.operator.line_events(view.invoice.invoice, number).rows
    columns = ("EVENT", "AT", "PLACEMENT", "RAN", "PAUSED", "ACC. TIME", "IT ENERGY", "IN", "OUT", "SOURCE")
    say.table(table(columns, map(usage_cells, rows), columns[3:9]))
    if len(rows) != line.usage_rows:
        raise Failed(f"the line counts {line.usage_rows} rows of usage; {len(rows)} are behind it")
    if line.item == "tokens-output" and sum(row.output_tokens for row in rows) != line.quantity:
        raise Failed("the rows behind the line do not sum to its quantity")
    event = story.operator.events(rows[-1].seq, 1).events[0]
    say.line(f"event {event.seq} {event.kind} {detail(event)}")
    _prove(story, event.seq)


def _line_to_walk(issued: list[InvoiceView]) -> tuple[InvoiceView, int] | None:
    """A line about tokens if there is one, else any with usage behind it."""
    lines = [
        (view, number, line)
        for view in issued
        for number, line in enumerate(view.invoice.lines, 1)
        if line.usage_rows
    ]
    lines.sort(key=lambda found: found[2].item != "tokens-output")
    return (lines[0][0], lines[0][1]) if lines else None


def _prove(story: Story, seq: int) -> None:
    proof = story.operator.proof(seq)
    path = [base64.b64decode(step) for step in proof.path]
    root = root_from_inclusion(base64.b64decode(proof.leaf), seq, proof.head.size, path)
    if root != base64.b64decode(proof.head.root):
        raise Failed(f"the proof of event {seq} does not lead to the signed root")
    story.say.good(
        f"{len(path)} hashes lead from this event to the root of the signed head over {proof.head.size} events (RFC 9162)"
    )


def the_journal(story: Story) -> None:
    """Keep a head, end the control plane, and verify its journal without it."""
    say = story.say
    say.chapter("Nobody has to be believed")
    head = story.operator.journal_head()
    kept = story.plant.state / HEAD_FILE
    kept.write_bytes(msgspec.json.encode(head))
    say.text("""Every answer carried a signed head of the journal: whoever keeps one can tell if the past before it is
        rewritten. The control plane ends now; its journal is verified without it, from the first event on.""")
    say.line(f"head: {head.size} events, root {head.root}")
    key = story.operator.status().public_key
    story.plant.end()
    say.command(f"journal verify --replay --head {HEAD_FILE} --key {key[:16]}...")
    done = _verify(story.plant.state, kept, key)
    for line in (done.stdout + done.stderr).splitlines():
        say.line(line)
    if done.returncode:
        raise Failed("the journal does not verify")
    say.good("leaves, links, roots and signatures hold, and the replay gives the same world")


def _verify(state: Path, head: Path, key: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "headrace", "journal", "verify", "--state", str(state)]
    more = ["--replay", "--head", str(head), "--key", key]
    return subprocess.run([*command, *more], capture_output=True, text=True, timeout=60, check=False)
