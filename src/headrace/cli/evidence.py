"""Evidence: what an instruction asked and what was delivered, signed; and verifying it without asking anybody."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import typer

from headrace.api.views_evidence import EvidenceView
from headrace.cli.common import CommandClient, read_file, say
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.units import MJ_PER_WH, format_duration, format_watts
from headrace.evidence.verify import canonical
from headrace.evidence.verify import verify as verify_file

app = typer.Typer(rich_markup_mode=None)
evidence = typer.Typer(rich_markup_mode=None, help="Settlement evidence: make it, and verify it offline.")
app.add_typer(evidence, name="evidence")
PATIENCE_S = 600.0
"""A long journal is replayed for it."""


@app.callback()
def group() -> None:
    """Settlement evidence."""


class EvidenceClient(CommandClient):
    """The client with one question more."""

    def evidence(self, instruction: str, interval: str, baseline: str) -> EvidenceView:
        """The settlement evidence of an instruction, as of now."""
        path = f"/v1/grid/instructions/{quote(instruction, safe='')}/evidence"
        return self._api.get(path, EvidenceView, interval=interval, baseline=baseline)


@evidence.command()
def grid(
    instruction: str = typer.Argument(..., help="Its name."),
    out: str = typer.Option("-", help="The file to write [default: standard output]."),
    interval: str = typer.Option("15m", help="How long an interval is: 5m, 15m, 30m or 60m."),
    baseline: str = typer.Option(
        "high-5-of-10",
        help="The baseline's method: high-5-of-10, high-5-of-10-adjusted, meter-before or minute-before.",
    ),
) -> None:
    """Write the signed evidence of an instruction of the grid, interval by interval."""
    with EvidenceClient.from_env(PATIENCE_S) as control:
        found = control.evidence(instruction, interval, baseline)
    sealed = {"document": found.document, "key": found.key, "signature": found.signature}
    text = canonical(sealed) + b"\n"
    if out == "-":
        typer.echo(text, nl=False)
        return
    try:
        Path(out).write_bytes(text)
    except OSError as error:
        step = "Name a file that you may write with --out."
        raise HeadraceError(
            Problem(ProblemCode.BAD_INPUT, f"can't write {out}: {error.strerror}.", step)
        ) from None
    _summary(found.document)
    say(f"wrote {out}, signed by the key {found.key}")


def _summary(made: dict[str, Any]) -> None:
    totals, baseline = made["totals"], made["baseline"]
    for reason in baseline["reasons"]:
        say(f"baseline not {reason}")
    length = format_duration(made["interval_ms"])
    state = "final" if made["final"] else "so far"
    counts = f"{totals['yes']} at or under it, {totals['no']} above, {totals['unknown']} unknown"
    early = len(made["intervals"]) - totals["yes"] - totals["no"] - totals["unknown"]
    counts += f", {early} over before it was due" if early else ""
    name, site = made["instruction"]["id"], made["site"]["id"]
    say(f"{name} at {site}, {state}: {len(made['intervals'])} x {length}: {counts}; {totals['source']} draw")
    if totals["reduction_mj"] is None:
        say("no baseline: the reduction is not known")
        return
    first_w = format_watts(made["intervals"][0]["baseline_w"])
    saved_wh = totals["reduction_mj"] / MJ_PER_WH
    say(f"reduced by {saved_wh:,.3f} Wh against {baseline['method']} ({first_w} in the first interval)")


@evidence.command()
def verify(
    file: str = typer.Argument(..., help="The evidence; - for standard input."),
    key: str = typer.Option(
        ..., help="The operator's public key in hexadecimal, or a file with it; not from the evidence itself."
    ),
) -> None:
    """Verify evidence offline: signature, events, every figure; and say what it can't prove."""
    found = verify_file(read_file(file), _public(key))
    if found.wrong:
        step = "Do not settle by it; ask the operator for the evidence again."
        raise HeadraceError(*(Problem(ProblemCode.BROKEN, f"{file}: {one}.", step) for one in found.wrong))
    for one in found.verified:
        say(f"verified: {one}")
    for one in found.unproven:
        say(f"not proven: {one}")


def _public(given: str) -> bytes:
    try:
        text = Path(given).read_text("ascii") if Path(given).is_file() else given
        found = bytes.fromhex(text.strip())
    except (OSError, ValueError):
        found = b""
    if len(found) != 32:
        step = "Give the operator's public key: 'headrace status --json' has it, and keys/signing.pub of the state."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, "no public key of 32 bytes.", step, "--key"))
    return found
