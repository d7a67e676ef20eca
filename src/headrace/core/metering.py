"""Metering: from what the runners report to rows of usage, and to their running sums.

Usage is an integral over placement intervals, never samples: a runner reports cumulative milliseconds by its
host's boot-time clock, and the difference to what was metered before is the usage. However an interval is cut
into reports, the sums are the same. A paused rank still holds its accelerators, so that accelerator-time runs
on; it draws idle watts. An interval belongs to the period in which it was closed. All quantities are
integers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple, Self
from zoneinfo import ZoneInfo

from headrace.core.contracts import Contract, PricePlan
from headrace.core.errors import Problem, ProblemCode
from headrace.core.estate import Site
from headrace.core.hardware import HardwareType
from headrace.core.ids import ContractId, EventSeq, PlacementId, ProjectId, SiteId, TenantId, WorkloadId
from headrace.core.workload import WHOLE_MILLI, Placement, RankPlace

POWER_SOURCES = ("measured", "modelled", "nameplate", "stale")
"""What a power reading may come from, each worse than the one before it."""
CPU_MODEL = "cpu"
"""The model of usage by ranks without accelerators."""
TOKENS_MODEL = "tokens"
"""The model of rows that count tokens: they are never mixed with accelerator-time and energy."""

_ESCAPED = {"%": "%25", "/": "%2F", "*": "%2A", "?": "%3F", "[": "%5B"}
_UNESCAPE = sorted(_ESCAPED.items(), reverse=True)
_SEGMENTS = 11
_MS = timedelta(milliseconds=1)


@lru_cache(maxsize=65_536)
def _key_text(key: "UsageKey") -> str:
    words = (key.tenant, key.period, key.contract, key.project, key.site, key.model, key.source)
    head = "/".join(_escape(word) for word in words)
    tail = f"{key.energy_price_micros_per_kwh}/{_escape(key.energy_currency)}/{key.pue_permille}"
    return f"{head}/{key.carbon_g_per_kwh}/{tail}"


@dataclass(frozen=True, slots=True)
class UsageKey:
    """What usage is summed by: all that a price or a label on the invoice can depend on.

    ``period`` is ``yyyy-mm`` in the operator's zone, ``model`` an accelerator's model, ``cpu`` or ``tokens``,
    ``source`` that of the power readings (of the counters, for tokens). The rest are the site's constants as
    declared when the interval was closed; zero and empty for tokens.
    """

    tenant: TenantId
    period: str
    contract: ContractId
    project: ProjectId
    site: SiteId
    model: str
    source: str
    carbon_g_per_kwh: int = 0
    energy_price_micros_per_kwh: int = 0
    energy_currency: str = ""
    pue_permille: int = 0

    @property
    def text(self) -> str:
        """The key in one word, tenant/period/contract/project/site/model/source/carbon/price/currency/pue.

        :meth:`parse` undoes it.
        """
        return _key_text(self)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key that ``text`` writes; raises ValueError when it is none."""
        parts = text.split("/")
        if len(parts) != _SEGMENTS:
            raise ValueError(f"not a usage key: {text!r}; it has {len(parts)} parts, not {_SEGMENTS}")
        words = [_unescape(part) for part in parts]
        return cls(
            tenant=TenantId(words[0]),
            period=words[1],
            contract=ContractId(words[2]),
            project=ProjectId(words[3]),
            site=SiteId(words[4]),
            model=words[5],
            source=words[6],
            carbon_g_per_kwh=int(words[7]),
            energy_price_micros_per_kwh=int(words[8]),
            energy_currency=words[9],
            pue_permille=int(words[10]),
        )

    def selector(self, *, by_price: bool = False) -> str:
        """A pattern for every key that differs only in source and the site's constants; ``*`` stands for any.

        With ``by_price`` the price of energy and its currency stay. A selector is also a valid ``GLOB`` of
        SQLite: no part holds a ``/``, and every key has as many.
        """
        words = (self.tenant, self.period, self.contract, self.project, self.site, self.model)
        head = "/".join(_escape(word) for word in words)
        price = f"{self.energy_price_micros_per_kwh}/{_escape(self.energy_currency)}" if by_price else "*/*"
        return f"{head}/*/*/{price}/*"


_key = lru_cache(maxsize=65_536)(UsageKey)
"""A key from its fields in order: the same few are asked for again and again."""


def matches(selector: str, key_text: str) -> bool:
    """Whether the usage key ``key_text`` is among those that ``selector`` (of an invoice line) stands for."""
    return fnmatchcase(key_text, selector)


class UsageRow(NamedTuple):
    """What one event added: row ``part`` of event ``seq``, at journal time ``at_ms``.

    ``accelerator_ms`` is accelerators x milliseconds held, ``running_ms`` and ``paused_ms`` are
    rank-milliseconds, ``energy_mj`` is IT load without cooling (0 when its source is stale: a gap isn't
    billed). ``estimated``: an end was not seen.
    """

    seq: EventSeq
    part: int
    at_ms: int
    key: UsageKey
    workload: WorkloadId
    placement: PlacementId
    accelerator_ms: int = 0
    running_ms: int = 0
    paused_ms: int = 0
    energy_mj: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False


@dataclass(slots=True)
class UsageSum:
    """Running sums over the rows of one key; ``rows`` counts them, ``estimated`` those that are estimated."""

    accelerator_ms: int = 0
    running_ms: int = 0
    paused_ms: int = 0
    energy_mj: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    rows: int = 0
    estimated: int = 0


@dataclass(slots=True)
class UsageTotals:
    """Running sums by the text of their key; owned and mutated by the world, encodable for a checkpoint."""

    by_key: dict[str, UsageSum] = field(default_factory=dict)

    def add(self, row: UsageRow) -> None:
        """Add a row to the sums of its key."""
        total = self.by_key.setdefault(row.key.text, UsageSum())
        total.accelerator_ms += row.accelerator_ms
        total.running_ms += row.running_ms
        total.paused_ms += row.paused_ms
        total.energy_mj += row.energy_mj
        total.input_tokens += row.input_tokens
        total.output_tokens += row.output_tokens
        total.rows += 1
        total.estimated += row.estimated

    def of(self, tenant: TenantId, period: str) -> list[tuple[UsageKey, UsageSum]]:
        """A tenant's sums of a period, ordered by key."""
        prefix = f"{_escape(tenant)}/{_escape(period)}/"
        # Sorted: the order of arrival must not show on an invoice.
        texts = sorted(text for text in self.by_key if text.startswith(prefix))
        return [(UsageKey.parse(text), self.by_key[text]) for text in texts]


def usage_row(  # noqa: PLR0913 - one argument for each fact of the row
    placement: Placement,
    project: ProjectId,
    contract: ContractId,
    site: Site,
    hardware: Sequence[HardwareType],
    reported: Sequence[tuple[int, int]],
    *,
    seq: EventSeq,
    at_ms: int,
    period: str,
    source: str,
    estimated: bool = False,
    part: int = 0,
) -> UsageRow | Problem | None:
    """The usage that a report adds to what ``placement.metered`` holds; None when it adds nothing.

    ``hardware`` is the node type of each rank, ``reported`` each rank's cumulative ``(running_ms,
    paused_ms)`` as in ``UsageMetered``. The caller sets ``placement.metered`` to ``reported`` once it took
    the row. Energy is each rank's ``share_watts`` while running x running milliseconds, plus that of idle x
    paused milliseconds. A report that is less than an earlier one, or not of every rank, is a Problem: raise
    an alarm, record nothing.
    """
    if source not in POWER_SOURCES:
        message = f"placement {placement.id}: no source of power readings is called {source!r};"
        return Problem(ProblemCode.BAD_INPUT, message, f"known: {', '.join(POWER_SOURCES)}.")
    ranks = placement.ranks
    # Ranks without accelerators may well be on nodes of several models: they use none of them.
    model = (hardware[0].accelerator if ranks[0].mask else CPU_MODEL) if hardware and ranks else ""
    if len(hardware) != len(ranks) or any(
        (kind.accelerator if rank.mask else CPU_MODEL) != model
        for kind, rank in zip(hardware, ranks, strict=True)
    ):
        message = f"placement {placement.id}: its ranks are not all on nodes of one accelerator model;"
        return Problem(ProblemCode.BROKEN, message, "no usage was recorded; check the plan that placed it.")
    deltas = _deltas(placement, reported)
    if isinstance(deltas, Problem):
        return deltas
    accelerator_ms, running_ms, paused_ms, energy_mj = _sums(ranks, hardware, deltas)
    if any(rank.share_milli != WHOLE_MILLI for rank in ranks):
        accelerator_ms, energy_mj = _sums_of_fractions(placement, hardware, reported)
    if not running_ms and not paused_ms:
        return None
    key = _key(
        placement.tenant,
        period,
        contract,
        project,
        site.id,
        model,
        source,
        site.carbon_g_per_kwh,
        site.energy_price_micros_per_kwh,
        site.currency,
        site.pue_permille,
    )
    return UsageRow(
        seq=seq,
        part=part,
        at_ms=at_ms,
        key=key,
        workload=placement.workload,
        placement=placement.id,
        accelerator_ms=accelerator_ms,
        running_ms=running_ms,
        paused_ms=paused_ms,
        energy_mj=0 if source == "stale" else energy_mj,
        estimated=estimated,
    )


def _sums(
    ranks: Sequence[RankPlace], hardware: Sequence[HardwareType], deltas: Sequence[tuple[int, int]]
) -> tuple[int, int, int, int]:
    """Accelerator-, running and paused milliseconds, and energy, of all ranks; those of a gang are mostly alike."""
    accelerator_ms = running_ms = paused_ms = energy_mj = 0
    accelerators = cpu_milli = -1
    known: HardwareType | None = None
    running_w = idle_w = 0
    for rank, kind, (running, paused) in zip(ranks, hardware, deltas, strict=True):
        count = rank.mask.bit_count()
        if kind is not known or count != accelerators or rank.cpu_milli != cpu_milli:
            known, accelerators, cpu_milli = kind, count, rank.cpu_milli
            running_w = kind.share_watts(count, cpu_milli, running=True)
            idle_w = kind.share_watts(count, cpu_milli, running=False)
        accelerator_ms += count * (running + paused)
        running_ms += running
        paused_ms += paused
        energy_mj += running_w * running + idle_w * paused
    return accelerator_ms, running_ms, paused_ms, energy_mj


def _sums_of_fractions(
    placement: Placement, hardware: Sequence[HardwareType], reported: Sequence[tuple[int, int]]
) -> tuple[int, int]:
    """Accelerator-milliseconds and energy of ranks with a part of an accelerator: their part of what one with all of it has.

    Each is the difference of two rounded cumulative values, so that the sums don't depend on how an interval was cut.
    """
    accelerator_ms = energy_mj = 0
    before = placement.metered or ((0, 0),) * len(reported)
    for rank, kind, old, new in zip(placement.ranks, hardware, before, reported, strict=True):
        count, share = rank.mask.bit_count(), rank.share_milli
        running_w = kind.share_watts(count, rank.cpu_milli, running=True)
        idle_w = kind.share_watts(count, rank.cpu_milli, running=False)
        for sign, (running, paused) in ((1, new), (-1, old)):
            accelerator_ms += sign * (count * share * (running + paused) // WHOLE_MILLI)
            energy_mj += sign * (share * (running_w * running + idle_w * paused) // WHOLE_MILLI)
    return accelerator_ms, energy_mj


def token_row(  # noqa: PLR0913 - one argument for each fact of the row
    placement: Placement,
    project: ProjectId,
    contract: ContractId,
    reported: tuple[int, int],
    metered: tuple[int, int],
    *,
    seq: EventSeq,
    at_ms: int,
    period: str,
    source: str = "replica-counters",
    estimated: bool = False,
    part: int = 0,
) -> UsageRow | Problem | None:
    """The tokens that a batch adds: cumulative ``(input, output)`` as ``reported``, less ``metered`` before.

    None when it adds nothing. Counters below an earlier batch's are a Problem: raise an alarm, record
    nothing. That a batch isn't taken twice is the caller's to see, by its number.
    """
    inputs, outputs = reported[0] - metered[0], reported[1] - metered[1]
    if inputs < 0 or outputs < 0:
        message = f"placement {placement.id}: its counters went back, from {metered} to {reported} tokens;"
        return Problem(
            ProblemCode.CONFLICT, message, "nothing was recorded; see whether the replica restarted."
        )
    if not inputs and not outputs:
        return None
    return UsageRow(
        seq=seq,
        part=part,
        at_ms=at_ms,
        key=UsageKey(
            tenant=placement.tenant,
            period=period,
            contract=contract,
            project=project,
            site=placement.site,
            model=TOKENS_MODEL,
            source=source,
        ),
        workload=placement.workload,
        placement=placement.id,
        input_tokens=inputs,
        output_tokens=outputs,
        estimated=estimated,
    )


def worst_source(sources: Iterable[str]) -> str:
    """The worst of some sources of power readings; an unknown one is the worst; ``measured`` for none."""
    ranked = {source: rank for rank, source in enumerate(POWER_SOURCES)}
    return max(sorted(sources), key=lambda source: ranked.get(source, len(ranked)), default=POWER_SOURCES[0])


def period_of(at_ms: int, zone: str) -> str:
    """The month (``yyyy-mm``) in the IANA ``zone`` that the instant ``at_ms`` falls in."""
    return day_of(at_ms, zone)[:7]


def day_of(at_ms: int, zone: str) -> str:
    """The day (``yyyy-mm-dd``) in the IANA ``zone`` that the instant ``at_ms`` falls in."""
    return datetime.fromtimestamp(at_ms // 1000, tz=ZoneInfo(zone)).date().isoformat()


def period_bounds_ms(period: str, zone: str) -> tuple[int, int]:
    """First instant of the month ``yyyy-mm`` in ``zone``, and of the next; raises ValueError for no month."""
    return _midnight_ms(month_start(period), zone), _midnight_ms(month_after(period), zone)


def month_start(period: str) -> date:
    """The first day of the month ``yyyy-mm``; raises ValueError for anything else."""
    try:
        start = date.fromisoformat(f"{period}-01")
    except ValueError:
        start = None
    if start is None or f"{start:%Y-%m}" != period:
        raise ValueError(f"not a month: {period!r}; write it like 2026-11")
    return start


def month_after(period: str) -> date:
    """The first day after the month ``yyyy-mm``; raises ValueError for anything else."""
    start = month_start(period)
    return date(start.year + start.month // 12, start.month % 12 + 1, 1)


def is_active(contract: Contract, day: str) -> bool:
    """Whether ``contract`` is in force on an ISO ``day``; its end is exclusive."""
    return contract.starts <= day and (not contract.ends or day < contract.ends)


def contract_for(
    contracts: Iterable[Contract],
    tenant: TenantId,
    site: SiteId,
    model: str,
    day: str,
    named: ContractId | None = None,
) -> Contract | None:
    """The contract that usage of ``model`` at ``site`` on ``day`` is billed by; None when there is none.

    The one that the workload ``named``, or nothing. Else a dedicated one of this very site, else an on-demand
    one: for the site before general, for the model before any, then by name. A reserved one has to be named.
    """
    fits = [
        one
        for one in contracts
        if one.tenant == tenant
        and one.site in (None, site)
        and one.model in ("", model)
        and is_active(one, day)
        and (
            one.id == named
            if named
            else one.kind == "on-demand" or (one.kind == "dedicated" and one.site == site)
        )
    ]
    return min(
        fits, key=lambda one: (one.kind != "dedicated", one.site is None, not one.model, one.id), default=None
    )


def has_price(plan: PricePlan, model: str) -> bool:
    """Whether ``plan`` can bill ``model`` by the hour; ranks without accelerators need no price."""
    prices = plan.accelerator_micros_per_hour
    return model in (CPU_MODEL, TOKENS_MODEL) or model in prices or "*" in prices


def _deltas(placement: Placement, reported: Sequence[tuple[int, int]]) -> list[tuple[int, int]] | Problem:
    ranks = len(placement.ranks)
    before = placement.metered or [(0, 0)] * ranks
    if len(reported) != ranks or len(before) != ranks:
        message = (
            f"placement {placement.id}: usage of {len(reported)} ranks was reported, but it has {ranks};"
        )
        return Problem(ProblemCode.CONFLICT, message, "nothing was recorded; check the engine's report.")
    out = []
    for rank, (new, old) in enumerate(zip(reported, before, strict=True)):
        running, paused = new[0] - old[0], new[1] - old[1]
        if running < 0 or paused < 0:
            message = f"placement {placement.id}, rank {rank}: usage went back, from {old} to {new} ms;"
            return Problem(ProblemCode.CONFLICT, message, "nothing was recorded; check the runner's record.")
        out.append((running, paused))
    return out


def _midnight_ms(day: date, zone: str) -> int:
    # A midnight that a change of clocks skips is the instant of the change; of one that comes twice, the
    # first counts.
    moment = datetime.combine(day, time(), tzinfo=ZoneInfo(zone)).astimezone(UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // _MS


def _escape(word: str) -> str:
    if word.isascii() and word.replace("-", "a").isalnum():
        return word
    return "".join(_ESCAPED.get(letter, letter) for letter in word)


def _unescape(word: str) -> str:
    if "%" not in word:
        return word
    for plain, escaped in _UNESCAPE:
        word = word.replace(escaped, plain)
    return word
