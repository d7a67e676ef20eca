"""A real Slurm on this machine: a controller and a few nodes on loopback, that end with the block."""

import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from headrace.core.errors import HeadraceError, Problem, ProblemCode

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "setpriv")
INSTALL = (
    "apt-get install --no-install-recommends slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge"
)
PATIENCE_S = 60
DEVICES = ("/dev/full", "/dev/null", "/dev/random", "/dev/zero")
"""What stands for a node's accelerators: Slurm counts only those that have a device, and any will do."""
GPUS = len(DEVICES)
NO_ACCOUNTING = "AccountingStorageType=accounting_storage/none\n"
_GIVEN: set[int] = set()
_CLOUD = """ResumeProgram=/bin/true
SuspendProgram=/bin/true
SuspendTime=INFINITE
ResumeTimeout=65000
PrivateData=cloud
"""

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
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
ReturnToService=1
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,sched_interval=1,bf_interval=1
PriorityType=priority/basic
MaxJobCount=50000
MinJobAge=300
SlurmdTimeout=300
KillWait=5
Waittime=0
TreeWidth=64
{more}
{nodes}
PartitionName=lab Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def missing(programs: Sequence[str] = PROGRAMS) -> list[str]:
    """Programs that this needs and this machine has not."""
    return [name for name in programs if shutil.which(name) is None]


@dataclass
class SlurmLab:
    """A Slurm that runs. ``names``: its nodes; ``is_cloud``: they have no daemon, and what is allocated waits for them."""

    folder: Path
    names: tuple[str, ...]
    is_cloud: bool = False
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def conf(self) -> Path:
        """Its configuration."""
        return self.folder / "slurm.conf"

    def ask(self, *command: str) -> str:
        """Run one of Slurm's commands as the operator; what it prints."""
        env = os.environ | {"SLURM_CONF": str(self.conf)}
        said = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True).stdout
        # Users write what they like into names and comments of jobs.
        return said.decode(errors="replace")

    def jobs_of_ours(self) -> int:
        """How many jobs of Headrace it has or had lately."""
        lines = self.ask("squeue", "--noheader", "--states=all", "--format=%k").splitlines()
        return sum(line.startswith("headrace placement=") for line in lines)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something; raises HeadraceError when it does not come."""
        give_up = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > give_up:
                step = f"Look into {self.folder}."
                raise HeadraceError(
                    Problem(ProblemCode.ENGINE_UNAVAILABLE, f"not in {PATIENCE_S} s: {what}.", step)
                )
            time.sleep(0.05)

    def write_conf(self, more: str = NO_ACCOUNTING) -> None:
        """Write its configuration and keys."""
        folder = self.folder
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        state = "CLOUD" if self.is_cloud else "UNKNOWN"
        more += _CLOUD if self.is_cloud else ""
        # Thousands, each on a line of its own, take slurmctld minutes to read.
        last = [max(int(name.split("-")[part]) for name in self.names) for part in (1, 2)]
        lines = [f"lab-[0-{last[0]}]-[0-{last[1]}]"] if self.is_cloud else list(self.names)
        nodes = [
            f"NodeName={name} NodeHostname={name if self.is_cloud else socket.gethostname()} NodeAddr=127.0.0.1 "
            f"Port={1 if self.is_cloud else free_port()} CPUs=16 Sockets=1 CoresPerSocket=16 ThreadsPerCore=1 "
            f"RealMemory=64000 Gres=gpu:lab:{GPUS} State={state}"
            for name in lines
        ]
        self.conf.write_text(_CONF.format(port=free_port(), folder=folder, nodes="\n".join(nodes), more=more))
        gres = [f"NodeName={name} Name=gpu Type=lab File={','.join(DEVICES)}" for name in lines]
        (folder / "gres.conf").write_text("\n".join(("AutoDetect=off", *gres)) + "\n")
        for name, length in (("munge.key", 1_024), ("jwt.key", 32)):
            key = folder / name
            key.write_bytes(secrets.token_bytes(length))
            key.chmod(0o400)

    def start_munge(self) -> None:
        """Start what its daemons and commands know each other by."""
        folder = self.folder
        self.start(
            "munged",
            "munged",
            "--foreground",
            "--force",
            f"--socket={folder}/munge.sock",
            f"--key-file={folder}/munge.key",
            f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log",
            f"--seed-file={folder}/munged.seed",
        )
        self.until((folder / "munge.sock").exists, "munged listens")

    def start_controller(self) -> None:
        """Start slurmctld, which takes up its saved state if there is any."""
        self.start("slurmctld", "slurmctld", "-D", "-f", str(self.conf))
        self.until(lambda: self.answers("scontrol", "ping"), "slurmctld answers")

    def start_node(self, name: str) -> None:
        """Start the daemon of a node."""
        self.start(name, "slurmd", "-D", "-N", name, "-f", str(self.conf))

    def start_nodes(self) -> None:
        """Start all nodes, and wait until they are idle."""
        for name in self.names:
            self.start_node(name)
        self.until(self.idle, "all nodes are idle")

    def kill(self, name: str) -> None:
        """SIGKILL a daemon: ``slurmctld`` or a node's."""
        self.daemons[name].kill()
        self.daemons.pop(name).wait()

    def idle(self) -> bool:
        """Whether every node waits for work."""
        return self.ask("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * len(self.names)

    def answers(self, *command: str) -> bool:
        """Whether a command succeeds, and says of nothing that it is down."""
        env = os.environ | {"SLURM_CONF": str(self.conf)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        return done.returncode == 0 and "DOWN" not in done.stdout

    def start(self, name: str, *command: str, user: str = "", **more_env: str) -> None:
        """Start a daemon that ends with this process."""
        env = os.environ | {"SLURM_CONF": str(self.conf)} | more_env
        as_user = (
            ("--reuid", user, "--regid", str(pwd.getpwnam(user).pw_gid), "--clear-groups") if user else ()
        )
        with (self.folder / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *as_user, *command],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def end(self) -> None:
        """End all daemons, and what their jobs left."""
        for process in reversed(self.daemons.values()):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for entry in Path("/proc").iterdir():
            # What watches a job outlives its node's daemon; it is known by where that keeps its files.
            if entry.name.isdecimal() and _is_step_of(entry, self.folder):
                with suppress(ProcessLookupError):
                    os.kill(int(entry.name), signal.SIGKILL)


@contextmanager
def slurm_lab(folder: Path, nodes: int = 4, *, racks: int = 1, is_cloud: bool = False) -> Iterator[SlurmLab]:
    """A Slurm of nodes ``lab-0-0`` and so on, with :data:`GPUS` accelerators each; ended with the block. Needs root.

    ``nodes`` are those of each of the ``racks``, whose number is the first in a name.
    """
    lacking = missing()
    if os.geteuid() != 0 or lacking:
        what = f"a real Slurm needs {', '.join(lacking)}." if lacking else "a real Slurm needs root."
        raise HeadraceError(Problem(ProblemCode.NOT_FOUND, what, f"As root: {INSTALL}"))
    names = tuple(f"lab-{rack}-{number}" for rack in range(racks) for number in range(nodes))
    lab = SlurmLab(folder, names, is_cloud)
    lab.write_conf()
    try:
        lab.start_munge()
        lab.start_controller()
        if not is_cloud:
            lab.start_nodes()
        yield lab
    finally:
        lab.end()


def free_port() -> int:
    """A free port that was not given before: what it is for binds it later."""
    # Below those that the kernel gives to whoever connects somewhere.
    for port in random.SystemRandom().sample(range(10_000, 20_000), 1_000):
        with socket.socket() as probe, suppress(OSError):
            if port not in _GIVEN:
                probe.bind(("127.0.0.1", port))
                _GIVEN.add(port)
                return port
    raise HeadraceError(
        Problem(ProblemCode.CONFLICT, "no port from 10,000 on is free.", "End what listens there.")
    )


def _is_step_of(process: Path, folder: Path) -> bool:
    try:
        is_step = process.joinpath("comm").read_text().strip() == "slurmstepd"
        return is_step and str(folder).encode() in process.joinpath("environ").read_bytes()
    except OSError:
        return False
