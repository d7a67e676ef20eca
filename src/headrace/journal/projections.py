"""Projections: tables that are filled in the journal's own transaction, and that a replay fills again to the same rows."""

from dataclasses import dataclass
from typing import NamedTuple

from headrace.core.ledger import Transfer
from headrace.core.metering import UsageRow
from headrace.core.state import AuditRow, Row


class ProjectionRow(NamedTuple):
    """A row of a projection's table."""

    table: str
    values: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A projection's table."""

    schema: str
    insert: str


TABLES: dict[str, Table] = {
    "usage": Table(
        """create table if not exists usage (
  seq integer not null, idx integer not null, at_ms integer not null, usage_key text not null, tenant text not null,
  period text not null, workload text not null, placement text not null, accelerator_ms integer not null,
  running_ms integer not null, paused_ms integer not null, energy_mj integer not null, input_tokens integer not null,
  output_tokens integer not null, estimated integer not null, primary key (seq, idx)) without rowid;
create index if not exists usage_by_key on usage (tenant, period, usage_key);
""",
        "insert into usage values (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    ),
    "transfers": Table(
        """create table if not exists transfers (
  seq integer not null, debit text not null, credit text not null, amount_micros integer not null,
  currency text not null, memo text not null);
create index if not exists transfers_by_seq on transfers (seq);
""",
        "insert into transfers values (?,?,?,?,?,?)",
    ),
    "audit": Table(
        """create table if not exists audit (
  seq integer not null, at_ms integer not null, actor integer not null, kind text not null, subject text not null,
  verdict text not null);
create index if not exists audit_by_seq on audit (seq);
""",
        "insert into audit values (?,?,?,?,?,?)",
    ),
}


def project(row: Row) -> ProjectionRow:
    """A row that ``apply`` returned, as its table has it."""
    match row:
        case UsageRow():
            return ProjectionRow(
                "usage",
                (
                    row.seq, row.part, row.at_ms, row.key.text, row.key.tenant, row.key.period, row.workload,
                    row.placement, row.accelerator_ms, row.running_ms, row.paused_ms, row.energy_mj, row.input_tokens,
                    row.output_tokens, int(row.estimated),
                ),
            )  # fmt: skip
        case Transfer():
            values = (row.seq, row.debit.text, row.credit.text, row.amount_micros, row.currency, row.memo)
            return ProjectionRow("transfers", values)
        case AuditRow():
            return ProjectionRow("audit", (row.seq, row.at_ms, row.actor, row.kind, row.subject, row.verdict))
