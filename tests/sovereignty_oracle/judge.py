"""Production and oracle side by side: documents go in by commands, and each placement is held against the second mind.

**The relation.** For a tenant, a policy, a site and an instant, production's answer must lie between two of the oracle:

- it allows **nothing** that the *generous* oracle forbids: that has the tightest facts that follow from the documents.
  And nothing that any completion forbids: a world drawn by chance that fits all that is stated, in which everything is
  known (:mod:`tests.sovereignty_oracle.completion`), judged without any rule for bounds;
- it allows **everything** that the *strict* oracle allows: that has the same facts, save that an answer about exposure
  which rests on anything unknown counts as unknown.

Where all that an answer rests on is known, both oracles are one, and production must be *equal*. So it must be, known or
not: for lists of countries; for whatever is stated or declared; for seats, staff and certificates; and for shares (RFD 18
has their bounds as the least and greatest solution, rounded outwards to whole ppm). Only exposure by control or custody may
be ``unknown`` where the oracle, which looks further, knows better.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

from headrace.core import commands as c
from headrace.core import events as ev
from headrace.core.authority import PolicyEngine
from headrace.core.errors import HeadraceError
from headrace.core.ids import TenantId
from headrace.core.observation import Capabilities
from headrace.core.sovereignty.judging import would_change
from headrace.core.units import MS_PER_DAY
from headrace.core.workload import TERMINAL, EndReason, PolicyRef, State
from headrace.core.world import World
from headrace.documents import parse_documents
from headrace.policy.engine import policies
from tests.core.small import RUNNING, START_MS, Core, ended, job
from tests.sovereignty_oracle.cedar import Rule, allows, facts_in, text_of
from tests.sovereignty_oracle.completion import Impossible, completed
from tests.sovereignty_oracle.facts import Documents, Sites
from tests.sovereignty_oracle.rules import COUNTRIES, LISTS, SHIPPED, Rules
from tests.sovereignty_oracle.worlds import KINDS, TENANTS, Kind, Maker

Doc = dict[str, Any]
MINUTE_MS = 60_000
COMPLETIONS = 2


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Where the two differ: in which world, at what step, about what, which way, and by which facts of the oracle."""

    seed: int
    step: int
    how: str
    tenant: str
    policy: str
    site: str
    facts: str = ""


@dataclass(slots=True)
class Tally:
    """What was judged; ``kinds`` counts worlds, changes, policies and facts by what they were."""

    decisions: int = 0
    worlds: int = 0
    allowed: int = 0
    wider: int = 0
    completions: int = 0
    placed: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    found: list[Disagreement] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Count another's with these."""
        for name in ("decisions", "worlds", "allowed", "wider", "completions", "placed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.kinds += other.kinds
        self.found += other.found


@dataclass(slots=True)
class Judge:
    """The oracle's answers at one instant; ``rules`` are the policies by name, as trees."""

    documents: Documents
    rules: dict[str, tuple[Rule, ...]]
    sites: Sites

    def meant(self, tenant: str, ref: PolicyRef) -> str | frozenset[str]:
        """What a reference means: the name of rules, or a list of countries (none: anywhere that is known)."""
        if ref.countries:
            return frozenset(ref.countries)
        name = ref.profile or self.documents.by_key[f"tenant/{tenant}"].get("policy") or "public"
        return name if name in self.rules else LISTS[name]

    def rules_of(self, tenant: str, ref: PolicyRef) -> tuple[Rule, ...]:
        meant = self.meant(tenant, ref)
        return self.rules[meant] if isinstance(meant, str) else ()

    def allows(
        self, tenant: str, ref: PolicyRef, site: str, *, strict: bool, sites: Sites | None = None
    ) -> bool:
        meant = self.meant(tenant, ref)
        if isinstance(meant, str):
            return allows(self.rules[meant], (sites or self.sites).asked(site, tenant, strict=strict))
        country = self.documents.site(site).get("country", "unknown")
        return country != "unknown" and (not meant or country in meant)


class Trial:
    """One world from a seed, or of documents that are ``made``, and what happens in it."""

    def __init__(
        self,
        seed: int,
        *,
        engine: PolicyEngine | None = None,
        seam: Callable[[World], None] = lambda world: None,
        deep: bool = True,
        made: Sequence[Doc] = (),
    ) -> None:
        self.seed, self.deep = seed, deep
        self.chance = Random(seed)
        self.tally = Tally(worlds=1)
        self.kind: Kind = self.chance.choice(KINDS)
        self.core = Core(now_ms=START_MS + self.chance.randrange(MS_PER_DAY))
        self.core.world = World(self.core.world.state, engine or policies())
        seam(self.core.world)
        self.documents = Documents()
        self.rules: dict[str, tuple[Rule, ...]] = dict(SHIPPED)
        self.step = 0
        self.maker = Maker(self.chance, self.today, self.kind.knowing)
        self.tally.kinds[f"world: {self.kind.name}"] += 1
        if made:
            self.core.now_ms = START_MS
            self.core.do(c.StartControl("oracle", "0.1.0", "boot"))
            self._must(*made)
        else:
            self._begin()

    @property
    def today(self) -> Any:
        """The day of UTC."""
        return datetime.fromtimestamp(self.core.now_ms / 1_000, UTC).date()

    @property
    def site_names(self) -> list[str]:
        return [one["name"] for one in self.documents.estate["sites"]]

    # -- documents by commands -----------------------------------------------------------------------------------------

    def apply(self, *documents: Doc) -> str:
        """Apply documents as a client would; "" or why they were refused, and then nothing has changed."""
        try:
            parsed = parse_documents([dict(one) for one in documents])
            made = tuple(c.NormalisedDocument(one.kind, one.name, one.normalised) for one in parsed)
            self.core.do(c.ApplyDocuments(made))
        except HeadraceError as error:
            return "; ".join(f"{problem.message} {problem.next_step}" for problem in error.problems)
        for one, parsed_one in zip(documents, parsed, strict=True):
            self.documents.by_key[f"{parsed_one.kind}/{parsed_one.name}"] = one
        return ""

    def remove(self, kind: str, name: str) -> bool:
        """Remove a document; False where it is in use."""
        try:
            self.core.do(c.RemoveDocument(kind, name))
        except HeadraceError:
            return False
        self.documents.by_key.pop(f"{kind}/{name}")
        return True

    def _begin(self) -> None:
        maker, chance = self.maker, self.chance
        self.core.do(c.StartControl("oracle", "0.1.0", "boot"))
        tenants = [maker.tenant(name) for name in TENANTS]
        self._must(*tenants, maker.estate(), *maker.paid())
        for one in maker.ownership(self.site_names):
            if refused := self.apply(one):
                self._refused("ownership", refused)
        for name in self.site_names:
            if chance.random() < 0.7:
                self._counted("facts", maker.facts(name))
        for number in range(chance.choice((10, 11, 12))):
            self._new_policy(f"ours-{number}")
        if chance.random() < 0.8:
            self._isolate()
        self._default()

    def _must(self, *documents: Doc) -> None:
        if refused := self.apply(*documents):
            raise AssertionError(refused)

    def _counted(self, what: str, *documents: Doc) -> None:
        if refused := self.apply(*documents):
            self._refused(what, refused)
        else:
            self.tally.kinds[f"applied: {what}"] += 1

    def _refused(self, what: str, why: str) -> None:
        self.tally.kinds[f"refused: {what}"] += 1

    def _new_policy(self, name: str) -> None:
        """A policy that is accepted; some that aren't on the way."""
        made = Rules(self.chance, self._numbers(), self.site_names, TENANTS)
        for _ in range(8):
            rules = made.policy()
            refused = self.apply({"kind": "policy", "name": name, "cedar": text_of(rules)})
            if not refused:
                self.rules[name] = rules
                self.tally.kinds["applied: policy"] += 1
                return
            self._refused("policy", refused)

    def _numbers(self) -> list[int]:
        """Shares that occur in this world: thresholds lie there."""
        sites = Sites.at(self.documents, self.core.now_ms)
        found: set[int] = set()
        for site in self.chance.sample(self.site_names, 2):
            fact = sites.asked(site, TENANTS[0], strict=False)
            for country in self.chance.sample(COUNTRIES, 2):
                for path in ("resource.operator.control_min_ppm", "resource.operator.control_max_ppm"):
                    value = fact(f"{path}.{country}")
                    found |= {value} if isinstance(value, int) else set()
        return sorted(found)

    def _isolate(self) -> None:
        found = self.chance.choice(("none", "uid", "container", "container"))
        self.core.do(c.DeclareEngines({"local": Capabilities(found, pause=True, ports=True)}))
        self.documents.isolation = found

    def _default(self) -> None:
        """A tenant gets a policy for all that names none."""
        name = self.chance.choice(TENANTS)
        policy = self.chance.choice(("", "nordic-only", "uk-critical", *self._declared()))
        before = self.documents.by_key[f"tenant/{name}"]
        self._counted(
            "tenant",
            {
                **{key: value for key, value in before.items() if key != "policy"},
                **({"policy": policy} if policy else {}),
            },
        )

    def _declared(self) -> list[str]:
        return sorted(self.documents.of_kind("policy"))

    # -- what happens --------------------------------------------------------------------------------------------------

    def change(self) -> None:
        """One thing changes, or time goes on; what documents would do is asked beforehand, now and then."""
        changes = (
            self._days, self._days, self._midnight, self._midnight, self._minutes, self._held, self._held, self._facts,
            self._facts, self._policy, self._unpolicy, self._isolate, self._default, self._site, self._unstate,
        )  # fmt: skip
        change = self.chance.choice(changes)
        self.tally.kinds[f"change: {change.__name__.strip('_')}"] += 1
        change()
        self.step += 1

    def _days(self) -> None:
        self.core.now_ms += MS_PER_DAY * self.chance.choice((1, 1, 2, 6, 40))
        self.maker.today = self.today

    def _midnight(self) -> None:
        """To just before midnight of UTC, where all is decided, and to just after it: in most zones that is one day."""
        midnight_ms = (self.core.now_ms // MS_PER_DAY + 1) * MS_PER_DAY
        self.core.now_ms = midnight_ms - 20 * MINUTE_MS
        self.maker.today = self.today
        self.decide()
        self.core.now_ms = midnight_ms + 20 * MINUTE_MS
        self.maker.today = self.today

    def _minutes(self) -> None:
        """To just before, or just after, midnight somewhere."""
        hour = self.chance.choice((0, 0, 8, 12, 15, 22, 23))
        midnight_ms = (self.core.now_ms // MS_PER_DAY + 1) * MS_PER_DAY
        self.core.now_ms = (
            midnight_ms + (hour * 60 + self.chance.choice((-1, 0, 1)) - 24 * 60 * (hour > 12)) * MINUTE_MS
        )
        self.core.now_ms = max(self.core.now_ms, self.core.state.last_ms)
        self.maker.today = self.today

    def _held(self) -> None:
        owners = self.documents.of_kind("ownership")
        if owners:
            name = self.chance.choice(sorted(owners))
            self._asked_before("ownership", self.maker.moved(dict(owners[name])))

    def _facts(self) -> None:
        self._asked_before("facts", self.maker.facts(self.chance.choice(self.site_names)))

    def _policy(self) -> None:
        self._new_policy(self.chance.choice((*self._declared(), "ours-9")))

    def _unpolicy(self) -> None:
        if names := self._declared():
            name = self.chance.choice(names)
            if self.remove("policy", name):
                self.rules.pop(name)

    def _unstate(self) -> None:
        """A site of which nothing is stated any more: what nobody states is unknown."""
        stated = sorted(self.documents.of_kind("facts"))
        if stated:
            self.remove("facts", self.chance.choice(stated))

    def _site(self) -> None:
        """The estate is declared anew: a site has another country, or another tenant alone."""
        sites = [dict(one) for one in self.documents.estate["sites"]]
        one = self.chance.choice(sites)
        if self.chance.random() < 0.6:
            one["country"] = self.maker.country()
        elif one.pop("dedicated_to", None) is None:
            one["dedicated_to"] = self.chance.choice(TENANTS)
        self._counted("estate", {**self.documents.estate, "sites": sites})

    def _asked_before(self, kind: str, document: Doc) -> None:
        """Apply a document; in some worlds what it would newly allow and forbid is asked first, and held against the oracle."""
        if not self.deep or self.chance.random() < 0.5:
            self._counted(kind, document)
            return
        try:
            (parsed,) = parse_documents([dict(document)])
        except HeadraceError as error:
            self._refused(kind, str(error))
            return
        key = f"{parsed.kind}/{parsed.name}"
        world = self.core.world
        world.at(self.core.now_ms)
        said = would_change(world, world.state.documents | {key: parsed.normalised}, self.core.now_ms)
        before = self.judge()
        wanted = Documents({**self.documents.by_key, key: document}, self.documents.isolation)
        after = Judge(wanted, self.rules, Sites.at(wanted, self.core.now_ms))
        self._hold_changes(
            before, after, {(one.tenant, one.policy, one.site): one.after.allowed for one in said.changes}
        )
        self._counted(kind, document)

    def _hold_changes(self, before: Judge, after: Judge, said: dict[tuple[str, str, str], bool]) -> None:
        for tenant, ref, at in self._live():
            for site in self.site_names:
                if site not in at and site not in self._open(tenant, None):
                    continue
                was, will = (self._certain(one, tenant, ref, site) for one in (before, after))
                named = ref.profile or ", ".join(ref.countries)
                named = named or str(self.documents.by_key[f"tenant/{tenant}"].get("policy") or "public")
                if was is None or will is None:
                    continue
                self.tally.kinds["asked: what-if"] += 1
                if said.get((tenant, named, site)) != (None if was == will else will):
                    self._found("what-if", tenant, ref, site)

    def _certain(self, judge: Judge, tenant: str, ref: PolicyRef, site: str) -> bool | None:
        """The oracle's answer where it is one."""
        strict, generous = (judge.allows(tenant, ref, site, strict=one) for one in (True, False))
        return strict if strict == generous else None

    def _live(self) -> list[tuple[str, PolicyRef, set[str]]]:
        """What runs and waits by tenant and policy, and each tenant's work that names none; with the sites that it runs at."""
        found: dict[tuple[str, PolicyRef], set[str]] = {(name, PolicyRef()): set() for name in TENANTS}
        for work in self.core.state.workloads.values():
            if work.state not in TERMINAL:
                at = found.setdefault((str(work.tenant), work.spec.policy), set())
                if work.placement is not None:
                    at.add(str(self.core.state.placements[work.placement].site))
        return [(tenant, ref, at) for (tenant, ref), at in found.items()]

    # -- judging -------------------------------------------------------------------------------------------------------

    def judge(self) -> Judge:
        return Judge(self.documents, self.rules, Sites.at(self.documents, self.core.now_ms))

    def refs(self) -> list[PolicyRef]:
        """What workloads may name."""
        listed = [tuple(self.chance.sample(COUNTRIES, count)) for count in (1, 3)]
        names = (*self._declared(), *SHIPPED, *LISTS)
        return [
            PolicyRef(),
            *(PolicyRef(profile=name) for name in names),
            *(PolicyRef(countries=one) for one in listed),
        ]

    def decide(self) -> None:
        """Every tenant's every policy at every site: the world's own answer beside the oracle's."""
        world = self.core.world
        world.snapshot(self.core.now_ms)
        judge = self.judge()
        truths = self._truths(judge) if self.deep else []
        for ref in self.refs():
            for site in self.site_names:
                number = world.fleet.site_index[site]  # type: ignore[index]  # a site's name
                for tenant in TENANTS:
                    said = world.place_verdict(TenantId(tenant), ref, number).allowed
                    self.tally.decisions += 1
                    self.tally.allowed += said
                    self._hold(judge, truths, said, tenant, ref, site)

    def _hold(
        self, judge: Judge, truths: Sequence[Sites], said: bool, tenant: str, ref: PolicyRef, site: str
    ) -> None:
        generous = judge.allows(tenant, ref, site, strict=False)
        if said != generous:
            strict = judge.allows(tenant, ref, site, strict=True)
            if said or strict:
                self._found("allowed" if said else "forbidden", tenant, ref, site)
            else:
                self.tally.wider += 1
        for truth in truths if said else ():
            self.tally.completions += 1
            if not judge.allows(tenant, ref, site, strict=False, sites=truth):
                self._found("allowed against a completion", tenant, ref, site)

    def _truths(self, judge: Judge) -> list[Sites]:
        asked = sorted(frozenset().union(*(facts_in(one) for one in self.rules.values())))
        found = []
        for _ in range(COMPLETIONS):
            try:
                found.append(completed(self.documents, judge.sites, asked, COUNTRIES, self.chance))
            except Impossible:
                self.tally.kinds["completion: none"] += 1
        return found

    def _found(self, how: str, tenant: str, ref: PolicyRef, site: str) -> None:
        judge = self.judge()
        rules = judge.rules_of(tenant, ref)
        fact = judge.sites.asked(site, tenant, strict=False)
        facts = ", ".join(f"{path}={fact(path)}" for path in sorted(facts_in(rules))) if site else ""
        name = ref.profile or "+".join(ref.countries) or "(default)"
        self.tally.found.append(Disagreement(self.seed, self.step, how, tenant, name, site, facts))

    # -- planner and admission -----------------------------------------------------------------------------------------

    def place(self) -> None:
        """Workloads are submitted, planned, adopted; and each is proposed where the planner did not put it."""
        judge = self.judge()
        refs = self.refs()
        for tenant in TENANTS:
            for ref in self.chance.sample(refs, 2):
                pin = self.chance.choice((None, None, *self.site_names))
                self._submit(judge, tenant, ref, pin)
        self.core.place()
        self._hold_placed(judge)

    def _open(self, tenant: str, pin: str | None) -> list[str]:
        """Sites that a tenant may use: a site that is another's alone is not there."""
        return [
            one
            for one in self.site_names
            if pin in (None, one) and self.documents.site(one).get("dedicated_to") in (None, tenant)
        ]

    def _is_built(self, site: str) -> bool:
        """Whether a site's blocks count as commissioned: one that stands nobody knows where has none that do."""
        return bool(self.documents.site(site).get("country", "unknown") != "unknown")

    def _submit(self, judge: Judge, tenant: str, ref: PolicyRef, pin: str | None) -> None:
        spec = job(f"w{len(self.core.state.workloads)}", policy=ref, site=pin, grace_ms=1_000)
        sites = self._open(tenant, pin)
        try:
            (ident,) = self.core.submit(spec, tenant=TenantId(tenant))
        except HeadraceError as error:
            if any(self._is_built(site) for site in sites):
                self._found(f"not taken: {error}", tenant, ref, pin or "")
            return
        answers = [self._certain(judge, tenant, ref, site) for site in sites]
        is_refused = self.core.state.workloads[ident].state is State.REFUSED
        self.tally.placed += 1
        if (is_refused and True in answers) or (not is_refused and all(one is False for one in answers)):
            self._found("refused for ever" if is_refused else "not refused", tenant, ref, pin or "")
            return
        if not is_refused:
            self._propose(judge, ident, tenant, ref, pin)

    def _propose(self, judge: Judge, ident: Any, tenant: str, ref: PolicyRef, pin: str | None) -> None:
        """A planner that knows no law proposes it at a site where the oracle forbids it: admission refuses that."""
        for site in self.site_names:
            is_open = site in self._open(tenant, pin)
            if is_open and self._certain(judge, tenant, ref, site) is not False:
                continue
            self.tally.placed += 1
            if self.core.put(ident, f"{site}/b/g-0-3", mask=8).made:
                self._found("admitted", tenant, ref, site)
                return

    def _hold_placed(self, judge: Judge) -> None:
        """Whatever has a placement is where the oracle allows; whoever could be somewhere is."""
        for placement in self.core.state.placements.values():
            if placement.stop_reason is None:
                work = self.core.state.workloads[placement.workload]
                self.tally.placed += 1
                is_open = placement.site in self._open(placement.tenant, work.spec.site)
                if not is_open or not judge.allows(
                    placement.tenant, work.spec.policy, placement.site, strict=False
                ):
                    self._found("placed", placement.tenant, work.spec.policy, placement.site)
        for work in self.core.state.workloads.values():
            if work.state is State.QUEUED:
                sites = [one for one in self._open(work.tenant, work.spec.site) if self._is_built(one)]
                if any(judge.allows(work.tenant, work.spec.policy, site, strict=True) for site in sites):
                    self._found("left waiting", work.tenant, work.spec.policy, "")

    def run(self, steps: int) -> Tally:
        """Everything is decided, then something changes, and everything is decided again."""
        for step in range(steps):
            self.decide()
            if self.deep and step % 3 == 0:
                self.place()
            self.change()
            if self.deep:
                self.follow()
        self.decide()
        return self.tally

    def follow(self) -> None:
        """What may no longer be where it is is told to go: all of that, and nothing else."""
        judge = self.judge()
        running = [one for one in self.core.state.placements.values() if one.stop_reason is None]
        made = self.core.made(c.FollowLaw())
        told = {
            one.placement
            for one in made
            if isinstance(one, ev.EvictionRequested) and one.reason is EndReason.FORBIDDEN
        }
        for placement in running:
            ref = self.core.state.workloads[placement.workload].spec.policy
            answer = self._certain(judge, placement.tenant, ref, placement.site)
            self.tally.placed += 1
            if answer is not None and answer is (placement.id in told):
                self._found("sent away" if answer else "left running", placement.tenant, ref, placement.site)
        for ident in told:
            self.core.report(ident, RUNNING)
            self.core.report(ident, ended(0, 143))


def play(seed: int, steps: int, **more: Any) -> Tally:
    """A world from a seed."""
    return Trial(seed, **more).run(steps)


def played(seeds: Iterable[int], steps: int = 4, **more: Any) -> Tally:
    """Many worlds together."""
    found = Tally()
    for seed in seeds:
        found.add(play(seed, steps, **more))
    return found
