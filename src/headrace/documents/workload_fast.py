"""Workloads from JSON, fast: thousands of submissions a second pass here before anything is decided about them.

A typed decoder accepts what is plainly right and builds the core's spec at once. When anything is off, the whole
body goes through the models of :mod:`headrace.documents.schema` again, which say everything that is wrong, and where.
Both give the same spec for what both accept (a property test holds them together).
"""

from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.core.ids import ContractId, ProjectId, SiteId, WindowId
from headrace.core.workload import (
    LEVELS,
    WHOLE_MILLI,
    Alternative,
    Flex,
    Level,
    PolicyRef,
    Resources,
    Topology,
    WorkloadSpec,
    WorkloadType,
)
from headrace.documents import values
from headrace.documents.convert import default_flex, problems_of, workload_spec
from headrace.documents.load import checked
from headrace.documents.report import bad_input, capped
from headrace.documents.schema import BatchModel, Model, WorkloadModel
from headrace.documents.source import Source

MAX_BATCH = 10_000
"""Workloads in one body."""
_CACHED = 4_096
"""Entries of each cache; one that is full is emptied, so that nobody can fill the memory with names."""

K = TypeVar("K")
M = TypeVar("M", bound=Model)
V = TypeVar("V")


class WorkloadIn(NamedTuple):
    """A workload as submitted: its spec, and its secrets by the variable's name, which the vault takes."""

    spec: WorkloadSpec
    secrets: dict[str, str]


class _Resources(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    gpu: str | list[str] | None = None
    cpu: int | float | str = 1
    memory: str = "1GB"
    gpu_memory: str | None = None


class _Policy(msgspec.Struct, forbid_unknown_fields=True):
    countries: list[str]


class _Topology(msgspec.Struct, forbid_unknown_fields=True):
    pack: str | None = None
    spread: str | None = None
    required: bool = False


class _Checkpoint(msgspec.Struct, forbid_unknown_fields=True):
    every: str
    restart: str | None = None


class _Workload(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    type: str
    project: str
    kind: str = "workload"
    nodes: int | str = 1
    resources: _Resources = _Resources()
    commands: list[str] = []  # a struct copies it
    env: dict[str, str | int] = {}
    secrets: dict[str, str | int] = {}
    ports: dict[str, int | str] = {}
    priority: int = 0
    max_duration: str | None = None
    grace: str = "10s"
    flex: str | None = None
    policy: str | _Policy | None = None
    data: list[str] = []
    site: str | None = None
    contract: str | None = None
    counters: str = ""
    topology: _Topology | None = None
    expected: str | None = None
    checkpoint: _Checkpoint | None = None
    reservation: str | None = None
    lease: Literal["slurm"] | None = None


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    workloads: list[_Workload]


_ONE = msgspec.json.Decoder(_Workload)
_MANY = msgspec.json.Decoder(_Batch)
_ANY = msgspec.json.Decoder()

_TYPES = {kind.value: kind for kind in WorkloadType}
_FLEX = {flex.value: flex for flex in Flex}
_COUNTERS = ("", "llamacpp")
_LEVELS: dict[str | None, Level] = {level: level for level in LEVELS}
_NO_POLICY = PolicyRef()

_resources: dict[tuple[object, ...], tuple[Resources, tuple[Alternative, ...]]] = {}
_durations: dict[str, int] = {}
_graces: dict[str, int] = {}
_names: dict[str, str] = {}
_env_names: dict[str, str] = {}
_policies: dict[tuple[str, ...], PolicyRef] = {}


def decode_workload(raw: bytes) -> WorkloadIn:
    """The workload of a JSON body; HeadraceError with every problem."""
    try:
        return _workload(_ONE.decode(raw))
    except (msgspec.MsgspecError, values.Bad, UnicodeDecodeError, RecursionError):
        return parse_workload(_decoded(raw))


def decode_workloads(raw: bytes) -> list[WorkloadIn]:
    """The workloads of a JSON body ``{"workloads": [...]}``, all or none; HeadraceError with every problem."""
    try:
        batch = _MANY.decode(raw).workloads
        if 0 < len(batch) <= MAX_BATCH:
            return [_workload(workload) for workload in batch]
    except (msgspec.MsgspecError, values.Bad, UnicodeDecodeError, RecursionError):
        pass
    return parse_workloads(_decoded(raw))


def parse_workload(data: Any) -> WorkloadIn:
    """A workload from decoded JSON, by the way that reports every problem."""
    model = _checked(WorkloadModel, data)
    return WorkloadIn(workload_spec(model), dict(model.secrets))


def parse_workloads(data: Any) -> list[WorkloadIn]:
    """Workloads from decoded JSON, by the way that reports every problem."""
    listed = data.get("workloads") if isinstance(data, dict) else None
    if isinstance(listed, list) and len(listed) > MAX_BATCH:
        message = f"{len(listed)} workloads in one body are too many."
        step = f"Send at most {MAX_BATCH} at once."
        raise HeadraceError(Problem(ProblemCode.TOO_LARGE, message, step, "/workloads"))
    model = _checked(BatchModel, data)
    return [WorkloadIn(workload_spec(workload), dict(workload.secrets)) for workload in model.workloads]


def _checked(model: type[M], data: Any) -> M:
    try:
        return checked(model, data, Source())
    except HeadraceError as error:
        raise HeadraceError(*capped(list(error.problems))) from None


def _decoded(raw: bytes) -> Any:
    try:
        return _ANY.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        reason = (
            "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error).rstrip(".").lower()
        )
        problem = bad_input(f"not JSON: {reason}.", "Send one JSON object, in UTF-8.", Source())
        raise HeadraceError(problem) from error
    except RecursionError as error:
        raise HeadraceError(bad_input("nested too deeply.", "Send a workload.", Source())) from error


def _workload(w: _Workload) -> WorkloadIn:
    """The spec of a decoded workload; raises Bad for anything that the models might not accept."""
    if w.kind != "workload" or w.type not in _TYPES or w.counters not in _COUNTERS:
        raise values.Bad("not a plain workload")
    flex = w.flex if w.flex is not None else default_flex(w.type)
    if flex not in _FLEX:
        raise values.Bad("not a plain workload")
    env, secrets = _environment(w)
    nodes, nodes_max = values.workload_nodes(w.nodes)
    resources, alternatives = _resources_of(w.resources)
    checkpoint_ms, restart_ms = _checkpoint(w.checkpoint) if w.checkpoint is not None else (0, 0)
    spec = WorkloadSpec(
        values.name(w.name),
        _TYPES[w.type],
        ProjectId(_name(w.project)),
        resources,
        _commands(w.commands),
        nodes,
        env,
        {},
        _ports(w.ports) if w.ports else {},
        values.priority(w.priority),
        _duration(w.max_duration) if w.max_duration is not None else 0,
        _grace(w.grace),
        _FLEX[flex],
        _policy(w.policy) if not w.data else _with_data(_policy(w.policy), w.data),
        SiteId(_name(w.site)) if w.site is not None else None,
        ContractId(_name(w.contract)) if w.contract is not None else None,
        w.counters,
        alternatives,
        nodes_max,
        _topology(w.topology) if w.topology is not None else None,
        _duration(w.expected) if w.expected is not None else 0,
        checkpoint_ms,
        restart_ms,
        WindowId(_name(w.reservation)) if w.reservation is not None else None,
        w.lease or "",
    )
    for _, bad in problems_of(spec):
        raise bad
    return WorkloadIn(spec, secrets)


def _environment(w: _Workload) -> tuple[dict[str, str], dict[str, str]]:
    if not w.env and not w.secrets:
        return {}, {}
    if (
        len(w.env) > values.MAX_ENV
        or len(w.secrets) > values.MAX_ENV
        or not w.env.keys().isdisjoint(w.secrets)
    ):
        raise values.Bad("too many variables, or one twice")
    env = {_env_name(key): values.env_value(w.env[key]) for key in sorted(w.env)}
    return env, {values.secret_name(key): values.secret_value(value) for key, value in w.secrets.items()}


def _commands(commands: list[str]) -> tuple[str, ...]:
    if len(commands) > values.MAX_COMMANDS:
        raise values.Bad("too many commands")
    for command in commands:
        values.command(command)
    return tuple(commands)


def _ports(ports: dict[str, int | str]) -> dict[str, int]:
    if len(ports) > 16:
        raise values.Bad("too many ports")
    return {_name(key): values.port(ports[key]) for key in sorted(ports)}


def _kept(cache: dict[K, V], key: K, value: V) -> V:
    if len(cache) >= _CACHED:
        cache.clear()
    cache[key] = value
    return value


def _name(text: str) -> str:
    return _names.get(text) or _kept(_names, text, values.name(text))


def _env_name(text: str) -> str:
    return _env_names.get(text) or _kept(_env_names, text, values.env_name(text))


def _duration(text: str) -> int:
    return _durations.get(text) or _kept(_durations, text, values.duration_ms(text))


def _grace(text: str) -> int:
    return _graces.get(text) or _kept(_graces, text, values.grace_ms(text))


def _resources_of(asked: _Resources) -> tuple[Resources, tuple[Alternative, ...]]:
    gpu = tuple(asked.gpu) if isinstance(asked.gpu, list) else asked.gpu
    key = (gpu, asked.cpu, asked.memory, asked.gpu_memory)
    found = _resources.get(key)
    if found is not None:
        return found
    (model, number, share_milli), others = _accelerators(asked.gpu)
    gpu_memory_mb = values.memory_mb(asked.gpu_memory) if asked.gpu_memory is not None else 0
    cpu_milli, memory_mb = values.cpu_milli(asked.cpu), values.memory_mb(asked.memory)
    made = Resources(model, number, cpu_milli, memory_mb, share_milli, gpu_memory_mb)
    return _kept(_resources, key, (made, others))


def _accelerators(gpu: str | list[str] | None) -> tuple[tuple[str, int, int], tuple[Alternative, ...]]:
    """What the first choice is (model, number, thousandths of each), and the others."""
    if gpu is None:
        return ("", 0, WHOLE_MILLI), ()
    if isinstance(gpu, str):
        return values.node_gpu(gpu), ()
    options = [values.node_gpu(one) for one in gpu[: values.MAX_ALTERNATIVES + 1]]
    values.alternatives(options)
    first, *others = options
    return first, tuple(Alternative(model, number) for model, number, _ in others)


def _topology(asked: _Topology) -> Topology:
    if (asked.pack is not None and asked.pack not in _LEVELS) or (
        asked.spread is not None and asked.spread not in _LEVELS
    ):
        raise values.Bad("no such level")
    values.topology(asked.pack or "", asked.spread or "")
    return Topology(_LEVELS.get(asked.pack, ""), _LEVELS.get(asked.spread, ""), asked.required)


def _checkpoint(asked: _Checkpoint) -> tuple[int, int]:
    return _duration(asked.every), _duration(asked.restart) if asked.restart is not None else 0


def _with_data(policy: PolicyRef, data: list[str]) -> PolicyRef:
    if len(data) > values.MAX_DATA:
        raise values.Bad("too many data sets")
    return PolicyRef(policy.profile, policy.countries, tuple(sorted({_name(name) for name in data})))


def _policy(policy: str | _Policy | None) -> PolicyRef:
    if policy is None:
        return _NO_POLICY
    key = (policy,) if isinstance(policy, str) else ("", *policy.countries)
    found = _policies.get(key)
    if found is not None:
        return found
    if isinstance(policy, str):
        return _kept(_policies, key, PolicyRef(values.profile(policy)))
    if not 1 <= len(policy.countries) <= 249:
        raise values.Bad("no countries")
    countries = {values.country(country) for country in policy.countries}
    return _kept(_policies, key, PolicyRef("", tuple(sorted(countries))))
