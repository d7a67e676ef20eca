"""The plant's miners: MicroBT's API 2.0.5 for Whatsminers, each at an address of its own, on TCP port 4028.

As documented by its maker: JSON, one command a connection. Reading is free. Writing is encrypted (AES-256-ECB, base64) under a
key made of the administrator's password and a salt, and carries a sign made of that key, the time and a second salt, good for 30
minutes. What is said here is what the machine would say: a miner that lies says that it is off, and draws.
"""

import asyncio
import base64
import binascii
import hashlib
import json
import secrets
import warnings
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from headrace.plant.loopback import miner_address
from headrace.plant.physics import MINER_IDLE_W, Failure, Physics

with warnings.catch_warnings():
    # It imports `crypt`, which later Pythons don't have; it does without.
    warnings.simplefilter("ignore")
    from passlib.hash import md5_crypt  # type: ignore[import-untyped]

PORT = 4028
TOKEN_MS, MOST_TOKENS = 30 * 60_000, 32
LARGEST = 65_536
PATIENCE_S = 10.0
"""A connection over which nothing comes for so long is closed."""
MODEL, FIRMWARE = "M50S_VH50", "20230911.12.REL"


class Miners:
    """All miners of a plant."""

    def __init__(self, physics: Physics, network: int, password: str, speed: int) -> None:
        self.physics, self.network, self.speed = physics, network, speed
        self._password = password
        self._salts = [secrets.token_hex(4) for _ in physics.miners]
        self._keys: dict[int, str] = {}
        self._tokens: dict[int, dict[str, int]] = {}
        self._server: asyncio.Server | None = None
        self._places = {miner_address(network, number): number for number in range(len(physics.miners))}

    async def start(self) -> None:
        """Listen at every miner's address."""
        if self._places:
            self._server = await asyncio.start_server(self._connected, list(self._places), PORT, backlog=64)

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        miner = self._places.get(writer.get_extra_info("sockname")[0], -1)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._serve(miner, reader, writer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _serve(self, miner: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        physics = self.physics
        failure = Failure.GONE if miner < 0 else Failure(int(physics.miner_failure[miner]))
        if failure == Failure.GONE or (physics.tripped.any() and physics.dark[physics.miner_element[miner]]):
            return
        raw = await reader.read(LARGEST)
        if failure == Failure.SILENT:
            await reader.read()
            return
        if failure == Failure.SLOW:
            await asyncio.sleep(physics.speeds.slow_ms / 1_000 / self.speed)
        writer.write(self.answer(miner, raw))
        await writer.drain()

    def answer(self, miner: int, raw: bytes) -> bytes:
        """What a miner answers to one command."""
        try:
            asked = json.loads(raw.rstrip(b"\0"))
        except (json.JSONDecodeError, UnicodeDecodeError):
            return _line(_status("E", 23, "invalid JSON message", self.physics.now_ms))
        if not isinstance(asked, dict):
            return _line(_status("E", 14, "invalid API command or data", self.physics.now_ms))
        if asked.get("enc"):
            return self._encrypted(miner, str(asked.get("data", "")))
        command = str(asked.get("command") or asked.get("cmd") or "")
        return _line(self._read(miner, command))

    # -- reading --------------------------------------------------------------------------------------------

    def _read(self, miner: int, command: str) -> dict[str, Any]:
        now_ms = self.physics.now_ms
        match command:
            case "get_token":
                return self._token(miner)
            case "status":
                off = "false" if self.physics.miner_said_on[miner] else "true"
                told = {
                    "mineroff": off,
                    "mineroff_reason": "",
                    "mineroff_time": "",
                    "FirmwareVersion": FIRMWARE,
                }
                return _status("S", 131, told | {"power_mode": "", "hash_percent": ""}, now_ms)
            case "get_version":
                told = {"api_ver": "2.0.5", "fw_ver": FIRMWARE, "platform": "H616", "chip": "K1"}
                return _status("S", 131, told, now_ms)
            case "version":
                return _status("S", 131, f"whatsminer v{FIRMWARE} BTMiner", now_ms)
            case "devdetails":
                boards = [
                    {"DEVDETAILS": n, "Name": "SM", "ID": n, "Driver": "bitmicro", "Model": MODEL}
                    for n in range(3)
                ]
                return _list("DEVDETAILS", boards, now_ms)
            case "summary":
                return _list("SUMMARY", [self._summary(miner)], now_ms)
        return _status("E", 14, "invalid cmd", now_ms)

    def _summary(self, miner: int) -> dict[str, Any]:
        drawn_w = round(float(self.physics.miner_w[miner]))
        if not self.physics.miner_said_on[miner]:
            # Who lies about being off lies about this too; who ramps down says what it draws.
            lies = self.physics.miner_failure[miner] == Failure.IGNORES
            drawn_w = MINER_IDLE_W if lies else drawn_w
        return {
            "Elapsed": self.physics.now_ms // 1_000 % 86_400,
            "MHS 1m": drawn_w * 1_000 / self.physics.miners[miner].mj_per_th * 1e6
            if drawn_w > MINER_IDLE_W
            else 0.0,
            "Power": drawn_w,
            "Power Limit": round(float(self.physics.miner_limit_w[miner])),
            "Power Mode": "Normal",
            "Firmware Version": f"'{FIRMWARE}'",
            "MAC": f"C0:FF:EE:00:{miner // 256:02X}:{miner % 256:02X}",
        }

    # -- writing --------------------------------------------------------------------------------------------

    def _token(self, miner: int) -> dict[str, Any]:
        now_ms = self.physics.now_ms
        if miner not in self._keys:
            self._keys[miner] = _hash(self._password, self._salts[miner])
        held = {sign: made for sign, made in self._tokens.get(miner, {}).items() if now_ms - made < TOKEN_MS}
        self._tokens[miner] = held
        if len(held) >= MOST_TOKENS:
            return _status("E", 136, "token over max times", now_ms)
        newsalt, time = secrets.token_hex(4), f"{now_ms // 1_000 % 10_000:04d}"
        held[_hash(self._keys[miner] + time, newsalt)] = now_ms
        return _status("S", 134, {"time": time, "salt": self._salts[miner], "newsalt": newsalt}, now_ms)

    def _encrypted(self, miner: int, data: str) -> bytes:
        now_ms = self.physics.now_ms
        key = hashlib.sha256(self._keys.get(miner, "").encode()).digest()
        cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305
        try:
            opener = cipher.decryptor()
            plain = opener.update(base64.b64decode(data)) + opener.finalize()
            asked = json.loads(plain.rstrip(b"\0"))
        except (ValueError, binascii.Error):
            return _line(_status("E", 135, "check token error", now_ms))
        made_ms = (
            self._tokens.get(miner, {}).get(str(asked.get("token"))) if isinstance(asked, dict) else None
        )
        if made_ms is None or now_ms - made_ms > TOKEN_MS:
            return _line(_status("E", 135, "check token error", now_ms))
        text = json.dumps(self._write(miner, asked))
        sealer = cipher.encryptor()
        sealed = sealer.update(text.encode() + b"\0" * (-len(text) % 16)) + sealer.finalize()
        return _line({"enc": base64.b64encode(sealed).decode()})

    def _write(self, miner: int, asked: dict[str, Any]) -> dict[str, Any]:
        now_ms, command = self.physics.now_ms, asked.get("cmd")
        if self.physics.miner_failure[miner] == Failure.REFUSES:
            return _status("E", 45, "can't access write cmd", now_ms)
        if command in ("power_off", "power_on"):
            self.physics.set_mining(miner, command == "power_on")
            return _status("S", 131, "API command OK", now_ms)
        if command == "adjust_power_limit":
            text = str(asked.get("power_limit", ""))
            most_w = self.physics.miner_nameplate_w[miner]
            if not text.isdecimal() or not 0 < int(text) <= most_w:
                return _status("E", 132, "API command ERROR", now_ms)
            self.physics.set_miner_limit(miner, float(text))
            return _status("S", 131, "API command OK", now_ms)
        return _status("E", 14, "invalid cmd", now_ms)


def _hash(text: str, salt: str) -> str:
    return str(md5_crypt.using(salt=salt).hash(text).split("$")[3])


def _status(letter: str, code: int, said: object, now_ms: int) -> dict[str, Any]:
    return {"STATUS": letter, "When": now_ms // 1_000, "Code": code, "Msg": said, "Description": ""}


def _list(name: str, entries: list[dict[str, Any]], now_ms: int) -> dict[str, Any]:
    status = [
        {"STATUS": "S", "When": now_ms // 1_000, "Code": 11, "Msg": name.capitalize(), "Description": ""}
    ]
    return {"STATUS": status, name: entries, "id": 1}


def _line(found: dict[str, Any]) -> bytes:
    return json.dumps(found).encode()
