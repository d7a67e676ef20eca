"""The figures of settlement evidence, computed again from what the document itself gives: the standard library and nothing else.

Written apart from what made them (`core/power/settlement.py`), so that a mistake there is not repeated here. Units: milliseconds
UTC, watts, millijoules; all integers. Each function says in words what does not follow.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

RESPONSE_MS, NEVER_MS = 30_000, 1 << 62
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
MOST_DAYS_BACK = 60
SOURCES = ("measured", "modelled", "nameplate", "stale", "missing")
"""From best to worst; the first two are believed."""


def even(numerator: int, denominator: int) -> int:
    """Divide, halves to the even neighbour."""
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole & 1))


def _utc(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%MZ")


def _is_on(one: dict[str, Any], at_ms: int) -> bool:
    return bool(_begins(one) <= at_ms < _ends(one))


def _begins(one: dict[str, Any]) -> int:
    return int(max(one["from_ms"], one["received_ms"]))


def _ends(one: dict[str, Any]) -> int:
    return int(min(one["until_ms"] or NEVER_MS, one["ended_ms"] or NEVER_MS))


def _due(one: dict[str, Any]) -> int:
    return int(max(one["from_ms"], one["received_ms"] + RESPONSE_MS))


def _slopes(document: dict[str, Any], versions: list[dict[str, Any]], at: "Reader") -> None:
    """Write into each version how much lower than when it came the draw had to be (``fall_w``), and in how long (``fall_ms``)."""
    down_w = document["site"]["ramp_down_w_per_minute"]
    for one in versions:
        watts, source = at(one["received_ms"])
        drawn_w = watts if SOURCES.index(source) < 2 else 0
        one["fall_w"], one["down_w"] = max(0, drawn_w - one["limit_w"]), down_w
        one["fall_ms"] = -(one["fall_w"] * MINUTE_MS // -down_w) if down_w else 0


def _line_w(one: dict[str, Any], at_ms: int) -> int | None:
    """The point at which a version's own line is: down with the ramp from 30 s after it was received; None before it is due."""
    if at_ms < _due(one):
        return None
    bottom_ms = max(_due(one), one["received_ms"] + RESPONSE_MS + one["fall_ms"])
    above_w = one["down_w"] * (bottom_ms - at_ms) // MINUTE_MS if at_ms < bottom_ms else 0
    return int(one["limit_w"]) + above_w


def _due_w(versions: list[dict[str, Any]], at_ms: int) -> int | None:
    """What all versions come to, one after another, from the first that led to the one that is on without a gap.

    Each lets go what is above its limit only by its own line; one at or above the limit before it changes nothing but what is
    below its limit.
    """
    asked: int | None = None
    before: dict[str, Any] | None = None
    for one in versions:
        if before is not None and _ends(before) != _begins(one):
            asked = before = None
        own = _line_w(one, at_ms)
        if asked is None:
            asked = own
        else:
            is_deeper = before is not None and one["limit_w"] < before["limit_w"]
            asked = max(asked, int(one["limit_w"]))
            asked = min(asked, own) if is_deeper and own is not None else asked
        if _is_on(one, at_ms):
            return asked
        before = one
    return None


Reading = tuple[int, str]
Reader = Callable[[int], Reading]


def _reader(document: dict[str, Any]) -> Reader:
    """What was drawn at an instant, and by which source."""
    readings, hold_ms, end_ms = document["readings"], document["hold_ms"], document["as_of_ms"]
    place = {"number": 0}

    def at(at_ms: int) -> Reading:
        # Instants are asked for in order, but for a few: step from where the last one was.
        number = place["number"]
        while number and readings[number - 1][0] > at_ms:
            number -= 1
        while number < len(readings) and readings[number][0] <= at_ms:
            number += 1
        place["number"] = number
        if not number or at_ms >= end_ms:
            return 0, "missing"
        since_ms, watts, source = readings[number - 1]
        is_old = source == "measured" and at_ms >= since_ms + hold_ms
        return (0, "missing") if is_old else (watts, source)

    return at


def _moments(document: dict[str, Any]) -> list[int]:
    """Every instant at which anything of a document changes."""
    found = {document["as_of_ms"]}
    for at_ms, _, source in document["readings"]:
        found |= {at_ms, at_ms + document["hold_ms"]} if source == "measured" else {at_ms}
    for one in document["instruction"]["versions"]:
        found |= {_begins(one), _due(one), _ends(one)}
    for one in document["overlapping"]:
        found |= {_begins(one), _ends(one)}
    return sorted(found)


def wrong_intervals(document: dict[str, Any]) -> list[str]:
    """Intervals stand in order without a hole, from the beginning to the end, and each has what follows from the readings."""
    rows, length_ms, wrong = document["intervals"], document["interval_ms"], []
    if [one[0] for one in document["readings"]] != sorted({one[0] for one in document["readings"]}):
        wrong.append("readings: they are not in order")
    versions = [dict(one) for one in document["instruction"]["versions"] if _begins(one) < _ends(one)]
    begun = [one for one in versions if _begins(one) < document["as_of_ms"]]
    first_ms = min(map(_begins, begun)) // length_ms * length_ms
    until_ms = min(max(map(_ends, begun)), document["as_of_ms"])
    final = max(map(_ends, versions)) <= document["as_of_ms"]
    if (document["until_ms"], document["final"]) != (until_ms, final):
        wrong.append("until_ms, final: not what the instruction's end says")
    expected = list(range(first_ms, until_ms, length_ms))
    if [one["from_ms"] for one in rows] != expected:
        wrong.append(
            f"intervals: not the {len(expected)} from {_utc(first_ms)} on, in order: one is missing or misplaced"
        )
    moments, reader = _moments(document), _reader(document)
    _slopes(document, versions, reader)
    for row in rows:
        from_ms = row["from_ms"]
        inside = moments[bisect_right(moments, from_ms) : bisect_left(moments, from_ms + length_ms)]
        edges = [from_ms, *inside, from_ms + length_ms]
        ours = _row(document, versions, reader, edges) | _reduction(row)
        names = sorted(name for name in ours.keys() | row.keys() if name not in ("baseline_w", "basis"))
        wrong += [
            f"interval {_utc(from_ms)}: {name} is {row.get(name)!r}, and {ours.get(name)!r} follows"
            for name in names
            if ours.get(name, ...) != row.get(name, ...)
        ]
    return wrong


def _stricter(document: dict[str, Any], on: dict[str, Any], at_ms: int) -> str | None:
    """Whose what was delivered is instead: of all that held the one of the lowest limit, then the first, then by name."""
    own = on["limit_w"], on["received_ms"], document["instruction"]["id"]
    others = [one for one in document["overlapping"] if _is_on(one, at_ms)]
    least = min([(one["limit_w"], one["received_ms"], str(one["id"])) for one in others], default=own)
    return least[2] if least < own else None


def _sum_of(source: str) -> str:
    return "missing" if source == "missing" else "stale" if SOURCES.index(source) > 1 else "known"


def _row(
    document: dict[str, Any], versions: list[dict[str, Any]], at: Reader, edges: list[int]
) -> dict[str, Any]:
    """An interval, summed over pieces within which nothing changes."""
    sums = dict.fromkeys(
        ("known", "stale", "missing", "coming", "held", "held_known", "covered", "due", "due_unknown"), 0
    )
    energy_mj = held_mj = weighted = over_w = 0
    limits, watts_known, due_known, asked_w, covered_by = [], [], [], list[int](), set[str]()
    inside = outside = 0
    for start, end in pairwise(edges):
        length_ms, (watts, source), due_w = end - start, at(start), _due_w(versions, start)
        believed, is_past = SOURCES.index(source) < 2, start < document["as_of_ms"]
        on = next((one for one in versions if _is_on(one, start)), None)
        limits.append(document["site"]["allowed_w"] if on is None else on["limit_w"])
        weighted += limits[-1] * length_ms
        sums[_sum_of(source) if is_past else "coming"] += length_ms
        outside = max(outside, SOURCES.index(source) * is_past)
        energy_mj += watts * length_ms * believed
        watts_known += [watts] * believed
        # A limit at or above the connection asks nothing, so that nothing is due to it.
        if on is None or not is_past:
            continue
        other = _stricter(document, on, start)
        if on["limit_w"] < document["site"]["allowed_w"] and other is not None:
            sums["covered"] += length_ms
            covered_by.add(other)
        elif on["limit_w"] < document["site"]["allowed_w"]:
            sums["held"] += length_ms
            inside = max(inside, SOURCES.index(source))
            sums["held_known"] += length_ms * believed
            held_mj += watts * length_ms * believed
        last_w = _due_w(versions, end - 1)
        if due_w is not None and last_w is not None:
            sums["due"] += length_ms
            sums["due_unknown"] += length_ms * (not believed)
            due_known += [watts] * believed
            asked_w += [due_w, last_w]
            # The limit falls while the draw stays: it is furthest above at the end.
            over_w = max(over_w, (watts - last_w) * believed)
    unsure = "unknown" if sums["due_unknown"] else "yes" if sums["due"] else "not due"
    return {f"{name}_ms": length for name, length in sums.items()} | {
        "from_ms": edges[0],
        "until_ms": edges[-1],
        "instructed_least_w": min(limits),
        "instructed_mean_w": even(weighted, edges[-1] - edges[0]),
        "instructed_most_w": max(limits),
        "delivered_w": even(energy_mj, sums["known"]) if sums["known"] else None,
        "highest_w": max(watts_known, default=None),
        "energy_mj": energy_mj,
        "held_energy_mj": held_mj,
        "source": SOURCES[inside if sums["held"] else outside],
        "covered_by": sorted(covered_by),
        "due_least_w": min(asked_w, default=None),
        "due_most_w": max(asked_w, default=None),
        "due_highest_w": max(due_known, default=None),
        "over_w": over_w,
        "compliance": "no" if over_w else unsure,
    }


def _reduction(row: dict[str, Any]) -> dict[str, Any]:
    """Against the baseline that the row itself has."""
    if row["baseline_w"] is None:
        return {"reduction_mj": None, "reduction_w": None}
    known_ms = row["held_known_ms"]
    saved_mj = row["baseline_w"] * known_ms - row["held_energy_mj"]
    return {"reduction_mj": saved_mj, "reduction_w": even(saved_mj, known_ms) if known_ms else None}


def _mean_of_highest(basis: list[list[int]], take: int) -> int:
    means = sorted((even(energy_mj, known_ms) for _, _, energy_mj, known_ms in basis), reverse=True)
    return even(sum(means[:take]), take)


COUNTS = {
    "high-5-of-10-adjusted": (5, 10),
    "high-5-of-10": (5, 10),
    "meter-before": (1, 1),
    "minute-before": (1, 1),
}
"""By method: how many of the highest windows count, of how many."""


def wrong_baseline(document: dict[str, Any]) -> list[str]:
    """Each baseline follows from its windows, all of them before the instruction was received."""
    baseline, wrong = document["baseline"], []
    order = [*COUNTS, "none"]
    skipped = order.index(baseline["method"]) - order.index(baseline["asked"])
    if skipped < 0 or len(baseline["reasons"]) != skipped:
        wrong.append("baseline: it does not say of each method that was passed over why")
    take, count = COUNTS.get(baseline["method"], (0, 0))
    adjustment, more_w = baseline["adjustment"], 0
    if baseline["take"] != take or (adjustment is not None) != baseline["method"].endswith("adjusted"):
        wrong.append(f"baseline: that is not how {baseline['method']} is made")
    if adjustment is not None:
        hour_w = even(adjustment["hour"][2], adjustment["hour"][3])
        more_w = hour_w - _mean_of_highest(adjustment["basis"], take)
        if adjustment["watts"] != more_w or len(adjustment["basis"]) != count:
            wrong.append(f"baseline: the adjustment is {adjustment['watts']} W, and {more_w} W follows")
    for row in document["intervals"]:
        ours = max(0, _mean_of_highest(row["basis"], take) + more_w) if take else None
        if row["baseline_w"] != ours or len(row["basis"]) != count:
            what = f"interval {_utc(row['from_ms'])}: baseline_w"
            wrong.append(f"{what} is {row['baseline_w']!r}, and {ours!r} follows from its windows")
        received_ms = document["instruction"]["versions"][0]["received_ms"]
        if any(window[1] > received_ms for window in row["basis"]):
            wrong.append(f"interval {_utc(row['from_ms'])}: a window of its baseline is not in the past")
    return wrong


# -- where the windows of a baseline lie ---------------------------------------------------------------------------------


def wrong_windows(document: dict[str, Any]) -> list[str]:
    """Each window is where its method has it, as long, known of no more than there is, and as the readings given say.

    Of `high-5-of-10`: the same local time on ten days of the same kind, the newest first, none of them that of the notification,
    none more than 60 days back, and none on which an instruction held that the document knows.
    """
    try:
        zone = ZoneInfo(document["site"]["zone"])
    except (KeyError, ValueError, TypeError, OSError):
        return [f"site: there is no time zone {document['site']['zone']!r} here, by which days are told"]
    baseline, length_ms = document["baseline"], document["interval_ms"]
    received_ms = document["instruction"]["versions"][0]["received_ms"]
    days = _Days(document, zone)
    wrong = []
    for row in document["intervals"]:
        where = f"interval {_utc(row['from_ms'])}"
        match baseline["method"]:
            case "meter-before":
                wrong += _before(where, row["basis"], received_ms, HOUR_MS)
            case "minute-before":
                wrong += _before(where, row["basis"], received_ms, MINUTE_MS)
            case "high-5-of-10" | "high-5-of-10-adjusted":
                wrong += days.wrong(where, row["basis"], row["from_ms"], length_ms)
    adjustment = baseline["adjustment"]
    if adjustment is not None:
        wrong += _before("the adjustment", [adjustment["hour"]], received_ms, HOUR_MS)
        wrong += days.wrong("the adjustment", adjustment["basis"], adjustment["hour"][0], HOUR_MS)
    return [*wrong, *_as_read(document)]


def windows_of(document: dict[str, Any]) -> list[list[int]]:
    """All windows of all baselines."""
    adjustment = document["baseline"]["adjustment"]
    own = [] if adjustment is None else [adjustment["hour"], *adjustment["basis"]]
    return [*own, *(window for row in document["intervals"] for window in row["basis"])]


def _before(where: str, basis: list[list[int]], received_ms: int, length_ms: int) -> list[str]:
    """One window, right before the notification; of a minute whatever is known of it counts."""
    wrong = []
    for one in basis:
        if one[:2] != [received_ms - length_ms, received_ms]:
            seconds = length_ms // 1_000
            wrong.append(
                f"{where}: the baseline's window is not the {seconds} s before the notification, but from {_utc(one[0])}"
            )
        wrong += _measured(where, one, length_ms, 900 if length_ms == HOUR_MS else 0)
    return wrong


def _measured(where: str, window: list[int], length_ms: int, least_permille: int = 900) -> list[str]:
    """A window has its length, and what was drawn is known of enough of it and of no more than there is."""
    from_ms, until_ms, _, known_ms = window
    name = f"{where}: the baseline's window from {_utc(from_ms)}"
    if not all(type(one) is int for one in window):
        return [f"{name} is not in whole numbers"]
    if until_ms - from_ms != length_ms:
        return [f"{name} is {until_ms - from_ms} ms long, and not the {length_ms} ms"]
    if not 0 < known_ms <= length_ms:
        return [f"{name} has {known_ms} ms of its {length_ms} known"]
    if known_ms * 1_000 < length_ms * least_permille:
        return [f"{name} has less than nine tenths of it known"]
    return []


def _local(at_ms: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at_ms // 1_000, zone)


class _Days:
    """The days on which windows at the same local time may lie."""

    def __init__(self, document: dict[str, Any], zone: ZoneInfo) -> None:
        self._zone = zone
        received_ms = document["instruction"]["versions"][0]["received_ms"]
        self._today = _local(received_ms, zone).date()
        versions = [*document["overlapping"], *document["instruction"]["versions"]]
        spans = ((_begins(one), min(_ends(one), received_ms)) for one in versions)
        self._held = [
            (_local(begins, zone).date(), _local(ends - 1, zone).date())
            for begins, ends in spans
            if begins < ends
        ]

    def wrong(self, where: str, basis: list[list[int]], from_ms: int, length_ms: int) -> list[str]:
        """What of some windows is not on a day as there should be, at the local time of ``from_ms``."""
        asked, before, wrong = _local(from_ms, self._zone), self._today, []
        for one in basis:
            here = _local(one[0], self._zone)
            name = f"{where}: the baseline's window from {_utc(one[0])}"
            if (here.time(), here.fold, one[0] % 1_000) != (asked.time(), 0, 0):
                wrong.append(f"{name} is not at {asked:%H:%M} local time")
            if (here.weekday() < 5) != (asked.weekday() < 5):
                wrong.append(f"{name} is on a day of another kind")
            wrong += [f"{name} {text}" for text in self._wrong_day(here.date(), before)]
            wrong += _measured(where, one, length_ms)
            before = here.date()
        return wrong

    def _wrong_day(self, day: date, before: date) -> list[str]:
        wrong = []
        if day >= before:
            wrong.append("is not on an earlier day than the one before it")
        if (self._today - day).days > MOST_DAYS_BACK:
            wrong.append(f"is more than {MOST_DAYS_BACK} days back")
        if any(first <= day <= last for first, last in self._held):
            wrong.append("is on a day on which an instruction held")
        return wrong


def _as_read(document: dict[str, Any]) -> list[str]:
    """A window says one thing wherever it stands; and where readings are given for all of it, what they say."""
    readings, reader, moments = document["readings"], _reader(document), _moments(document)
    said: dict[tuple[int, int], tuple[int, int]] = {}
    wrong = []
    for from_ms, until_ms, energy_mj, known_ms in windows_of(document):
        figures, name = (energy_mj, known_ms), f"the baseline's window from {_utc(from_ms)}"
        if said.setdefault((from_ms, until_ms), figures) != figures:
            wrong.append(f"{name} says one thing here and another there")
        if not readings or from_ms < readings[0][0]:
            continue
        inside = moments[bisect_right(moments, from_ms) : bisect_left(moments, until_ms)]
        drawn_mj = seen_ms = 0
        for start, end in pairwise([from_ms, *inside, until_ms]):
            watts, source = reader(start)
            drawn_mj += watts * (end - start) * (SOURCES.index(source) < 2)
            seen_ms += (end - start) * (SOURCES.index(source) < 2)
        if (drawn_mj, seen_ms) != figures:
            wrong.append(
                f"{name} says {energy_mj} mJ of {known_ms} ms, and the readings {drawn_mj} of {seen_ms}"
            )
    return list(dict.fromkeys(wrong))


def wrong_totals(document: dict[str, Any]) -> list[str]:
    """The totals are sums of the intervals."""
    rows, totals = document["intervals"], document["totals"]
    names = ("energy_mj", "known_ms", "held_ms", "held_known_ms", "held_energy_mj", "covered_ms")
    ours: dict[str, Any] = {name: sum(row[name] for row in rows) for name in names}
    saved = [row["reduction_mj"] for row in rows if row["reduction_mj"] is not None]
    ours["reduction_mj"] = sum(saved) if saved else None
    for one in ("yes", "no", "unknown"):
        ours[one] = sum(row["compliance"] == one for row in rows)
    ours["source"] = max((row["source"] for row in rows), key=SOURCES.index)
    return [
        f"totals: {name} is {totals.get(name)!r}, and the intervals give {ours.get(name)!r}"
        for name in sorted(ours.keys() | totals.keys())
        if ours.get(name) != totals.get(name)
    ]
