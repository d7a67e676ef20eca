"""What the API answers about law: what other policies, facts or owners would newly allow and forbid."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LawChangeView:
    """A class of work (a tenant's, under a policy) that a site would be judged otherwise for, with the reasons of both.

    ``allowed``: it would be allowed there, and is not now. ``running``: workloads that are there; ``waiting``: that wait. Where
    both are empty it is what the tenant's work would be under by itself.
    """

    tenant: str
    policy: str
    site: str
    allowed: bool
    before: tuple[str, ...]
    after: tuple[str, ...]
    running: tuple[str, ...]
    waiting: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FreedView:
    """A workload that waits, is allowed nowhere now, and would be at ``sites``.

    ``starts_at``: where it would have room now if nobody else waited; "" for nowhere, or where that was not looked for
    (``room_known`` false: there were too many).
    """

    workload: str
    tenant: str
    policy: str
    sites: tuple[str, ...]
    starts_at: str
    room_known: bool


@dataclass(frozen=True, slots=True)
class BoundView:
    """A workload that might not stay at ``site`` ("": it waits), and where it would still be allowed: nowhere, it would wait."""

    workload: str
    tenant: str
    policy: str
    site: str
    sites: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LawChangesView:
    """What would be newly forbidden, then what newly allowed, of ``judged`` workloads that run or wait, in ``classes``.

    ``freed``: those of them that wait and would become placeable. ``bound``: those that would have to leave where they run, or
    wait and would be allowed nowhere any more.
    """

    changes: tuple[LawChangeView, ...]
    judged: int
    freed: tuple[FreedView, ...] = ()
    bound: tuple[BoundView, ...] = ()
    classes: int = 0
