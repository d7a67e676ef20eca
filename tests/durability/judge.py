"""Judges from outside what a run left: the clients' acknowledgements, the witnesses, the store's file, the runners' records."""

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.durability.client import Acknowledged, Kept
from tests.durability.evidence import (
    Entry,
    Journal,
    Rates,
    Used,
    half_even,
    read_journal,
    read_records,
    used_by,
)

RATES = {
    "glomfjord": Rates(450_000, 8, 1_100, 12_340_000),
    "loughton": Rates(610_000, 125, 1_250, 12_340_000),
}
"""The prices and constants of the harness's documents, in millionths."""
MS_PER_HOUR, UJ_PER_KWH, UJ_PER_KWH_PER_MILLION = 3_600_000, 3_600_000_000_000, 3_600_000
LIMIT = 20
"""Violations of one sort that are spelled out."""


@dataclass
class Found:
    """The verdict on a run."""

    violations: list[str] = field(default_factory=list)
    placements: int = 0
    notes: dict[str, object] = field(default_factory=dict)


def judge(state: Path, witness: Path, kept: Kept, public: bytes) -> Found:
    """Everything that can be told from outside; ``state`` is that of a control plane that has ended."""
    journal = read_journal(state / "journal.sqlite")
    records = read_records(state / "engine" / "records")
    checks = (
        iter(kept.violations),
        iter(journal.problems),
        _heads(journal, kept, public),
        _submissions(journal, kept.submitted),
        _steering(journal, kept),
        _placements(journal),
        _witnesses(journal, witness),
        _records(journal, records),
        _money(journal, records),
        _ledger(journal, state / "journal.sqlite"),
    )
    found = Found(placements=sum(1 for _ in journal.of("PlacementMade")))
    for check in checks:
        said = list(check)
        found.violations.extend(said[:LIMIT])
        if len(said) > LIMIT:
            found.violations.append(f"... and {len(said) - LIMIT} more of that sort")
    found.notes = {
        "events": len(journal.entries),
        "groups": len(journal.heads),
        "ranks_on_record": len(records),
        "lost_ranks": sum(record["state"] == "lost" for record in records),
        "invoiced_micros": sum(one.payload["total_micros"] for one in journal.of("InvoiceIssued")),
        "invoices": sum(1 for _ in journal.of("InvoiceIssued")),
    }
    return found


# -- the journal against what was acknowledged ---------------------------------------------------------------------------


def _heads(journal: Journal, kept: Kept, public: bytes) -> Iterator[str]:
    key = Ed25519PublicKey.from_public_bytes(public)
    for head in kept.heads:
        if head.size > len(journal.entries):
            yield f"a head of {head.size} events was acknowledged, the journal has {len(journal.entries)}"
        elif journal.tree.root(head.size) != head.root:
            yield f"the head of {head.size} events that was acknowledged is of another past"
    stored = {head.size: head for head in journal.heads}
    for head in kept.heads:
        known = stored.get(head.size)
        if known is None or known.signature != head.signature or known.at_ms != head.at_ms:
            yield f"the head of {head.size} events that was acknowledged is not a stored one"
    for known in journal.heads:
        try:
            key.verify(known.signature, known.signed())
        except InvalidSignature:
            yield f"the head of {known.size} events is not signed by the operator's key"


def _submissions(journal: Journal, acknowledged: list[Acknowledged]) -> Iterator[str]:
    events: dict[str, Entry] = {}
    names: Counter[str] = Counter()
    for one in journal.of("WorkloadSubmitted"):
        ident = one.payload["workload"]
        if ident in events:
            yield f"workload {ident} was submitted twice"
        events[ident] = one
        names[f"{one.payload['tenant']} {one.payload['spec']['name']}"] += 1
    yield from (f"{name} was submitted {count} times" for name, count in names.items() if count > 1)
    known: set[str] = set()
    for done in acknowledged:
        for ident, asked in zip(done.ids, done.asked, strict=True):
            if ident in known:
                yield f"workload {ident} was acknowledged under two keys"
            known.add(ident)
            if ident not in events:
                yield f"workload {ident} of {done.key} was acknowledged and is lost"
                continue
            if events[ident].seq >= done.head.size:
                yield f"workload {ident} was acknowledged with a head that does not include it"
            yield from _difference(ident, done.tenant, asked, events[ident].payload)
    yield from (f"workload {ident} is in nobody's acknowledgements" for ident in events if ident not in known)


def _difference(ident: str, tenant: str, asked: dict[str, Any], payload: dict[str, Any]) -> Iterator[str]:
    spec = payload["spec"]
    gpu = asked["resources"].get("gpu", ":0").partition(":")
    wanted = {
        "tenant": tenant, "name": asked["name"], "type": asked["type"], "commands": asked["commands"],
        "env": asked["env"], "nodes": asked.get("nodes", 1), "countries": asked.get("policy", {}).get("countries", []),
        "accelerator": gpu[0], "accelerators": int(gpu[2]), "cpu_milli": round(asked["resources"]["cpu"] * 1_000),
        "memory_mb": 16, "max_duration_ms": 2_000 if "max_duration" in asked else 0,
    }  # fmt: skip
    flat = {"tenant": payload["tenant"], **spec, **spec["resources"], **spec["policy"]}
    for name, value in wanted.items():
        if flat[name] != value:
            yield f"workload {ident}: {name} was {value!r}, the journal has {flat[name]!r}"


def _steering(journal: Journal, kept: Kept) -> Iterator[str]:
    stops = Counter(one.payload["workload"] for one in journal.of("StopRequested"))
    yield from (
        f"workload {ident} was told to stop {count} times" for ident, count in stops.items() if count > 1
    )
    last_made = {one.payload["workload"]: one.seq for one in journal.of("PlacementMade")}
    last_end = {one.payload["placement"].rpartition(".")[0]: one.seq for one in journal.of("PlacementEnded")}
    for workload, what, head in kept.steered:
        if what == "stop" and last_made.get(workload, -1) >= head.size:
            yield f"workload {workload} was placed after its stop was acknowledged"
        # It may also have ended by itself before it was told.
        if what == "stop" and not stops[workload] and last_end.get(workload, head.size) >= head.size:
            refused = any(one.payload["workload"] == workload for one in journal.of("WorkloadRefused"))
            if not refused:
                yield f"the stop of workload {workload} was acknowledged and is lost"


# -- nothing twice -------------------------------------------------------------------------------------------------------


def _placements(journal: Journal) -> Iterator[str]:
    """Each placement is made once and ends once; a workload has one at a time, and none after a job's end."""
    current: dict[str, str] = {}
    kinds = {one.payload["workload"]: one.payload["spec"]["type"] for one in journal.of("WorkloadSubmitted")}
    made: set[str] = set()
    over: set[str] = set()
    for one in journal.of("PlacementMade", "PlacementEnded"):
        ident = one.payload["placement"]
        workload = ident.rpartition(".")[0]
        if one.kind == "PlacementMade":
            if ident in made or workload in current:
                yield f"placement {ident} was made while {current.get(workload, ident)} was there"
            if workload in over:
                yield f"placement {ident} was made after its job had ended"
            made.add(ident)
            current[workload] = ident
            continue
        if current.pop(workload, "") != ident:
            yield f"placement {ident} ended twice, or was never made"
        if kinds[workload] == "job" and one.payload["reason"] in ("exited", "stopped", "max_duration"):
            over.add(workload)
    yield from (f"placement {ident} never ended" for ident in current.values())


def _witnesses(journal: Journal, folder: Path) -> Iterator[str]:
    seen = {path.name: path.read_text().split() for path in folder.iterdir()}
    made = {one.payload["placement"]: one.payload for one in journal.of("PlacementMade")}
    for name, pids in sorted(seen.items()):
        placement, _, number = name.rpartition(".")
        if len(pids) != 1:
            yield f"rank {number} of {placement} was started {len(pids)} times"
        if placement not in made or int(number) >= len(made[placement]["ranks"]):
            yield f"rank {number} of {placement} ran, and nobody had placed it"
    for one in journal.of("PlacementEnded"):
        for rank, code in enumerate(one.payload["exit_codes"]):
            if code == 0 and f"{one.payload['placement']}.{rank}" not in seen:
                yield f"rank {rank} of {one.payload['placement']} is said to have succeeded, and never ran"


def _records(journal: Journal, records: list[dict[str, Any]]) -> Iterator[str]:
    """What the journal says that each rank used is what its runner recorded: not less, not more, not twice."""
    recorded = {(one["placement"], one["rank"]): one for one in records}
    for one in journal.of("PlacementEnded"):
        ident = one.payload["placement"]
        for rank, metered in enumerate(one.payload["ranks"]):
            record = recorded.pop((ident, rank), None)
            used = [record["running_ms"], record["paused_ms"]] if record else [0, 0]
            if metered != used:
                yield f"rank {rank} of {ident} used {used} ms by its runner, {metered} by the journal"
            if record and record["estimated"] and not one.payload["estimated"]:
                yield f"the end of rank {rank} of {ident} is estimated, and the journal does not say so"
    yield from (f"rank {rank} of {ident} is on record, and never ended" for ident, rank in recorded)


# -- money ---------------------------------------------------------------------------------------------------------------


def _money(journal: Journal, records: list[dict[str, Any]]) -> Iterator[str]:
    """Every invoice line from the raw records: quantities to the millisecond and microjoule, amounts to the millionth."""
    made = {one.payload["placement"]: one.payload for one in journal.of("PlacementMade")}
    used = used_by([record for record in records if record["placement"] in made], made)
    billed: dict[tuple[str, str, str, str], int] = defaultdict(int)
    for one in journal.of("InvoiceIssued"):
        invoice = one.payload
        for line in invoice["lines"]:
            if line["item"] != "note":
                model = line["usage_key"].split("/")[5]
                billed[invoice["tenant"], line["site"], line["item"], model] += line["quantity"]
                yield from _amount(invoice["invoice"], line)
        total = sum(line["amount_micros"] for line in invoice["lines"])
        if not total == invoice["net_micros"] == invoice["total_micros"]:
            yield f"invoice {invoice['invoice']} says {invoice['total_micros']}, its lines {total}"
    for (tenant, site), sums in sorted(used.items()):
        for (item, model), quantity in _quantities(site, sums).items():
            asked = billed.pop((tenant, site, item, model), 0)
            if asked != quantity:
                yield f"{tenant} at {site}: {item} ({model}) is {quantity} by the records, {asked} on the invoices"
    yield from (f"{what} is on invoices ({quantity}) and on no record" for what, quantity in billed.items())


def _quantities(site: str, used: Used) -> dict[tuple[str, str], int]:
    rates = RATES[site]
    out = {("capacity", "lab"): used.accelerator_ms, ("process-time", "cpu"): used.process_ms}
    for accelerated, model in ((True, "lab"), (False, "cpu")):
        energy_uj = used.energy_mj[accelerated] * rates.pue_permille
        out["energy", model] = energy_uj
        out["carbon", model] = half_even(energy_uj * rates.carbon_g_per_kwh, UJ_PER_KWH_PER_MILLION)
    return out


def _amount(invoice: str, line: dict[str, Any]) -> Iterator[str]:
    rates = RATES[line["site"]]
    match line["item"]:
        case "capacity":
            due = half_even(line["quantity"] * rates.lab_micros_per_hour, MS_PER_HOUR)
        case "energy":
            due = half_even(line["quantity"] * rates.energy_micros_per_kwh, UJ_PER_KWH)
        case _:
            due = 0
    if line["amount_micros"] != due:
        yield f"invoice {invoice}: {line['item']} at {line['site']} costs {due}, not {line['amount_micros']}"


def _ledger(journal: Journal, path: Path) -> Iterator[str]:
    """The tables against the events: every transfer balances, and belongs to an invoice that it adds up to."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        (whole,) = db.execute("pragma integrity_check").fetchone()
        transfers = db.execute("select seq, debit, credit, amount_micros, currency from transfers").fetchall()
        usage = db.execute(
            "select sum(accelerator_ms), sum(running_ms + paused_ms), sum(energy_mj) from usage"
        ).fetchone()
        rows = db.execute("select count(*), count(distinct seq) from usage").fetchone()
    db.close()
    if whole != "ok":
        yield f"the store is damaged: {whole}"
    balances: Counter[str] = Counter()
    booked: Counter[int] = Counter()
    for seq, debit, credit, amount, currency in transfers:
        if not debit.endswith(f":{currency}") or not credit.endswith(f":{currency}") or amount <= 0:
            yield f"transfer {(debit, credit, amount, currency)} is not within one currency"
        balances[debit] += amount
        balances[credit] -= amount
        booked[seq] += amount
    if sum(balances.values()):
        yield f"the ledger does not balance: {dict(balances)}"
    owed: Counter[str] = Counter()
    for one in journal.of("InvoiceIssued"):
        total = one.payload["total_micros"]
        owed[f"receivable:{one.payload['tenant']}:{one.payload['currency']}"] += total
        if booked.pop(one.seq, 0) != total:
            yield f"invoice {one.payload['invoice']} of {total} is not what was booked for it"
    if booked:
        yield f"transfers of no invoice: events {sorted(booked)}"
    for account, total in owed.items():
        if balances[account] != total:
            yield f"{account} is {balances[account]} in the ledger, {total} by the invoices"
    yield from _usage_table(journal, usage, rows)


def _usage_table(journal: Journal, usage: tuple[int, int, int], rows: tuple[int, int]) -> Iterator[str]:
    final = [rank for one in journal.of("PlacementEnded") for rank in one.payload["ranks"]]
    process_ms = sum(running + paused for running, paused in final)
    if (usage[1] or 0) != process_ms:
        yield f"the usage table has {usage[1]} rank-milliseconds, the ends of placements {process_ms}"
    if rows[0] != rows[1]:
        yield f"{rows[0]} rows of usage from {rows[1]} events: one is metered twice"


def as_text(violations: list[str]) -> str:
    """Violations for a failed test."""
    return json.dumps(violations[:LIMIT], indent=1)
