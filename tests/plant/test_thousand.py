"""A thousand nodes: every one answers, or is named; how long it takes is printed by the script, and asserted of nothing."""

from pathlib import Path

from tests.plant.thousand import play


def test_a_thousand_nodes_are_capped_and_read_back_also_when_some_do_not_answer(tmp_path: Path) -> None:
    """5 % of the controllers are silent from the start: they are unanswered, and all the others confirmed."""
    found = play(tmp_path, 1_000, 2.0, 0.0, "--fail", "50", "--fail-as", "silent")
    nodes = found["nodes"]
    assert nodes == found["plant"]["nodes"] > 990
    silent = found["plant"]["failing"]
    assert silent == nodes * 50 // 1_000
    for turn in ("cap and read back", "cap and read back again"):
        assert found[turn]["outcomes"] == {"confirmed": nodes - silent, "unanswered": silent}
    assert found["believed"] == found["meters"] == 5
