"""The file that says where sites keep data: documents of ``kind: store``.

It stands on the control plane's own host and is no document of the API: it names directories that the control plane reads, writes
and removes with its own rights.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from headrace.core.errors import HeadraceError, Problem, did_you_mean
from headrace.core.ids import SiteId
from headrace.documents.load import checked
from headrace.documents.report import bad_input
from headrace.documents.schema import Model, Name
from headrace.documents.source import Raw, parse, read_bytes, show
from headrace.engines.declared import AbsolutePath
from headrace.engines.problems import refuse_writable_file
from headrace.ports import Store
from headrace.stores.directory import DirectoryStore


class StoreModel(Model):
    """The store of a site: a ``directory`` that the control plane and all nodes of the site see under this path."""

    kind: Literal["store"]
    site: Name
    directory: AbsolutePath


def load_stores(path: Path) -> list[StoreModel]:
    """The stores that a file declares; raises HeadraceError with every problem found, or when others may write the file."""
    refuse_writable_file(path, "the control plane writes and removes what it names")
    found: list[StoreModel] = []
    problems: list[Problem] = []
    for raw in parse(read_bytes(path), str(path)):
        try:
            one = _store(raw)
            problems.extend(_twice(one, found, raw))
            found.append(one)
        except HeadraceError as error:
            problems.extend(error.problems)
    if problems:
        raise HeadraceError(*problems)
    return found


def connect_stores(declared: Iterable[StoreModel]) -> dict[SiteId, Store]:
    """The stores by site."""
    return {SiteId(one.site): DirectoryStore(SiteId(one.site), one.directory) for one in declared}


def _store(raw: Raw) -> StoreModel:
    kind = raw.data.get("kind") if isinstance(raw.data, dict) else raw.data
    if kind != "store":
        step = did_you_mean(str(kind)[:60], ["store"])
        raise HeadraceError(bad_input(f"{show(kind)} is no store;", step, raw.source, ("kind",)))
    one = checked(StoreModel, raw.data, raw.source)
    if not one.directory.is_dir():
        step = "Make it, or mount it there."
        raise HeadraceError(bad_input(f"{one.directory} is no directory.", step, raw.source, ("directory",)))
    return one


def _twice(one: StoreModel, others: list[StoreModel], raw: Raw) -> list[Problem]:
    found = []
    for other in others:
        mine, its = one.directory.resolve(), other.directory.resolve()
        if other.site == one.site:
            step = "Keep one of them."
            found.append(bad_input(f"site {one.site} has a store already.", step, raw.source, ("site",)))
        if mine == its or mine in its.parents or its in mine.parents:
            message = f"the stores of {other.site} and {one.site} lie in each other."
            step = "Give each a directory of its own: what lies at one site does not lie at another."
            found.append(bad_input(message, step, raw.source, ("directory",)))
    return found
