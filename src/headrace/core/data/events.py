"""What happens to copies of data sets. Their numbers stand with all others in :mod:`headrace.core.events`."""

from dataclasses import dataclass

from headrace.core.ids import DataId, SiteId, TenantId


@dataclass(frozen=True, slots=True)
class StoresDeclared:
    """The sites that have a store that this control plane reaches: no data is copied to any other."""

    sites: tuple[SiteId, ...]


@dataclass(frozen=True, slots=True)
class CopyRequested:
    """A data set is to lie at a site too. ``source``: the site that it is copied from ("": its bytes are there already).

    ``verdicts``: by which right, and that it may lie there.
    """

    data: DataId
    site: SiteId
    source: str
    digest: str
    verdicts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CopyFinished:
    """All bytes of a copy are at its site, on disk, and have the digest of the data set."""

    data: DataId
    site: SiteId
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CopyFailed:
    """A copy did not come about: for good (``ended``), or not yet, and it is tried again."""

    data: DataId
    site: SiteId
    problem: str
    ended: bool = True


@dataclass(frozen=True, slots=True)
class CopyJudged:
    """Policies, facts or the day are others: a copy may not lie any more where it is, for ``unlawful``; or it may again ("").

    ``judged``: the verdict that says so.
    """

    data: DataId
    site: SiteId
    unlawful: str
    judged: str


@dataclass(frozen=True, slots=True)
class RemovalRequested:
    """A copy is to go, once nothing uses it, not before ``not_before_ms``; nothing new is placed on it from now on.

    ``verdict``: by which right somebody asked ("": the law does, see :class:`CopyJudged`).
    """

    data: DataId
    site: SiteId
    reason: str
    not_before_ms: int = 0
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class CopyRemoved:
    """The bytes of a copy are not at its site any more."""

    data: DataId
    site: SiteId
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DataRead:
    """Somebody opened a data set's file where it lies; ``verdicts``: by which right, and by which policy."""

    data: DataId
    site: SiteId
    file: str
    verdicts: tuple[str, ...] = ()


Moved = CopyRequested | CopyFinished | CopyFailed | CopyJudged | RemovalRequested | CopyRemoved | DataRead
"""What happens to one copy."""
Event = StoresDeclared | Moved


def tenant_of(data: DataId) -> TenantId:
    """Whose a data set is."""
    return TenantId(data.partition(".")[0])


def streams_of(event: object) -> tuple[str, ...]:
    """The streams that an event about a copy concerns: its tenant's and its site's; of any other the operator's."""
    if not isinstance(event, Moved):
        return ("operator",)
    return (f"tenant:{tenant_of(event.data)}", f"site:{event.site}")
