"""A site with several engines: what is placed knows its own, and miners are the first to go, the least efficient first."""

from dataclasses import replace

import pytest

from headrace.core import commands as c
from headrace.core.authority import Policy
from headrace.core.claims import figures
from headrace.core.errors import HeadraceError
from headrace.core.estate import Block, NodeGroup, Site
from headrace.core.fleet import compile_fleet
from headrace.core.observation import Capabilities
from headrace.core.power.instruction import Instruction, InstructionId
from headrace.core.power.ladder import ladder_of
from headrace.core.power.shedding import Rung
from headrace.core.scheduling.check import check
from headrace.core.scheduling.proposal import Plan, ProposedPlacement
from headrace.core.workload import Flex, RankPlace, Resources, WorkloadSpec, WorkloadType
from tests.core.small import ACME, FJORD, RUNNING, Core, core, derived, estate, job, rebuilt, site

LOCAL = Capabilities("container", pause=True, ports=True, pause_sheds=True)
SLURM = Capabilities("none", pause=True, ports=True)
MINES = Capabilities("none", pause=True, ports=False, parts=False, pause_sheds=True, mines=True)
HALL = Block(
    "hall",
    # The first are placed on first, so that of equals the others, which are younger, would go before them.
    (NodeGroup("old", "whatsminer-m30s", 1, 2), NodeGroup("new", "whatsminer-m50s", 1, 2)),
    commissioned="2025-01-01",
    engine="miners",
)
H100 = Block("h", (NodeGroup("g", "h100-8", 1, 2),), commissioned="2025-01-01", engine="slurm")
MINE = job(
    "mine",
    type=WorkloadType.FILLER,
    flex=Flex.PREEMPTIBLE,
    commands=(),
    resources=Resources("sha256", 1, 1_000, 1_000),
)


def fjord(*blocks: Block) -> Site:
    """A site with four nodes of the lab, and more blocks."""
    one = site(FJORD, "NO", racks=2)
    return replace(one, blocks=(*one.blocks, *blocks))


def several() -> Core:
    """Three engines at Fjord, which have said what they can."""
    one = core()
    one.apply(estate(fjord(H100, HALL)))
    one.do(c.DeclareEngines({"local": LOCAL, "slurm": SLURM, "miners": MINES}))
    return one


def running(one: Core, *specs: WorkloadSpec) -> None:
    one.submit(*specs)
    for placement in one.place():
        one.report(placement, *(RUNNING for _ in one.state.placements[placement].ranks))


def test_a_node_has_the_engine_of_its_block_and_else_of_its_site() -> None:
    """And what asks for accelerators by name gets the engine of those that have them; all else the site's own."""
    fleet = compile_fleet(estate(fjord(H100, HALL)))
    assert {fleet.engine_of(index): name.split("/")[1] for index, name in enumerate(fleet.node_ids)} == {
        "local": "b",
        "slurm": "h",
        "miners": "hall",
    }
    assert [fleet.engine_at(0, model) for model in ("", "lab", "H100", "sha256")] == [
        "local",
        "local",
        "slurm",
        "miners",
    ]
    assert fleet.engines_at(0) == ("local", "slurm", "miners")
    assert fleet.engine_under(FJORD, "fjord/hall/old-0-1") == "miners"
    assert fleet.engine_under(FJORD, "fjord/gone-0-0") == "local"


def test_what_can_be_shed_hangs_on_the_engine_that_runs_it() -> None:
    """A pause sheds on one engine of the site and not on the other: what is pausable there alone counts as firm."""
    one = several()
    pausable = replace(job("a"), flex=Flex.PAUSABLE)
    running(one, pausable, replace(pausable, name="b", resources=Resources("H100", 1, 1_000, 1_000)))
    rungs = {
        rung: one.state.workloads[ident].spec.name for rung, ident in ladder_of(one.world, FJORD).workloads()
    }
    assert rungs == {Rung.PAUSE: "a", Rung.KEEP: "b"}


def test_miners_are_the_first_rung_and_the_least_efficient_goes_first() -> None:
    """Where one of four is enough it is one of the two that take 31 J/TH, though those of 26 are younger."""
    one = several()
    running(one, *(replace(MINE, name=f"mine-{number}") for number in range(2)))
    running(one, *(replace(MINE, name=f"mine-{number}") for number in range(2, 4)), job("firm"))
    ladder = ladder_of(one.world, FJORD)
    assert [held.mj_per_th for held in ladder.candidates] == [31_000, 31_000, 26_000, 26_000, 0]
    assert ladder.by_rung()[Rung.MINERS] == 2 * (3_550 + 3_340)
    limit_w = ladder.draws_w - 1_000
    one.do(c.Instruct(Instruction(InstructionId("evening"), FJORD, limit_w, one.now_ms), binding=True))
    one.do(c.FollowGrid())
    told = [held for held in one.state.placements.values() if held.stop_reason is not None]
    assert [rank.node.split("/")[-1][:3] for held in told for rank in held.ranks] == ["old"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (replace(MINE, commands=("echo never",)), "only a filler without commands"),
        (
            replace(MINE, type=WorkloadType.JOB, flex=Flex.FIRM, commands=("echo never",)),
            "only a filler without",
        ),
        (replace(MINE, resources=Resources("lab", 1, 1_000, 1_000)), "runs commands, and it has none"),
    ],
)
def test_what_no_engine_can_do_is_refused_when_it_comes(spec: WorkloadSpec, said: str) -> None:
    """Nothing of anybody's runs on what mines by itself, and nothing mines by itself elsewhere."""
    one = several()
    with pytest.raises(HeadraceError, match=said):
        one.submit(spec)


def test_work_that_names_no_accelerators_goes_to_its_sites_own_engine_alone() -> None:
    """Also where miners and others have processors free; and no plan that somebody else made gets it there."""
    one = several()
    (ident,) = one.submit(job("cpu", resources=Resources("", 0, 500, 16)))
    assert one.put(ident, "fjord/hall/new-0-0", mask=0).rejected
    (placement,) = one.place()
    assert one.state.placements[placement].ranks[0].node.startswith("fjord/b/")


def test_the_independent_check_finds_a_node_whose_engine_can_not_do_it() -> None:
    """A job on a miner, a gang on two engines, work without accelerators on another engine than its site's."""
    one = several()
    train, cpu = one.submit(job("train", nodes=2), job("cpu", resources=Resources("", 0, 500, 16)))

    def found(
        workload: str, *nodes: str, mask: int = 1, cpu_milli: int = 250, memory_mb: int = 16
    ) -> set[str]:
        ranks = tuple(RankPlace(node, mask, cpu_milli, memory_mb) for node in nodes)
        proposed = (ProposedPlacement(workload, FJORD, ranks),)  # type: ignore[arg-type]
        seen = check(one.world.snapshot(one.now_ms), Plan(one.state.version, proposed))
        return {violation.detail for violation in seen if violation.rule == "engine"}

    assert found(train, "fjord/b/g-0-0", "fjord/h/g-0-0") == {
        "one gang on nodes of local and slurm: nobody can start it"
    }
    assert found(train, "fjord/hall/new-0-0", "fjord/hall/new-0-1") == {
        "miners of fjord runs nothing of anybody's"
    }
    assert found(cpu, "fjord/h/g-0-0", mask=0, cpu_milli=500) == {
        "it asks for no accelerators by name, and slurm is not the engine of fjord"
    }
    assert found(train, "fjord/b/g-0-0", "fjord/b/g-0-1") == set()


def isolation(one: Core) -> object:
    """What a policy with rules is told of Fjord."""
    return one.world.laws.facts_for(one.world, ACME, Policy("rules", (), "permit"), 0)["site.isolation"]


def test_a_policy_sees_the_weakest_isolation_of_what_runs_somebodys_work_there() -> None:
    """Miners run nobody's work, and weaken nothing."""
    one = several()
    assert isolation(one) == "none"
    one.apply(estate(fjord(HALL)))
    assert isolation(one) == "container"


def test_a_block_keeps_its_engine_while_it_is_in_use() -> None:
    """The other engine could not stop what runs there."""
    one = several()
    running(one, MINE)
    with pytest.raises(HeadraceError, match="would change its engine, or a block's, but is in use"):
        one.apply(estate(fjord(H100, replace(HALL, engine=""))))


def test_a_world_made_anew_knows_the_same_engines() -> None:
    """Nothing of it is remembered beside the estate."""
    one = several()
    running(one, MINE, job("firm"))
    assert derived(rebuilt(one.world)) == derived(one.world)


def test_a_miner_is_no_accelerator_that_anybody_could_claim() -> None:
    """A hall of ten thousand machines is no AI site."""
    known = estate(fjord(H100, HALL))
    total = figures(known, known.sites[0])
    assert (total.accelerators["sha256"], total.miners, total.accelerator_count) == (4, 4, 2 * 8 + 4 * 4)
