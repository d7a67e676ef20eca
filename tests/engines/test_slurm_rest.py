"""What slurmrestd says, and what is said of it: the token, the address, the version, the shape of answers."""

import base64
import logging
import os
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from headrace.engines.agent import Refused
from headrace.engines.slurm.client import Commands, Submission
from headrace.engines.slurm.rest import RestClient
from headrace.ports import EngineError
from tests.engines.slurm_site import SlurmSite, slurm_site

PATIENCE_S = 40


@pytest.fixture(scope="module")
def site() -> Iterator[SlurmSite]:
    """One node and a slurmrestd."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    with slurm_site(folder, nodes=1, rest=True) as found:
        yield found
    shutil.rmtree(folder)


def client_of(token: Path, address: str) -> closing[RestClient]:
    """A client with a token of this test's own."""
    return closing(RestClient(address, user="root", token_file=token, timeout_s=15))


def some_token(folder: Path) -> Path:
    """One that looks like Slurm's and is good until 2100."""
    path = folder / "token"
    path.touch(0o600)
    claims = base64.urlsafe_b64encode(b'{"exp": 4102444800, "sun": "root"}').decode().rstrip("=")
    path.write_text(f"e30.{claims}.bm8")
    return path


def until(condition: Callable[[], bool]) -> None:
    """Wait for something."""
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, f"not in {PATIENCE_S} s"
        time.sleep(0.1)


def trouble_of(client: RestClient) -> str:
    """What its asking for jobs meets, or ""."""
    try:
        client.jobs()
    except EngineError as error:
        return error.problem.line()
    return ""


def test_an_expired_token_is_told_with_its_file_and_read_again_once_it_is_renewed(
    site: SlurmSite, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a restart; the token itself is in no error and no log."""
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "token"
    site.write_token(path, lifespan_s=1)
    secret = path.read_text().strip().removeprefix("SLURM_JWT=")
    with client_of(path, site.address) as client:
        until(lambda: trouble_of(client) != "")
        said = trouble_of(client)
        assert said.startswith(f"Slurm's token in {path} expired ")
        step = f"make a new one: `scontrol token username=root lifespan=86400 > {path}`."
        assert said.endswith(step)
        for ask in (client.nodes, client.version):
            with pytest.raises(
                EngineError, match=f"Slurm's token in {path} expired [0-9]+ s ago; make a new one"
            ):
                ask()
        with pytest.raises(EngineError) as caught:
            client.submit(job())
        site.write_token(path)
        assert trouble_of(client) == ""
    told = [caplog.text, repr(caught.value), str(caught.value.__cause__), str(caught.value.__context__)]
    assert not [one for one in told if secret in one or secret.split(".")[2] in one]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no JSON web token; make a new one: `scontrol token"),
        ("two words", "holds no JSON web token"),
        ("a.b.c\r\nX-Other: 1", "holds no JSON web token"),
        ("e30.e30.bm8", "is none of Slurm's; make a new one"),
    ],
)
def test_a_wrong_token_is_told_with_its_file(site: SlurmSite, tmp_path: Path, text: str, said: str) -> None:
    """Whatever stands in it, it is not repeated."""
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(text)
    with client_of(path, site.address) as client:
        found = trouble_of(client)
    assert f"Slurm's token in {path} {said}" in found
    assert not text or text not in found


def test_a_token_that_is_missing_is_told_with_how_to_make_one_that_nobody_else_reads(
    site: SlurmSite, tmp_path: Path
) -> None:
    """What a shell makes anew, everybody may read."""
    path = tmp_path / "token"
    with client_of(path, site.address) as client:
        assert trouble_of(client) == (
            f"Slurm's token in {path} is not there; make it: `install -m 600 /dev/null {path}`, then "
            f"`scontrol token username=root lifespan=86400 > {path}`."
        )


@pytest.mark.parametrize(
    ("mode", "who"),
    [
        (0o644, "0644: everybody can read it"),
        (0o604, "0604: everybody can read it"),
        (0o620, "0620: others can write it"),
        (0o602, "0602: others can write it"),
    ],
)
def test_a_token_that_is_open_to_others_is_told_with_its_mode_whenever_it_becomes_so(
    site: SlurmSite, tmp_path: Path, mode: int, who: str
) -> None:
    """It is as good as root on the cluster: also after it was read, when nothing but its mode has changed."""
    path = tmp_path / "token"
    site.write_token(path)
    path.chmod(mode)
    told = f"Slurm's token in {path} has mode {who}; `chmod 600 {path}`, and make a new one if somebody may have."
    with client_of(path, site.address) as client:
        assert trouble_of(client) == told
        for allowed in (0o600, 0o640, 0o400):
            path.chmod(allowed)
            assert trouble_of(client) == ""
        path.chmod(mode)
        assert trouble_of(client) == told


def test_slurmrestd_is_asked_over_its_socket_too(site: SlurmSite) -> None:
    """With the same answers."""
    token = site.folder / "token"
    site.write_token(token)
    with client_of(token, f"unix:{site.folder}/rest/socket") as client:
        assert [one.name for one in client.nodes()] == ["lab-0-0"]
        assert client.nodes() == Commands(site.conf).nodes()


@pytest.mark.parametrize("address", ["localhost:6820", "http://", "ftp://lab", "unix:here", ""])
def test_what_is_no_address_is_refused_at_once(address: str) -> None:
    """With an example of one."""
    with pytest.raises(
        EngineError, match="is no address of slurmrestd; write http://host:6820 or unix:/path"
    ):
        RestClient(address, user="root")


def test_an_address_where_nobody_listens_is_told(tmp_path: Path) -> None:
    """A port, a name and a socket."""
    token = some_token(tmp_path)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{held.getsockname()[1]}"
        for address in (nobody, "http://slurm.invalid:6820", f"unix:{tmp_path}/socket"):
            with client_of(token, address) as client:
                assert trouble_of(client).startswith(f"slurmrestd at {address} does not answer: ")


def job(**changes: str) -> Submission:
    """A job that waits for nothing."""
    return Submission(
        name="hr.acme-1.1.e1",
        comment="",
        nodes=(changes.pop("node", "lab-0-0"),),
        script="#!/bin/sh\nsleep 60\n",
        memory_mb=100,
        **changes,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"node": "lab-9-9"}, "invalid node name.*compare"),
        ({"partition": "nosuch"}, "invalid partition.*name a partition of `sinfo`"),
        ({"gres": "fpga:1"}, "generic resource.*gres.conf"),
    ],
)
def test_what_slurm_will_never_do_is_refused_in_the_same_words_by_both_clients(
    site: SlurmSite, tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    """With the next step; so that a placement ends instead of being tried for ever."""
    token = tmp_path / "token"
    site.write_token(token)
    found = []
    with client_of(token, site.address) as rest:
        for client in (rest, Commands(site.conf)):
            with pytest.raises(Refused, match=f"(?i)Slurm refuses it: .*{said}") as caught:
                client.submit(job(**changes))
            found.append(caught.value.problem.next_step)
    assert found[0] == found[1]


def test_jobs_are_submitted_seen_and_cancelled_and_one_that_is_gone_is_no_error(
    site: SlurmSite, tmp_path: Path
) -> None:
    """Both clients see the same of them."""
    token = tmp_path / "token"
    site.write_token(token)
    with client_of(token, site.address) as client:
        numbers = [client.submit(job()) for _ in range(3)]
        until(lambda: [one.state for one in client.jobs()] == ["RUNNING"] * 3)
        mine, theirs = client.jobs(), Commands(site.conf).jobs()
        assert [one.id for one in mine] == numbers
        assert [(one.id, one.user, one.name) for one in mine] == [
            (one.id, one.user, one.name) for one in sorted(theirs, key=lambda one: one.id)
        ]
        client.cancel([*numbers, 999_999])
        until(lambda: not any(one.is_alive for one in client.jobs()))
        client.cancel(numbers)
        assert {one.state for one in client.jobs()} == {"CANCELLED"}


def has_ended(site: SlurmSite, job: int) -> bool:
    """Whether it ran."""
    return site.ask("squeue", "-ht", "all", "-j", str(job), "-o", "%T").strip() == "COMPLETED"


def test_both_clients_submit_the_same_job(site: SlurmSite, tmp_path: Path) -> None:
    """In all that Slurm shows of it but its number, its times and what is the shell's."""
    token = tmp_path / "token"
    site.write_token(token)
    whole = Submission(
        name="hr.acme-1.1.e1",
        comment="headrace placement=acme-1.1 epoch=1 mark=07",
        nodes=("lab-0-0",),
        script="#!/bin/sh\nexit 0\n",
        partition="lab",
        account="acme",
        gres="gpu:2",
        cpus=3,
        memory_mb=500,
        exclusive=True,
    )
    small = replace(whole, exclusive=False, account="", memory_mb=0, gres="", cpus=1)
    own = re.compile(
        r"(JobId|Priority|AllocNode:Sid|\w+Time|\w+Eval|SecsPreSuspend|RunTime|NtasksPerN:B:S:C)=\S+"
    )
    for wanted in (whole, small):
        shown = []
        with client_of(token, site.address) as rest:
            for client in (rest, Commands(site.conf)):
                number = client.submit(wanted)
                until(partial(has_ended, site, number))
                shown.append(own.sub("", site.ask("scontrol", "show", "job", "-o", str(number))).split())
        assert sorted(set(shown[0]) ^ set(shown[1])) == []
        assert ("OverSubscribe=NO" in shown[0]) == wanted.exclusive
        assert "Requeue=0" in shown[0]


def test_drains_without_slurms_commands_say_what_is_missing(site: SlurmSite, tmp_path: Path) -> None:
    """The API of 22.05 changes no node."""
    token = tmp_path / "token"
    site.write_token(token)
    with client_of(token, site.address) as client:
        with pytest.raises(EngineError, match=r"v0\.0\.38 can't drain nodes; install Debian's slurm-client"):
            client.drain({"lab-0-0": "a fan"})
        client.drain({})
        client.undrain([])


def test_a_slurmrestd_that_does_not_serve_the_known_api_is_told(site: SlurmSite, tmp_path: Path) -> None:
    """It is of another release, or was started without the plugin."""
    token = tmp_path / "token"
    site.write_token(token)
    with site.other_rest("openapi/v0.0.37") as address, client_of(token, address) as client:
        found = trouble_of(client)
    assert found.startswith(f"what is at {address} does not serve v0.0.38, the API of Slurm 22.05, ")


def test_a_controller_that_is_gone_is_told_and_slurmrestd_killed_and_started_again_goes_on(
    site: SlurmSite, tmp_path: Path
) -> None:
    """A kept connection that broke is made again."""
    token = tmp_path / "token"
    site.write_token(token)
    with client_of(token, site.address) as client:
        assert trouble_of(client) == ""
        site.kill("slurmrestd")
        assert "does not answer" in trouble_of(client)
        site.start_rest()
        assert trouble_of(client) == ""
        site.stop("slurmctld")
        assert "slurmrestd: " in trouble_of(client)
        site.start_controller()
        until(lambda: trouble_of(client) == "")


class Odd(BaseHTTPRequestHandler):
    """Something else than slurmrestd."""

    body = b""
    status = 200

    def do_GET(self) -> None:
        """Say what time it is, and anything for the list of jobs."""
        status, body = (200, DIAGNOSIS) if "/diag/" in self.path else (self.status, self.body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Nothing."""


META = '"meta": {"Slurm": {"version": {"major": 22, "minor": 5, "micro": 8}}}'

DIAGNOSIS = f'{{{META}, "errors": [], "statistics": {{"req_time": 1}}}}'.encode()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, "<html>Welcome</html>", "slurmrestd says what is not understood: '<html>Welcome</html>'"),
        (200, "", "slurmrestd says what is not understood: ''"),
        (200, '{"jobs": []}', "not understood"),
        (200, f'{{{META}, "errors": []}}', "not understood"),
        (200, f'{{{META}, "errors": [], "jobs": [{{"job_id": 7}}]}}', "not understood"),
        (
            200,
            f'{{{META}, "errors": [], "jobs": [{{"job_id": "7", "job_state": "RUNNING"}}]}}',
            "not understood",
        ),
        (500, f'{{{META}, "errors": [], "jobs": []}}', "slurmrestd: status 500"),
        (500, f'{{{META}, "errors": [{{"error": "Zero Bytes were transmitted"}}]}}', "slurmctld is up"),
        (302, "", "not understood"),
    ],
)
def test_an_answer_of_another_shape_is_a_named_error_and_no_empty_list(
    tmp_path: Path, status: int, body: str, said: str
) -> None:
    """A list that lacks its jobs would say that all of them have ended."""
    token = some_token(tmp_path)
    answers = type("Answers", (Odd,), {"body": body.encode(), "status": status})
    with HTTPServer(("127.0.0.1", 0), answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with client_of(token, f"http://127.0.0.1:{server.server_port}") as client:
            found = trouble_of(client)
        server.shutdown()
        thread.join()
    assert said in found


def test_no_proxy_of_the_environment_is_given_the_token(
    site: SlurmSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked directly, or not at all."""
    monkeypatch.setitem(os.environ, "http_proxy", "http://127.0.0.1:9")
    token = tmp_path / "token"
    site.write_token(token)
    with client_of(token, site.address) as client:
        assert trouble_of(client) == ""
