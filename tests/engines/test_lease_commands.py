"""The commands of a leased Ray: what names its program is a name, wherever it stands."""

import subprocess
from pathlib import Path

from headrace.engines.leases import ray_commands


def test_a_program_that_is_not_there_is_named_as_it_was_written(tmp_path: Path) -> None:
    """Nothing in it is done by the shell that says so."""
    program = f'/no "ray"/$(touch {tmp_path}/done)`touch {tmp_path}/done`'
    script = ray_commands(program)[0]
    said = subprocess.run(
        ["/bin/sh", "-e", "-c", script],
        env={"HEADRACE_NODE": "lab-0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 127
    assert (
        said.stderr == f"there is no {program} on lab-0: install Ray there, or name the program with --ray\n"
    )
    assert not (tmp_path / "done").exists()
