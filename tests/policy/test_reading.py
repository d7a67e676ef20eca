"""A policy that can't be meant is refused with its place and a next step, before anything is decided by it."""

import re
import threading
from pathlib import Path
from random import Random

import pytest

from headrace.core.errors import HeadraceError, ProblemCode
from headrace.policy import text
from headrace.policy.cedar import PROFILES, load_file, of_countries, profile
from headrace.policy.reading import load

PERMIT = '@id("a")\npermit (principal, action, resource)\nwhen { %s };'
FORBID = '@id("a")\nforbid (principal, action, resource)\nwhen { %s };'
BAD_INPUT, TOO_LARGE, NOT_FOUND = ProblemCode.BAD_INPUT, ProblemCode.TOO_LARGE, ProblemCode.NOT_FOUND

CONDITIONS: list[tuple[str, str, str]] = [
    # what is asked: the column in line 3, what the problem says, and what its next step says
    ('resource.contry == "NO"', "17", "no fact 'contry' in resource|Did you mean country?"),
    ("resource.operator.seet == resource.country", "26", "no fact 'seet' in resource.operator|Did you mean seat?"),
    ('resource.country == "UK"', "28", "site.country can't be 'UK'|Did you mean GB?"),
    ('["NO", "USA"].contains(resource.country)', "15", "can't be 'USA'|Did you mean US?"),
    ('["NO", "no"].containsAll(resource.staff_countries)', "15", "can't be 'no'|Did you mean NO?"),
    ("resource.control_max_ppm.UK < 3", "33", "no country 'UK' in resource.control_max_ppm|Did you mean GB?"),
    ('resource.exposure.XX == "no"', "26", "no country 'XX' in resource.exposure|ISO 3166"),
    ('resource.exposure.US == "No"', "32", "can't be 'No'|Did you mean no?"),
    ('resource.energy_source == "hydo"', "34", "can't be 'hydo'|Did you mean hydro?"),
    ("resource.certified_until.iso9001 > 3", "33", "no fact 'iso9001'|Did you mean iso"),
    ("resource.country == 3", "8", "site.country compared with 3|texts with texts"),
    ('resource.control_max_ppm.US < "3"', "38", '"3" is not a number|numbers with numbers'),
    ("resource.country", "17", "site.country is not true or false|Compare it"),
    ('resource.country.contains("NO")', "8", "asked whether it contains|Facts are"),
    ('principal.countries.contains("NO")', "18", "who asks to place is a Work|principal is Person"),
    ('principal.kind == "job"', "18", "who asks to read-logs is a Person|principal is Work"),
    ('principal == Work::"x"', "8", "principal compared with Work|texts with texts"),
    ('resource == Tenant::"x"', "8", "resource compared with Tenant|texts with texts"),
    ('action == Action::"plce"', "18", "no action 'plce'|Did you mean place?"),
    ("resource has country", "8", "every fact is always there|Ask for its value"),
    ('ip("10.0.0.1").isIpv4()', "8", "ip|Facts are"),
    ("{a: true}.a", "9", "record has no use|Facts are"),
    ("foo(3)", "8", "not a valid function|stands just before foo"),
    ("9223372036854775807 + context.day > 3", "8", "leave 64 bits|smaller"),
    ("context.day * context.day > 3", "8", "two facts multiplied|written out"),
    ("9223372036854775808 > context.day", "8", "too large|just before 9223372036854775808"),
    ('resource.country == "NO" &&', "36", "unexpected token `}`|just before }"),
    ('resource.country == "NO', "28", "invalid token|just before"),
    ("resource.isolation < 3", "17", "not a number|numbers with numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "column", "said"), CONDITIONS, ids=lambda value: str(value)[:40])
def test_a_condition_that_cant_be_meant_is_named_with_its_place(
    condition: str, column: str, said: str
) -> None:
    """Line, column, what is wrong and what to write instead."""
    with pytest.raises(HeadraceError) as found:
        load(PERMIT % condition, "x", "x.cedar")
    problem = found.value.problem
    message, step = said.split("|")
    assert problem.where == f"x.cedar:3:{column}", problem
    assert message in problem.message
    assert step in problem.next_step
    assert problem.code is BAD_INPUT


UNKNOWN: list[tuple[str, str]] = [
    # rules in which what is not known would count as good
    (PERMIT, 'resource.exposure.US != "yes"'),
    (PERMIT, '!(resource.exposure.US == "yes")'),
    (FORBID, 'resource.exposure.US == "yes"'),
    (PERMIT, "resource.control_min_ppm.US < 250000"),
    (FORBID, "resource.control_min_ppm.US >= 250000"),
    (FORBID, "resource.control_max_ppm.GB < 500000"),
    (PERMIT, "resource.certified_until.c5 < context.day"),
    (FORBID, 'resource.staff_countries.contains("US")'),
    (FORBID, '["US", "CN"].containsAny(resource.staff_countries)'),
    (PERMIT, '!["US"].containsAny(resource.staff_countries)'),
    (PERMIT, 'resource.country == "unknown"'),
    (PERMIT, "resource.country == resource.operator.seat"),
    (PERMIT, 'if resource.country == "NO" then true else resource.tenancy == "dedicated"'),
    (FORBID, "context.consent"),
    (PERMIT, "resource.staff_countries.contains(resource.country)"),
    (FORBID, "resource.staff_countries.contains(resource.country)"),
    (FORBID, 'resource.staff_countries.containsAll(["NO", "unknown"])'),
    (FORBID, 'resource.staff_countries == ["unknown"]'),
    (PERMIT, 'resource.staff_countries == ["unknown"]'),
    (PERMIT, "resource.control_max_ppm.US + resource.control_min_ppm.GB < 500000"),
    (PERMIT, "resource.control_max_ppm.US == 1000000"),
    (PERMIT, "resource.control_max_ppm.US - resource.outside_eu_ppm < 5"),
    (PERMIT, 'resource.country like "*n"'),
    (FORBID, 'context.data_class == "restricted" && resource.tenancy == "shared"'),
]


@pytest.mark.parametrize(("rule", "condition"), UNKNOWN, ids=lambda value: str(value)[:50].replace("\n", " "))
def test_a_rule_that_takes_the_unknown_for_clean_is_refused(rule: str, condition: str) -> None:
    """With the question that is in the way and how to ask instead."""
    with pytest.raises(HeadraceError) as found:
        load(rule % condition, "x", "x.cedar")
    problem = found.value.problem
    assert "for clean" in problem.message
    assert problem.where.startswith("x.cedar:3:")
    assert problem.next_step


CLEAN: list[tuple[str, str]] = [
    (PERMIT, 'resource.exposure.US == "no"'),
    (FORBID, 'resource.exposure.US != "no"'),
    (FORBID, '["yes", "unknown"].contains(resource.exposure.US)'),
    (PERMIT, "resource.control_max_ppm.US < 250000 && resource.control_min_ppm.GB > 500000"),
    (PERMIT, "resource.certified_until.c5 - 30 >= context.day"),
    (FORBID, '["US", "unknown"].containsAny(resource.staff_countries)'),
    (PERMIT, '["NO"].containsAll(resource.staff_countries)'),
    (FORBID, 'resource.country == "unknown"'),
    (PERMIT, 'if resource == Site::"glomfjord" then true else resource.tenancy == "dedicated"'),
    (PERMIT, 'resource.country like "N*"'),
    (PERMIT, 'context.tenant == Tenant::"albion-health" && context.day < 21000'),
    (FORBID, 'principal is Person && !(principal.works_for == "tenant")'),
    (PERMIT, 'action in [Action::"run", Action::"keep"] && principal.kind == "job"'),
]


@pytest.mark.parametrize(("rule", "condition"), CLEAN, ids=lambda value: str(value)[:50].replace("\n", " "))
def test_a_rule_that_asks_for_what_is_right_is_read(rule: str, condition: str) -> None:
    """The forms that the refusals recommend are taken."""
    if "principal.kind" in condition:
        condition = f"principal is Work && {condition}"
    assert len(load(rule % condition, "x").rules) == 1


HEADS: list[tuple[str, str, ProblemCode, str]] = [
    ("", "x.cedar", BAD_INPUT, "no rule in it: it forbids everything"),
    ("// only a comment", "x.cedar", BAD_INPUT, "no rule in it"),
    ("permit (principal, action, resource);", "x.cedar:1:1", BAD_INPUT, "without an @id"),
    ('@id("") permit (principal, action, resource);', "x.cedar:1:9", BAD_INPUT, "without an @id"),
    ('@id("a") permit (principal, action, resource)', "x.cedar:1:45", BAD_INPUT, "unexpected end of input"),
    ("permit principal", "x.cedar:1:8", BAD_INPUT, "unexpected token `principal`"),
    ('@id("a") allow (principal, action, resource);', "x.cedar:1:10", BAD_INPUT, "allow"),
    ('@id("a") permit (principal, action == Action::"plase", resource);', "x.cedar:1:47", BAD_INPUT, "no action 'plase'"),
    ('@id("a") permit (principal, action == Action::"keep", resource);', "x.cedar:1:47", BAD_INPUT, "a group of actions"),
    ('@id("a") permit (principal is Persn, action, resource);', "x.cedar:1:31", BAD_INPUT, "no principal is a 'Persn'"),
    ('@id("a") permit (principal, action, resource is Bucket);', "x.cedar:1:49", BAD_INPUT, "no resource is a 'Bucket'"),
    ('@id("a") permit (principal == Work::"a", action, resource);', "x.cedar:1:10", BAD_INPUT, "a single principal"),
    ('@id("a") permit (principal == ?principal, action, resource);', "x.cedar:1:31", BAD_INPUT, "a slot"),
    ('@id("a") permit (principal, action, resource);\n@id("a") permit (principal, action, resource);', "x.cedar:2:10",
     BAD_INPUT, "two rules have the id 'a'; the first is in line 1"),
    (PERMIT % ("(" * 60 + "true" + ")" * 60), "x.cedar:3:57", TOO_LARGE, "brackets nested more than 50"),
    (PERMIT % ("(" * 5_000 + "true" + ")" * 5_000), "x.cedar:3:57", TOO_LARGE, "brackets nested more than 50"),
    (PERMIT % ("true" + " && true" * 5_000), "x.cedar:3:3189", TOO_LARGE, "more than 400 operators"),
    (PERMIT % ("true" + " && true" * 150), "x.cedar:2:1", TOO_LARGE, "more than 100 levels"),
    (PERMIT % ("!" * 300 + "true"), "x.cedar:3:307", BAD_INPUT, "too many occurrences"),
    ("x" * 300_000, "x.cedar", TOO_LARGE, "more than 256 KiB"),
    ('@id("a") permit (principal, action, resource);' * 501, "x.cedar:1:23046", TOO_LARGE, "more than 500 rules"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "where", "code", "said"), HEADS, ids=lambda value: str(value)[:40])
def test_a_text_that_is_no_policy_is_named(source: str, where: str, code: ProblemCode, said: str) -> None:
    """Nothing is parsed that nests deeply enough to end the process."""
    with pytest.raises(HeadraceError) as found:
        load(source, "x", "x.cedar")
    problem = found.value.problem
    assert (problem.where, problem.code) == (where, code), problem
    assert said in problem.message
    assert problem.next_step


def test_the_deepest_text_that_is_let_through_is_parsed_in_any_thread() -> None:
    """The bounds hold with the stack of a thread, not only with the main one's."""
    deepest = [
        PERMIT % ("(" * 47 + "true" + ")" * 47),
        PERMIT % ("!(" * 47 + "true" + ")" * 47),
        PERMIT % ("if true then true else " * 90 + "true"),
        PERMIT % ("[" * 47 + "]" * 47 + ".isEmpty()"),
        PERMIT % ("resource" + ".a" * 390),
        PERMIT % ("1" + "+1" * 95 + " == 96"),
        PERMIT % ("context.day" + "+1" * 390 + " == 96"),
    ]
    said: list[str] = []

    def try_all() -> None:
        for source in deepest:
            try:
                load(source, "x")
                said.append("read")
            except HeadraceError as error:
                said.append(str(error.problem.code))

    thread = threading.Thread(target=try_all)
    thread.start()
    thread.join()
    assert len(said) == len(deepest)
    assert "read" in said


def test_all_that_is_wrong_is_named_at_once() -> None:
    """One problem for each rule, in the order of the text."""
    source = "\n".join(
        f'@id("r{number}") permit (principal, action, resource) when {{ {condition} }};'
        for number, condition in enumerate(
            ('resource.country == "UK"', "true", "resource.isolation", "resource.x == 3")
        )
    )
    with pytest.raises(HeadraceError) as found:
        load(source, "x", "x.cedar")
    assert [problem.where.split(":")[1] for problem in found.value.problems] == ["1", "3", "4"]


def test_a_file_that_is_too_large_or_not_there_is_named(tmp_path: Path) -> None:
    """Ten megabytes are not read to the end; other encodings and missing files are named."""
    large = tmp_path / "large.cedar"
    large.write_bytes(b"// comment\n" * 1_000_000)
    latin = tmp_path / "latin.cedar"
    latin.write_bytes(b"// caf\xe9\n")
    for path, said in (
        (large, "more than 256 KiB"),
        (latin, "not UTF-8"),
        (tmp_path / "none.cedar", "can't read"),
    ):
        with pytest.raises(HeadraceError, match=said):
            load_file(path)


def test_an_unknown_profile_is_answered_with_the_nearest() -> None:
    """No profile by that name, and which was meant."""
    with pytest.raises(HeadraceError, match="Did you mean nordic-only") as found:
        profile("nordic-olny")
    assert found.value.problem.code is NOT_FOUND


def test_an_unknown_country_in_the_shorthand_is_named() -> None:
    """``{countries: [UK]}`` is refused as everywhere."""
    with pytest.raises(HeadraceError, match="Did you mean GB"):
        of_countries(("UK",))


@pytest.mark.parametrize("seed", range(6))
def test_no_mangled_text_ever_gives_a_traceback(seed: int) -> None:
    """Profiles with tokens lost, doubled, exchanged or made up: read, or refused with a place and a next step."""
    chance = Random(seed)
    sources = [profile(name).text for name in PROFILES]
    read = refused = 0
    for _ in range(60):
        source = _mangled(chance, chance.choice(sources))
        try:
            load(source, "x", "x.cedar")
            read += 1
        except HeadraceError as error:
            refused += 1
            for problem in error.problems:
                assert re.fullmatch(r"x\.cedar(:\d+:\d+)?", problem.where), problem
                assert problem.next_step, problem
    assert refused > read > 0


_MADE_UP = (
    ")",
    "(",
    "{",
    "}",
    ";",
    "&&",
    "||",
    "!",
    '"',
    '"NO"',
    "resource",
    "principal.kind",
    "9" * 20,
    "é",
    "@id",
    "\x00",
    "//",
    "has",
    "if",
)


def _mangled(chance: Random, source: str) -> str:
    tokens = [match.group() for match in re.finditer(r'\s+|//[^\n]*|"[^"\n]*"|\w+|.', source)]
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        at = chance.randrange(len(tokens))
        match chance.randrange(4):
            case 0:
                del tokens[at]
            case 1:
                tokens.insert(at, tokens[at])
            case 2:
                other = chance.randrange(len(tokens))
                tokens[at], tokens[other] = tokens[other], tokens[at]
            case _:
                tokens.insert(at, chance.choice(_MADE_UP))
    return "".join(tokens)


def test_tokens_stand_where_they_are_said_to_stand() -> None:
    """Lines and columns count from 1, in characters, over comments, texts and empty lines."""
    source = '// é\n\n  @id("a;b") permit ( principal,\taction, resource );'
    (piece,) = text.pieces_of(source, "x")
    for token in piece.tokens:
        assert source.split("\n")[token.line - 1][token.column - 1 :].startswith(token.text)
    assert (piece.first.text, piece.first.line, piece.first.column) == ("permit", 3, 14)
