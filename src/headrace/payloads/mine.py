"""Mine: double SHA-256 over an 80-byte block header, nonce by nonce, until told to stop.

    python -m headrace.payloads.mine

The filler that lets power be used until something better wants it. It really mines, on one thread
per rank and at a processor's pace: a share is a header whose hash has `--share-bits` leading zero
bits. On SIGTERM it prints its total and ends with 0.
"""

import argparse
import hashlib
import os
import secrets
import signal
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType

from headrace.payloads.place import EnvironmentRefusedError, place_from

HEADER_BYTES = 80
_MIDSTATE_BYTES = 64  # SHA-256's block: the nonce lies behind it, so this part is hashed once
_TIME_OFFSET = 68
_NONCES = 2**32
_BATCH = 8192  # about 10 ms: how long a stop may have to wait


@dataclass(slots=True)
class Miner:
    """One header being worked on, and what came of it. `best` is the smallest hash seen."""

    header: bytes
    share_bits: int
    nonce: int = 0
    hashes: int = 0
    shares: int = 0
    best: bytes = field(default=b"\xff" * 32)

    @property
    def best_bits(self) -> int:
        """Leading zero bits of the smallest hash so far."""
        return 256 - int.from_bytes(self.best, "big").bit_length()

    def work(self, count: int) -> None:
        """Try the next `count` nonces; a header that runs out of them is dated a second later."""
        midstate = hashlib.sha256(self.header[:_MIDSTATE_BYTES])
        tail = self.header[_MIDSTATE_BYTES : HEADER_BYTES - 4]
        stop = min(self.nonce + count, _NONCES)
        limit = 2 ** (256 - self.share_bits)
        best, pack, sha256 = self.best, struct.Struct("<I").pack, hashlib.sha256
        for nonce in range(self.nonce, stop):
            state = midstate.copy()
            state.update(tail + pack(nonce))
            # A block hash is read as a little-endian number.
            digest = sha256(state.digest()).digest()[::-1]
            best = min(best, digest)
            if digest[:2] == b"\0\0" and int.from_bytes(digest, "big") < limit:
                self.shares += 1
        self.best = best
        self.hashes += stop - self.nonce
        self.nonce = stop
        if stop == _NONCES:
            self._renew()

    def _renew(self) -> None:
        (second,) = struct.unpack_from("<I", self.header, _TIME_OFFSET)
        later = struct.pack("<I", (second + 1) % 2**32)
        self.header = self.header[:_TIME_OFFSET] + later + self.header[_TIME_OFFSET + 4 :]
        self.nonce = 0


def fresh_header(now_s: int) -> bytes:
    """Return a header that no other rank works on: version, parent, random Merkle root, time, difficulty 1, nonce."""
    parent = hashlib.sha256(b"headrace").digest()
    return struct.pack("<I32s32sIII", 0x20000000, parent, secrets.token_bytes(32), now_s, 0x1D00FFFF, 0)


def mine(
    miner: Miner, should_stop: Callable[[], bool], say: Callable[[str], None], *, report_every_s: float
) -> None:
    """Work until `should_stop`; say the hash rate every `report_every_s`, and the total at the end."""
    begun_s = told_s = time.monotonic()
    told_hashes = miner.hashes
    while not should_stop():
        miner.work(_BATCH)
        now_s = time.monotonic()
        if now_s - told_s >= report_every_s:
            say(summary(miner, miner.hashes - told_hashes, now_s - told_s))
            told_s, told_hashes = now_s, miner.hashes
    elapsed_s = time.monotonic() - begun_s
    say(f"stopped after {elapsed_s:.1f} s: {summary(miner, miner.hashes, elapsed_s)}")


def summary(miner: Miner, recent_hashes: int, recent_s: float) -> str:
    """Return one line: all hashes, the rate of the recent ones, the best."""
    rate = recent_hashes / recent_s / 1e6 if recent_s > 0 else 0.0
    return f"{miner.hashes} hashes, {rate:.2f} MH/s, best {miner.best_bits} leading zero bits, {miner.shares} shares"


def main(arguments: Sequence[str] | None = None) -> int:
    """Mine until SIGTERM, SIGINT or `--seconds`; return 0, or 2 for an environment that can't be."""
    options = _parser().parse_args(arguments)
    stopped = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        place = place_from(os.environ)
    except EnvironmentRefusedError as refused:
        print(f"mine: {refused}", file=sys.stderr, flush=True)
        return 2
    ends_s = time.monotonic() + options.seconds if options.seconds else float("inf")
    mine(
        Miner(fresh_header(int(time.time())), options.share_bits),
        lambda: stopped or time.monotonic() >= ends_s,
        lambda line: print(f"rank {place.rank}: {line}", flush=True),
        report_every_s=options.report_seconds,
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m headrace.payloads.mine", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="stop by itself after this long (default: never)"
    )
    parser.add_argument(
        "--report-seconds", type=float, default=2.0, help="time between two lines (default 2)"
    )
    parser.add_argument(
        "--share-bits",
        type=int,
        default=24,
        choices=range(16, 257),
        metavar="16..256",
        help="leading zero bits of a share (default 24)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
