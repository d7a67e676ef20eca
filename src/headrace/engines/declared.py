"""The file that says which clusters a control plane drives: documents of ``kind: engine``.

It stands on the control plane's own host and is no document of the API: it names paths and commands that the control plane
uses with its own rights, and whoever may apply an estate need not have those.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from headrace.core.errors import HeadraceError, Problem, ProblemCode, did_you_mean
from headrace.core.ids import NodeId, TenantId
from headrace.documents.load import checked
from headrace.documents.report import bad_input
from headrace.documents.schema import Model, Name, Text
from headrace.documents.source import Raw, parse, read_bytes, show
from headrace.documents.values import Bad
from headrace.engines.names import Named
from headrace.engines.problems import refuse_writable_file

_URL = re.compile(r"https?://[^/?#@\s]+(/[^?#@\s]*)?|unix:/\S+")
_DASHBOARD = re.compile(r"https?://[^/?#@\s]+/?")
MINERS = "miners"
"""The engine of the miners that a devices file has as nodes of the estate."""
BUILT_IN = ("local", MINERS)
"""Engines that are not declared here: every control plane has the first, and the second if it has such miners."""


def _absolute(value: object) -> Path:
    if not isinstance(value, str) or not value.startswith("/"):
        raise Bad(f"{show(value)} is no absolute path.", "Begin it with a slash.")
    return Path(value)


def _url(value: object) -> str:
    if not isinstance(value, str) or _URL.fullmatch(value) is None:
        raise Bad(f"{show(value)} is no address.", "Write http://HOST:PORT, or unix:/PATH of a socket.")
    return value.rstrip("/")


def _dashboard(value: object) -> str:
    if not isinstance(value, str) or _DASHBOARD.fullmatch(value) is None:
        raise Bad(f"{show(value)} is no address.", "Write http://HOST:8265, as `ray start --head` prints it.")
    return value.rstrip("/")


AbsolutePath = Annotated[Path, BeforeValidator(_absolute)]
Url = Annotated[str, BeforeValidator(_url)]
Dashboard = Annotated[str, BeforeValidator(_dashboard)]


class RestModel(Model):
    """A slurmrestd: ``user`` is who its token is for; the file ``token`` holds it, and is read again when it changes."""

    url: Url
    user: Text = "root"
    token: AbsolutePath | None = None


class SlurmModel(Model):
    """A Slurm cluster, through its commands with the configuration at ``conf``, or through slurmrestd.

    ``leases``: whether clusters may be leased as reservations, for which this user must be an operator of Slurm.
    """

    conf: AbsolutePath | None = None
    partition: Text = ""
    accounts: dict[Name, Text] = Field(default={})
    gres: Text = "gpu"
    leases: bool = True
    rest: RestModel | None = None


class RayModel(Model):
    """A Ray cluster, through its dashboard at ``url``.

    ``tenant``: whose it is alone, for in Ray everybody can reach everybody's work. ``python`` has ``ray`` on the cluster's
    head. ``resource``: what accelerators are called there ("": none are asked for). The file ``token`` holds the dashboard's.
    """

    url: Dashboard
    tenant: Name
    python: Text = "python3"
    resource: Text = "GPU"
    token: AbsolutePath | None = None


class EngineModel(Model):
    """An engine.

    ``spool``: a directory that all of its nodes see under this path. ``python`` runs the runner on the nodes, and is what
    workloads find, with the paths ``runtime``. ``nodes``: what the cluster calls nodes of the estate (else the last part of a
    node's name); ``addresses``: where ranks reach each other, by the cluster's names. ``isolate``: each tenant has a Unix user.
    ``keep_records``: the runners' records of what ended stay in the spool, for who wants to bill from them alone.
    """

    kind: Literal["engine"]
    name: Name
    spool: AbsolutePath
    slurm: SlurmModel | None = None
    ray: RayModel | None = None
    python: AbsolutePath = Path("/usr/bin/python3")
    runtime: list[AbsolutePath] = Field(default=[])
    nodes: dict[Text, Text] = Field(default={})
    addresses: dict[Text, Text] = Field(default={})
    isolate: bool = True
    keep_records: bool = False

    @property
    def type(self) -> str:
        """What it drives."""
        return "slurm" if self.slurm is not None else "ray"

    @property
    def gives_away_root(self) -> bool:
        """Whether what tenants run there would be root's, for this process is root and their jobs are its own."""
        return self.slurm is not None and not self.isolate and os.geteuid() == 0

    @property
    def node_names(self) -> dict[NodeId, str]:
        """``nodes``, typed."""
        return {NodeId(node): name for node, name in self.nodes.items()}

    @property
    def named(self) -> Named:
        """What it says of nodes and tenants by name."""
        tenants = self.tenant_accounts if self.ray is None else {TenantId(self.ray.tenant): "the cluster"}
        return Named(self.node_names, tenants, tuple(self.addresses))

    @property
    def tenant_accounts(self) -> dict[TenantId, str]:
        """The accounts of a Slurm, typed."""
        return (
            {} if self.slurm is None else {TenantId(name): one for name, one in self.slurm.accounts.items()}
        )


def load_engines(path: Path) -> list[EngineModel]:
    """The engines that a file declares; raises HeadraceError with every problem found, or when others may write the file."""
    refuse_writable_file(path, "what it names runs as the user of the control plane")
    found: dict[str, EngineModel] = {}
    problems: list[Problem] = []
    for raw in parse(read_bytes(path), str(path)):
        try:
            one = _engine(raw)
        except HeadraceError as error:
            problems.extend(error.problems)
            continue
        if one.name in found or one.name in BUILT_IN:
            problems.append(
                bad_input(
                    f"there is an engine {one.name} already.", "Give it another name.", raw.source, ("name",)
                )
            )
        found[one.name] = one
    problems.extend(_shared(list(found.values()), str(path)))
    problems.extend(_doubled(list(found.values()), str(path)))
    if problems:
        raise HeadraceError(*problems)
    return list(found.values())


def _engine(raw: Raw) -> EngineModel:
    data = raw.data
    if not isinstance(data, dict) or data.get("kind") != "engine":
        kind = data.get("kind") if isinstance(data, dict) else data
        raise HeadraceError(
            bad_input(
                f"{show(kind)} is no engine;", did_you_mean(str(kind)[:60], ["engine"]), raw.source, ("kind",)
            )
        )
    one = checked(EngineModel, data, raw.source)
    if (one.slurm is None) == (one.ray is None):
        step = "Write slurm: or ray:, and what it says of the cluster below it."
        raise HeadraceError(bad_input("which cluster it drives is not said, or twice.", step, raw.source))
    return one


def _shared(engines: Sequence[EngineModel], path: str) -> list[Problem]:
    first: dict[Path, str] = {}
    problems = []
    for one in engines:
        other = first.setdefault(one.spool, one.name)
        if other != one.name:
            text = f"engines {other} and {one.name} have one spool, {one.spool}."
            problems.append(Problem(ProblemCode.BAD_INPUT, text, "Give each a directory of its own.", path))
    return problems


def _doubled(engines: Sequence[EngineModel], path: str) -> Iterator[Problem]:
    """Engines that have nodes in common: each would take the other's jobs for somebody else's."""
    for number, one in enumerate(engines):
        for other in engines[:number]:
            if one.name != other.name and _have_nodes_in_common(one, other):
                text = f"engines {other.name} and {one.name} drive the same nodes of one cluster."
                step = (
                    "Declare it once, or give each a partition of its own; several sites may name one engine."
                )
                yield Problem(ProblemCode.BAD_INPUT, text, step, path)


def _have_nodes_in_common(one: EngineModel, other: EngineModel) -> bool:
    if one.ray is not None or other.ray is not None:
        return one.ray is not None and other.ray is not None and one.ray.url == other.ray.url
    if one.slurm is None or other.slurm is None or _cluster_of(one.slurm) != _cluster_of(other.slurm):
        return False
    # Without a partition an engine has all of them.
    return "" in (one.slurm.partition, other.slurm.partition) or one.slurm.partition == other.slurm.partition


def _cluster_of(slurm: SlurmModel) -> str:
    if slurm.conf is not None:
        return str(slurm.conf.resolve())
    return "" if slurm.rest is None else slurm.rest.url
