"""Reports in HTML: a score, who controls an entity, and what it is exposed to. One file each, without scripts or
anything from elsewhere.

Every text goes through :func:`_text`, which escapes it: names come from registers and from people.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from headrace.core.sovereignty.control import Control, Controller, Measures
from headrace.core.sovereignty.exposure import Exposures
from headrace.core.sovereignty.graph import Step
from headrace.core.sovereignty.holdings import Answer, Share, Source, SourceId
from headrace.core.sovereignty.limits import Held, Limit
from headrace.core.sovereignty.scoring import ObjectiveScore, Scored
from headrace.ownership.schemes import Assessed

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}"
    "table{border-collapse:collapse;width:100%;margin:1rem 0}"
    "th,td{text-align:left;vertical-align:top;padding:.35rem .6rem;border-bottom:1px solid #ddd}"
    "td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}"
    ".note{color:#555}.yes{color:#8a1c1c}.no{color:#1c5c2e}.unknown,.missing{color:#7a5300}.big{font-size:1.6rem}"
)
_NOT_ADVICE = "Facts and arithmetic from the sources named here. No legal conclusion, and no legal advice."
_CSP = "default-src 'none'; style-src 'unsafe-inline'"


def score_report(assessed: Assessed) -> str:
    """The score of an assessment, with each criterion's evidence or "missing"."""
    score, scheme = assessed.score, assessed.score.scheme
    verified = "" if scheme.verified else " Not verified against the primary text."
    lines = [
        _line("h1", f"{scheme.title}: {assessed.of}"),
        _line("p", f"As of {assessed.day}. {_NOT_ADVICE}{verified}", "note"),
        _line("p", scheme.note, "note") if scheme.note else "",
        _line("p", f"{_percent(score.score_ppm)} %, {score.level_name}", "big"),
        _line("p", _held_by(assessed)),
        _objectives(score.objectives),
    ]
    for objective in score.objectives:
        lines.append(_line("h2", f"{objective.objective.name}: {objective.objective.title}"))
        lines.append(_criteria(objective.criteria, scheme.levels, assessed.sources))
    return _page(f"{scheme.title}: {assessed.of}", [*lines, _sources(assessed.sources)])


def _held_by(assessed: Assessed) -> str:
    score = assessed.score
    missing = f" {len(score.missing)} of them are missing: nobody assessed them." if score.missing else ""
    return f"The level is the lowest over all criteria. Those at it: {', '.join(score.held_by)}.{missing}"


def _objectives(objectives: Iterable[ObjectiveScore]) -> str:
    rows = [
        (
            f"{one.objective.name}: {one.objective.title}",
            f"{one.points} of {one.most}",
            str(one.objective.weight),
            f"{_percent(one.adds_ppm)} %",
        )
        for one in objectives
    ]
    return _table(("objective", "points", "weight", "adds"), rows, numbers=(1, 2, 3))


def _criteria(criteria: Iterable[Scored], levels: Sequence[str], sources: Mapping[SourceId, Source]) -> str:
    rows = []
    for one in criteria:
        if one.finding is None:
            rows.append((one.criterion.title, levels[0], f"0 of {one.criterion.most}", "missing"))
        else:
            titles = ", ".join(
                sources[source].title if source in sources else source for source in one.finding.sources
            )
            said = f"{one.finding.says} [{titles}]"
            rows.append(
                (one.criterion.title, levels[one.level], f"{one.points} of {one.criterion.most}", said)
            )
    return _table(("criterion", "level", "points", "evidence"), rows, numbers=(2,))


def control_report(
    control: Control,
    exposures: Exposures,
    limits: Mapping[Limit, Sequence[Held]],
    sources: Mapping[SourceId, Source],
) -> str:
    """Who controls an entity by every measure, how limits are kept, and which countries reach it."""
    lines = [
        _line("h1", f"Who controls {control.entity}"),
        _line("p", f"As of {control.day}. {_NOT_ADVICE} What is not known is unknown, and nobody's.", "note"),
        *(_line("p", assumed, "note") for assumed in control.assumed),
    ]
    for one in (*control.controllers, control.unnamed):
        lines += [
            _line("h2", one.party or "anybody who is not named"),
            _controls(one),
            _measured(one.measures),
            _paths(one),
        ]
    if control.left_out:
        lines.append(
            _line(
                "p", f"{control.left_out} more parties over it have weaker chains and are not shown.", "note"
            )
        )
    for limit, held in limits.items():
        lines += [_line("h2", f"Limit {limit.name}"), _limited(limit, held)]
    lines += [_line("h2", "Which countries reach it"), _exposed(exposures)]
    return _page(f"Who controls {control.entity}", [*lines, _sources(sources)])


def _controls(one: Controller) -> str:
    said = f"controls it: {one.controls}; most of the board: {one.board}; attested decisive influence: {one.influence}"
    attested = "".join(
        _line("p", f"attested: {interest.terms} [{interest.source}]", "note") for interest in one.attested
    )
    return _line("p", said, one.controls) + attested


def _measured(measures: Iterable[Measures]) -> str:
    rows = [
        (
            str(one.view),
            str(one.integrated),
            _gross(one),
            f"{one.attributed} ({' or '.join(one.bands)})",
            str(one.weakest_link),
            str(one.majority),
        )
        for one in measures
    ]
    heads = ("of its", "integrated", "W(I−W)⁻¹", "by majority chains (UK band)", "weakest link", "majority")
    return _table(heads, rows)


def _gross(one: Measures) -> str:
    most = "unbounded" if one.gross_most_ppm is None else f"{_percent(one.gross_most_ppm)} %"
    least = f"{_percent(one.gross_least_ppm)} %"
    return least if least == most else f"{least} to {most}"


def _paths(one: Controller) -> str:
    found = dict.fromkeys(measure.path for measure in one.measures if measure.path)
    return "".join(_line("p", " → ".join(_step(step) for step in path), "note") for path in found)


def _step(step: Step) -> str:
    share = Share(step.least_ppm, step.most_ppm)
    return f"{step.holder} has {share} ({step.what}) of {step.subject} [{', '.join(step.interests)}]"


def _limited(limit: Limit, held: Iterable[Held]) -> str:
    rows = [
        (
            str(one.view),
            str(one.together),
            str(one.is_together_exceeded),
            ", ".join(f"{single.party or 'not named'}: {single.share}" for single in one.singles[:12]),
            str(one.is_single_exceeded),
        )
        for one in held
    ]
    heads = (
        "of its", "outside, together", f"above {_percent(limit.together_ppm)} %",
        "each", f"one above {_percent(limit.single_ppm)} %",
    )  # fmt: skip
    return _table(heads, rows)


def _exposed(exposures: Exposures) -> str:
    rows = [
        (
            flag.country,
            str(flag.through),
            str(flag.answer),
            flag.why,
            "; ".join(_step(step) for step in flag.path),
        )
        for flag in exposures.flags
    ]
    table = _table(("country", "through", "answer", "why", "holdings"), rows)
    gaps = [
        _line("p", f"{through}: any other country is {Answer.UNKNOWN}: {said}", "unknown")
        for through, every in exposures.gaps.items()
        for said in every
    ]
    return table + "".join(gaps)


def _sources(sources: Mapping[SourceId, Source]) -> str:
    rows = [(one.id, one.title, one.url, one.read_on, str(one.digest)) for one in sources.values()]
    if not rows:
        return ""
    return _line("h2", "Sources") + _table(("source", "title", "address", "read", "SHA-256"), rows)


def _page(title: str, lines: Iterable[str]) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_text(_CSP)}">'
        f'<meta name="viewport" content="width=device-width"><title>{_text(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(line for line in lines if line)
        + "\n</body></html>\n"
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{_class('number' if at in numbers else cell)}>{_text(cell)}</{tag}>"
            for at, cell in enumerate(row)
        )

    body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{cells('th', heads)}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _line(tag: str, text: str, css: str = "") -> str:
    return f"<{tag}{_class(css)}>{_text(text)}</{tag}>"


def _class(name: str) -> str:
    return f' class="{name}"' if name in ("number", "note", "big", "yes", "no", "unknown", "missing") else ""


def _text(text: str) -> str:
    return escape(text, quote=True)


def _percent(ppm: int) -> str:
    text = f"{ppm // 10_000}.{ppm % 10_000:04d}"
    return text.rstrip("0").rstrip(".")
