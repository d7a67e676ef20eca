"""A data set and its copies: what a tenant declares, and what the world knows of each site."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from headrace.core.ids import DataId, SiteId, TenantId
from headrace.core.units import MS_PER_HOUR
from headrace.core.workload import PolicyRef


class DataKind(StrEnum):
    """What a data set is."""

    DATA = "data"
    WEIGHTS = "weights"
    CHECKPOINT = "checkpoint"


class CopyState(StrEnum):
    """State of a copy. ``COPYING``: its bytes are on their way, or looked at; ``PRESENT``: they are there and have the digest."""

    COPYING = "copying"
    PRESENT = "present"
    REMOVING = "removing"
    GONE = "gone"
    FAILED = "failed"


HELD = frozenset({CopyState.COPYING, CopyState.PRESENT, CopyState.REMOVING})
"""States in which bytes may lie at the site."""
OnForbidden = Literal["keep", "remove"]
"""What becomes of a copy that may not lie where it is any more."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """``kind: dataset``: what a tenant says of some files, and under which policy they are.

    ``digest`` (SHA-256, hex) is of the list of files, as ``sha256sum`` prints it for all of them in the order of their names'
    bytes; ``size_bytes`` of all of them. ``site``: where the first copy lies. ``data_class`` "" is unknown. ``grace_ms``: how
    long a copy stays that has to go, for what uses it.
    """

    id: DataId
    tenant: TenantId
    name: str
    digest: str
    size_bytes: int
    site: SiteId
    kind: DataKind = DataKind.DATA
    data_class: str = ""
    policy: PolicyRef = PolicyRef()
    licence: str = ""
    on_forbidden: OnForbidden = "keep"
    grace_ms: int = MS_PER_HOUR


@dataclass(slots=True)
class Copy:
    """A copy of a data set at a site; owned and mutated by the world.

    ``source``: the site that it is copied from ("": its bytes are where they belong, and are looked at). ``problem``: what went
    wrong last. ``unlawful``: why it may not lie there any more ("" when it may). ``not_before_ms``: when it may be removed at the
    earliest. ``wanted_seq``: the event that last changed what is wanted of it. ``verdict``: under which it may lie there.
    """

    site: SiteId
    state: CopyState
    since_ms: int
    digest: str = ""
    source: str = ""
    problem: str = ""
    unlawful: str = ""
    not_before_ms: int = 0
    wanted_seq: int = 0
    verdict: str = ""


Copies = dict[DataId, dict[SiteId, Copy]]
"""All copies, by data set and site."""


def data_id(tenant: TenantId, name: str) -> DataId:
    """What a tenant's data set of a name is called among those of all."""
    return DataId(f"{tenant}.{name}")
