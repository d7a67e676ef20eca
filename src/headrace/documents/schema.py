"""What a document may say: the fields of each kind, in the words of the documents.

Every model is strict and forbids fields that it doesn't know. Values are parsed by :mod:`headrace.documents.values`, so
that a validated model holds the core's integers.
"""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    WithJsonSchema,
    model_validator,
)

from headrace.core.contracts import MOST_PRIORITY
from headrace.core.estate import MINUTES_PER_DAY
from headrace.core.workload import LEVELS
from headrace.documents import values
from headrace.documents.fields import (
    DAYS,
    MANY,
    MAX_LIST,
    ONE,
    AcceleratorModel,
    Country,
    Currency,
    Day,
    Degrees,
    Derate,
    Duration,
    FedBy,
    Grace,
    Load,
    Memory,
    Minute,
    Model,
    ModelOrAny,
    Moment,
    Name,
    Price,
    Profile,
    Pue,
    RedundancyClaim,
    SiteCountry,
    Text,
    Watts,
    WattsOrNone,
    Weekday,
    Zone,
    curved,
    few,
    form,
    number,
    schema,
    word,
)
from headrace.documents.source import show

# What else is declared in the same words is made of the same fields.
__all__ = ["MANY", "ONE", "Duration", "Model", "Moment", "Name", "Text", "Watts", "WattsOrNone", "Zone"]

MAX_GROUP_NODES = 1_000_000
MAX_ACCELERATORS = 100_000_000
MAX_PUE_POINTS = 400


_POLICY_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "description": "a profile's name"},
        {
            "type": "object",
            "properties": {"countries": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
            "required": ["countries"],
            "additionalProperties": False,
        },
        {"type": "null"},
    ]
}


class PolicyModel(Model):
    """A profile by its name, or the shorthand that generates one."""

    profile: Profile | None = None
    countries: Annotated[list[Country], Field(min_length=1, max_length=249)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "PolicyModel":
        if (self.profile is None) == (self.countries is None):
            raise values.Bad("a policy is either a profile or countries.", "Write {countries: [NO, GB]}.")
        return self


def _policy(value: object) -> object:
    if isinstance(value, str):
        return {"profile": values.profile(value)}
    if value is not None and not isinstance(value, dict):
        raise values.Bad(
            f"{show(value)} is not a policy.", "Write a profile's name, or {countries: [NO, GB]}."
        )
    return value


PolicyField = Annotated[PolicyModel | None, BeforeValidator(_policy), WithJsonSchema(_POLICY_SCHEMA)]


class OperatorModel(Model):
    """Who runs the estate."""

    name: Name
    title: Text = ""
    country: Country
    zone: Zone
    currency: Currency
    journal_policy: PolicyField = None


class FlexibleWindowModel(Model):
    """When the flexible part of a connection may be used, in the site's zone; without days: on all of them."""

    days: list[Weekday] = Field(default=list(DAYS), min_length=1, max_length=7)
    starts: Minute = Field(default=0, alias="from")
    until: Minute = MINUTES_PER_DAY


class ConnectionModel(Model):
    """What the grid allows, in watts at the meter; how far the draw may rise and fall within a minute."""

    firm: WattsOrNone
    flexible: WattsOrNone = 0
    windows: list[FlexibleWindowModel] = Field(default=[], max_length=MAX_LIST)
    ramp_up: Watts | None = None
    ramp_down: Watts | None = None


def _connection(value: object) -> object:
    return {"firm": "0W"} if value == "unknown" else value


class EnergyModel(Model):
    """Where the energy comes from, and constants declared for it."""

    source: Annotated[
        str,
        *word("energy source", "hydro", "wind", "solar", "nuclear", "gas", "coal", "grid-mix", "unknown"),
    ] = "unknown"
    carbon: Annotated[int, *number(0, 2_000, "grams of CO2e per kWh")]
    price: Price
    currency: Currency


class CoordinatesModel(Model):
    """Where it is, in degrees."""

    latitude: Annotated[float, BeforeValidator(values.degrees(90)), schema("number")]
    longitude: Annotated[float, BeforeValidator(values.degrees(180)), schema("number")]


class PowerElementModel(Model):
    """An element of the power tree between the connection and the blocks; ``rating`` x ``derate`` may be drawn."""

    name: Name
    kind: Annotated[
        str, *word("kind of power element", "transformer", "feed", "ups", "busway", "block", "row", "rack")
    ]
    rating: Watts
    derate: Derate | None = None
    fed_by: FedBy | None = None
    redundancy: RedundancyClaim | None = None


class NodeGroupModel(Model):
    """Racks of equal nodes. Without ``racks``, as many as ``nodes`` need. ``fed_by``: where the block does not say it."""

    name: Name
    hardware: Name
    racks: Annotated[int, *number(1, 100_000, "racks")] | None = None
    nodes_per_rack: Annotated[int, *number(1, 1_000, "nodes per rack")] = 1
    rack_rating: Watts | None = None
    rack_derate: Derate | None = None
    fed_by: FedBy | None = None
    redundancy: RedundancyClaim | None = None
    nodes: Annotated[int, *number(1, MAX_GROUP_NODES, "nodes")] | None = None
    rail_racks: Annotated[int, *number(1, 100_000, "racks on the same rails")] | None = None


class BlockModel(Model):
    """A modular unit that is delivered and commissioned as one. ``engine``: where it has another than its site."""

    name: Name
    fed_by: FedBy | None = None
    rating: Watts | None = None
    derate: Derate | None = None
    redundancy: RedundancyClaim | None = None
    delivered: Day | None = None
    commissioned: Day | None = None
    engine: Name | None = None
    groups: list[NodeGroupModel] = Field(default=[], max_length=MAX_LIST)


class PuePointModel(Model):
    """The PUE at a part of the full load and a temperature outside."""

    load: Load
    outdoor_c: Degrees
    pue: Pue


class PueCurveModel(Model):
    """PUE by load and temperature: a point for each of both. ``full_load``: IT watts at load 1."""

    design_outdoor_c: Degrees
    full_load: Watts | None = None
    points: list[PuePointModel] = Field(min_length=1, max_length=MAX_PUE_POINTS)


class SiteClaimsModel(Model):
    """What is said about a site, for physics to check."""

    accelerators: Annotated[int, *number(1, 100_000_000, "accelerators")] = 0
    power: Watts | None = None
    note: Text = ""


class SiteModel(Model):
    """One place with one grid connection."""

    name: Name
    title: Text = ""
    country: SiteCountry
    zone: Zone
    grid_zone: Text = ""
    coordinates: CoordinatesModel | None = None
    energy: EnergyModel
    connection: Annotated[ConnectionModel, BeforeValidator(_connection)]
    pue: Annotated[Annotated[Pue, Tag(ONE)] | Annotated[PueCurveModel, Tag(MANY)], Discriminator(curved)]
    engine: Name = "local"
    dedicated_to: Name | None = None
    redundancy: RedundancyClaim | None = None
    power: list[PowerElementModel] = Field(default=[], max_length=MAX_LIST)
    blocks: list[BlockModel] = Field(default=[], max_length=MAX_LIST)
    claims: SiteClaimsModel | None = None
    note: Text = ""


class HardwareModel(Model):
    """A type of node beyond the catalogue, or in place of one of its entries. ``efficiency``: a mining machine's, in J/TH."""

    name: Name
    accelerator: AcceleratorModel
    accelerators: Annotated[int, *number(1, 64, "accelerators of a node")]
    nameplate: Watts
    idle: Watts
    accelerator_power: Watts
    accelerator_idle: WattsOrNone
    accelerator_cap: WattsOrNone = 0
    accelerator_memory: Memory | None = None
    cpu: Annotated[int, BeforeValidator(values.cpu_milli), schema("number")]
    memory: Memory
    domain_nodes: Annotated[int, *number(1, 100_000, "nodes of a domain")] = 1
    efficiency: Annotated[
        int | None,
        BeforeValidator(values.efficiency_mj_per_th),
        WithJsonSchema({"type": ["number", "string"]}),
    ] = None
    source: Text = ""


class EstateClaimModel(Model):
    """What is said about the whole estate, or about its part in one country, by a day."""

    name: Name
    country: Country | None = None
    accelerators: Annotated[int, *number(1, 100_000_000, "accelerators")] = 0
    power: Watts | None = None
    by: Day | None = None
    note: Text = ""


class EstateModel(Model):
    """``kind: estate``."""

    kind: Literal["estate"]
    operator: OperatorModel
    hardware: list[HardwareModel] = Field(default=[], max_length=MAX_LIST)
    sites: list[SiteModel] = Field(max_length=MAX_LIST)
    claims: list[EstateClaimModel] = Field(default=[], max_length=MAX_LIST)


class QuotaModel(Model):
    """Accelerators that may be had: guaranteed, at most (without ``limit``: any number), and how much of what is borrowed."""

    guaranteed: Annotated[int, *number(0, MAX_ACCELERATORS, "accelerators")] = 0
    limit: Annotated[int, *number(1, MAX_ACCELERATORS, "accelerators")] | None = None
    weight: Annotated[int, *number(1, 1_000_000, "parts")] = 1

    @model_validator(mode="after")
    def _limit_holds_what_is_guaranteed(self) -> "QuotaModel":
        if self.limit is not None and self.limit < self.guaranteed:
            message = f"{self.guaranteed} are guaranteed, but the limit is {self.limit}."
            raise values.Bad(message, "Write a higher limit, or leave it out.")
        return self


class PreferencesModel(Model):
    """What makes a site better, in the estate's currency; ``price`` is a factor of the site's price of energy."""

    price: Annotated[
        int, BeforeValidator(values.factor_permille), WithJsonSchema({"type": ["number", "string"]})
    ] = Field(default=1_000, json_schema_extra={"default": 1})
    carbon_per_kg: Price = 0
    power_per_kwh: Price = 0


def _some(value: object) -> object:
    return {} if value is None else value


_Listed = Annotated[list[Name], Field(min_length=1, max_length=MAX_LIST), Tag(MANY)]
_Shared = Annotated[
    dict[Name, Annotated[QuotaModel, BeforeValidator(_some)]],
    Field(min_length=1),
    BeforeValidator(few(MAX_LIST)),
    Tag(ONE),
]


def _projects(value: object) -> str:
    return ONE if isinstance(value, dict) else MANY


class TenantModel(Model):
    """``kind: tenant``. ``contact`` is about a person: it goes to the vault. Projects are a list, or have a quota each."""

    kind: Literal["tenant"]
    name: Name
    projects: Annotated[_Listed | _Shared, Discriminator(_projects)]
    country: Country | None = None
    contact: Text = ""
    policy: Profile | None = None
    quota: QuotaModel = QuotaModel()
    max_priority: Annotated[int, *number(-MOST_PRIORITY, MOST_PRIORITY, "priority")] = MOST_PRIORITY
    preferences: PreferencesModel = Field(default=PreferencesModel(), json_schema_extra={"default": {}})


class PricesModel(Model):
    """Prices by what they are for."""

    accelerator_per_hour: dict[ModelOrAny, Price] = Field(default={})
    reserved_per_month: dict[ModelOrAny, Price] = Field(default={})
    tokens_per_million: dict[
        Annotated[str, BeforeValidator(values.choice("kind of token", "input", "output"))], Price
    ] = Field(default={})


class TaxModel(Model):
    """A named rate."""

    name: Text
    percent: Annotated[
        int, BeforeValidator(values.percent_permille), schema("number", minimum=0, maximum=100)
    ]


class PricePlanModel(Model):
    """``kind: price-plan``."""

    kind: Literal["price-plan"]
    name: Name
    currency: Currency
    prices: PricesModel = PricesModel()
    energy: Annotated[str, *word("way to bill energy", "included", "pass-through")] = "included"
    tax: TaxModel | None = None


class ContractModel(Model):
    """``kind: contract``."""

    kind: Literal["contract"]
    name: Name
    tenant: Name
    plan: Name
    type: Annotated[str, *word("type of contract", "on-demand", "reserved", "dedicated")] = "on-demand"
    site: Name | None = None
    gpu: Annotated[tuple[str, int], BeforeValidator(values.gpu(9_999)), schema("string")] | None = None
    starts: Day | None = None
    ends: Day | None = None


class ReservationModel(Model):
    """``kind: reservation``: whole nodes that are a tenant's alone for a time."""

    kind: Literal["reservation"]
    name: Name
    tenant: Name
    site: Name
    gpu: Annotated[str, BeforeValidator(values.node_model), schema("string", examples=["H100"])]
    nodes: Annotated[int, *number(1, values.MAX_NODES, "nodes")]
    starts: Moment = Field(alias="from")
    until: Moment


class MaintenanceModel(Model):
    """``kind: maintenance``: nothing runs on parts of a site (none: all of it) for a time."""

    kind: Literal["maintenance"]
    name: Name
    site: Name
    parts: list[Annotated[str, BeforeValidator(values.part), schema("string")]] = Field(
        default=[], max_length=MAX_LIST
    )
    starts: Moment = Field(alias="from")
    until: Moment
    reason: Text = ""


class GpuOption(NamedTuple):
    """Accelerators of each node: ``number`` of a model, or ``share_milli`` thousandths of one."""

    model: str
    number: int
    share_milli: int


def _gpu(value: object) -> GpuOption:
    return GpuOption(*values.node_gpu(value))


def _gpus(options: list[GpuOption]) -> list[GpuOption]:
    values.alternatives(options)
    return options


OneGpu = Annotated[GpuOption, PlainValidator(_gpu), schema("string", examples=["H100:8", "H100:0.5"])]
_Several = Annotated[list[OneGpu], Field(min_length=1, max_length=values.MAX_ALTERNATIVES)]
Gpu = Annotated[
    Annotated[OneGpu, Tag(ONE)] | Annotated[_Several, AfterValidator(_gpus), Tag(MANY)],
    Discriminator(form),
]
Nodes = Annotated[
    tuple[int, int],
    BeforeValidator(values.workload_nodes),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": values.MAX_NODES},
                {"type": "string", "pattern": r"^[0-9]+\.\.[0-9]+$", "examples": ["4..16"]},
            ]
        }
    ),
]
EnvName = Annotated[str, BeforeValidator(values.env_name), schema("string")]
EnvValue = Annotated[str, BeforeValidator(values.env_value), WithJsonSchema({"type": ["string", "integer"]})]
SecretName = Annotated[str, BeforeValidator(values.secret_name), schema("string")]
SecretValue = Annotated[str, BeforeValidator(values.secret_value), schema("string", writeOnly=True)]
Port = Annotated[
    int,
    BeforeValidator(values.port),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1_024, "maximum": 65_535}]}),
]


class ResourcesModel(Model):
    """What each node of a workload gives it."""

    gpu: Gpu | None = None
    cpu: Annotated[int, BeforeValidator(values.cpu_milli), WithJsonSchema({"type": ["number", "string"]})] = (
        1_000
    )
    memory: Memory = 1_000
    gpu_memory: Memory | None = None

    @property
    def options(self) -> list[GpuOption]:
        """The accelerators that would do, the first choice first."""
        if self.gpu is None:
            return []
        return self.gpu if isinstance(self.gpu, list) else [self.gpu]


class TopologyModel(Model):
    """How the nodes should stand: in one group of a level, or each in another one."""

    pack: Annotated[str, *word("level", *LEVELS)] | None = None
    spread: Annotated[str, *word("level", *LEVELS)] | None = None
    required: Annotated[bool, BeforeValidator(values.flag)] = False

    @model_validator(mode="after")
    def _can_be_meant(self) -> "TopologyModel":
        values.topology(self.pack or "", self.spread or "")
        return self


def _topology(value: object) -> object:
    if isinstance(value, str):
        raise values.Bad(f"{show(value)} is not a topology.", "Write {pack: rack} or {spread: rack}.")
    return value


class CheckpointModel(Model):
    """How often it saves its state, and how long it needs to come back from it."""

    every: Duration
    restart: Duration | None = None


def _checkpoint(value: object) -> object:
    if isinstance(value, str):
        raise values.Bad(f"{show(value)} is not a checkpoint.", "Write {every: 10m}.")
    return value


def _listed(value: object) -> object:
    if isinstance(value, str):
        raise values.Bad("commands are a list.", "Write a hyphen before each of them.")
    return value


class WorkloadModel(Model):
    """``kind: workload``; also the body of a submission."""

    kind: Literal["workload"] = "workload"
    name: Name
    type: Annotated[str, *word("type of workload", "job", "service", "cluster", "filler")]
    project: Name
    nodes: Nodes = Field(default=(1, 0), json_schema_extra={"default": 1})
    resources: ResourcesModel = ResourcesModel()
    commands: Annotated[
        list[Annotated[str, BeforeValidator(values.command), schema("string")]],
        Field(max_length=values.MAX_COMMANDS),
        BeforeValidator(_listed),
    ] = Field(default=[])
    env: Annotated[
        dict[EnvName, EnvValue], Field(max_length=values.MAX_ENV), BeforeValidator(few(values.MAX_ENV))
    ] = Field(default={})
    secrets: Annotated[
        dict[SecretName, SecretValue], Field(max_length=values.MAX_ENV), BeforeValidator(few(values.MAX_ENV))
    ] = Field(default={})
    ports: Annotated[dict[Name, Port], Field(max_length=16), BeforeValidator(few(16))] = Field(default={})
    priority: Annotated[
        int,
        BeforeValidator(values.priority),
        schema("integer", minimum=-values.MAX_PRIORITY, maximum=values.MAX_PRIORITY),
    ] = 0
    max_duration: Duration | None = None
    expected: Duration | None = None
    checkpoint: Annotated[CheckpointModel | None, BeforeValidator(_checkpoint)] = None
    grace: Grace = 10_000
    flex: Annotated[str, *word("flex", "firm", "cappable", "pausable", "preemptible")] | None = None
    policy: PolicyField = None
    data: Annotated[list[Name], Field(max_length=values.MAX_DATA)] = Field(default=[])
    site: Name | None = None
    contract: Name | None = None
    reservation: Name | None = None
    lease: Annotated[str, *word("lease", "slurm")] | None = None
    topology: Annotated[TopologyModel | None, BeforeValidator(_topology)] = None
    counters: Annotated[str, *word("way to count tokens", "", "llamacpp")] = ""


class BatchModel(Model):
    """The body of a batch of submissions."""

    workloads: list[WorkloadModel] = Field(min_length=1)
