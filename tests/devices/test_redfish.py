"""Servers over Redfish: the limit is set by whichever way a controller has, read back, and every failure is named."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.clock import WallClock
from headrace.core.ids import NodeId
from headrace.devices import DeviceError, DeviceFault, LimitReading
from headrace.devices.credentials import Login, SecretFile
from headrace.devices.declared import load_devices
from headrace.devices.redfish import RedfishServer, ServerAddress
from headrace.devices.web import Trust, Web
from headrace.plant.physics import Failure
from headrace.plant.run import Plant
from tests.devices.crude import crude, http
from tests.plant.small import control, devices_of, plant_here, until

NODE = NodeId("fjord/b1/n-0-0")


def addressed(plant: Plant, number: int = 0) -> tuple[str, Login]:
    """A controller's URL and the login that it takes."""
    server = load_devices(plant.directory / "devices.yaml")[0].servers[number]
    assert server.login is not None
    return server.url, server.login


@pytest.mark.parametrize("way", ["environment", "control", "legacy"])
def test_a_limit_is_set_and_read_back_by_each_way_and_the_node_draws_less(tmp_path: Path, way: str) -> None:
    """Discovery finds the way; the cap acts in the physics; lifting it lets the node draw again."""

    async def main() -> None:
        async with plant_here(tmp_path, way=way, load_permille=1_000) as plant, devices_of(plant) as devices:
            server = devices.servers[NODE]
            first = await server.limit()
            assert (server.way, first.limit_w, first.enforced) == (way, None, False)
            await server.set_limit(700)
            second = await server.limit()
            assert (second.limit_w, second.enforced) == (700, True)

            async def draws_less() -> bool:
                told = (await control(plant, f"/nodes?node={NODE}"))[NODE]
                return bool(told["drawn_w"] <= 700)

            await until(draws_less)
            # Twice in a row: the ETag of the first change is not that of the second.
            await server.set_limit(800)
            await server.set_limit(None)
            assert (await server.limit()).limit_w is None

            async def draws_again() -> bool:
                drawn_w = (await server.limit()).drawn_w
                return drawn_w is not None and drawn_w > 950

            await until(draws_again)

    asyncio.run(main())


@pytest.mark.parametrize("session", [True, False])
def test_a_session_or_the_password_with_each_request_and_a_session_that_ended(
    tmp_path: Path, session: bool
) -> None:
    """Both ways to log in work; a session that the controller forgot is made anew, unseen."""

    async def main() -> None:
        async with plant_here(tmp_path) as plant, devices_of(plant) as devices:
            url, login = addressed(plant)
            web = devices.web
            server = RedfishServer(
                ServerAddress(NODE, url, login=replace(login, session=session)), web, plant.clock
            )
            await server.set_limit(800)
            server._token = "forgotten" if session else ""
            assert (await server.limit()).limit_w == 800

    asyncio.run(main())


def test_who_closes_logs_out_for_controllers_have_room_for_few(tmp_path: Path) -> None:
    """More starts than a controller has sessions; one that has no room for another says so."""

    async def main() -> None:
        async with plant_here(tmp_path) as plant:
            for _ in range(20):
                async with devices_of(plant) as devices:
                    assert (await devices.servers[NODE].limit()).limit_w is None
            async with devices_of(plant) as devices:
                address = devices.servers[NODE].address
                many = [RedfishServer(address, devices.web, plant.clock) for _ in range(17)]
                for one in many[:16]:
                    await one.limit()
                with pytest.raises(DeviceError, match=r"gives no session .status 503.*session: false"):
                    await many[16].limit()

    asyncio.run(main())


def test_somebody_else_who_changed_the_limit_in_between_does_not_stop_us(tmp_path: Path) -> None:
    """A wrong ETag is answered with 412, and one that is missing with 428: both are read anew and tried once more."""

    async def main() -> None:
        async with plant_here(tmp_path, way="environment") as plant, devices_of(plant) as devices:
            server = devices.servers[NODE]
            other = RedfishServer(server.address, devices.web, plant.clock)
            await server.set_limit(800)
            await other.set_limit(900)
            await server.set_limit(700)
            assert (await other.limit()).limit_w == 700
            server._tag = ""
            await server.set_limit(750)
            assert (await server.limit()).limit_w == 750

    asyncio.run(main())


def test_off_and_on(tmp_path: Path) -> None:
    """A node that shuts down is on until it is off, and draws its standby then; it comes back."""

    async def main() -> None:
        async with plant_here(tmp_path, load_permille=1_000) as plant, devices_of(plant) as devices:
            server = devices.servers[NODE]
            assert await server.is_on()
            await server.off()
            assert await server.is_on()

            async def is_off() -> bool:
                return not await server.is_on()

            await until(is_off)
            assert (await control(plant, f"/nodes?node={NODE}"))[NODE]["drawn_w"] < 50
            await server.on()
            await until(server.is_on)
            await server.off(at_once=True)
            await until(is_off)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("failure", "fault"),
    [
        (Failure.SILENT, DeviceFault.TIMEOUT),
        (Failure.SLOW, DeviceFault.TIMEOUT),
        (Failure.REFUSES, DeviceFault.REFUSED),
        (Failure.GONE, DeviceFault.UNREACHABLE),
    ],
)
def test_a_controller_that_fails_is_named_within_the_deadline(
    tmp_path: Path, failure: Failure, fault: DeviceFault
) -> None:
    """Silent, slow, refusing or gone: an error with the node's name, and what it enforced stays."""

    async def main() -> None:
        async with (
            plant_here(tmp_path, load_permille=1_000) as plant,
            devices_of(plant, deadline_s=0.5) as devices,
        ):
            server = devices.servers[NODE]
            await server.set_limit(800)
            await control(plant, "/fail", {"kind": "node", "names": [NODE], "as": failure.name.lower()})
            with pytest.raises(DeviceError) as caught:
                await server.set_limit(700)
            assert (caught.value.fault, caught.value.device) == (fault, NODE)
            await control(plant, "/fail", {"kind": "node", "names": [NODE], "as": "none"})
            assert (await server.limit()).limit_w == 800

    asyncio.run(main())


def test_one_that_confirms_and_does_nothing_shows_only_at_the_meter(tmp_path: Path) -> None:
    """Its read-back says what was asked, and the watts don't go: why a cap is credited by a meter alone."""

    async def main() -> None:
        async with plant_here(tmp_path, load_permille=1_000) as plant, devices_of(plant) as devices:
            server = devices.servers[NODE]
            await control(plant, "/fail", {"kind": "node", "names": [NODE], "as": "ignores"})
            await server.set_limit(700)
            assert (await server.limit()).limit_w == 700
            await asyncio.sleep(0.5)
            assert (await control(plant, f"/nodes?node={NODE}"))[NODE]["drawn_w"] > 950

    asyncio.run(main())


def test_a_limit_outside_of_what_it_takes_is_refused_with_its_own_words(tmp_path: Path) -> None:
    """The floor of a cap is the controller's to say; `range` tells it, where the controller does."""

    async def main() -> None:
        async with plant_here(tmp_path, way="environment") as plant, devices_of(plant) as devices:
            server = devices.servers[NODE]
            found = await server.range()
            assert (found.least_w, found.most_w) == (600, 1_000)
            with pytest.raises(DeviceError, match="599 is not within the range from 600 to 1000") as caught:
                await server.set_limit(599)
            assert caught.value.fault is DeviceFault.RANGE

    asyncio.run(main())


@pytest.mark.parametrize(
    ("password", "mode", "said"),
    [
        ("sesame\n", 0o600, "does not accept user headrace with the password in"),
        ("right\n", 0o640, "can be used by others; `chmod 600"),
        ("", 0o600, "is empty;"),
        (None, 0o600, "can't be read: no such file"),
    ],
)
def test_a_password_that_is_wrong_open_or_not_there_is_named_and_never_shown(
    tmp_path: Path, password: str | None, mode: int, said: str
) -> None:
    """The error names the file and the step, and the password is in none."""

    async def main() -> None:
        async with plant_here(tmp_path) as plant, devices_of(plant) as devices:
            path = tmp_path / "password"
            if password is not None:
                path.write_text(password)
                path.chmod(mode)
            url, _ = addressed(plant)
            address = ServerAddress(NODE, url, login=Login("headrace", SecretFile(path)))
            with pytest.raises(DeviceError) as caught:
                await RedfishServer(address, devices.web, plant.clock).limit()
            assert said in str(caught.value)
            assert "sesame" not in str(caught.value)
            assert caught.value.fault is DeviceFault.CREDENTIALS

    asyncio.run(main())


def test_a_certificate_is_believed_by_its_fingerprint_and_no_other(tmp_path: Path) -> None:
    """Controllers sign their own: the one that was declared is believed, any other is somebody in between."""

    async def main() -> None:
        async with plant_here(tmp_path, tls=True) as plant, devices_of(plant) as devices:
            assert devices.servers[NODE].address.url.startswith("https:")
            assert (await devices.servers[NODE].limit()).limit_w is None
            address = devices.servers[NODE].address
            for trust, said in (
                (Trust(fingerprint="00" * 32), "is not the one that was declared"),
                (None, "the certificate at"),
            ):
                with pytest.raises(DeviceError, match=said) as caught:
                    await RedfishServer(replace(address, trust=trust), devices.web, plant.clock).limit()
                assert caught.value.fault is DeviceFault.TLS
            plain = replace(address, url=address.url.replace("https:", "http:"))
            with pytest.raises(DeviceError):
                await RedfishServer(plain, devices.web, plant.clock).limit()

    asyncio.run(main())


def body(data: object) -> bytes:
    return http(json.dumps(data))


CHASSIS = {"@odata.id": "/redfish/v1/Chassis/1"}


@pytest.mark.parametrize(
    ("answer", "fault", "said"),
    [
        (lambda raw: None, DeviceFault.TIMEOUT, "no answer from http://127.0.0.1"),
        (lambda raw: b"", DeviceFault.UNREACHABLE, "closed the connection"),
        (lambda raw: b"220 mail.example ESMTP\r\n", DeviceFault.UNEXPECTED, "not by HTTP"),
        (lambda raw: http("<html>Welcome</html>"), DeviceFault.UNEXPECTED, "not with JSON"),
        (lambda raw: body([1]), DeviceFault.UNEXPECTED, "no JSON object"),
        (lambda raw: body({"Id": "1"}), DeviceFault.UNSUPPORTED, "has no power limit"),
        (lambda raw: http("{}", "404 Not Found"), DeviceFault.UNEXPECTED, "Check the ids"),
        (lambda raw: http("{}", "503 Service Unavailable"), DeviceFault.REFUSED, "status 503"),
        (lambda raw: http("{}", "401 Unauthorized"), DeviceFault.CREDENTIALS, "wants a password"),
        (
            lambda raw: body({"Power": {"@odata.id": "https://elsewhere/Power"}}),
            DeviceFault.UNEXPECTED,
            "links to",
        ),
        (
            lambda raw: body(
                {"Power": {"@odata.id": "/p"}, "PowerControl": [{"PowerLimit": {"LimitInWatts": "much"}}]}
            ),
            DeviceFault.UNEXPECTED,
            "another shape",
        ),
        (
            lambda raw: body({"EnvironmentMetrics": {"@odata.id": "/e"}, "PowerLimitWatts": {}}),
            DeviceFault.UNEXPECTED,
            "another shape",
        ),
    ],
)
def test_whatever_a_controller_answers_it_is_an_error_with_a_name_and_a_step(
    answer: Callable[[bytes], bytes | None], fault: DeviceFault, said: str
) -> None:
    """No answer, another protocol, another shape: never a traceback, never a limit that nobody enforces."""

    async def main() -> None:
        web = Web(deadline_s=0.5)
        async with crude(answer) as port:
            server = RedfishServer(
                ServerAddress(NODE, f"http://127.0.0.1:{port}", chassis="1"), web, WallClock()
            )
            with pytest.raises(DeviceError) as caught:
                await server.limit()
            await web.close()
        assert (caught.value.fault, said in str(caught.value)) == (fault, True), str(caught.value)
        assert str(caught.value).startswith(f"{NODE}: ")
        assert caught.value.problem.next_step

    asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://127.0.0.1:1", DeviceFault.UNREACHABLE),
        ("http://nowhere.invalid", DeviceFault.UNREACHABLE),
        ("http://127.0.0.1:99999999", DeviceFault.UNREACHABLE),
    ],
)
def test_an_address_where_nobody_is_says_so(url: str, fault: DeviceFault) -> None:
    """Refused, unknown, or no address at all."""

    async def main() -> None:
        web = Web(deadline_s=5.0)
        with pytest.raises(DeviceError) as caught:
            await RedfishServer(ServerAddress(NODE, url, chassis="1"), web, WallClock()).limit()
        await web.close()
        assert caught.value.fault is fault

    asyncio.run(main())


@pytest.mark.parametrize(
    ("mode", "point", "expected"),
    [
        ("Automatic", 500.2, (501, True)),
        ("Override", 500, (500, True)),
        (None, 500, (500, True)),
        ("Manual", 500, (500, False)),
        ("Disabled", 500, (None, False)),
        ("Automatic", None, (None, False)),
    ],
)
def test_a_limit_that_is_only_held_is_not_enforced(
    mode: str | None, point: float | None, expected: tuple[int | None, bool]
) -> None:
    """By the standard a control acts in Automatic and Override, and not in Manual or Disabled; fractions are rounded up."""
    limit = {"SetPoint": point} | ({} if mode is None else {"ControlMode": mode})
    data = body(
        {
            "EnvironmentMetrics": {"@odata.id": "/e"},
            "PowerLimitWatts": limit,
            "PowerWatts": {"Reading": 431.2},
        }
    )

    async def main() -> LimitReading:
        web = Web(deadline_s=5.0)
        async with crude(lambda raw: data) as port:
            address = ServerAddress(NODE, f"http://127.0.0.1:{port}", chassis="1")
            found = await RedfishServer(address, web, WallClock()).limit()
            await web.close()
        return found

    found = asyncio.run(main())
    assert ((found.limit_w, found.enforced), found.drawn_w) == (expected, 432)


def test_several_chassis_are_not_guessed_among() -> None:
    """Which of them is the node must be said: a limit on another's chassis would cap somebody else."""
    found = body({"Members": [{"@odata.id": f"/redfish/v1/Chassis/{n}"} for n in ("1", "gpu-tray")]})

    async def main() -> None:
        web = Web(deadline_s=5.0)
        async with crude(lambda raw: found) as port:
            server = RedfishServer(ServerAddress(NODE, f"http://127.0.0.1:{port}"), web, WallClock())
            with pytest.raises(DeviceError, match=r"has 2 Chassis: 1, gpu-tray; .*Say which one"):
                await server.limit()
            await web.close()

    asyncio.run(main())


def test_a_kept_connection_that_the_controller_closed_is_made_again() -> None:
    """Controllers close idle connections when they like: the next question is asked on another."""
    asked: list[bytes] = []
    limit = body({"EnvironmentMetrics": {"@odata.id": "/e"}, "PowerLimitWatts": {"SetPoint": 500}})

    def answer(raw: bytes) -> bytes:
        asked.append(raw)
        # Every third question is hung up on.
        return b"" if len(asked) % 3 == 0 else limit

    async def main() -> None:
        web = Web(deadline_s=5.0)
        async with crude(answer) as port:
            server = RedfishServer(
                ServerAddress(NODE, f"http://127.0.0.1:{port}", chassis="1"), web, WallClock()
            )
            for _ in range(4):
                assert (await server.limit()).limit_w == 500
            await server.set_limit(400)
            await web.close()

    asyncio.run(main())
    assert any(raw.startswith(b"PATCH /e") for raw in asked)
