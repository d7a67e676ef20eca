"""The queue: by arrival, and in lines of those that are alike."""

from random import Random

from headrace.core.ids import WorkloadId
from headrace.core.scheduling.queue import Queue, line_of
from headrace.core.workload import Workload
from tests.core.scheduling.small import World, fleet_of, group, site


def test_lines_hold_what_the_queue_holds() -> None:
    """Whatever comes and goes: each waits in one line, its own; an empty line is gone."""
    chance = Random(5)
    world = World(fleet_of(site("glom", group())))
    queue = Queue()
    inside: dict[WorkloadId, Workload] = {}
    for _ in range(400):
        if inside and chance.random() < 0.45:
            ident = chance.choice(list(inside))
            del inside[ident]
            queue.remove(ident)
        else:
            work = world.submit(
                gpus=chance.randint(0, 3), priority=chance.randint(0, 1), nodes=chance.randint(1, 2)
            )
            inside[work.id] = work
            queue.add(work)
        assert list(queue) == list(inside)
        assert list(queue.values()) == list(inside.values())
        assert all(queue.lines.values())
        found = {ident: line for line, members in queue.lines.items() for ident in members}
        assert found == {ident: line_of(work) for ident, work in inside.items()}
    queue.remove(WorkloadId("acme-0"))
    assert len(queue) == len(inside)


def test_a_line_is_everything_that_a_plan_tells_workloads_apart_by() -> None:
    """Any difference in rank or in what is asked for is another line; a name, an image or an age is not."""
    world = World(fleet_of(site("glom", group())))
    base = world.submit()
    assert line_of(world.submit()) == line_of(base)
    others = [
        world.submit(priority=1),
        world.submit(nodes=2),
        world.submit(gpus=2),
        world.submit(model="H100"),
        world.submit(cpu_milli=1),
        world.submit(memory_mb=1),
        world.submit(kind="service"),
        world.submit(countries=("NO",)),
        world.submit(at="glom"),
        world.submit(named="c-1"),
    ]
    lines = {line_of(work) for work in (base, *others)}
    assert len(lines) == len(others) + 1
