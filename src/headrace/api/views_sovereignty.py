"""What the API answers about law: what other policies or facts would newly allow and forbid."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LawChangeView:
    """A class of work (a tenant's, under a policy) that a site would be judged otherwise for, with the reasons of both.

    ``allowed``: it would be allowed there, and is not now. ``running``: workloads that are there; ``waiting``: that wait.
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
class LawChangesView:
    """What would be newly forbidden, then what newly allowed, of ``judged`` workloads that run or wait."""

    changes: tuple[LawChangeView, ...]
    judged: int
