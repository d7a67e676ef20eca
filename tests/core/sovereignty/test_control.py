"""Majority chains in the UK's bands, rights that are control, full dilution, dates; each with what shows it."""

from dataclasses import replace

import pytest

from headrace.core.sovereignty.control import BANDS, bands, control
from headrace.core.sovereignty.graph import DILUTED_SHARES, DILUTED_VOTES, SHARES, VOTES, Graph
from headrace.core.sovereignty.holdings import (
    UNKNOWN,
    Answer,
    Basis,
    Conversion,
    Coverage,
    Holdings,
    InterestKind,
    PartyId,
    Share,
    Source,
    SourceId,
)
from tests.core.sovereignty.small import DAY, graph, holdings, link, percent

A, B, C, P, Q = (PartyId(name) for name in ("a", "b", "c", "p", "p-q"))


@pytest.mark.parametrize(
    ("share", "found"),
    [
        (percent(25), BANDS[:1]),
        (percent("25.0001"), BANDS[1:2]),
        (percent(50), BANDS[1:2]),
        (percent("50.0001"), BANDS[2:3]),
        (percent("74.9999"), BANDS[2:3]),
        (percent(75), BANDS[3:]),
        (percent((20, 60)), BANDS[:3]),
        (UNKNOWN, BANDS),
    ],
)
def test_the_bands_are_those_of_the_register(share: Share, found: tuple[str, ...]) -> None:
    """More than a quarter, more than a half, three quarters or more; all that a range touches."""
    assert bands(share) == found


def test_a_party_has_what_those_have_in_whom_it_has_the_majority() -> None:
    """The whole holding counts, and not the part: 51 % of a, which has 40 % of c; 40 % of b, which has 60 % of it."""
    of = graph(
        [
            link("p", "a", 51),
            link("p-q", "a", 49),
            link("p", "b", 40),
            link("p-q", "b", 60),
            link("a", "c", 40),
            link("b", "c", 60),
        ],
        complete="a b c",
    )
    one = control(of, C).of(P)
    assert one is not None
    measures = one.measured(VOTES)
    assert (measures.attributed, measures.majority) == (percent(40), Answer.NO)
    assert measures.integrated == percent("44.4")
    other = control(of, C).of(Q)
    assert other is not None
    assert (other.measured(VOTES).attributed, other.controls) == (percent(60), Answer.YES)
    assert [(step.holder, step.subject) for step in other.measured(VOTES).proof] == [("p-q", "b"), ("b", "c")]


def test_a_majority_may_come_together_from_several_who_are_controlled() -> None:
    """Neither a nor b has the majority of c; p, who has both, does. A half of a is none."""
    links = [link("p", "a", "50.0001"), link("p", "b", 100), link("a", "c", 30), link("b", "c", 21)]
    one = control(graph(links), C).of(P)
    assert one is not None
    assert one.controls is Answer.YES
    assert {(step.holder, step.subject) for step in one.measured(VOTES).proof} == {
        ("p", "a"),
        ("p", "b"),
        ("a", "c"),
        ("b", "c"),
    }
    half = control(graph([link("p", "a", 50), *links[1:]]), C).of(P)
    assert half is not None
    assert half.controls is Answer.UNKNOWN, "somebody may have the other half for p"


def test_votes_that_are_stated_count_and_not_the_shares() -> None:
    """A tenth of the shares with nine tenths of the votes; whoever has shares and no stated votes has an unknown rest."""
    links = [link("p", "a", 10), link("p-q", "a", 90), link("p", "a", 90, InterestKind.VOTES)]
    found = control(graph(links, complete="a"), A)
    one, other = found.of(P), found.of(Q)
    assert one is not None
    assert other is not None
    assert (one.measured(SHARES).attributed, one.measured(VOTES).attributed) == (percent(10), percent(90))
    assert (one.controls, other.measured(VOTES).attributed) == (Answer.YES, percent(10))
    assert found.assumed == ()
    unstated = control(graph(links[:2], complete="a"), A)
    assert unstated.assumed == ("Votes are taken to follow shares: nobody over it states votes.",)


@pytest.mark.parametrize(
    ("kind", "more", "answer"),
    [
        (InterestKind.BOARD, {"share": percent("50.0001")}, Answer.YES),
        (InterestKind.BOARD, {"share": percent(50)}, Answer.NO),
        (InterestKind.BOARD, {"share": UNKNOWN}, Answer.UNKNOWN),
        (InterestKind.INFLUENCE, {"decisive": Answer.YES}, Answer.YES),
        (InterestKind.INFLUENCE, {"decisive": Answer.NO}, Answer.NO),
        (InterestKind.INFLUENCE, {}, Answer.UNKNOWN),
    ],
)
def test_rights_and_attestations_are_control_without_a_share(
    kind: InterestKind, more: dict[str, object], answer: Answer
) -> None:
    """Most of the board, or decisive influence as somebody attests it; also through a company, and whatever the shares are."""
    right = replace(link("b", "c", 0, kind), **more)  # type: ignore[arg-type]  # fields of an interest
    of = graph([link("p-q", "c", 100), link("p", "b", 100), right], complete="b c")
    found = control(of, C)
    for name in ("b", "p"):
        one = found.of(PartyId(name))
        assert (one is None) == (answer is Answer.NO), "who surely has no right isn't over it"
        if one is not None:
            assert one.controls is answer
            assert one.measured(SHARES).integrated == percent(0)
    owner = found.of(Q)
    assert owner is not None
    assert owner.controls is Answer.YES


def test_an_attestation_keeps_its_source() -> None:
    """Influence is never computed: what says so is named."""
    source = Source(SourceId("filing"), "A filing")
    attested = link("b", "c", 0, InterestKind.INFLUENCE, decisive=Answer.YES, source=source.id)
    made = holdings([attested])
    found = control(Graph(Holdings(made.parties, made.interests, (), {source.id: source}), DAY), C).of(B)
    assert found is not None
    assert [one.source for one in found.attested] == ["filing"]


DILUTION = [
    ("a SAFE for a tenth of all", [("p-q", Conversion(percent(10)))], {"p": (54, 54), "p-q": (46, 46)}),
    ("a warrant for a quarter of what is", [("p-q", Conversion(percent(25), Basis.EXISTING))], {"p": (48, 48), "p-q": (52, 52)}),
    (
        "both: first the new shares, then the part of all",
        [("p-q", Conversion(percent(25), Basis.EXISTING)), ("p", Conversion(percent(10)))],
        {"p": ("53.2", "53.2"), "p-q": ("46.8", "46.8")},
    ),
    ("one that nobody knows", [("p-q", Conversion())], {"p": (0, 60), "p-q": (40, 100)}),
    ("a range", [("p-q", Conversion(percent((10, 20))))], {"p": (48, 54), "p-q": (46, 52)}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("converts", "found"), [one[1:] for one in DILUTION], ids=[one[0] for one in DILUTION]
)
def test_fully_diluted_by_the_stated_rule(
    converts: list[tuple[str, Conversion]], found: dict[str, tuple[object, object]]
) -> None:
    """Of 60 % and 40 %: ``(w + x)(1 - D)/(1 + X) + d``; as it is, nothing has changed."""
    notes = [
        link(holder, "a", 0, InterestKind.CONVERTIBLE, converts=conversion, since=f"2020-01-0{at + 1}")
        for at, (holder, conversion) in enumerate(converts)
    ]
    of = graph([link("p", "a", 60), link("p-q", "a", 40), *notes], complete="a")
    report = control(of, A)
    for name, bounds in found.items():
        one = report.of(PartyId(name))
        assert one is not None
        assert one.measured(DILUTED_SHARES).integrated == percent(bounds)
        assert one.measured(SHARES).integrated == percent(60 if name == "p" else 40)


def test_what_converts_without_votes_dilutes_the_shares_alone() -> None:
    """A conversion into shares that don't vote leaves the votes as they are."""
    note = link("p-q", "a", 0, InterestKind.WARRANT, converts=Conversion(percent(50), has_votes=False))
    one = control(graph([link("p", "a", 100), note], complete="a"), A).of(P)
    assert one is not None
    assert (one.measured(DILUTED_SHARES).integrated, one.measured(DILUTED_VOTES).integrated) == (
        percent(50),
        percent(100),
    )


def test_control_is_as_of_any_day() -> None:
    """A holding ends when the next begins; the end is exclusive."""
    made = holdings(
        [
            link("p", "a", 100, since="2020-01-01", until="2022-01-01"),
            link("p-q", "a", 100, since="2022-01-01"),
        ],
        coverage=[Coverage(A, 0, since="2020-01-01")],
    )
    found = {
        day: [one.party for one in control(Graph(made, day), A).controllers]
        for day in ("2019-12-31", "2020-01-01", "2021-12-31", "2022-01-01")
    }
    assert found == {"2019-12-31": [], "2020-01-01": [P], "2021-12-31": [P], "2022-01-01": [Q]}
    assert control(Graph(made, "2019-12-31"), A).unnamed.controls is Answer.UNKNOWN
    assert control(Graph(made, "2020-01-01"), A).unnamed.controls is Answer.NO
    assert made.days() == ("2020-01-01", "2022-01-01")


def test_an_amount_in_total_is_not_more_than_it_says() -> None:
    """The UK's register has what somebody has with all under them: then nothing unseen comes on top of it."""
    stated = link("p", "a", (26, 50))
    apart = control(graph([stated]), A).of(P)
    total = control(graph([replace(stated, is_total=True)]), A).of(P)
    assert apart is not None
    assert total is not None
    assert (apart.measured(SHARES).attributed, total.measured(SHARES).attributed) == (
        percent((26, 100)),
        percent((26, 50)),
    )
    assert (apart.controls, total.measured(SHARES).majority) == (Answer.UNKNOWN, Answer.UNKNOWN)


def test_the_weakest_link_is_that_of_the_strongest_chain() -> None:
    """Two chains of a tenth and of a third: the third, with its path; chains are not added up."""
    links = [link("p", "a", 10), link("a", "c", 60), link("p", "b", 34), link("b", "c", 33)]
    one = control(graph(links), C).of(P)
    assert one is not None
    found = one.measured(SHARES)
    assert found.weakest_link.least_ppm == 330_000
    assert [(step.holder, step.subject) for step in found.path] == [("p", "b"), ("b", "c")]


def test_the_strongest_parties_are_shown_and_the_others_counted() -> None:
    """A hundred holders of a percent each, behind one of whom a thousandth stands: the report says what it leaves out."""
    links = [link(f"p{number:03}", "a", "0.9") for number in range(110)]
    found = control(graph(links), A, most=20)
    assert (len(found.controllers), found.left_out) == (20, 90)


def test_what_converts_into_a_company_that_nobody_holds_leaves_its_rest_unknown() -> None:
    """A foundation with a convertible: diluted, what there is besides is somebody's of whom nobody says anything."""
    note = link("p", "a", 0, InterestKind.CONVERTIBLE, converts=Conversion(percent(51)))
    made = graph([note], complete="a")
    found = control(made, PartyId("a")).of(PartyId("p"))
    assert found is not None
    assert found.measured(SHARES).integrated == percent(0)
    assert found.measured(DILUTED_SHARES).integrated == percent((51, 100))
