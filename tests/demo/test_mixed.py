"""One queue over three engines: `headrace demo --engines` on a real Slurm and a real Ray."""

import re
from pathlib import Path

import pytest

from headrace.core.errors import HeadraceError
from headrace.demo import mixed


def test_every_job_of_a_mixed_estate_ends_where_its_policy_lets_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three countries, three engines, one control plane; the clusters themselves say how many jobs of ours they had."""
    tmp_path.chmod(0o755)
    assert mixed.run(40, state=tmp_path / "state") == 0
    said = capsys.readouterr().out
    found = re.findall(r"^ +(NO|GB|SE|NO, SE) +(\d+) +(\d+) +(\d+) *$", said, re.MULTILINE)
    by_law = {law: [int(one) for one in counts] for law, *counts in found}
    assert by_law["NO"] == [0, 13, 0]
    assert by_law["GB"] == [0, 0, 20]
    assert by_law["SE"] == [1, 0, 0]
    assert by_law["NO, SE"][2] == 0
    assert sum(by_law["NO, SE"]) == 4
    assert "the cluster at loughton says that it had 20 jobs of ours" in said
    assert "✓ no job ran where its policy forbids it" in said


def test_without_a_cluster_the_demo_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the names of programs, and with the command; nothing of the Ray that is there."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        HeadraceError, match=r"this needs slurmctld, slurmd, munged, sbatch, setpriv.*apt-get install"
    ) as caught:
        mixed.run(40, state=None)
    assert "Ray" not in str(caught.value)
