"""From what the engines' file declares to engines that run."""

import re
from collections.abc import Sequence
from pathlib import Path

from headrace.core.ids import TenantId
from headrace.devices.miners import MinerAddress, PyasicMiner, library
from headrace.engines.declared import MINERS, EngineModel
from headrace.engines.miners import MinerEngine
from headrace.engines.ray.client import RayClient
from headrace.engines.ray.engine import RayEngine, RaySettings
from headrace.engines.slurm.client import Commands, SlurmClient
from headrace.engines.slurm.engine import SlurmEngine, SlurmSettings
from headrace.engines.slurm.rest import RestClient
from headrace.engines.tokens import TokenFile
from headrace.ports import FIRST_TENANT_UID, Clock, Engine

_WORD = re.compile(r"[!-~]+")
USERS = range(FIRST_TENANT_UID, FIRST_TENANT_UID + 100_000)
"""The Unix users of tenants: all nodes of a cluster have the same."""


def connect(declared: Sequence[EngineModel]) -> dict[str, Engine]:
    """An engine for each, by name. A cluster that can't be reached is no error here: the engine says so and tries again."""
    return {one.name: _engine(one) for one in declared}


def connect_miners(root: Path, miners: Sequence[MinerAddress], clock: Clock) -> dict[str, Engine]:
    """The engine of the miners that are nodes of the estate, if there are any; its files are below ``root``."""
    if not miners:
        return {}
    # It takes a second to import: not when an instruction has come.
    library()
    machines = {one.node: PyasicMiner(one, clock) for one in miners if one.node is not None}
    return {MINERS: MinerEngine(root, machines)}


def slurm_client(one: EngineModel) -> SlurmClient:
    """How a Slurm is asked."""
    if one.slurm is None:
        raise TypeError(f"engine {one.name} is no Slurm")
    commands = Commands(one.slurm.conf)
    rest = one.slurm.rest
    if rest is None:
        return commands
    return RestClient(rest.url, user=rest.user, token_file=rest.token, commands=commands)


def ray_client(one: EngineModel) -> RayClient:
    """How a Ray is asked; HeadraceError for an address that can be none."""
    if one.ray is None:
        raise TypeError(f"engine {one.name} is no Ray")
    path = one.ray.token
    if path is None:
        return RayClient(one.ray.url)
    renew = f"ray get-auth-token > {path}"
    token = TokenFile(path, "Ray's token", renew, parse=_word)
    return RayClient(one.ray.url, token=token.read)


def _word(text: str) -> str:
    """A token that can stand in a header of HTTP, or ""."""
    return text if _WORD.fullmatch(text) else ""


def _engine(one: EngineModel) -> Engine:
    uids = USERS if one.isolate else None
    if one.ray is not None:
        ray = RaySettings(
            nodes=one.node_names,
            python=str(one.python),
            runtime_paths=tuple(one.runtime),
            uids=uids,
            addresses=one.addresses,
            keep_records=one.keep_records,
            tenant=TenantId(one.ray.tenant),
            resource=one.ray.resource,
            ray_python=one.ray.python,
        )
        return RayEngine(one.spool, ray_client(one), ray)
    slurm = SlurmSettings(
        nodes=one.node_names,
        python=str(one.python),
        runtime_paths=tuple(one.runtime),
        uids=uids,
        addresses=one.addresses,
        keep_records=one.keep_records,
        partition="" if one.slurm is None else one.slurm.partition,
        accounts=one.tenant_accounts,
        gres="" if one.slurm is None else one.slurm.gres,
        leases=one.slurm is not None and one.slurm.leases,
    )
    return SlurmEngine(one.spool, slurm_client(one), slurm)
