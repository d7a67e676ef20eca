"""What simulated people send says what they mean: the API reads the same values from it."""

from random import Random

import msgspec
import pytest

from headrace.core.authority import Role
from headrace.core.codec import Core, document_name, normalise
from headrace.core.contracts import Maintenance, Preferences, Quota, Reservation, Tenant
from headrace.core.ids import ProjectId, SiteId, TenantId, TokenId, WindowId
from headrace.core.workload import Alternative, Resources, Topology, WorkloadSpec, WorkloadType
from headrace.documents import changes, decode_workloads, load, parse_documents
from headrace.sim.clients import YAML, Person, declaration
from headrace.sim.estates import Ground, make_ground
from headrace.sim.plant import person_of
from headrace.sim.wire import document, workload
from headrace.sim.work import LONG_MS, SpecMaker

START_MS = 1_767_225_600_000


def ground_of(seed: int) -> Ground:
    """Some estate with its tenants, plans and contracts."""
    return make_ground(Random(seed), START_MS, is_long=bool(seed % 2))


def somebody() -> Person:
    """An operator."""
    return person_of(TokenId("t-1"), Role.OPERATOR_ADMIN, None, "hr_x")


@pytest.mark.parametrize("seed", range(20))
def test_documents_say_what_the_ground_is(seed: int) -> None:
    """Written as documents and read again by the documents' edge, nothing differs."""
    ground = ground_of(seed)
    values: list[Core] = [ground.estate, *ground.plans, *ground.tenants, *ground.contracts]
    read = parse_documents([document(value) for value in values])
    for value, found in zip(values, read, strict=True):
        name = document_name(value)
        assert (found.name, found.private) == (name, {})
        assert changes(normalise(found.kind, name, value), found.normalised) == []


@pytest.mark.parametrize("seed", range(20))
def test_contracts_as_yaml_say_the_same(seed: int) -> None:
    """A contract written as YAML is the same contract."""
    for contract in ground_of(seed).contracts:
        (found,) = load(declaration(somebody(), [contract], "k", YAML).body)
        assert found.value == contract


@pytest.mark.parametrize("seed", range(5))
def test_workloads_say_what_is_asked_for(seed: int) -> None:
    """Whatever the maker makes, and its smaller form, is taken by the API's decoder as just that."""
    ground = ground_of(seed)
    maker = SpecMaker(Random(seed), ground, *LONG_MS)
    for _ in range(200):
        spec, secrets = maker.make(ground.tenants[0].id)
        for one in (spec, maker.smaller(spec)):
            (found,) = decode_workloads(msgspec.json.encode({"workloads": [workload(one, secrets)]}))
            assert found == (one, secrets)


@pytest.mark.parametrize(
    "value",
    [
        Tenant(
            TenantId("t"),
            (ProjectId("a"), ProjectId("b")),
            quota=Quota(64, 256, 2),
            project_quotas={ProjectId("a"): Quota(8)},
            max_priority=-5,
            preferences=Preferences(500, 80_000, 1),
        ),
        Reservation(WindowId("r"), TenantId("t"), SiteId("s"), "H100", 16, START_MS, START_MS + 1),
        Maintenance(WindowId("m"), SiteId("s"), START_MS, START_MS + 60_000, ("s/block-1/g-0",), "pumps"),
        Maintenance(WindowId("m"), SiteId("s"), START_MS, START_MS + 60_000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_shares_and_windows_are_said_as_they_are(value: Core) -> None:
    """Each field that a document may have is written."""
    (found,) = parse_documents([document(value)])
    assert found.value == value


@pytest.mark.parametrize(
    "shape",
    [
        Resources("H100", 1, 500, 100, share_milli=125),
        Resources("H100", 8, 500, 100, accelerator_memory_mb=80_000),
    ],
)
def test_every_shape_of_a_workload_is_said_as_it_is(shape: Resources) -> None:
    """Parts of accelerators, alternatives, ranges of nodes, how they should stand, what is known of time."""
    spec = WorkloadSpec(
        name="w",
        type=WorkloadType.JOB,
        project=ProjectId("a"),
        resources=shape,
        commands=("true",),
        nodes=4,
        nodes_max=16,
        alternatives=(Alternative("B200", shape.accelerators),),
        topology=Topology("pod", "rack", required=True),
        expected_ms=7_200_000,
        checkpoint_ms=600_000,
        restart_ms=90_000,
        reservation=WindowId("r"),
    )
    (found,) = decode_workloads(msgspec.json.encode({"workloads": [workload(spec, {})]}))
    assert found == (spec, {})
