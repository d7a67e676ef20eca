"""What tenants ask for: workload specifications from chance alone."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

from headrace.core.hardware import HardwareType
from headrace.core.ids import SiteId
from headrace.core.scheduling.sharing import shares_time
from headrace.core.units import MS_PER_HOUR, MS_PER_MINUTE
from headrace.core.workload import (
    LEVELS,
    WHOLE_MILLI,
    Alternative,
    Flex,
    PolicyRef,
    Resources,
    Topology,
    WorkloadSpec,
    WorkloadType,
)
from headrace.sim.estates import COUNTRIES, PROJECTS, Ground, aside

WRONG = 0.02
"""How many ask for what can never be."""
SHAPED = 1 / 6
"""How many ask for something uncommon."""
SAVING = 0.7
"""How many of the jobs that are preemptible save their state."""
SHAPES = ("part", "part", "alternatives", "elastic", "pack", "spread", "memory")
FOREVER = "sleep 999999999"
TYPES = (
    *(WorkloadType.JOB,) * 32,
    *(WorkloadType.SERVICE,) * 3,
    *(WorkloadType.FILLER,) * 3,
    *(WorkloadType.CLUSTER,) * 2,
)


INTERRUPTIBLE = (Flex.PAUSABLE, Flex.PREEMPTIBLE)
"""How a filler may be curtailed."""


class SpecMaker:
    """Makes specifications for one ground; ``middle_ms`` and ``most_ms`` are the usual and longest job."""

    def __init__(self, chance: Random, ground: Ground, middle_ms: int, most_ms: int) -> None:
        self.chance, self.ground, self.shaping = chance, ground, aside(chance)
        self.middle_ms, self.most_ms = middle_ms, most_ms
        self.made = 0
        self.pausing: Random | None = None
        """Chance by which work that can be paused saves its state; None: none does."""
        self.under: Callable[[str, WorkloadSpec], WorkloadSpec] = lambda _tenant, spec: spec
        """What names other policies than those that everybody knows."""
        self._saved: dict[str, WorkloadSpec] = {}

    def make(self, tenant: str) -> tuple[WorkloadSpec, dict[str, str]]:
        """A specification, and the values of the secrets that it declares."""
        chance = self.chance
        self.made += 1
        name = f"work-{self.made}"
        kind = chance.choice(TYPES)
        policy = self._policy()
        groups = self.ground.groups([] if chance.random() < WRONG else self.ground.open_to(tenant, policy))
        site, hardware, count = chance.choice(groups)
        spec = WorkloadSpec(
            name=name,
            type=kind,
            project=chance.choice(PROJECTS),
            resources=self._resources(kind, hardware),
            commands=self.commands(kind),
            nodes=chance.choice((1, 1, 1, 1, 2, 2, 3, 5)),
            env={"WORK": name},
            priority=chance.choice((0, 0, 0, 1, 5, 10)),
            max_duration_ms=self._duration() if chance.random() < 0.15 else 0,
            grace_ms=chance.choice((1, 1_000, 10_000, 45_000)),
            flex=chance.choice(INTERRUPTIBLE if kind is WorkloadType.FILLER else tuple(Flex)),
            policy=policy,
        )
        if chance.random() > WRONG:
            spec = replace(spec, nodes=max(1, min(spec.nodes, count // 2)))
        spec = self._place(tenant, spec, site)
        if self.shaping.random() < SHAPED:
            spec = self._shaped(spec)
        if kind is WorkloadType.JOB and spec.flex is Flex.PREEMPTIBLE and self.shaping.random() < SAVING:
            spec = self._saving(tenant, spec)
        if self.pausing is not None and spec.flex is Flex.PAUSABLE and self.pausing.random() < SAVING:
            spec = replace(spec, checkpoint_ms=MS_PER_MINUTE)
        if kind is WorkloadType.SERVICE and chance.random() < 0.6:
            spec = replace(spec, counters="llamacpp", ports={"http": 0})
        secrets = {"SECRET": f"secret of {name}"} if chance.random() < 0.2 else {}
        return self.under(tenant, spec), secrets

    def smaller(self, spec: WorkloadSpec) -> WorkloadSpec:
        """The same on one node, anywhere, under no contract in particular, with at most one accelerator."""
        need = replace(
            spec.resources,
            accelerators=min(1, spec.resources.accelerators),
            cpu_milli=100,
            memory_mb=1,
            accelerator_memory_mb=0,
        )
        one = replace(spec, nodes=1, nodes_max=0, topology=None, alternatives=())
        return replace(one, resources=need, site=None, contract=None)

    def _saving(self, tenant: str, spec: WorkloadSpec) -> WorkloadSpec:
        """A job that saves its state; often an equal of one before it, so that they share accelerators in time."""
        chance = self.shaping
        spec = replace(
            spec,
            checkpoint_ms=chance.choice((1_000, 5_000, MS_PER_MINUTE)),
            restart_ms=chance.choice((0, 1_000, 10_000)),
            expected_ms=min(
                chance.choice((0, 0, self.middle_ms // 4, self.middle_ms, self.most_ms)),
                spec.max_duration_ms or self.most_ms,
            ),
        )
        before = self._saved.get(tenant)
        if before is not None and chance.random() < 0.7:
            spec = replace(
                spec,
                project=before.project,
                priority=before.priority,
                policy=before.policy,
                site=before.site,
                contract=before.contract,
                resources=replace(
                    before.resources, accelerators=chance.choice((1, before.resources.accelerators))
                ),
            )
        if shares_time(spec):
            self._saved[tenant] = spec
        return spec

    def _shaped(self, spec: WorkloadSpec) -> WorkloadSpec:
        """The same with one or two of what few ask for."""
        for shape in self.shaping.sample(SHAPES, self.shaping.choice((1, 1, 2))):
            spec = self._with(shape, spec)
        return spec

    def _with(self, shape: str, spec: WorkloadSpec) -> WorkloadSpec:
        chance, need = self.shaping, spec.resources
        match shape:
            case "part" if (
                need.accelerator and spec.type is not WorkloadType.CLUSTER and not spec.alternatives
            ):
                share = chance.choice((1, 125, 250, 333, 500, 500, 810, 999))
                return replace(spec, resources=replace(need, accelerators=1, share_milli=share))
            case "alternatives" if need.accelerator:
                return replace(spec, alternatives=self._others(need))
            case "elastic" if spec.type in (WorkloadType.JOB, WorkloadType.SERVICE):
                return replace(spec, nodes_max=spec.nodes + chance.randint(1, 4))
            case "pack":
                wish = Topology(pack=chance.choice(LEVELS), required=chance.random() < 0.7)
                return replace(spec, nodes=max(2, spec.nodes), nodes_max=0, topology=wish)
            case "spread":
                wish = Topology(spread=chance.choice(LEVELS[:-1]), required=chance.random() < 0.7)
                return replace(spec, nodes=max(2, spec.nodes), nodes_max=0, topology=wish)
            case "memory" if need.accelerator:
                least_mb = chance.choice((1, 80_000, 80_001, 180_000))
                return replace(spec, resources=replace(need, accelerator_memory_mb=least_mb))
            case _:
                return spec

    def _others(self, need: Resources) -> tuple[Alternative, ...]:
        """Other models that would do, each once."""
        chance = self.shaping
        models = {kind.accelerator: kind.accelerators for _, kind, _ in self.ground.groups([])} | {"H200": 8}
        others = sorted(model for model in models if model != need.accelerator)
        some = chance.sample(others, min(len(others), chance.choice((1, 1, 2))))
        whole = need.share_milli == WHOLE_MILLI
        return tuple(
            Alternative(model, chance.choice((1, 2, models[model])) if whole else 1) for model in some
        )

    def _place(self, tenant: str, spec: WorkloadSpec, site: SiteId) -> WorkloadSpec:
        chance = self.chance
        if chance.random() < 0.1:
            spec = replace(spec, site=site)
        if chance.random() < WRONG / 2:
            spec = replace(spec, site=SiteId("nowhere"))
        reserved = [
            one.id for one in self.ground.contracts if one.tenant == tenant and one.kind == "reserved"
        ]
        if reserved and chance.random() < 0.2:
            spec = replace(spec, contract=reserved[0])
        return spec

    def _duration(self) -> int:
        length = self.middle_ms * math.exp(self.chance.gauss(0.0, 1.1))
        return max(1_000, min(self.most_ms, round(length / 100) * 100))

    def commands(self, kind: WorkloadType) -> tuple[str, ...]:
        """What it runs: for ever, or for a while."""
        chance = self.chance
        trap = ("trap '' TERM",) if chance.random() < 0.05 else ()
        if kind is not WorkloadType.JOB and chance.random() < 0.97:
            return (*trap, FOREVER)
        code = chance.choice((0, 0, 0, 0, 0, 0, 0, 1, 3, 137))
        return (*trap, f"sleep {self._duration() / 1000}", *((f"exit {code}",) if code else ()))

    def _resources(self, kind: WorkloadType, hardware: HardwareType) -> Resources:
        chance = self.chance
        model, most = hardware.accelerator, hardware.accelerators
        cpu = chance.choice((0, 100, 1_000, 1_000, 3_000))
        memory = chance.choice((1, 100, 1_000, 4_000))
        if kind is not WorkloadType.CLUSTER and chance.random() < 0.1:
            return Resources("", 0, max(cpu, 100), memory)
        count = chance.choice((1, 1, 2, most, most)) if chance.random() > WRONG else most + 1
        if kind is WorkloadType.CLUSTER and chance.random() < 0.5:
            count = 1
        return Resources(model, count, cpu, memory)

    def _policy(self) -> PolicyRef:
        chance = self.chance
        draw = chance.random()
        if draw < 0.55:
            return PolicyRef()
        if draw < 0.58:
            return PolicyRef(countries=("US",))
        if draw < 0.90:
            there = [site.country for site in self.ground.estate.sites if site.country]
            named = (
                {chance.choice(there), chance.choice(COUNTRIES)}
                if chance.random() < 0.85
                else {chance.choice(COUNTRIES)}
            )
            return PolicyRef(countries=tuple(sorted(named)))
        return PolicyRef(profile=chance.choice(("public", "nordic-only", "uk-only", "eea-only")))


def shapes_of(spec: WorkloadSpec) -> Iterator[str]:
    """What of the uncommon it asks for, in words."""
    if spec.resources.share_milli < WHOLE_MILLI:
        yield "part"
    if spec.alternatives:
        yield "alternatives"
    if spec.nodes_max:
        yield "elastic"
    if spec.resources.accelerator_memory_mb:
        yield "memory"
    if spec.reservation is not None:
        yield "reservation"
    if shares_time(spec):
        yield "time"
    wish = spec.topology
    if wish is not None:
        how = "required" if wish.required else "preferred"
        yield f"{how} {'pack' if wish.pack else 'spread'} {wish.pack or wish.spread}"


def is_endless(spec: WorkloadSpec) -> bool:
    """Whether it runs until it is told to stop."""
    return FOREVER in spec.commands


SHORT_MS = (90_000, 15 * MS_PER_MINUTE)
LONG_MS = (8 * MS_PER_MINUTE, 3 * MS_PER_HOUR)
