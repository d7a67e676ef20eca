"""Who controls whom, which countries reach it, and scores by a scheme: from files alone, without a control plane."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import typer

from headrace.cli.common import print_json, print_table, say
from headrace.core.errors import HeadraceError, Problem, ProblemCode, unknown
from headrace.core.sovereignty.control import Control, Controller, control
from headrace.core.sovereignty.exposure import Exposures, exposures, exposures_of_site
from headrace.core.sovereignty.graph import SHARES, VOTES, Graph
from headrace.core.sovereignty.holdings import Answer, PartyId
from headrace.core.sovereignty.limits import against
from headrace.core.sovereignty.scoring import ObjectiveScore
from headrace.documents.countries import COUNTRIES
from headrace.ownership.bods import load_bods
from headrace.ownership.facts import Facts, together
from headrace.ownership.files import parsed_records, read_large
from headrace.ownership.gleif import load_gleif
from headrace.ownership.plain import load_ownership
from headrace.ownership.psc import load_psc
from headrace.ownership.report import control_report, score_report
from headrace.ownership.schemes import load_assessment, load_scheme

FILES = typer.Argument(..., help="Ownership: YAML, BODS 0.4, GLEIF or UK PSC records; several are joined.")
AS_JSON = typer.Option(False, "--json", help="Print JSON.")
ON = typer.Option("", "--on", help="As of this day (ISO) [default: today].")
OUT = typer.Option(None, "--html", help="Write a page with all of it there.")
_PPM = 10_000


def control_of(
    file: list[Path] = FILES,
    of: str = typer.Option(..., "--of", help="The company that is asked about."),
    on: str = ON,
    html: Path | None = OUT,
    as_json: bool = AS_JSON,
) -> None:
    """Say who controls a company by every measure, with what is unknown. Facts and arithmetic, no legal conclusion."""
    facts, graph = _read(file, on)
    party = _party(graph, of)
    found = control(graph, party)
    if html is not None:
        limits = {limit: against(graph, party, limit, found) for limit in facts.limits}
        _write(html, control_report(found, exposures(graph, party), limits, graph.holdings.sources))
        return
    if as_json:
        print_json(_plain(found))
        return
    rows = [_controller(one) for one in (*found.controllers, found.unnamed)]
    print_table(("PARTY", "CONTROLS", "SHARES", "VOTES", "MAJORITY", "BOARD", "INFLUENCE"), rows, "nobody")
    say(f"as of {found.day}; " + " ".join(found.assumed))
    if found.left_out:
        say(f"{found.left_out} more parties have weaker chains and are not shown")


def exposure_of(
    file: list[Path] = FILES,
    of: str = typer.Option("", "--of", help="The company that is asked about."),
    site: str = typer.Option("", "--site", help="Or the site."),
    on: str = ON,
    as_json: bool = AS_JSON,
) -> None:
    """Say which countries reach a company or a site, and through what; of all others whether that is known."""
    facts, graph = _read(file, on)
    if bool(of) == bool(site):
        step = "Give --of COMPANY, or --site SITE."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, "one of --of and --site is needed;", step))
    if of:
        found = exposures(graph, _party(graph, of))
    else:
        places = {place.site: place for place in facts.places}
        if site not in places:
            raise HeadraceError(unknown("site", site, places))
        found = exposures_of_site(graph, places[site])
    if as_json:
        print_json(_plain(found))
        return
    rows = [(one.country, one.through, one.answer, one.by or "-", one.why) for one in found.flags]
    print_table(
        ("COUNTRY", "THROUGH", "IS IT SO", "BY", "WHY"), rows, "nothing shows that any country reaches it"
    )
    for channel, said in found.gaps.items():
        for one in said:
            say(f"not known of {channel}: {one}")
    rest = _rest(found)
    say(f"as of {found.day}; every other country: {rest}")


def score_of(
    scheme: Path = typer.Argument(..., help="A scheme: objectives, criteria, weights, levels."),
    assessment: Path = typer.Argument(..., help="What was found, each with its evidence."),
    html: Path | None = OUT,
    as_json: bool = AS_JSON,
) -> None:
    """Score an assessment by a scheme: the weighted sum, and the level of its weakest criterion."""
    found = load_assessment(assessment, load_scheme(scheme))
    if html is not None:
        _write(html, score_report(found))
        return
    if as_json:
        print_json(_plain(found.score))
        return
    rows = [
        (
            one.objective.name,
            one.objective.title,
            one.objective.weight,
            f"{one.points} of {one.most}",
            _held(one),
        )
        for one in found.score.objectives
    ]
    print_table(
        ("OBJECTIVE", "TITLE", "WEIGHT", "POINTS", "WITHOUT EVIDENCE"), rows, "none", right=("WEIGHT",)
    )
    verified = "" if found.score.scheme.verified else "; the scheme is not verified against its primary text"
    say(f"{found.of}: {_percent(found.score.score_ppm)} %, {found.score.level_name}{verified}")


def _read(files: list[Path], on: str) -> tuple[Facts, Graph]:
    day = on or datetime.now(UTC).date().isoformat()
    try:
        datetime.fromisoformat(day)
    except ValueError:
        raise HeadraceError(
            Problem(ProblemCode.BAD_INPUT, f"--on {day}: no day;", "Write 2026-11-23.")
        ) from None
    facts = together([_load(one) for one in files])
    return facts, Graph(facts.holdings, day)


def _load(path: Path) -> Facts:
    """A file by what it says that it is."""
    if path.suffix in (".yaml", ".yml"):
        return load_ownership(path)
    records = parsed_records(read_large(path), str(path))
    first: Any = records[0][1] if records else None
    if isinstance(first, dict) and ("statementId" in first or "recordDetails" in first):
        return load_bods(path)
    if isinstance(first, dict) and ("company_number" in first or "kind" in first or "etag" in first):
        return load_psc(path)
    return load_gleif(path)


def _party(graph: Graph, name: str) -> PartyId:
    if name not in graph.number:
        raise HeadraceError(unknown("party", name, graph.number))
    return PartyId(name)


def _controller(one: Controller) -> tuple[str, ...]:
    shares, votes = one.measured(SHARES), one.measured(VOTES)
    name = one.party or "(not named)"
    said = (one.controls, shares.integrated, votes.integrated, votes.majority, one.board, one.influence)
    return (name, *(str(part) for part in said))


def _rest(found: Exposures) -> Answer:
    """Whether a country that no flag names reaches it."""
    named = {one.country for one in found.flags}
    return found.answer(next(country for country in sorted(COUNTRIES) if country not in named))


def _held(one: ObjectiveScore) -> str:
    """Its criteria without evidence: they count nothing."""
    return ", ".join(scored.criterion.name for scored in one.criteria if scored.finding is None) or "-"


def _percent(ppm: int) -> str:
    return f"{ppm // _PPM}.{ppm % _PPM // 100:02d}".rstrip("0").rstrip(".")


def _plain(found: Control | Exposures | object) -> Any:
    """A report's own values as JSON has them: dataclasses all the way down."""
    return msgspec.to_builtins(found, str_keys=True)


def _write(path: Path, page: str) -> None:
    try:
        path.write_text(page)
    except OSError as error:
        message, step = f"can't write {path}: {error.strerror}.", "Choose another file."
        raise HeadraceError(Problem(ProblemCode.BAD_INPUT, message, step)) from None
    say(f"wrote {path}")
