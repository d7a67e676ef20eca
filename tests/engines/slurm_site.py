"""A real Slurm on this machine, for tests: a controller and a few nodes on loopback, that end with the test."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

INSTALL = (
    "apt-get install --no-install-recommends slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge"
)
PATIENCE_S = 60
DEVICES = ("/dev/full", "/dev/null", "/dev/random", "/dev/zero")
"""What stands for a node's accelerators: Slurm counts only those that have a device, and any will do."""
GPUS = len(DEVICES)

_CONF = """ClusterName=lab
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
ReturnToService=1
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
PriorityType=priority/basic
MinJobAge=300
SlurmdTimeout=300
KillWait=5
Waittime=0
TreeWidth=64
{nodes}
PartitionName=lab Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def missing() -> list[str]:
    """Programs that this needs and this machine has not."""
    return [
        name for name in ("slurmctld", "slurmd", "munged", "sbatch", "setpriv") if shutil.which(name) is None
    ]


@dataclass
class SlurmSite:
    """A Slurm that runs. ``names``: its nodes."""

    folder: Path
    names: tuple[str, ...]
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def conf(self) -> Path:
        """Its configuration."""
        return self.folder / "slurm.conf"

    def ask(self, *command: str) -> str:
        """Run one of Slurm's commands as the operator; what it prints."""
        env = os.environ | {"SLURM_CONF": str(self.conf)}
        return subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something."""
        give_up = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < give_up, f"not in {PATIENCE_S} s: {what}; see {self.folder}"
            time.sleep(0.05)

    def start_controller(self) -> None:
        """Start slurmctld, which takes up its saved state if there is any."""
        self._start("slurmctld", "slurmctld", "-D", "-f", str(self.conf))
        self.until(lambda: self._answers("scontrol", "ping"), "slurmctld answers")

    def start_node(self, name: str) -> None:
        """Start the daemon of a node."""
        self._start(name, "slurmd", "-D", "-N", name, "-f", str(self.conf))

    def kill(self, name: str) -> None:
        """SIGKILL a daemon: ``slurmctld`` or a node's."""
        self.daemons[name].kill()
        self.daemons.pop(name).wait()

    def idle(self) -> bool:
        """Whether every node waits for work."""
        return self.ask("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * len(self.names)

    def _answers(self, *command: str) -> bool:
        env = os.environ | {"SLURM_CONF": str(self.conf)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        return done.returncode == 0 and "DOWN" not in done.stdout

    def _start(self, name: str, *command: str) -> None:
        env = os.environ | {"SLURM_CONF": str(self.conf)}
        log = (self.folder / f"{name}.out").open("ab")
        with log:
            self.daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def slurm_site(folder: Path, nodes: int = 4) -> Iterator[SlurmSite]:
    """A Slurm of nodes ``lab-0-0`` and so on, with :data:`GPUS` accelerators each; ended with the block. Needs root."""
    assert os.geteuid() == 0, "a real Slurm in tests needs root"
    assert not missing(), f"no {', '.join(missing())}: {INSTALL}"
    site = SlurmSite(folder, tuple(f"lab-0-{number}" for number in range(nodes)))
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    lines = [
        f"NodeName={name} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={_port()} CPUs=16 Sockets=1 "
        f"CoresPerSocket=16 ThreadsPerCore=1 RealMemory=64000 Gres=gpu:lab:{GPUS} State=UNKNOWN"
        for name in site.names
    ]
    site.conf.write_text(_CONF.format(port=_port(), folder=folder, nodes="\n".join(lines)))
    gres = [f"NodeName={name} Name=gpu Type=lab File={','.join(DEVICES)}" for name in site.names]
    (folder / "gres.conf").write_text("\n".join(("AutoDetect=off", *gres)) + "\n")
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1_024))
    key.chmod(0o400)
    with ExitStack() as stack:
        stack.callback(_end, site)
        site._start(
            "munged",
            "munged",
            "--foreground",
            "--force",
            f"--socket={folder}/munge.sock",
            f"--key-file={key}",
            f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log",
            f"--seed-file={folder}/munged.seed",
        )
        site.until((folder / "munge.sock").exists, "munged listens")
        site.start_controller()
        for name in site.names:
            site.start_node(name)
        site.until(site.idle, "all nodes are idle")
        yield site


def _end(site: SlurmSite) -> None:
    for process in reversed(site.daemons.values()):
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for entry in Path("/proc").iterdir():
        # What watches a job outlives its node's daemon; it is known by where that keeps its files.
        if entry.name.isdecimal() and _is_step_of(entry, site.folder):
            with suppress(ProcessLookupError):
                os.kill(int(entry.name), signal.SIGKILL)


def _is_step_of(process: Path, folder: Path) -> bool:
    try:
        is_step = process.joinpath("comm").read_text().strip() == "slurmstepd"
        return is_step and str(folder).encode() in process.joinpath("environ").read_bytes()
    except OSError:
        return False
