"""The fast way and the one that explains give the same, for whatever is sent."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.core.errors import HeadraceError, ProblemCode
from headrace.core.workload import Alternative, PolicyRef, Topology
from headrace.documents import MAX_BATCH, decode_workload, decode_workloads, parse_workload, workload_fast
from headrace.documents.values import Bad

PLAIN: dict[str, Any] = {
    "name": "train",
    "type": "job",
    "project": "research",
    "nodes": 2,
    "resources": {"gpu": "H100:8", "cpu": 4, "memory": "8GB"},
    "commands": ["python train.py"],
}

_ANYTHING = st.sampled_from([None, True, 0, -1, 1.5, 10**30, "", "x", "NO", [], {}, ["x"], {"x": 1}])
_GPUS = [
    "H100:8",
    "h100",
    "X9:64",
    "X9:65",
    "H100:",
    None,
    "8",
    "H100:0.5",
    "B200:0.50",
    "H100:0.0001",
    "any:4",
]
_VARIABLES = st.sampled_from(["A", "B", "RANK", "1A", "HEADRACE_API_KEY"])
_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "kind": st.sampled_from(["workload", "tenant"]),
    "name": st.sampled_from(["train", "a-b", "Train", "-a", "a" * 63, "a" * 64]),
    "type": st.sampled_from(["job", "service", "cluster", "filler", "jbo"]),
    "project": st.sampled_from(["research", "R"]),
    "nodes": st.integers(-1, 3)
    | st.sampled_from([100_000, 100_001, "4..16", "4..4", "16..4", "0..2", "4", "1..100001"]),
    "resources": st.fixed_dictionaries(
        {},
        optional={
            "gpu": st.sampled_from(_GPUS) | st.lists(st.sampled_from(_GPUS), max_size=3),
            "cpu": st.sampled_from([0, 1, 4, 0.5, 0.1234, "500m", "0.25", "1e3", -1, True]),
            "memory": st.sampled_from(["8GB", "1.5TB", "0GB", "8", 8, None]),
            "gpu_memory": st.sampled_from(["80GB", "0GB", 80, None]),
            "gpus": st.just(1),
        },
    ),
    "commands": st.lists(st.sampled_from(["true", "", " ", "a\0b", "é"]), max_size=3) | st.just("true"),
    "env": st.dictionaries(_VARIABLES, st.sampled_from(["x", "", 1, 1.5, None, "\0"]), max_size=2),
    "secrets": st.dictionaries(_VARIABLES, st.sampled_from(["x", ""]), max_size=2),
    "ports": st.dictionaries(
        st.sampled_from(["http", "Http"]), st.sampled_from(["auto", 8_000, 80, 1.0]), max_size=2
    ),
    "priority": st.integers(-1_001, 1_001),
    "max_duration": st.sampled_from(["2h", "1h30m", "0s", "2", 2, None, "9999w"]),
    "grace": st.sampled_from(["10s", "1d", "2d", None]),
    "flex": st.sampled_from(["firm", "pausable", "preemptible", "soft", None]),
    "policy": st.sampled_from(
        [
            None,
            "nordic-only",
            "nope",
            {"countries": ["NO", "GB", "NO"]},
            {"countries": []},
            {"countries": ["UK"]},
            {},
            1,
            {"profile": "public"},
            {"profile": "public", "countries": ["NO"]},
        ]
    ),
    "site": st.sampled_from(["glomfjord", "G", None]),
    "contract": st.sampled_from(["c", None, ""]),
    "counters": st.sampled_from(["", "llamacpp", "other", None]),
    "topology": st.none()
    | st.dictionaries(
        st.sampled_from(["pack", "spread", "required"]),
        st.sampled_from(["domain", "rack", "pod", "site", "", None, True, False]),
        max_size=3,
    ),
    "expected": st.sampled_from(["1h", "3h", "3", None]),
    "checkpoint": st.sampled_from(
        [
            None,
            {"every": "10m"},
            {"every": "10m", "restart": "90s"},
            {"restart": "90s"},
            "10m",
            {"every": None},
        ]
    ),
    "reservation": st.sampled_from(["window", "W", None, ""]),
    "lease": st.sampled_from(["slurm", "ray", "", None]),
}
_WORKLOADS = st.tuples(
    st.fixed_dictionaries({}, optional=_FIELDS),
    st.dictionaries(st.sampled_from([*_FIELDS, "colour"]), _ANYTHING, max_size=1),
    st.sets(st.sampled_from(sorted(PLAIN)), max_size=1),
).map(
    lambda parts: {
        key: value for key, value in {**PLAIN, **parts[0], **parts[1]}.items() if key not in parts[2]
    }
)


def _outcome(decode: Callable[[], Any]) -> Any:
    try:
        return decode()
    except HeadraceError as error:
        return [problem.line() for problem in error.problems]


@given(_WORKLOADS)
def test_the_fast_way_accepts_what_the_slow_way_accepts_and_gives_the_same(data: dict[str, Any]) -> None:
    """Also with the caches warm, and the same problems when there are any."""
    raw = json.dumps(data).encode()
    slow = _outcome(lambda: parse_workload(json.loads(raw)))
    assert _outcome(lambda: decode_workload(raw)) == slow
    assert _outcome(lambda: decode_workload(raw)) == slow


@given(_WORKLOADS)
def test_what_the_fast_way_takes_by_itself_the_slow_way_takes_too(data: dict[str, Any]) -> None:
    """The fast way alone, without its way out, never accepts what the other refuses."""
    raw = json.dumps(data).encode()
    try:
        fast = workload_fast._workload(workload_fast._ONE.decode(raw))
    except (msgspec.MsgspecError, Bad):
        fast = None
    slow = _outcome(lambda: parse_workload(json.loads(raw)))
    assert fast is None or fast == slow


def test_a_plain_workload_takes_the_fast_way() -> None:
    """What most people send never reaches the slow models."""
    full = {
        **PLAIN,
        "env": {"A": "x"},
        "secrets": {"S": "hunter2"},
        "ports": {"http": "auto"},
        "policy": {"countries": ["NO"]},
        "priority": 5,
        "max_duration": "2h",
        "flex": "pausable",
        "site": "glomfjord",
        "counters": "llamacpp",
        "nodes": "4..16",
        "resources": {"gpu": ["H100:8", "B200:8"], "gpu_memory": "80GB"},
        "topology": {"pack": "pod", "spread": "rack", "required": True},
        "expected": "1h",
        "checkpoint": {"every": "10m", "restart": "90s"},
        "reservation": "window",
    }
    made = workload_fast._workload(workload_fast._ONE.decode(json.dumps(full).encode()))
    assert made.spec.policy == PolicyRef(countries=("NO",))
    assert (made.spec.nodes, made.spec.nodes_max) == (4, 16)
    assert made.spec.alternatives == (Alternative("B200", 8),)
    assert made.spec.topology == Topology("pod", "rack", required=True)
    assert made.secrets == {"S": "hunter2"}
    assert "hunter2" not in repr(made.spec)


def test_a_batch_is_decoded_in_its_order() -> None:
    """One spec for each workload."""
    batch = {"workloads": [{**PLAIN, "name": f"train-{number}"} for number in range(100)]}
    decoded = decode_workloads(json.dumps(batch).encode())
    assert [workload.spec.name for workload in decoded] == [f"train-{number}" for number in range(100)]


def test_a_batch_is_all_or_none_and_says_which_are_wrong() -> None:
    """With a pointer to each wrong field of each workload."""
    batch = {"workloads": [PLAIN, {**PLAIN, "nodes": 0}, {**PLAIN, "type": "jbo", "colour": "red"}]}
    with pytest.raises(HeadraceError) as raised:
        decode_workloads(json.dumps(batch).encode())
    assert [problem.where for problem in raised.value.problems] == [
        "/workloads/1/nodes",
        "/workloads/2/type",
        "/workloads/2/colour",
    ]


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"null", b"[]", b"1", b'"x"', b"{", b'{"workloads": 1}', b'{"workloads": []}', b'{"workloads": [null]}',
        b'{"workloads": [], "more": 1}', b"\xff", b'{"name": "\xff"}', b'{"name": "\\ud800"}', b"[" * 100_000,
        b'{"workloads": ' + b"[" * 100_000, b'{"nodes": ' + b"9" * 10_000 + b"}", b'{"nodes": NaN}', b"{}",
    ],
)  # fmt: skip
def test_a_body_that_is_not_a_workload_is_a_problem_and_never_a_crash(raw: bytes) -> None:
    """Whatever bytes arrive."""
    for decode in (decode_workload, decode_workloads):
        with pytest.raises(HeadraceError) as raised:
            decode(raw)
        assert raised.value.problem.code is ProblemCode.BAD_INPUT


def test_a_batch_that_is_too_large_is_told_how_large_it_may_be() -> None:
    """With the code that becomes status 413."""
    with pytest.raises(HeadraceError) as raised:
        decode_workloads(json.dumps({"workloads": [{}] * (MAX_BATCH + 1)}).encode())
    assert raised.value.problem.code is ProblemCode.TOO_LARGE


def test_the_caches_do_not_grow_without_end() -> None:
    """A cache that is full is emptied: names are the sender's choice."""
    for number in range(workload_fast._CACHED + 10):
        decode_workload(json.dumps({**PLAIN, "project": f"p-{number}"}).encode())
    assert len(workload_fast._names) <= workload_fast._CACHED
