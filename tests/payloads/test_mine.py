"""The filler really mines, says how fast, and stops when it is told to."""

import hashlib
import re
import signal
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.payloads.mine import Miner, fresh_header, mine
from tests.payloads.conftest import StartPayload

# The first block of Bitcoin: a nonce and hash that the whole world has checked.
GENESIS = bytes.fromhex(
    "01000000" + "00" * 32 + "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a"
    "29ab5f49" + "ffff001d" + "1dac2b7c"
)
GENESIS_NONCE = 2083236893
GENESIS_HASH = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"


def test_it_finds_the_first_block_of_bitcoin() -> None:
    miner = Miner(GENESIS, share_bits=32, nonce=GENESIS_NONCE - 100)
    miner.work(200)
    assert (miner.best.hex(), miner.best_bits) == (GENESIS_HASH, 43)
    assert (miner.hashes, miner.shares) == (200, 1)


@given(root=st.binary(min_size=32, max_size=32), nonce=st.integers(0, 2**32 - 33), count=st.integers(1, 32))
def test_its_best_is_that_of_a_plain_search(root: bytes, nonce: int, count: int) -> None:
    header = GENESIS[:36] + root + GENESIS[68:]
    miner = Miner(header, share_bits=256, nonce=nonce)
    miner.work(count)
    plain = (
        hashlib.sha256(hashlib.sha256(header[:76] + struct.pack("<I", tried)).digest()).digest()[::-1]
        for tried in range(nonce, nonce + count)
    )
    assert miner.best == min(plain)


def test_a_header_out_of_nonces_is_dated_a_second_later() -> None:
    miner = Miner(GENESIS, share_bits=32, nonce=2**32 - 5)
    miner.work(100)
    assert (miner.hashes, miner.nonce) == (5, 0)
    assert miner.header == GENESIS[:68] + struct.pack("<I", 0x495FAB29 + 1) + GENESIS[72:]


def test_two_ranks_never_work_on_the_same_header() -> None:
    assert len(fresh_header(0)) == 80
    assert fresh_header(0) != fresh_header(0)


def test_it_reports_while_it_works_and_a_total_at_the_end() -> None:
    said: list[str] = []
    stops: Iterator[bool] = iter([False, False, True])
    mine(Miner(fresh_header(0), 24), lambda: next(stops), said.append, report_every_s=0)
    assert [line.split(", ")[0] for line in said[:2]] == ["8192 hashes", "16384 hashes"]
    assert re.fullmatch(
        r"stopped after 0\.\d s: 16384 hashes, \d+\.\d\d MH/s, best \d+ leading zero bits, \d+ shares",
        said[2],
    )


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_a_success_with_a_total(start_payload: StartPayload, told: signal.Signals) -> None:
    process = start_payload("mine", "--report-seconds", "0.05", RANK="1", WORLD_SIZE="2", MASTER_PORT="1")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("rank 1: ")
    process.send_signal(told)
    said, complaints = process.communicate()
    assert (process.returncode, complaints) == (0, "")
    assert said.splitlines()[-1].startswith("rank 1: stopped after ")


def test_an_environment_that_cannot_be_is_refused(start_payload: StartPayload) -> None:
    process = start_payload("mine", RANK="3", WORLD_SIZE="2", MASTER_PORT="1")
    assert process.communicate()[1] == "mine: RANK=3 is outside WORLD_SIZE=2: ranks count from 0\n"
    assert process.returncode == 2
