"""What simulated people send says what they mean: the API reads the same values from it."""

from random import Random

import msgspec
import pytest

from headrace.core.authority import Role
from headrace.core.codec import Core, document_name, normalise
from headrace.core.ids import TokenId
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
