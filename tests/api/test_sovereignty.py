"""Law over the API: what is declared decides, what would change is shown before, and what changed moves by itself."""

from pathlib import Path

import pytest

from tests.api.small import JOB, Small, small

POLICY = """
kind: policy
name: known-staff
cedar: |
  @id("staff") @reason("all who have access are in Norway or Britain")
  permit (principal, action, resource) when { ["NO", "GB"].containsAll(resource.staff_countries) };
"""
FACTS = """
kind: facts
site: SITE
facts:
  - {fact: staff_countries, value: [COUNTRIES], source: register of staff}
"""
YAML = {"content-type": "application/yaml"}
WORK = JOB | {"policy": "known-staff"}


def facts(site: str, *countries: str) -> bytes:
    """From where a site's staff has access."""
    return FACTS.replace("SITE", site).replace("COUNTRIES", ", ".join(countries)).encode()


@pytest.fixture
def world(tmp_path: Path) -> Small:
    made = small(tmp_path)
    for document in (POLICY.encode(), facts("glomfjord", "NO"), facts("loughton", "GB", "US")):
        answer = made.ask("POST", "/v1/apply", document, headers=YAML)
        assert answer.status == 200, answer.json
    return made


def sites(world: Small) -> list[str | None]:
    """Where what runs is."""
    return [one.site for one in world.control.world.state.placements.values()]


def test_a_declared_policy_decides_where_work_may_be(world: Small) -> None:
    """And a tenant that asks why is told which rule it was."""
    assert world.submit(WORK).status == 201
    world.run()
    assert sites(world) == ["glomfjord"]
    refused = world.submit(WORK | {"site": "loughton"})
    assert refused.status == 201
    (ident,) = refused.json["workloads"]
    detail = world.ask("GET", f"/v1/workloads/{ident}/explain", token="fjord").json
    assert detail["state"] == "refused"
    assert "known-staff" in detail["line"]


def explained(world: Small, ident: str) -> str:
    """Why a workload is as it is, as its tenant is told."""
    return str(world.ask("GET", f"/v1/workloads/{ident}/explain", token="fjord").json["line"])


def declare(world: Small, name: str, *rules: str) -> None:
    """Apply a policy; each rule is a permit or a forbid with its id and question."""
    lines = [f"  {one}" for one in rules]
    text = "\n".join(["kind: policy", f"name: {name}", "cedar: |", *lines, ""])
    answer = world.ask("POST", "/v1/apply", text.encode(), headers=YAML)
    assert answer.status == 200, answer.json


def law_changes(world: Small, policy: str, *documents: bytes) -> str:
    """The line about work that waits under a policy, once documents keep it from where it ran."""
    (ident,) = world.submit(WORK | {"policy": policy}).json["workloads"]
    world.run()
    assert sites(world) == ["glomfjord"]
    for document in documents:
        assert world.ask("POST", "/v1/apply", document, headers=YAML).status == 200
    world.run(90)
    assert sites(world) == []
    return explained(world, ident)


def test_a_rule_that_permits_nothing_is_named_with_its_fact_and_no_country_is_suggested(world: Small) -> None:
    """A country wouldn't help: the fact decides; another policy of the estate that would allow it is named."""
    declare(
        world,
        "somewhere",
        '@id("any") permit (principal, action, resource) when { resource.country == "NO" };',
    )
    line = law_changes(world, "known-staff", facts("glomfjord", "US"))
    assert (
        "site loughton: policy known-staff does not permit it: site.staff_countries is GB US (rule staff); "
        "site glomfjord: policy known-staff does not permit it: site.staff_countries is US (rule staff); "
        "changed: facts glomfjord (staff_countries: register of staff); "
        "would start at loughton under policy uk-only; or would start at glomfjord under policy somewhere"
        in line
    )
    assert "if its policy allowed" not in line


def test_who_waits_since_the_law_changed_is_told_which_document_did(world: Small) -> None:
    """The tenant, in its workload's reason and in the line that explains it; nothing of anybody else."""
    line = law_changes(world, "known-staff", facts("glomfjord", "US"))
    changed = "; changed: facts glomfjord (staff_countries: register of staff)"
    assert changed in line
    detail = world.ask("GET", "/v1/workloads/fjord-ai-1", token="fjord").json
    assert detail["workload"]["reason"].endswith(
        "it may not be there any more: policy known-staff does not permit it: site.staff_countries is US (rule staff)"
        + changed
    )
    assert "albion" not in str(detail)


def test_an_unknown_fact_is_named_with_what_stating_it_would_do(world: Small) -> None:
    """Nobody states it, so it is not clean: a value that would do is named."""
    line = law_changes(
        world, "known-staff", b"kind: facts\nsite: glomfjord\nfacts: []\n", facts("loughton", "US")
    )
    assert "site.staff_countries is unknown (rule staff)" in line
    assert (
        "at glomfjord it would be allowed if site.staff_countries were GB, say, which nobody states" in line
    )


def test_a_rule_that_forbids_is_named_with_the_fact_that_decides(world: Small) -> None:
    """And where stating the unknown isn't enough, that is said."""
    declare(
        world,
        "strict",
        '@id("any") permit (principal, action, resource) when { resource.country == "NO" };',
        '@id("foreign") @reason("no access from abroad") forbid (principal, action, resource) '
        'unless { ["NO"].containsAll(resource.staff_countries) };',
    )
    line = law_changes(world, "strict", facts("glomfjord", "NO", "US"))
    assert (
        "policy strict: rule foreign: no access from abroad forbids it: site.staff_countries is NO US" in line
    )


def test_a_policy_that_has_another_tenants_name_in_its_own_is_not_named(world: Small) -> None:
    """What is told to one says nothing of another."""
    declare(
        world,
        "albion-health-law",
        '@id("any") permit (principal, action, resource) when { resource.country == "NO" };',
    )
    line = law_changes(world, "known-staff", facts("glomfjord", "US"))
    assert "albion" not in line
    assert "under policy eea-only" in line


def test_what_was_refused_is_told_each_site_and_what_would_do(world: Small) -> None:
    """At once, with the rule and the fact, and where it would start under which policy."""
    (ident,) = world.submit(WORK | {"site": "loughton"}).json["workloads"]
    line = explained(world, ident)
    assert (
        "JURISDICTION: loughton: policy known-staff does not permit it: site.staff_countries is GB US (rule staff)"
        in line
    )
    assert "submitted again it would start now at loughton (policy uk-only)" in line


def test_what_would_change_is_shown_before_and_nothing_is_applied(world: Small) -> None:
    """Newly forbidden first, with who runs there; newly allowed, with who waits; in a world that stays as it is."""
    world.submit(WORK)
    world.run()
    before = world.state
    answer = world.ask(
        "POST",
        "/v1/sovereignty/what-if",
        b"\n---\n".join((facts("glomfjord", "NO", "US"), facts("loughton", "GB"))),
        headers=YAML,
    )
    assert answer.status == 200, answer.json
    forbidden, allowed = answer.json["changes"]
    assert (forbidden["site"], forbidden["allowed"], forbidden["running"]) == (
        "glomfjord",
        False,
        ["fjord-ai-1"],
    )
    assert (allowed["site"], allowed["allowed"], allowed["policy"]) == ("loughton", True, "known-staff")
    assert "US" in forbidden["after"][0]
    assert world.state == before


def test_who_would_have_to_leave_and_who_could_go_where_is_said(world: Small) -> None:
    """With where it may go on; and who waits, would be let go, and has room."""
    (ident,) = world.submit(WORK).json["workloads"]
    world.run()
    body = b"\n---\n".join((facts("glomfjord", "US"), facts("loughton", "GB")))
    said = world.ask("POST", "/v1/sovereignty/what-if", body, headers=YAML).json
    leaving = {"tenant": "fjord-ai", "policy": "known-staff", "workload": ident}
    assert said["bound"] == [leaving | {"site": "glomfjord", "sites": ["loughton"]}]
    assert said["freed"] == []
    assert world.ask("POST", "/v1/apply", facts("glomfjord", "US"), headers=YAML).status == 200
    world.run(90)
    said = world.ask("POST", "/v1/sovereignty/what-if", facts("loughton", "GB"), headers=YAML).json
    assert said["bound"] == []
    assert said["freed"] == [
        leaving | {"sites": ["loughton"], "starts_at": "loughton", "room_known": True},
    ]


def test_a_day_to_come_is_judged_without_a_document(world: Small) -> None:
    """And one that has begun, or is none, is named."""
    policy = POLICY.replace("known-staff", "certified").replace(
        '["NO", "GB"].containsAll(resource.staff_countries)', "resource.certified_until.c5 >= context.day"
    )
    stated = (
        facts("glomfjord", "NO").decode() + "  - {fact: certified_until.c5, value: 2027-06-30, source: c}\n"
    )
    for document in (policy, stated):
        assert world.ask("POST", "/v1/apply", document.encode(), headers=YAML).status == 200
    world.submit(WORK | {"policy": "certified"})
    world.run()
    where = "/v1/sovereignty/what-if?on="
    assert world.ask("POST", f"{where}2027-06-30", headers=YAML).json["changes"] == []
    (change,) = world.ask("POST", f"{where}2027-07-01", headers=YAML).json["changes"]
    assert (change["site"], change["allowed"]) == ("glomfjord", False)
    for day, says in (("2020-01-01", "has begun"), ("soon", "is not a day")):
        answer = world.ask("POST", f"{where}{day}", headers=YAML)
        assert (answer.status, says in answer.json["errors"][0]["message"]) == (400, True)
    assert world.ask("POST", "/v1/sovereignty/what-if", headers=YAML).status == 400


def test_what_changed_moves_by_itself_and_says_why(world: Small) -> None:
    """Applied, it leaves the one site within its grace and goes on at the other."""
    world.submit(WORK)
    world.run()
    for document in (facts("loughton", "GB"), facts("glomfjord", "NO", "US")):
        assert world.ask("POST", "/v1/apply", document, headers=YAML).status == 200
    world.run(90)
    assert sites(world) == ["loughton"]
    told = world.ask("GET", "/v1/journal/events").json
    assert "may not be there any more: policy known-staff" in str(told)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (POLICY.replace("containsAll", "containsMost"), 400, "known-staff"),
        (POLICY.replace("known-staff", "eu-high"), 409, "comes with headrace"),
        (FACTS.replace("SITE", "nowhere").replace("COUNTRIES", "NO"), 404, "nowhere"),
        (FACTS.replace("SITE", "glomfjord").replace("COUNTRIES", "UK"), 400, "GB"),
        (
            "kind: workload\nname: a\ntype: job\nproject: research\nresources: {gpu: lab:1}\ncommands: [a]\n",
            400,
            "headrace plan",
        ),
    ],
)
def test_what_can_not_be_tried_is_named(world: Small, body: str, status: int, says: str) -> None:
    """As it would be when it is applied, and nothing is changed."""
    before = world.state
    answer = world.ask("POST", "/v1/sovereignty/what-if", body.encode(), headers=YAML)
    assert answer.status == status, answer.json
    assert says in str(answer.json)
    assert world.state == before
    assert (
        world.ask("POST", "/v1/sovereignty/what-if", body.encode(), headers=YAML, token="fjord").status == 403
    )
