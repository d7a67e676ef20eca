"""What must not lie about: secrets and names of persons, in the state directory of a real control plane that really uses them."""

from pathlib import Path

from headrace.journal.verify import verify
from tests.durability.client import TENANTS
from tests.durability.harness import DOCUMENTS, control_plane
from tests.durability.test_starts import state_of, submit, wait_for

TENANT = TENANTS[0]
SECRET, PERSON, HOLDER = "correct-horse-battery-staple", "Ada Lovelace of London", "Grace Hopper of Arlington"
CONTACT = f"kind: tenant\nname: {TENANT}\nprojects: [main]\ncontact: {PERSON}\n"


def _places(state: Path, *plains: str) -> list[str]:
    """Files of the state that hold one of some texts."""
    found: list[str] = []
    for path in sorted(state.rglob("*")):
        try:
            data = path.read_bytes() if path.is_file() else b""
        except FileNotFoundError:
            continue
        found.extend(f"{plain!r} in {path.relative_to(state)}" for plain in plains if plain.encode() in data)
    return found


def test_no_secret_and_no_name_lies_in_plain_in_the_state_and_erasing_destroys_them(tmp_path: Path) -> None:
    """While it runs, after it ended, after a checkpoint, and after the tenant is erased; the work itself gets its secret."""
    state, marker = tmp_path / "state", tmp_path / "seen"
    with control_plane(state) as plane:
        api = plane.api()
        api.apply(DOCUMENTS)
        api.apply(CONTACT)
        assert (
            api.call("POST", "/v1/tokens", {"role": "tenant-member", "tenant": TENANT, "holder": HOLDER})[0]
            == 201
        )
        commands = [f'echo "${{#PASSWORD}}" > {marker}', "sleep 600"]
        (ident,) = submit(api, "uses-it", "k", commands=commands, secrets={"PASSWORD": SECRET})["workloads"]
        wait_for(marker.exists)
        wait_for(lambda: marker.read_text().strip() == str(len(SECRET)))
        wait_for(lambda: state_of(api, ident) == "running")
        assert _places(state, SECRET, PERSON, HOLDER) == []
        assert plane.token not in (state / "journal.sqlite").read_bytes().decode(errors="replace")
        api.call("POST", f"/v1/workloads/{ident}/stop")
        wait_for(lambda: state_of(api, ident) == "stopped")
        plane.end()
        assert _places(state, SECRET, PERSON, HOLDER) == []
        plane.start()
        holders = [one["holder"] for one in api.call("GET", "/v1/tokens")[1]["tokens"]]
        assert HOLDER in holders
        assert api.call("POST", f"/v1/tenants/{TENANT}/erase")[0] == 200
        holders = [one["holder"] for one in api.call("GET", "/v1/tokens")[1]["tokens"]]
        assert HOLDER not in holders
        assert "(erased)" in holders
        plane.end()
        assert _places(state, SECRET, PERSON, HOLDER) == []
        assert not any((state / "engine" / "logs" / f"{ident}.1").glob("[0-9]*"))
        public = bytes.fromhex((state / "keys" / "signing.pub").read_text())
        assert verify(state / "journal.sqlite", public, replay=True).events
