"""Data sets as the API shows them."""

from dataclasses import dataclass

from headrace.api.views import HeadView


@dataclass(frozen=True, slots=True)
class CopyView:
    """A copy: ``unlawful`` says why it may not lie there any more, ``problem`` what went wrong or why it goes."""

    site: str
    state: str
    since: str
    unlawful: str = ""
    problem: str = ""
    source: str = ""
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class DatasetView:
    """A data set with its copies."""

    id: str
    tenant: str
    name: str
    type: str
    data_class: str
    policy: str
    digest: str
    size_bytes: int
    licence: str
    on_forbidden: str
    copies: tuple[CopyView, ...] = ()


@dataclass(frozen=True, slots=True)
class Datasets:
    """Data sets, by name."""

    data: tuple[DatasetView, ...]


@dataclass(frozen=True, slots=True)
class WhereView:
    """A site as a data set's policy sees it: whether the data may lie there and be used there, and why; what is there now."""

    site: str
    country: str
    may_lie: bool
    may_be_used: bool
    why: str
    state: str = ""
    has_store: bool = False


@dataclass(frozen=True, slots=True)
class Wheres:
    """All sites, for one data set."""

    id: str
    sites: tuple[WhereView, ...]


@dataclass(frozen=True, slots=True)
class CopyAsked:
    """What a copy or a removal was answered with; ``changed`` false: it was so already."""

    copy: str
    changed: bool
    head: HeadView | None = None


@dataclass(frozen=True, slots=True)
class FileView:
    """A piece of a file of a data set, in base64; ``size_bytes`` of the whole."""

    file: str
    site: str
    data: str
    offset: int
    size_bytes: int
