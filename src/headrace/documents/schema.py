"""What a document may say: the fields of each kind, in the words of the documents.

Every model is strict and forbids fields that it doesn't know. Values are parsed by :mod:`headrace.documents.values`, so
that a validated model holds the core's integers.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    WithJsonSchema,
    model_validator,
)

from headrace.core.contracts import MOST_PRIORITY
from headrace.core.workload import LEVELS
from headrace.documents import values
from headrace.documents.source import show

MAX_LIST = 1_000
MAX_GROUP_NODES = 1_000_000
MAX_ACCELERATORS = 100_000_000
ONE, MANY = "[one]", "[many]"
"""Tags of values with two forms; they are no steps to a place in a document."""


def few(most: int) -> Callable[[object], object]:
    """A validator of how many fields or entries there are, before each of a million is found to be wrong."""

    def validate(value: object) -> object:
        if isinstance(value, dict) and len(value) > most:
            raise values.Bad(f"{len(value)} are too many.", f"At most {most}.")
        return value

    return validate


class Model(BaseModel):
    """The base of all: strict, closed, unchangeable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _few(cls, data: object) -> object:
        return few(MAX_LIST)(data)


def _form(value: object) -> str:
    return MANY if isinstance(value, list) else ONE


def _schema(kind: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": kind, **more})


def _number(least: int, most: int, what: str) -> tuple[BeforeValidator, WithJsonSchema]:
    return BeforeValidator(values.count(least, most, what)), _schema("integer", minimum=least, maximum=most)


def _word(what: str, *options: str) -> tuple[BeforeValidator, WithJsonSchema]:
    return BeforeValidator(values.choice(what, *options)), _schema("string", enum=list(options))


_NAME_SCHEMA = {"pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", "maxLength": 63}
Name = Annotated[str, BeforeValidator(values.name), _schema("string", **_NAME_SCHEMA)]
Text = Annotated[str, BeforeValidator(values.text), _schema("string", maxLength=values.MAX_TEXT)]
Watts = Annotated[int, BeforeValidator(values.watts), _schema("string", examples=["40MW"])]
WattsOrNone = Annotated[int, BeforeValidator(values.watts_or_none), _schema("string", examples=["0W"])]
Memory = Annotated[int, BeforeValidator(values.memory_mb), _schema("string", examples=["64GB"])]
Duration = Annotated[int, BeforeValidator(values.duration_ms), _schema("string", examples=["1h30m"])]
Grace = Annotated[int, BeforeValidator(values.grace_ms), _schema("string", examples=["10s"])]
Country = Annotated[str, BeforeValidator(values.country), _schema("string", pattern="^[A-Z]{2}$")]
SiteCountry = Annotated[str, BeforeValidator(values.site_country), _schema("string")]
Zone = Annotated[str, BeforeValidator(values.zone), _schema("string", examples=["Europe/Oslo"])]
Currency = Annotated[str, BeforeValidator(values.currency), _schema("string", pattern="^[A-Z]{3}$")]
Day = Annotated[str, BeforeValidator(values.day), _schema("string", format="date")]
Moment = Annotated[int, BeforeValidator(values.moment_ms), _schema("string", format="date-time")]
Price = Annotated[int, BeforeValidator(values.price_micros), WithJsonSchema({"type": ["number", "string"]})]
AcceleratorModel = Annotated[str, BeforeValidator(values.model), _schema("string")]
Profile = Annotated[str, BeforeValidator(values.profile), _schema("string", examples=["nordic-only"])]
ModelOrAny = Annotated[str, BeforeValidator(values.model_or_any), _schema("string")]


class OperatorModel(Model):
    """Who runs the estate."""

    name: Name
    title: Text = ""
    country: Country
    zone: Zone
    currency: Currency


class ConnectionModel(Model):
    """What the grid allows, in watts at the meter."""

    firm: WattsOrNone
    flexible: WattsOrNone = 0


def _connection(value: object) -> object:
    return {"firm": "0W"} if value == "unknown" else value


class EnergyModel(Model):
    """Where the energy comes from, and constants declared for it."""

    source: Annotated[
        str,
        *_word("energy source", "hydro", "wind", "solar", "nuclear", "gas", "coal", "grid-mix", "unknown"),
    ] = "unknown"
    carbon: Annotated[int, *_number(0, 2_000, "grams of CO2e per kWh")]
    price: Price
    currency: Currency


class CoordinatesModel(Model):
    """Where it is, in degrees."""

    latitude: Annotated[float, BeforeValidator(values.degrees(90)), _schema("number")]
    longitude: Annotated[float, BeforeValidator(values.degrees(180)), _schema("number")]


class PowerElementModel(Model):
    """An element of the power tree between the connection and the blocks."""

    name: Name
    kind: Annotated[
        str, *_word("kind of power element", "transformer", "feed", "ups", "busway", "block", "row", "rack")
    ]
    rating: Watts
    fed_by: Name | None = None


class NodeGroupModel(Model):
    """Racks of equal nodes. Without ``racks``, as many as ``nodes`` need."""

    name: Name
    hardware: Name
    racks: Annotated[int, *_number(1, 100_000, "racks")] | None = None
    nodes_per_rack: Annotated[int, *_number(1, 1_000, "nodes per rack")] = 1
    rack_rating: Watts | None = None
    nodes: Annotated[int, *_number(1, MAX_GROUP_NODES, "nodes")] | None = None
    rail_racks: Annotated[int, *_number(1, 100_000, "racks on the same rails")] | None = None


class BlockModel(Model):
    """A modular unit that is delivered and commissioned as one."""

    name: Name
    fed_by: Name | None = None
    rating: Watts | None = None
    delivered: Day | None = None
    commissioned: Day | None = None
    groups: list[NodeGroupModel] = Field(default=[], max_length=MAX_LIST)


class SiteClaimsModel(Model):
    """What is said about a site, for physics to check."""

    accelerators: Annotated[int, *_number(1, 100_000_000, "accelerators")] = 0
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
    pue: Annotated[int, BeforeValidator(values.pue_permille), _schema("number", minimum=1, maximum=3)]
    engine: Name = "local"
    dedicated_to: Name | None = None
    power: list[PowerElementModel] = Field(default=[], max_length=MAX_LIST)
    blocks: list[BlockModel] = Field(default=[], max_length=MAX_LIST)
    claims: SiteClaimsModel | None = None
    note: Text = ""


class HardwareModel(Model):
    """A type of node beyond the catalogue, or in place of one of its entries."""

    name: Name
    accelerator: AcceleratorModel
    accelerators: Annotated[int, *_number(1, 64, "accelerators of a node")]
    nameplate: Watts
    idle: Watts
    accelerator_power: Watts
    accelerator_idle: WattsOrNone
    accelerator_cap: WattsOrNone = 0
    accelerator_memory: Memory | None = None
    cpu: Annotated[int, BeforeValidator(values.cpu_milli), _schema("number")]
    memory: Memory
    domain_nodes: Annotated[int, *_number(1, 100_000, "nodes of a domain")] = 1
    source: Text = ""


class EstateClaimModel(Model):
    """What is said about the whole estate, or about its part in one country, by a day."""

    name: Name
    country: Country | None = None
    accelerators: Annotated[int, *_number(1, 100_000_000, "accelerators")] = 0
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

    guaranteed: Annotated[int, *_number(0, MAX_ACCELERATORS, "accelerators")] = 0
    limit: Annotated[int, *_number(1, MAX_ACCELERATORS, "accelerators")] | None = None
    weight: Annotated[int, *_number(1, 1_000_000, "parts")] = 1

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
    max_priority: Annotated[int, *_number(-MOST_PRIORITY, MOST_PRIORITY, "priority")] = MOST_PRIORITY
    preferences: PreferencesModel = Field(default=PreferencesModel(), json_schema_extra={"default": {}})


class PricesModel(Model):
    """Prices by what they are for."""

    accelerator_per_hour: dict[ModelOrAny, Price] = {}
    reserved_per_month: dict[ModelOrAny, Price] = {}
    tokens_per_million: dict[
        Annotated[str, BeforeValidator(values.choice("kind of token", "input", "output"))], Price
    ] = {}


class TaxModel(Model):
    """A named rate."""

    name: Text
    percent: Annotated[
        int, BeforeValidator(values.percent_permille), _schema("number", minimum=0, maximum=100)
    ]


class PricePlanModel(Model):
    """``kind: price-plan``."""

    kind: Literal["price-plan"]
    name: Name
    currency: Currency
    prices: PricesModel = PricesModel()
    energy: Annotated[str, *_word("way to bill energy", "included", "pass-through")] = "included"
    tax: TaxModel | None = None


class ContractModel(Model):
    """``kind: contract``."""

    kind: Literal["contract"]
    name: Name
    tenant: Name
    plan: Name
    type: Annotated[str, *_word("type of contract", "on-demand", "reserved", "dedicated")] = "on-demand"
    site: Name | None = None
    gpu: Annotated[tuple[str, int], BeforeValidator(values.gpu(9_999)), _schema("string")] | None = None
    starts: Day | None = None
    ends: Day | None = None


class ReservationModel(Model):
    """``kind: reservation``: whole nodes that are a tenant's alone for a time."""

    kind: Literal["reservation"]
    name: Name
    tenant: Name
    site: Name
    gpu: Annotated[str, BeforeValidator(values.node_model), _schema("string", examples=["H100"])]
    nodes: Annotated[int, *_number(1, values.MAX_NODES, "nodes")]
    starts: Moment = Field(alias="from")
    until: Moment


class MaintenanceModel(Model):
    """``kind: maintenance``: nothing runs on parts of a site (none: all of it) for a time."""

    kind: Literal["maintenance"]
    name: Name
    site: Name
    parts: list[Annotated[str, BeforeValidator(values.part), _schema("string")]] = Field(
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


OneGpu = Annotated[GpuOption, PlainValidator(_gpu), _schema("string", examples=["H100:8", "H100:0.5"])]
_Several = Annotated[list[OneGpu], Field(min_length=1, max_length=values.MAX_ALTERNATIVES)]
Gpu = Annotated[
    Annotated[OneGpu, Tag(ONE)] | Annotated[_Several, AfterValidator(_gpus), Tag(MANY)],
    Discriminator(_form),
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
EnvName = Annotated[str, BeforeValidator(values.env_name), _schema("string")]
EnvValue = Annotated[str, BeforeValidator(values.env_value), WithJsonSchema({"type": ["string", "integer"]})]
SecretName = Annotated[str, BeforeValidator(values.secret_name), _schema("string")]
SecretValue = Annotated[str, BeforeValidator(values.secret_value), _schema("string", writeOnly=True)]
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

    pack: Annotated[str, *_word("level", *LEVELS)] | None = None
    spread: Annotated[str, *_word("level", *LEVELS)] | None = None
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


def _listed(value: object) -> object:
    if isinstance(value, str):
        raise values.Bad("commands are a list.", "Write a hyphen before each of them.")
    return value


class WorkloadModel(Model):
    """``kind: workload``; also the body of a submission."""

    kind: Literal["workload"] = "workload"
    name: Name
    type: Annotated[str, *_word("type of workload", "job", "service", "cluster", "filler")]
    project: Name
    nodes: Nodes = Field(default=(1, 0), json_schema_extra={"default": 1})
    resources: ResourcesModel = ResourcesModel()
    commands: Annotated[
        list[Annotated[str, BeforeValidator(values.command), _schema("string")]],
        Field(max_length=values.MAX_COMMANDS),
        BeforeValidator(_listed),
    ] = []
    env: Annotated[
        dict[EnvName, EnvValue], Field(max_length=values.MAX_ENV), BeforeValidator(few(values.MAX_ENV))
    ] = {}
    secrets: Annotated[
        dict[SecretName, SecretValue], Field(max_length=values.MAX_ENV), BeforeValidator(few(values.MAX_ENV))
    ] = {}
    ports: Annotated[dict[Name, Port], Field(max_length=16), BeforeValidator(few(16))] = {}
    priority: Annotated[
        int,
        BeforeValidator(values.priority),
        _schema("integer", minimum=-values.MAX_PRIORITY, maximum=values.MAX_PRIORITY),
    ] = 0
    max_duration: Duration | None = None
    expected: Duration | None = None
    checkpoint: Annotated[CheckpointModel | None, BeforeValidator(_checkpoint)] = None
    grace: Grace = 10_000
    flex: Annotated[str, *_word("flex", "firm", "cappable", "pausable", "preemptible")] | None = None
    policy: Annotated[PolicyModel | None, BeforeValidator(_policy), WithJsonSchema(_POLICY_SCHEMA)] = None
    site: Name | None = None
    contract: Name | None = None
    reservation: Name | None = None
    lease: Annotated[str, *_word("lease", "slurm")] | None = None
    topology: Annotated[TopologyModel | None, BeforeValidator(_topology)] = None
    counters: Annotated[str, *_word("way to count tokens", "", "llamacpp")] = ""


class BatchModel(Model):
    """The body of a batch of submissions."""

    workloads: list[WorkloadModel] = Field(min_length=1)


MODELS: dict[str, type[Model]] = {
    "estate": EstateModel,
    "tenant": TenantModel,
    "price-plan": PricePlanModel,
    "contract": ContractModel,
    "reservation": ReservationModel,
    "maintenance": MaintenanceModel,
    "workload": WorkloadModel,
}
"""The kinds of document and the model of each."""
