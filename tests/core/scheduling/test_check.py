"""The independent check of a plan: every kind of broken plan is found, and found as what it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.core.contracts import Quota
from headrace.core.data.model import Copy, CopyState, Dataset
from headrace.core.estate import Block, Estate
from headrace.core.fleet import compile_fleet
from headrace.core.ids import (
    ContractId,
    DataId,
    NodeId,
    SiteId,
    TenantId,
    WindowId,
)
from headrace.core.observation import Capabilities
from headrace.core.scheduling.check import PROMISES, Violation, check
from headrace.core.scheduling.proposal import Plan
from headrace.core.scheduling.snapshot import Snapshot
from headrace.core.workload import (
    Flex,
    Placement,
    PolicyRef,
    Resources,
    State,
    Workload,
)
from tests.core.scheduling.bare import (
    BETA,
    CLUSTER,
    CPU_ONLY,
    EITHER,
    ELASTIC,
    ENDED,
    FILLER,
    FITTING,
    LEASE,
    NOW_MS,
    ON_CPU,
    OPERATOR,
    PAIRS,
    PART,
    RESERVED,
    RULES,
    SITES,
    TAKEN,
    and_works,
    both,
    contract,
    evict,
    gang,
    limited,
    of_beta,
    of_part,
    over,
    part,
    plan,
    queued,
    rank,
    reserved,
    running,
    snapshot,
    spec,
    standing,
)

HOUR_MS = 3_600_000
NAMES_IT = spec(reservation=WindowId("w"))
Case = tuple[str, Snapshot, Plan]

SAVES = spec(flex=Flex.PREEMPTIBLE, checkpoint_ms=HOUR_MS)


def ran_for(ran_ms: int) -> tuple[Workload, Placement]:
    """A job that saves its state and started so long ago (0: its start is not confirmed)."""
    workload, placement = running("acme-9", SAVES, rank())
    return workload, replace(placement, started_ms=NOW_MS - ran_ms if ran_ms else 0)


def with_data(world: Snapshot, state: CopyState | None = None, *countries: str) -> Snapshot:
    """A world with the data set ``corpus`` of acme, and a copy of it in the north, if it has a state."""
    policy = PolicyRef(countries=countries)
    north, ident = SiteId("north"), DataId("acme.corpus")
    corpus = Dataset(ident, TenantId("acme"), "corpus", "d" * 64, 1, north, policy=policy)
    copies = {} if state is None else {ident: {north: Copy(north, state, 0, "d" * 64)}}
    return replace(world, datasets={ident: corpus}, copies=copies)


BROKEN: dict[str, Case] = {
    "a workload that is not there": ("unknown-workload", snapshot(), plan(rank())),
    "a finished workload": ("not-queued", snapshot(queued(state=State.SUCCEEDED)), plan(rank())),
    "a running workload": ("not-queued", snapshot(queued(state=State.RUNNING)), plan(rank())),
    "one workload twice": (
        "placed-twice",
        snapshot(queued()),
        both(plan(rank()), plan(rank("north/a/g-0-1"))),
    ),
    "a workload that backs off": ("backing-off", snapshot(queued(not_before_ms=NOW_MS + 1)), plan(rank())),
    "half a gang": ("rank-count", snapshot(queued(of=spec(2))), plan(rank())),
    "a rank too many": ("rank-count", snapshot(queued()), plan(rank(), rank("north/a/g-0-1"))),
    "two ranks on one node": (
        "node-twice",
        snapshot(queued(of=spec(2))),
        plan(rank(), rank(mask=0b1100)),
    ),
    "a node of another site": ("node-elsewhere", snapshot(queued()), plan(rank("south/b/g-0-0"))),
    "a site that is not there": ("unknown-site", snapshot(queued()), plan(rank(), at="nowhere")),
    "a group that is not there": ("unknown-node", snapshot(queued()), plan(rank("north/a/h-0-0"))),
    "a rack that is not there": ("unknown-node", snapshot(queued()), plan(rank("north/a/g-2-0"))),
    "a node past the rack's end": ("unknown-node", snapshot(queued()), plan(rank("north/a/g-0-2"))),
    "a node by another spelling": ("unknown-node", snapshot(queued()), plan(rank("north/a/g-0-00"))),
    "a node by no node's name": ("unknown-node", snapshot(queued()), plan(rank("north"))),
    "a block of tomorrow": ("not-commissioned", snapshot(queued()), plan(rank("north/later/g-0-0"))),
    "a block without a day": ("not-commissioned", snapshot(queued()), plan(rank("north/undated/g-0-0"))),
    "a node that drains": ("node-closed", snapshot(queued(), closed=(3,)), plan(rank("north/a/g-1-1"))),
    "another model": ("model", snapshot(queued()), plan(rank("north/big/g-0-0"))),
    "too few accelerators": ("accelerator-count", snapshot(queued()), plan(rank(mask=0b0001))),
    "too many accelerators": ("accelerator-count", snapshot(queued()), plan(rank(mask=0b0111))),
    "accelerators unasked for": ("accelerator-count", snapshot(queued(of=CPU_ONLY)), plan(rank(mask=0b0001))),
    "a fifth accelerator of four": ("accelerator-beyond", snapshot(queued()), plan(rank(mask=0b10001))),
    "accelerators that run another": (
        "accelerator-taken",
        snapshot(queued(), live=(TAKEN,)),
        plan(rank(mask=0b0110)),
    ),
    "accelerators taken in the plan": (
        "accelerator-taken",
        snapshot(queued(), queued("acme-2")),
        both(plan(rank()), plan(rank(), workload="acme-2")),
    ),
    "a part of what is taken whole": (
        "accelerator-mixed",
        snapshot(queued(of=of_part(500)), live=(TAKEN,)),
        plan(part(500)),
    ),
    "the whole of what another has a part of": (
        "accelerator-mixed",
        snapshot(queued(), live=(PART,)),
        plan(rank()),
    ),
    "more parts than there are": (
        "accelerator-over",
        snapshot(queued(of=of_part(401)), live=(PART,)),
        plan(part(401)),
    ),
    "more parts than there are in the plan": (
        "accelerator-over",
        snapshot(queued(of=of_part(600)), queued("acme-2", of=of_part(600))),
        both(plan(part(600)), plan(part(600), workload="acme-2")),
    ),
    "a part of another tenant's": (
        "accelerator-shared",
        snapshot(queued(of=of_part(400)), live=(of_beta(PART),)),
        plan(part(400)),
    ),
    "a smaller part than asked": ("part", snapshot(queued(of=of_part(500))), plan(part(499))),
    "a part instead of all": ("part", snapshot(queued()), plan(part(500, mask=0b0011))),
    "parts of two": (
        "part",
        snapshot(queued(of=spec(resources=Resources("lab", 2, 1_000, 1_000, 500)))),
        plan(part(500, mask=0b0011)),
    ),
    "a part where the engine gives whole ones": (
        "engine",
        replace(
            snapshot(queued(of=of_part(500))),
            engines={"local": Capabilities("none", True, True, parts=False)},
        ),
        plan(part(500)),
    ),
    "where the engine is another tenant's": (
        "engine",
        replace(snapshot(queued()), engines={"local": Capabilities("none", True, True, tenant="beta")}),
        plan(rank()),
    ),
    "where the engine can't hand nodes over as it wants": (
        "engine",
        replace(
            snapshot(queued(of=replace(CLUSTER, lease="slurm"))),
            engines={"local": Capabilities("none", True, True)},
        ),
        plan(rank(mask=0b1111)),
    ),
    "beside somebody else's work that draws all it can": (
        "power",
        replace(
            snapshot(queued(), sites=limited(feed=2_049)),
            intruders={NodeId("north/a/g-1-0"): "job 7 of root"},
        ),
        plan(rank()),
    ),
    "a part of none": ("accelerator-count", snapshot(queued(of=spec(accelerators=1))), plan(rank(mask=0))),
    "a part for a cluster": (
        "part",
        snapshot(queued(of=CLUSTER)),
        plan(rank(mask=0b1111, share=500)),
    ),
    "a cluster on too small a node": (
        "accelerator-count",
        snapshot(queued(of=replace(CLUSTER, resources=Resources("lab", 5, 1_000, 1_000)))),
        plan(rank(mask=0b1111)),
    ),
    "an option that is not there": ("option", snapshot(queued(of=EITHER)), plan(rank(), option=3)),
    "an option below the first": ("option", snapshot(queued(of=EITHER)), plan(rank(), option=-1)),
    "another option's model": (
        "model",
        snapshot(queued(of=EITHER)),
        plan(rank("north/big/g-0-0", mask=0b1111), option=0),
    ),
    "another option's accelerators": (
        "accelerator-count",
        snapshot(queued(of=EITHER)),
        plan(rank("north/big/g-0-0", mask=0b1111), option=1),
    ),
    "another contract than the option's": (
        "contract-absent",
        snapshot(queued(of=EITHER), sold=contract(model="lab")),
        plan(rank("north/big/g-0-0", mask=0xFF), option=1),
    ),
    "too little memory on an accelerator": (
        "accelerator-memory",
        snapshot(queued(of=spec(resources=Resources("H100", 2, 1_000, 1_000, accelerator_memory_mb=80_001)))),
        plan(rank("north/big/g-0-0")),
    ),
    "one gang on two models": (
        "models-mixed",
        snapshot(queued(of=spec(2, resources=Resources("", 2, 1_000, 1_000)))),
        plan(rank(), rank("north/big/g-0-0")),
    ),
    "fewer ranks than elastic work needs": (
        "rank-count",
        snapshot(queued(of=spec(2, nodes_max=3))),
        plan(rank()),
    ),
    "more ranks than elastic work takes": (
        "rank-count",
        snapshot(queued(of=ELASTIC)),
        plan(rank(), rank("north/a/g-0-1"), rank("north/a/g-1-0")),
    ),
    "two domains": (
        "pack",
        snapshot(standing(2, "domain"), sites=PAIRS),
        plan(*gang("a-0-1", "a-0-2")),
    ),
    "two nodes that are each a domain": (
        "pack",
        snapshot(standing(2, "domain")),
        plan(rank(), rank("north/a/g-0-1")),
    ),
    "two racks": ("pack", snapshot(standing(2, "rack"), sites=PAIRS), plan(*gang("a-0-1", "a-1-1"))),
    "two rails": ("pack", snapshot(standing(2, "rail"), sites=PAIRS), plan(*gang("a-1-1", "a-2-1"))),
    "two pods": ("pack", snapshot(standing(2, "pod"), sites=PAIRS), plan(*gang("a-1-1", "b-1-1"))),
    "one domain for two": (
        "spread",
        snapshot(standing(2, spread="domain"), sites=PAIRS),
        plan(*gang("a-0-2", "a-0-3")),
    ),
    "one rack for two": (
        "spread",
        snapshot(standing(2, spread="rack"), sites=PAIRS),
        plan(*gang("a-0-0", "a-0-3")),
    ),
    "one rail for two": (
        "spread",
        snapshot(standing(3, spread="rail"), sites=PAIRS),
        plan(*gang("a-0-0", "b-1-0", "a-1-3")),
    ),
    "one pod for two": (
        "spread",
        snapshot(standing(2, spread="pod"), sites=PAIRS),
        plan(*gang("a-0-0", "a-3-3")),
    ),
    "one site for two": (
        "spread",
        snapshot(standing(2, spread="site"), sites=PAIRS),
        plan(*gang("a-0-0", "b-3-3")),
    ),
    "more than a tenant's limit": (
        "quota",
        snapshot(queued(), live=(TAKEN,), quota=Quota(limit=3)),
        plan(rank(mask=0b1100)),
    ),
    "more than a project's limit": (
        "quota",
        snapshot(queued(), live=(TAKEN,), project=Quota(limit=3)),
        plan(rank(mask=0b1100)),
    ),
    "a thousandth more than a limit": (
        "quota",
        snapshot(queued(of=of_part(401)), live=(PART,), quota=Quota(limit=1)),
        plan(part(401, mask=0b0010)),
    ),
    "a thousandth more than a contract holds": (
        "contract-over-held",
        snapshot(queued(of=of_part(401)), live=(PART,), sold=replace(RESERVED, accelerators=1)),
        plan(part(401, mask=0b0010)),
    ),
    "a part draws as the whole": (
        "power",
        snapshot(queued(of=of_part(1)), sites=limited(rack=674)),
        plan(part(1)),
    ),
    "fewer processors than asked": ("resources", snapshot(queued()), plan(rank(cpu=999))),
    "less memory than asked": ("resources", snapshot(queued()), plan(rank(memory=999))),
    "more processors than asked": ("resources", snapshot(queued()), plan(rank(cpu=1_001))),
    "more memory than asked": ("resources", snapshot(queued()), plan(rank(memory=1_001))),
    "more processors than there are": (
        "cpu",
        snapshot(queued(of=spec(cpu=3_001)), live=(TAKEN,)),
        plan(rank(mask=0b1100, cpu=3_001)),
    ),
    "more memory than there is": (
        "memory",
        snapshot(queued(of=spec(memory=7_001)), live=(TAKEN,)),
        plan(rank(mask=0b1100, memory=7_001)),
    ),
    "a rack over its rating": ("power", snapshot(queued(), sites=limited(rack=849)), plan(rank())),
    "a block over its rating": ("power", snapshot(queued(), sites=limited(block=1_249)), plan(rank())),
    "a feed over its rating": ("power", snapshot(queued(), sites=limited(feed=1_249)), plan(rank())),
    "a feeder of the feed": ("power", snapshot(queued(), sites=limited(transformer=1_249)), plan(rank())),
    "cooling over the connection": (
        "power",
        snapshot(queued(), sites=limited(connection=1_499)),
        plan(rank()),
    ),
    "power that another draws": (
        "power",
        snapshot(
            queued(), live=(running("acme-9", spec(), rank("north/a/g-1-0")),), sites=limited(feed=1_250)
        ),
        plan(rank()),
    ),
    "a country that is forbidden": (
        "jurisdiction",
        snapshot(queued(of=spec(policy=PolicyRef(countries=("GB", "SE"))))),
        plan(rank()),
    ),
    "a profile that forbids": (
        "jurisdiction",
        snapshot(queued(of=spec(policy=PolicyRef("uk-only")))),
        plan(rank()),
    ),
    "a profile that nobody declared": (
        "jurisdiction",
        snapshot(queued(of=spec(policy=PolicyRef("lunar")))),
        plan(rank()),
    ),
    "rules that forbid": (
        "jurisdiction",
        snapshot(queued(of=spec(policy=PolicyRef(RULES)))),
        plan(rank("south/b/g-0-0"), at="south"),
    ),
    "a data set that is not there": (
        "data",
        with_data(snapshot(queued(of=spec(policy=PolicyRef(data=("corpus",)))))),
        plan(rank()),
    ),
    "a data set that is on its way": (
        "data",
        with_data(snapshot(queued(of=spec(policy=PolicyRef(data=("corpus",))))), CopyState.COPYING),
        plan(rank()),
    ),
    "a data set that nobody declared": (
        "data",
        snapshot(queued(of=spec(policy=PolicyRef(data=("corpus",))))),
        plan(rank()),
    ),
    "a data set that may not be used there": (
        "jurisdiction",
        with_data(snapshot(queued(of=spec(policy=PolicyRef(data=("corpus",))))), CopyState.PRESENT, "GB"),
        plan(rank()),
    ),
    "a dedicated site": ("dedicated", snapshot(queued()), plan(rank("own/d/g-0-0"), at="own")),
    "no contract": ("contract-absent", snapshot(queued(), no_contract=True), plan(rank())),
    "another tenant's contract": (
        "contract-absent",
        snapshot(queued(), sold=contract(tenant=BETA)),
        plan(rank()),
    ),
    "another site's contract": (
        "contract-absent",
        snapshot(queued(), sold=contract(site=SiteId("south"))),
        plan(rank()),
    ),
    "another model's contract": (
        "contract-absent",
        snapshot(queued(), sold=contract(model="H100")),
        plan(rank()),
    ),
    "a contract of tomorrow": (
        "contract-absent",
        snapshot(queued(), sold=contract(starts="2026-01-02")),
        plan(rank()),
    ),
    "a contract that ended": (
        "contract-absent",
        snapshot(queued(), sold=contract(ends="2026-01-01")),
        plan(rank()),
    ),
    "not the contract that was named": (
        "contract-absent",
        snapshot(queued(of=spec(contract=ContractId("other")))),
        plan(rank()),
    ),
    "more than a contract holds": (
        "contract-over-held",
        snapshot(queued(), live=(TAKEN,), sold=RESERVED),
        plan(rank(mask=0b1100)),
    ),
    "half a node for a cluster": ("cluster-not-whole", snapshot(queued(of=CLUSTER)), plan(rank(mask=0b0111))),
    "a cluster where another runs": (
        "cluster-not-whole",
        snapshot(queued(of=CLUSTER), live=(ON_CPU,)),
        plan(rank(mask=0b1111)),
    ),
    "a job on a leased node": (
        "node-leased",
        snapshot(queued(of=CPU_ONLY), live=(LEASE,)),
        plan(rank(mask=0)),
    ),
    "another site than the pinned": (
        "pinned-site",
        snapshot(queued(of=spec(site=SiteId("south")))),
        plan(rank()),
    ),
    "a base in the future": ("future-base", snapshot(queued()), plan(rank(), base=11)),
    "on a node that is reserved": ("window", reserved(snapshot(queued())), plan(rank())),
    "on a node under maintenance": ("window", reserved(snapshot(queued()), tenant=None), plan(rank())),
    "too long before a window": (
        "window",
        reserved(snapshot(queued(of=spec(max_duration_ms=HOUR_MS + 1))), starts_ms=NOW_MS + HOUR_MS),
        plan(rank()),
    ),
    "without an end before a window": (
        "window",
        reserved(snapshot(queued()), starts_ms=NOW_MS + HOUR_MS),
        plan(rank()),
    ),
    "on a node beside its reservation": (
        "window",
        reserved(snapshot(queued(of=NAMES_IT))),
        plan(rank("north/a/g-0-1")),
    ),
    "before its reservation begins": (
        "window",
        reserved(snapshot(queued(of=NAMES_IT)), starts_ms=NOW_MS + 1),
        plan(rank()),
    ),
    "in its reservation, into works that begin within it": (
        "window",
        and_works(reserved(snapshot(queued(of=NAMES_IT))), NOW_MS + HOUR_MS - 1),
        plan(rank()),
    ),
    "after its reservation": (
        "window",
        reserved(snapshot(queued(of=NAMES_IT)), ends_ms=NOW_MS),
        plan(rank()),
    ),
    "in another tenant's reservation": (
        "window",
        reserved(snapshot(queued(of=spec())), tenant=BETA),
        plan(rank()),
    ),
    "evicting a firm job before its window": (
        "eviction-forbidden",
        reserved(snapshot(live=(TAKEN,)), starts_ms=NOW_MS + 1),
        over("acme-9.1"),
    ),
    "evicting a firm job beside a window": (
        "eviction-forbidden",
        reserved(snapshot(live=(running("acme-9", spec(), rank("north/a/g-0-1")),))),
        over("acme-9.1"),
    ),
    "evicting who has a reservation before its end": (
        "eviction-forbidden",
        reserved(snapshot(live=(running("acme-9", NAMES_IT, rank()),))),
        over("acme-9.1"),
    ),
    "evicting for no window": (
        "eviction-for-nobody",
        snapshot(live=(running("acme-9", FILLER, rank()),)),
        over("acme-9.1"),
    ),
    "evicting what is not there": ("eviction-unknown", snapshot(queued()), evict("acme-9.1")),
    "evicting what has ended": ("eviction-unknown", snapshot(queued(), live=(ENDED,)), evict("acme-9.1")),
    "evicting a firm job": ("eviction-forbidden", snapshot(queued(), live=(TAKEN,)), evict("acme-9.1")),
    "evicting a pausable job": (
        "eviction-forbidden",
        snapshot(queued(), live=(running("acme-9", spec(flex=Flex.PAUSABLE), rank()),)),
        evict("acme-9.1"),
    ),
    "evicting an equal that saves nothing": (
        "eviction-of-an-equal",
        snapshot(queued(of=SAVES), live=(running("acme-9", spec(flex=Flex.PREEMPTIBLE), rank()),)),
        evict("acme-9.1"),
    ),
    "evicting for an equal that saves nothing": (
        "eviction-of-an-equal",
        snapshot(queued(), live=(ran_for(60_000),)),
        evict("acme-9.1"),
    ),
    "evicting an equal that has not run for a minute": (
        "eviction-of-an-equal",
        snapshot(queued(of=SAVES), live=(ran_for(59_999),)),
        evict("acme-9.1"),
    ),
    "evicting an equal that has not started": (
        "eviction-of-an-equal",
        snapshot(queued(of=SAVES), live=(ran_for(0),)),
        evict("acme-9.1"),
    ),
    "evicting for one of lower priority": (
        "eviction-upwards",
        snapshot(queued(), live=(running("acme-9", spec(flex=Flex.PREEMPTIBLE, priority=1), rank()),)),
        evict("acme-9.1"),
    ),
    "evicting a filler for a filler of lower priority": (
        "eviction-upwards",
        snapshot(queued(of=FILLER), live=(running("acme-9", replace(FILLER, priority=1), rank()),)),
        evict("acme-9.1"),
    ),
    "evicting for nobody": (
        "eviction-for-nobody",
        snapshot(live=(running("acme-9", FILLER, rank()),)),
        evict("acme-9.1"),
    ),
    "evicting twice": (
        "eviction-twice",
        snapshot(queued(), live=(running("acme-9", FILLER, rank()),)),
        evict("acme-9.1", "acme-9.1"),
    ),
}

CLEAN: dict[str, tuple[Snapshot, Plan]] = {
    "nothing": (snapshot(), Plan(10)),
    "a job on a free node": (snapshot(queued()), plan(rank())),
    "a job that rules allow there": (snapshot(queued(of=spec(policy=PolicyRef(RULES)))), plan(rank())),
    "a plan from an older version": (snapshot(queued()), plan(rank(), base=3)),
    "a gang": (snapshot(queued(of=spec(2))), plan(rank(), rank("north/a/g-0-1"))),
    "beside another": (snapshot(queued(), live=(TAKEN,)), plan(rank(mask=0b1100))),
    "where another ended": (snapshot(queued(), live=(ENDED,)), plan(rank())),
    "to the last watt": (snapshot(queued(), sites=FITTING), plan(rank())),
    "to the last accelerator of a contract": (
        snapshot(queued(), live=(TAKEN,), sold=replace(RESERVED, accelerators=4)),
        plan(rank(mask=0b1100)),
    ),
    "a cluster on a whole node": (snapshot(queued(of=CLUSTER)), plan(rank(mask=0b1111))),
    "where the policy allows": (
        snapshot(queued(of=spec(policy=PolicyRef("nordic-only"), site=SiteId("north")))),
        plan(rank()),
    ),
    "in a contract's last day": (
        snapshot(queued(), sold=contract(starts="2026-01-01", ends="2026-01-02")),
        plan(rank()),
    ),
    "the rest of an accelerator": (snapshot(queued(of=of_part(400)), live=(PART,)), plan(part(400))),
    "parts beside what is whole": (
        snapshot(queued(of=of_part(400)), live=(TAKEN,)),
        plan(part(400, mask=0b0100)),
    ),
    "a part that draws as the whole": (
        snapshot(queued(of=of_part(1)), sites=limited(rack=675)),
        plan(part(1)),
    ),
    "a second part that draws no more": (
        snapshot(queued(of=of_part(1)), live=(PART,), sites=limited(rack=675)),
        plan(part(1)),
    ),
    "the first alternative": (
        snapshot(queued(of=EITHER)),
        plan(rank("north/big/g-0-0", mask=0xFF), option=1),
    ),
    "the second alternative": (snapshot(queued(of=EITHER)), plan(rank(mask=0b0100), option=2)),
    "enough memory on each accelerator": (
        snapshot(queued(of=spec(resources=Resources("H100", 2, 1_000, 1_000, accelerator_memory_mb=80_000)))),
        plan(rank("north/big/g-0-0")),
    ),
    "the least of elastic work": (snapshot(queued(of=ELASTIC)), plan(rank())),
    "the most of elastic work": (snapshot(queued(of=ELASTIC)), plan(rank(), rank("north/a/g-0-1"))),
    "one domain": (snapshot(standing(2, "domain"), sites=PAIRS), plan(*gang("a-0-2", "a-0-3"))),
    "one rack": (snapshot(standing(2, "rack"), sites=PAIRS), plan(*gang("a-0-1", "a-0-2"))),
    "one rail": (snapshot(standing(2, "rail"), sites=PAIRS), plan(*gang("a-2-1", "a-3-2"))),
    "one pod": (snapshot(standing(2, "pod"), sites=PAIRS), plan(*gang("b-0-1", "b-3-2"))),
    "one site": (snapshot(standing(2, "site"), sites=PAIRS), plan(*gang("a-0-1", "b-3-2"))),
    "two domains of one rack": (
        snapshot(standing(2, "rack", "domain"), sites=PAIRS),
        plan(*gang("a-0-1", "a-0-2")),
    ),
    "a wish that is not required": (
        snapshot(standing(2, "rack", required=False), sites=PAIRS),
        plan(*gang("a-0-1", "b-0-2")),
    ),
    "to a limit": (
        snapshot(queued(), live=(TAKEN,), quota=Quota(limit=4), project=Quota(limit=4)),
        plan(rank(mask=0b1100)),
    ),
    "without accelerators over a limit": (
        snapshot(queued(of=CPU_ONLY), live=(TAKEN,), quota=Quota(limit=1)),
        plan(rank(mask=0)),
    ),
    "reserved beyond a limit": (
        snapshot(queued(), live=(TAKEN,), sold=replace(RESERVED, accelerators=4), quota=Quota(limit=1)),
        plan(rank(mask=0b1100)),
    ),
    "in its reservation": (reserved(snapshot(queued(of=NAMES_IT))), plan(rank())),
    "in its reservation, which ends when works begin": (
        and_works(reserved(snapshot(queued(of=NAMES_IT))), NOW_MS + HOUR_MS),
        plan(rank()),
    ),
    "beside a reservation": (reserved(snapshot(queued())), plan(rank("north/a/g-0-1"))),
    "where a window is over": (reserved(snapshot(queued()), ends_ms=NOW_MS), plan(rank())),
    "gone when a window begins": (
        # With its grace.
        reserved(snapshot(queued(of=spec(max_duration_ms=HOUR_MS))), starts_ms=NOW_MS + HOUR_MS + 10_000),
        plan(rank()),
    ),
    "told to go when a window begins": (
        reserved(snapshot(queued(of=FILLER)), starts_ms=NOW_MS + HOUR_MS),
        plan(rank()),
    ),
    "evicting a firm job when a window has begun": (reserved(snapshot(live=(TAKEN,))), over("acme-9.1")),
    "evicting who had a reservation": (
        reserved(snapshot(live=(running("acme-9", NAMES_IT, rank()),)), ends_ms=NOW_MS),
        over("acme-9.1"),
    ),
    "a data set that is there": (
        with_data(snapshot(queued(of=spec(policy=PolicyRef(data=("corpus",))))), CopyState.PRESENT),
        plan(rank()),
    ),
    "evicting a filler": (snapshot(queued(), live=(running("acme-9", FILLER, rank()),)), evict("acme-9.1")),
    "evicting an equal that has run for a minute": (
        snapshot(queued(of=SAVES), live=(ran_for(60_000),)),
        evict("acme-9.1"),
    ),
    "evicting what is preemptible": (
        snapshot(queued(of=spec(priority=1)), live=(running("acme-9", spec(flex=Flex.PREEMPTIBLE), rank()),)),
        evict("acme-9.1"),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plan_is_found_as_exactly_what_it_is(name: str) -> None:
    """Promises 1, 2, 3, 5, 6: each kind of wrong plan breaks its rule, and no other."""
    rule, world, wrong = BROKEN[name]
    found = check(world, wrong)
    assert [(violation.rule, violation.promise) for violation in found] == [(rule, PROMISES[rule])]
    assert all(violation.subject and violation.detail and "\n" not in violation.detail for violation in found)


@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_plan_is_found_clean(name: str) -> None:
    """A checker that cries wolf is switched off: what keeps every promise is left alone."""
    assert check(*CLEAN[name]) == []


def test_a_site_without_a_country_takes_nothing() -> None:
    """Promise 2: unknown is not allowed, and its nodes are never commissioned either."""
    found = check(snapshot(queued()), plan(rank("somewhere/c/g-0-0"), at="somewhere"))
    assert [violation.rule for violation in found] == ["unknown-country", "not-commissioned"]


def test_every_rule_has_a_plan_that_breaks_it() -> None:
    """No rule stands in the table unproved."""
    assert {rule for rule, _, _ in BROKEN.values()} | {"unknown-country"} == set(PROMISES)


def test_every_element_over_its_limit_is_named() -> None:
    """Promise 1 holds at every node of the tree: each one that breaks is told, with its watts."""
    tight = limited(rack=849, block=1_249, feed=1_249, transformer=1_249, connection=1_499)
    found = check(snapshot(queued(), sites=tight), plan(rank()))
    assert found == [
        Violation(1, "north/a/g-0", "850 W could be drawn, 849 W are allowed", "power"),
        Violation(1, "north/a", "1250 W could be drawn, 1249 W are allowed", "power"),
        Violation(1, "north/feed", "1250 W could be drawn, 1249 W are allowed", "power"),
        Violation(1, "north/transformer", "1250 W could be drawn, 1249 W are allowed", "power"),
        Violation(1, "north", "1500 W could be drawn, 1499 W are allowed", "power"),
    ]


def test_nodes_are_numbered_in_the_order_of_the_estate() -> None:
    """``node_open`` is the one column that is read: each node finds its own entry in it."""
    names = [
        f"{one.id}/{block.id}/g-{r}-{n}" for one in SITES for block in one.blocks for r, n in _places(block)
    ]
    assert names == compile_fleet(Estate(OPERATOR, SITES)).node_ids
    for index, name in enumerate(names):
        at = name.split("/")[0]
        found = check(
            snapshot(queued(of=spec(accelerators=0)), closed=(index,)), plan(rank(name, mask=0), at=at)
        )
        closed = [
            violation.rule for violation in found if violation.rule in {"node-closed", "not-commissioned"}
        ]
        assert len(closed) == 1, name


def _places(block: Block) -> list[tuple[int, int]]:
    group = block.groups[0]
    return [(r, n) for r in range(group.racks) for n in range(group.nodes_per_rack)]
