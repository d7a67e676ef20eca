"""A real Slurm on this machine, for tests: a controller and a few nodes on loopback, that end with the test."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.core.ids import NodeId, PlacementId
from headrace.engines import runner
from headrace.engines.slurm.client import SlurmClient
from headrace.engines.slurm.engine import SlurmEngine, SlurmSettings
from headrace.lab.slurm import NO_ACCOUNTING, SlurmLab, free_port, missing
from headrace.ports import Engine

INSTALL = (
    "apt-get install --no-install-recommends slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge "
    "slurmrestd slurm-wlm-jwt-plugin slurmdbd slurm-wlm-mysql-plugin mariadb-server"
)
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "setpriv", "slurmrestd", "slurmdbd", "mariadbd")
REST_USER = "nobody"
"""As whom slurmrestd runs: it refuses to be root."""
PATIENCE_S = 60

_REST = """AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key={folder}/jwt.key
"""

_ACCOUNTING = """AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge.sock
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations
"""

_SLURMDBD = """AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct
"""


@dataclass
class SlurmSite(SlurmLab):
    """A Slurm for tests. ``address``: where its slurmrestd listens, if it has one."""

    address: str = ""

    def start_rest(self) -> None:
        """Start slurmrestd, on loopback and on a socket."""
        folder = self.folder / "rest"
        folder.mkdir(exist_ok=True)
        shutil.chown(folder, REST_USER)
        (folder / "socket").unlink(missing_ok=True)
        port = self.address.rpartition(":")[2] if self.address else str(free_port())
        self._start_rest("slurmrestd", "openapi/v0.0.38", port, f"unix:{folder}/socket")
        self.address = f"http://127.0.0.1:{port}"

    @contextmanager
    def other_rest(self, plugin: str) -> Iterator[str]:
        """Another slurmrestd that serves another API; its address."""
        port = str(free_port())
        self._start_rest("other", plugin, port)
        yield f"http://127.0.0.1:{port}"
        self.kill("other")

    def _start_rest(self, name: str, plugin: str, port: str, *listen: str) -> None:
        command = ("slurmrestd", "-a", "rest_auth/jwt", "-s", plugin, "-f", str(self.conf))
        self.start(name, *command, f"127.0.0.1:{port}", *listen, user=REST_USER, SLURM_JWT="daemon")
        self.until(lambda: _listens(int(port)), "slurmrestd listens")

    def submit_other(self, *options: str, user: str = "root") -> int:
        """Submit a job behind Headrace's back; its number."""
        as_user = ("setpriv", "--reuid", user, "--regid", str(pwd.getpwnam(user).pw_gid), "--clear-groups")
        job = ("--parsable", "--chdir=/", "--output=/dev/null", *options, "--wrap", "sleep 60")
        return int(self.ask(*as_user, "sbatch", *job))

    def write_token(self, path: Path, lifespan_s: int = 3_600) -> None:
        """Put a new token of root's into a file, as the operator does it."""
        path.touch(0o600)
        path.write_text(self.ask("scontrol", "token", "username=root", f"lifespan={lifespan_s}"))

    def stop(self, name: str) -> None:
        """End a daemon in order. A controller writes what it knows; one that is killed forgets up to five seconds of it."""
        self.daemons[name].terminate()
        self.daemons.pop(name).wait(PATIENCE_S)

    @contextmanager
    def standing_still(self, name: str) -> Iterator[None]:
        """A daemon that is stopped inside and goes on afterwards."""
        process = self.daemons[name]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)


class SlurmHarness:
    """An engine on a spool of its own and the module's Slurm, and a look behind it."""

    def __init__(self, site: SlurmSite, root: Path, client: SlurmClient) -> None:
        self.site, self.root, self.client = site, root, client
        self.settings: dict[str, Any] = {}
        self.made: list[SlurmEngine] = []
        self.engine: Engine = self.reopened()

    def reopened(self) -> Engine:
        """A new engine on the same spool; the old one is never asked again."""
        for old in self.made:
            old.close()
        settings: dict[str, Any] = {
            "heartbeat_ms": 200,
            "poll_ms": 100,
            "partition": "lab",
            "nodes": {NodeId(f"glomfjord/a/{name}"): name for name in self.site.names},
            "addresses": dict.fromkeys(self.site.names, "127.0.0.1"),
        }
        self.made.append(SlurmEngine(self.root, self.client, SlurmSettings(**settings | self.settings)))
        return self.made[-1]

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait."""
        give_up = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > give_up:
                told = f"{self.engine.observe()}; {self.made[-1].trouble}; {self.site.ask('squeue')}"
                raise AssertionError(f"did not happen in {PATIENCE_S} s: {told}")
            time.sleep(0.02)

    def jobs_of(self, placement: PlacementId) -> list[str]:
        """States of all jobs that Slurm has of a placement, ended ones too."""
        # By its mark: a controller that is killed may give a number again, and every test has the same placements.
        info = runner.read_json(str(self.root / "placements" / placement / "placement.json"))
        lines = self.site.ask("squeue", "-h", "-t", "all", "-o", "%T %k").splitlines()
        return [line.split()[0] for line in lines if line.endswith(f"mark={info['mark']}")]

    def pass_ms(self, duration_ms: int) -> None:
        """Wait for as long."""
        time.sleep(duration_ms / 1000)

    def record(self, placement: PlacementId, rank: int) -> dict[str, Any]:
        """What the runner wrote last."""
        found = runner.read_json(str(self.root / "placements" / placement / str(rank) / runner.RECORD))
        assert isinstance(found, dict)
        return found

    def kill_runner(self, placement: PlacementId, rank: int) -> None:
        """SIGKILL."""
        os.kill(self.record(placement, rank)["runner"][0], signal.SIGKILL)

    def close(self) -> None:
        """Leave no job behind, whatever the test left running."""
        for engine in self.made:
            engine.close()
        for job in self.site.ask("squeue", "-h", "-o", "%A").split():
            self.site.ask("scancel", "--quiet", job)
        self.until(lambda: not self.site.ask("squeue", "-h").strip())


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def slurm_site(
    folder: Path, nodes: int = 4, *, rest: bool = False, accounting: bool = False
) -> Iterator[SlurmSite]:
    """A Slurm of nodes ``lab-0-0`` and so on, with :data:`GPUS` accelerators each; ended with the block. Needs root.

    With ``rest`` it has a slurmrestd; with ``accounting`` a slurmdbd on a MariaDB, and knows the account acme alone.
    """
    lacking = missing(PROGRAMS)
    assert os.geteuid() == 0, "a real Slurm in tests needs root"
    assert not lacking, f"no {', '.join(lacking)}: {INSTALL}"
    site = SlurmSite(folder, tuple(f"lab-0-{number}" for number in range(nodes)))
    ports = {"slurmdbd": free_port(), "database": free_port()} if accounting else {}
    more = _ACCOUNTING.format(folder=folder, port=ports["slurmdbd"]) if accounting else NO_ACCOUNTING
    site.write_conf(more + (_REST.format(folder=folder) if rest else ""))
    try:
        site.start_munge()
        if accounting:
            _start_accounting(site, ports)
        site.start_controller()
        if rest:
            site.start_rest()
        site.start_nodes()
        yield site
    finally:
        site.end()


def _start_accounting(site: SlurmSite, ports: dict[str, int]) -> None:
    """Start a database of its own, and slurmdbd on it; make the cluster and its one account."""
    data, password = site.folder / "database", secrets.token_hex(16)
    data.mkdir()
    shutil.chown(data, "mysql")
    # Its own temporary files too: TMPDIR may be a folder that user mysql can't write.
    common = ("--no-defaults", f"--datadir={data}", f"--tmpdir={data}", "--user=mysql")
    subprocess.run(["mariadb-install-db", *common, "--skip-test-db"], check=True, capture_output=True)
    door = data / "socket"
    listen = (f"--socket={door}", f"--port={ports['database']}", "--bind-address=127.0.0.1")
    small = ("--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0")
    site.start("mariadbd", "mariadbd", *common, *listen, *small, f"--pid-file={data}/pid", user="mysql")
    ask = ("mariadb", "--no-defaults", f"--socket={door}", "--user=root", "-e")
    site.until(lambda: site.answers(*ask, "select 1"), "mariadbd answers")
    made = [
        f"create user slurm@{host} identified by '{password}'; grant all on slurm_acct.* to slurm@{host}"
        for host in ("localhost", "127.0.0.1")
    ]
    site.ask(*ask, "; ".join(("create database slurm_acct", *made)))
    conf = site.folder / "slurmdbd.conf"
    conf.touch(0o600)
    conf.write_text(
        _SLURMDBD.format(
            folder=site.folder, port=ports["slurmdbd"], database=ports["database"], password=password
        )
    )
    site.start("slurmdbd", "slurmdbd", "-D")
    site.until(lambda: site.answers("sacctmgr", "-n", "show", "cluster"), "slurmdbd answers")
    for what in (("cluster", "lab"), ("account", "acme"), ("user", "root", "account=acme")):
        site.ask("sacctmgr", "--immediate", "--quiet", "add", *what)
