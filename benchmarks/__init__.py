"""Benchmarks: each figure of the product, with its goal, printed as one line of JSON."""

from benchmarks import kill, scheduling, serving, simulation, slurm, storage
from benchmarks.registry import Benchmark

_ALL = (
    Benchmark(
        "durable_batched",
        "durable submissions in batches through the HTTP API, planner running",
        "workloads/s",
        20_000,
        serving.batched,
    ),
    Benchmark(
        "durable_single",
        "durable single submissions over HTTP, 32 connections",
        "requests/s",
        1_500,
        serving.single,
    ),
    Benchmark(
        "replay", "replay of a journal: verified, decoded, applied", "events/s", 60_000, storage.replay
    ),
    Benchmark("leaves", "verification of leaves, links and heads alone", "events/s", 400_000, storage.leaves),
    Benchmark(
        "restart",
        "restart with 100,000 live workloads from a checkpoint",
        "s",
        3,
        storage.restart,
        at_least=False,
    ),
    Benchmark(
        "memory",
        "300,000-GPU estate, 100,000 queued: control plane and planner, resident at their peaks",
        "MiB",
        2_048,
        storage.memory,
        at_least=False,
    ),
    Benchmark(
        "kill",
        "kill -9 at 500 random points under load: what was lost, done twice or billed wrongly",
        "violations",
        0,
        kill.kill,
        at_least=False,
    ),
    Benchmark(
        "sim_long",
        "500 simulated worlds of two days, no violation",
        "s",
        600,
        simulation.long,
        at_least=False,
    ),
    Benchmark(
        "sim_short",
        "10,000 simulated worlds of 30 minutes, no violation",
        "s",
        600,
        simulation.short,
        at_least=False,
    ),
    Benchmark(
        "plan_full",
        "a plan from empty: 300,000 GPUs at 12 sites, 100,000 workloads waiting",
        "s",
        1,
        scheduling.full,
        at_least=False,
    ),
    Benchmark(
        "plan_one",
        "a plan for one more workload on a full, running estate, 99th percentile",
        "ms",
        5,
        scheduling.one,
        at_least=False,
    ),
    Benchmark(
        "plan_fleet_growth",
        "what a placement costs on four times the fleet",
        "times",
        1.5,
        scheduling.fleet_growth,
        at_least=False,
    ),
    Benchmark(
        "plan_queue_growth",
        "how long a plan takes for ten times the queue",
        "times",
        12,
        scheduling.queue_growth,
        at_least=False,
    ),
    Benchmark(
        "slurm_1000",
        "Slurm's seconds over ours: 2,000 eight-GPU jobs accepted and allocated on 1,000 nodes",
        "x",
        20,
        slurm.thousand,
    ),
    Benchmark(
        "slurm_20000",
        "the same on 20,000 nodes",
        "x",
        200,
        slurm.twenty_thousand,
        quick_goal=20,
    ),
)
BENCHMARKS = {one.name: one for one in _ALL}
