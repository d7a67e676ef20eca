"""Documents are read as they are meant, and one meaning has one normalised form."""

import dataclasses
import json
from pathlib import Path

import pytest

from headrace.core.codec import DOCUMENT_TYPES, from_normalised, normalise, to_plain
from headrace.core.contracts import Maintenance, Preferences, PricePlan, Quota, Reservation, Tenant
from headrace.core.errors import HeadraceError
from headrace.core.estate import Estate
from headrace.core.ids import ContractId, ProjectId, SiteId, TenantId, WindowId
from headrace.core.workload import Alternative, Flex, PolicyRef, Resources, Topology, WorkloadSpec, options
from headrace.documents import MODELS, Document, load, load_all, parse_document, parse_documents
from headrace.documents.load import ORDER
from tests.documents.bad_files import MAINTENANCE, PLAN, RESERVATION, SITE, TENANT, WORK, changed, site, work

EXAMPLES = Path(__file__).parents[2] / "examples"


def _one(text: str) -> Document:
    (document,) = load(text.encode(), "x.yaml")
    return document


def _workload(text: str) -> WorkloadSpec:
    value = _one(text).value
    assert isinstance(value, WorkloadSpec)
    return value


def _estate(text: str) -> Estate:
    value = _one(text).value
    assert isinstance(value, Estate)
    return value


def _plan(text: str) -> PricePlan:
    value = _one(text).value
    assert isinstance(value, PricePlan)
    return value


@pytest.mark.parametrize("country", ["NO", '"NO"', "'NO'"])
def test_norway_is_a_country_and_not_false(country: str) -> None:
    """YAML 1.1 reads an unquoted NO as false; here it is a text."""
    assert _workload(work(f"policy: {{countries: [{country}]}}")).policy == PolicyRef(countries=("NO",))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("resources: {gpu: H100:8, cpu: 4, memory: 8GB}", Resources("H100", 8, 4_000, 8_000)),
        ("resources: {gpu: h100, cpu: 0.5, memory: 1TB}", Resources("H100", 1, 500, 1_000_000)),
        ("resources: {cpu: 250m, memory: 512MB}", Resources("", 0, 250, 512)),
        ("resources: {}", Resources("", 0, 1_000, 1_000)),
        ("resources: {gpu: H100:0.5}", Resources("H100", 1, 1_000, 1_000, share_milli=500)),
        ("resources: {gpu: h100:0.001}", Resources("H100", 1, 1_000, 1_000, share_milli=1)),
        (
            "resources: {gpu: H100:8, gpu_memory: 80GB}",
            Resources("H100", 8, 1_000, 1_000, accelerator_memory_mb=80_000),
        ),
    ],
)
def test_resources_are_what_they_say(text: str, wanted: Resources) -> None:
    """Each in the core's units."""
    assert _workload(work(text, "resources: {gpu: H100:8, cpu: 4, memory: 8GB}")).resources == wanted


def test_alternatives_come_after_what_is_wanted_first() -> None:
    """In their order, each with all else that is asked for."""
    spec = _workload(work("gpu: [H100:8, B200:4, X9]", "gpu: H100:8"))
    assert spec.resources == Resources("H100", 8, 4_000, 8_000)
    assert spec.alternatives == (Alternative("B200", 4), Alternative("X9", 1))
    halves = options(_workload(work("gpu: [H100:0.5, B200:0.5]", "gpu: H100:8")))
    assert [(one.accelerator, one.share_milli) for one in halves] == [("H100", 500), ("B200", 500)]


def test_a_workload_says_what_shape_it_has_and_how_it_should_stand() -> None:
    """Each in the core's units."""
    spec = _workload(
        work(
            "nodes: 4..16\ntopology: {pack: pod, spread: rack, required: true}\nexpected: 2h\n"
            "checkpoint: {every: 10m, restart: 90s}\nreservation: december"
        )
    )
    assert (spec.nodes, spec.nodes_max) == (4, 16)
    assert spec.topology == Topology("pod", "rack", required=True)
    assert (spec.expected_ms, spec.checkpoint_ms, spec.restart_ms) == (7_200_000, 600_000, 90_000)
    assert spec.reservation == "december"


def test_a_tenant_has_a_share_and_wishes() -> None:
    """Amounts in millionths, factors in thousandths; a project without a quota is not named among them."""
    value = _one(
        "kind: tenant\nname: t\nprojects: {b: {}, a: {guaranteed: 8, limit: 32, weight: 1}, c: null}\n"
        "quota: {guaranteed: 64, limit: 256, weight: 2}\nmax_priority: 10\n"
        "preferences: {price: 0.5, carbon_per_kg: 0.08, power_per_kwh: 0.01}\n"
    ).value
    assert value == Tenant(
        TenantId("t"),
        (ProjectId("a"), ProjectId("b"), ProjectId("c")),
        quota=Quota(64, 256, 2),
        project_quotas={ProjectId("a"): Quota(8, 32, 1)},
        max_priority=10,
        preferences=Preferences(500, 80_000, 10_000),
    )


def test_windows_are_told_in_local_time_and_kept_in_utc() -> None:
    """From the one moment until the other, whatever the offset they are written with."""
    reservation, maintenance = _one(RESERVATION).value, _one(MAINTENANCE).value
    assert reservation == Reservation(
        WindowId("r"), TenantId("t"), SiteId("s"), "H100", 16, 1_796_108_400_000, 1_796_713_200_000
    )
    assert maintenance == Maintenance(
        WindowId("m"), SiteId("s"), 1_796_112_000_000, 1_796_126_400_000, ("s/block-1",), "pumps"
    )


def test_racks_on_the_same_rails_are_counted() -> None:
    """The estate says how many stand together."""
    (group,) = _estate(site("racks: 2", "racks: 2, rail_racks: 1")).sites[0].blocks[0].groups
    assert group.rail_racks == 1


@pytest.mark.parametrize(
    ("price", "micros"),
    [
        ("12", 12_000_000),
        ("12.50", 12_500_000),
        ('"12.50"', 12_500_000),
        ("0.000001", 1),
        ("1e-6", 1),
        ("2.675", 2_675_000),
        ("0", 0),
    ],
)
def test_prices_are_exact(price: str, micros: int) -> None:
    """No price passes through a float."""
    plan = _plan(PLAN + f"prices: {{accelerator_per_hour: {{H100: {price}}}}}\n")
    assert plan.accelerator_micros_per_hour == {"H100": micros}


def test_a_filler_may_be_interrupted_unless_it_says_otherwise() -> None:
    """It exists to be."""
    assert _workload(work("type: filler", "type: job")).flex is Flex.PREEMPTIBLE
    assert _workload(WORK).flex is Flex.FIRM


def test_secrets_and_persons_stay_out_of_the_normalised_form() -> None:
    """They are handed over beside it, for the vault."""
    workload = _one(work("secrets: {TOKEN: hunter2}"))
    tenant = _one(TENANT + "contact: Kari Nordmann\n")
    assert workload.private == {"TOKEN": "hunter2"}
    assert tenant.private == {"contact": "Kari Nordmann"}
    for document in (workload, tenant):
        shown = json.dumps(document.normalised) + repr(document.value) + repr(document)
        assert "hunter2" not in shown
        assert "Kari" not in shown


def test_an_unknown_country_or_connection_is_allowed_and_empty() -> None:
    """The core then places nothing there, and admits nothing."""
    estate = _estate(
        changed(
            site("    country: NO\n", "    country: unknown\n"), "{firm: 40MW, flexible: 10MW}", "unknown"
        )
    )
    assert estate.sites[0].country == ""
    assert estate.sites[0].connection.total_w == 0


def test_a_block_may_be_rated_above_what_feeds_it() -> None:
    """The feeder limits it then; that is not a mistake."""
    (block,) = _estate(site("fed_by: feed-a\n", "fed_by: feed-a\n        rating: 30MW\n")).sites[0].blocks
    assert block.rating_w == 30_000_000


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (work("max_duration: 2h"), work("max_duration: 120m")),
        (work("policy: {countries: [NO, GB]}"), work("policy: {countries: [GB, NO, GB]}")),
        (work("env: {A: 1, B: x}"), work('env: {B: x, A: "1"}')),
        (WORK, work("nodes: 2\nflex: firm\ngrace: 10s\nsite: null")),
        (SITE, site("firm: 40MW", "firm: 40000 kW")),
        (SITE, site("racks: 2, nodes_per_rack: 4", "nodes: 8, nodes_per_rack: 4")),
        (
            PLAN + "prices: {accelerator_per_hour: {A: 1, B: 2}}",
            PLAN + "prices: {accelerator_per_hour: {B: 2.00, A: '1'}}",
        ),
        (TENANT.replace("[a]", "[a, b]"), TENANT.replace("[a]", "[b, a, a]")),
        (SITE, SITE + "  # a comment\n"),
        (TENANT, changed(TENANT, "[a]", "{a: {weight: 1}}") + "quota: {}\npreferences: {price: 1}\n"),
        (work("nodes: 4"), work("nodes: 4..4")),
        (WORK, work("gpu: [H100:8]", "gpu: H100:8")),
        (RESERVATION, changed(RESERVATION, "from: 2026-12-01T08:00:00+01:00", "from: 2026-12-01T07:00Z")),
        (MAINTENANCE, changed(MAINTENANCE, "[s/block-1]", "[s/block-1, s/block-1]")),
    ],
)
def test_one_meaning_has_one_normalised_form(one: str, other: str) -> None:
    """So that applying it twice, in whichever words, changes nothing."""
    assert _one(one).normalised == _one(other).normalised


def test_the_order_of_named_things_has_no_meaning() -> None:
    """Sites, feeds and blocks are sorted by name, numbers in it by their value."""
    blocks = "".join(f"      - {{name: block-{number}}}\n" for number in (10, 9))
    estate = _estate(changed(SITE, "    blocks:\n", "    blocks:\n" + blocks))
    assert [block.id for block in estate.sites[0].blocks] == ["block-1", "block-9", "block-10"]


# What belongs to a host, and halls, are no documents of the API: each kind has tests of its own.
OTHERS = {EXAMPLES / f"{name}.yaml" for name in ("devices", "engines", "signals", "stores")}
OTHERS |= {EXAMPLES / "sovereignty" / f"{name}.yaml" for name in ("eu-framework", "public-record-assessment")}
DOCUMENTS = sorted(set(EXAMPLES.rglob("*.yaml")) - OTHERS - set((EXAMPLES / "halls").iterdir()))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_example_loads_and_comes_back_from_its_normalised_form(path: Path) -> None:
    """What an event carries gives back what was applied, through JSON."""
    for document in load(path):
        plain = json.loads(json.dumps(document.normalised))
        value = from_normalised(document.kind, plain)
        assert value == document.value
        assert normalise(document.kind, document.name, value) == document.normalised


def test_a_json_file_is_read_like_a_yaml_file() -> None:
    """JSON is YAML, with the same places in its errors."""
    text = json.dumps({"kind": "tenant", "name": "t", "projects": ["a"]})
    assert _one(text).value == Tenant(TenantId("t"), (ProjectId("a"),))
    with pytest.raises(HeadraceError) as raised:
        load(text.replace('"a"', "1").encode(), "x.json")
    assert raised.value.problem.where == "x.json:1:46 projects[0]"


def test_json_may_be_indented_with_tabs_and_escape_what_it_likes() -> None:
    """YAML alone would refuse the one and tear the other in two."""
    body = {"kind": "workload", "name": "a", "project": "a", "type": "job", "commands": ["echo \U0001f600"]}
    text = json.dumps(body, indent="\t").replace("echo ", "echo \\/")
    assert "\\ud83d\\ude00" in text
    assert _workload(text).commands == ("echo /\U0001f600",)


def test_a_json_body_gets_pointers() -> None:
    """Places in a request's body are JSON pointers, below where the document stands in it."""
    assert parse_document({"kind": "tenant", "name": "t", "projects": ["a"]}).name == "t"
    with pytest.raises(HeadraceError) as raised:
        parse_documents([{"kind": "tenant", "name": "t", "projects": ["A"]}], ("documents",))
    assert raised.value.problem.where == "/documents/0/projects/0"


@pytest.mark.parametrize(
    "body", [None, [], {}, "x", [1], [None], [{"kind": []}], [{"kind": "tenant", "name": 1.5}]]
)
def test_a_body_that_is_no_document_is_refused(body: object) -> None:
    """Whatever JSON can hold, the answer is a problem and never a crash."""
    with pytest.raises(HeadraceError):
        parse_documents(body)


def test_documents_are_applied_in_an_order_that_their_references_allow() -> None:
    """Tenants before the contracts that name them, whichever file comes first."""
    files = [
        EXAMPLES / "workloads" / "mine.yaml",
        EXAMPLES / "windows.yaml",
        EXAMPLES / "tenants.yaml",
        EXAMPLES / "estates" / "lab.yaml",
    ]
    kinds = list(dict.fromkeys(document.kind for document in load_all(files)))
    assert kinds == ["tenant", "estate", "price-plan", "contract", "reservation", "maintenance", "workload"]


def test_a_normalised_form_of_a_newer_version_is_not_guessed_at() -> None:
    """An unknown field, a wrong type or an unknown kind is a ValueError, not a silent loss."""
    plain = _one(WORK).normalised
    for broken in (
        {**plain, "colour": "red"},
        {**plain, "nodes": "2"},
        {**plain, "type": "dance"},
        {"name": "x"},
    ):
        with pytest.raises(ValueError, match=r"\S"):
            from_normalised("workload", broken)
    with pytest.raises(ValueError, match="no kind of document 'song'"):
        from_normalised("song", plain)
    with pytest.raises(ValueError, match="calls itself"):
        normalise("workload", "other", _workload(WORK))


def test_every_field_of_a_document_survives_the_normalised_form() -> None:
    """Also fields that no example sets: each is given a value that is not its default."""
    spec = dataclasses.replace(
        _workload(WORK),
        env={"A": "b"},
        secrets={"T": "vault:1"},
        ports={"http": 0},
        priority=-1,
        max_duration_ms=1,
        grace_ms=1,
        flex=Flex.PAUSABLE,
        policy=PolicyRef("public", ("NO",)),
        site=SiteId("s"),
        contract=ContractId("c"),
        counters="llamacpp",
        alternatives=(Alternative("B200", 8),),
        nodes_max=4,
        topology=Topology("pod", "rack", required=True),
        expected_ms=1,
        checkpoint_ms=1,
        restart_ms=1,
        reservation=WindowId("r"),
        lease="slurm",
    )
    plain = to_plain(spec)
    assert set(plain) == {field.name for field in dataclasses.fields(WorkloadSpec)}
    assert from_normalised("workload", json.loads(json.dumps(plain))) == spec
    assert list(DOCUMENT_TYPES) == list(MODELS)
    assert sorted(DOCUMENT_TYPES) == sorted(ORDER)


@pytest.mark.parametrize("name", ["[key]", "[one]", "[many]"])
def test_a_field_may_be_called_like_a_step_of_the_parser(name: str) -> None:
    """It is named as any other that is not known."""
    with pytest.raises(HeadraceError) as caught:
        parse_document({"kind": "tenant", "tenant": "acme", name: 1})
    assert any("no field" in one.message and name in one.message for one in caught.value.problems)
