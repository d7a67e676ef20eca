"""The benchmark against Slurm: its configuration and what it reads of Slurm's output, without a Slurm."""

from pathlib import Path

import pytest

from benchmarks import slurm
from headrace.core.codec import from_normalised
from headrace.core.estate import Estate

# Of squeue -h -r -o '%T|%N' while an array is scheduled.
RECORDED = """\
PENDING|
PENDING|
CONFIGURING|n733
CONFIGURING|n734
RUNNING|n1
COMPLETING|n2
"""


def test_the_configuration_has_no_place_left_to_fill() -> None:
    """Every @NAME@ of the template is filled, with the folder, the port and the nodes that were asked for."""
    text = slurm.render(Path("/somewhere"), 16_817, 1_000, slurm.WAYS["array"])
    settings = [line for line in text.splitlines() if not line.startswith("#")]
    assert not [line for line in settings if "@" in line]
    assert "SlurmctldPort=16817" in settings
    assert "StateSaveLocation=/somewhere/state" in settings
    assert [line for line in settings if line.startswith("NodeName=n[1-1000] ")]


@pytest.mark.parametrize("way", slurm.WAYS.values(), ids=list(slurm.WAYS))
def test_a_controller_is_set_up_for_its_way(way: slurm.Way) -> None:
    """Only a deferring one is told to defer, and nodes are selected by the way's plugin."""
    text = slurm.render(Path("/somewhere"), 16_817, 10, way)
    assert f"SelectType=select/{way.select}" in text.splitlines()
    (line,) = (line for line in text.splitlines() if line.startswith("SchedulerParameters="))
    options = line.partition("=")[2].split(",")
    assert ("defer" in options) is way.defer
    assert all(options), "an empty option is an error to Slurm"


def test_both_sides_have_nodes_of_one_shape() -> None:
    """What Slurm's nodes have is what the estate's have."""
    (found,) = (one.document for one in slurm.documents(1_000).documents if one.kind == "estate")
    estate = from_normalised("estate", found)
    assert isinstance(estate, Estate)
    (kind,) = estate.hardware.values()
    (group,) = estate.sites[0].blocks[0].groups
    text = slurm.render(Path("/somewhere"), 16_817, 1_000, slurm.WAYS["array"])
    assert group.node_count == 1_000
    assert f"CPUS={kind.cpu_milli // 1_000} REALMEMORY={kind.memory_mb} " in text.upper()
    assert f"Gres=gpu:{kind.accelerators} " in text


def test_a_job_counts_once_it_holds_nodes() -> None:
    """Pending ones and those that are ending are not counted."""
    assert slurm.count_allocated(RECORDED) == 3
    assert slurm.count_allocated("") == 0


def test_jobs_without_nodes_are_not_allocated() -> None:
    """A state alone is no allocation."""
    assert slurm.count_allocated("CONFIGURING|\n") == 0
