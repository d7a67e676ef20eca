"""A miner that says that it stopped and goes on is found by the meter of its element."""

import asyncio
from pathlib import Path

import pytest

from headrace.cli.plant import _look
from tests.plant.small import control, plant_here


@pytest.mark.parametrize("lying", [True, False])
def test_a_miner_that_goes_on_is_named_with_its_meter(tmp_path: Path, lying: bool) -> None:
    """It says 25 W like the one that stopped; the meter did not fall by what both say."""

    async def main() -> list[dict[str, str]]:
        async with plant_here(tmp_path, miners=2, miners_at="fjord/feed-b") as plant:
            await asyncio.sleep(1.5)
            if lying:
                await control(
                    plant, "/fail", {"kind": "miner", "names": ["fjord/hall/m0001"], "as": "ignores"}
                )
            return await _look(plant.directory / "devices.yaml", [], ["all"], [], 3.0)

    rows = asyncio.run(main())
    miners = {one["device"].rpartition("/")[2]: one["trouble"] for one in rows if one["kind"] == "miner"}
    assert set(miners) == {"m0000", "m0001"}
    for trouble in miners.values():
        assert ("m0001: they say that they draw" in trouble) == lying, rows
