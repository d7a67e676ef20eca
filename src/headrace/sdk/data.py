"""What a client asks about data sets."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from headrace.api.views import Applied
from headrace.api.views_data import CopyAsked, Datasets, DatasetView, FileView, Wheres
from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.sdk.transport import Transport

_PIECE = 512 * 1024
_encode = msgspec.json.Encoder().encode


class DataCalls:
    """The part of the client that is about data sets: each by its id, ``TENANT.NAME``, or by its name, where that is enough."""

    _api: Transport

    def data(self, tenant: str = "") -> tuple[DatasetView, ...]:
        """Data sets and where they lie: a tenant's, or with the operator's token everybody's."""
        return self._api.get("/v1/data", Datasets, tenant=tenant).data

    def apply_data(
        self,
        tenant: str,
        documents: str | bytes | Sequence[Mapping[str, Any]],
        *,
        dry_run: bool = False,
        key: str = "",
    ) -> Applied:
        """Apply documents (YAML, or dicts) that are a tenant's data sets alone. Applying twice changes nothing."""
        if isinstance(documents, str | bytes):
            raw, media = documents.encode() if isinstance(documents, str) else documents, "application/yaml"
        else:
            raw, media = _encode({"documents": documents}), "application/json"
        path, query = f"/v1/tenants/{quote(tenant, safe='')}/data", {"dry_run": dry_run}
        return self._api.send("POST", path, Applied, raw, key=key, media=media, query=query)

    def dataset(self, data: str) -> DatasetView:
        """A data set with its copies."""
        return self._api.get(self._path(data), DatasetView)

    def where_data(self, data: str) -> Wheres:
        """Each site: whether a data set may lie there and be used there, and why."""
        return self._api.get(f"{self._path(data)}/where", Wheres)

    def copy_data(self, data: str, site: str, *, key: str = "") -> CopyAsked:
        """Copy a data set to a site; its bytes follow, see :meth:`dataset`."""
        return self._api.send("POST", f"{self._path(data)}/copies", CopyAsked, {"site": site}, key=key)

    def remove_copy(self, data: str, site: str, *, last: bool = False, key: str = "") -> CopyAsked:
        """Remove the copy at a site; ``last``: also if no other is present."""
        path = f"{self._path(data)}/copies/{quote(site, safe='')}"
        return self._api.send("DELETE", path, CopyAsked, key=key, query={"last": last})

    def read_data(self, data: str, file: str, site: str = "") -> Iterator[bytes]:
        """A file of a data set from where it lies, in pieces; whoever reads it is recorded."""
        path, offset = f"{self._path(data)}/file", 0
        while True:
            piece = self._api.get(path, FileView, file=file, site=site, offset=offset, limit=_PIECE)
            raw = base64.b64decode(piece.data)
            yield raw
            offset += len(raw)
            if not raw or offset >= piece.size_bytes:
                return

    def _path(self, data: str) -> str:
        tenant, dot, name = data.partition(".")
        if not dot:
            found = [one for one in self.data() if one.name == data]
            if len(found) != 1:
                known = tuple(one.id for one in found)
                count = f"{len(found)} data sets are" if found else "no data set is"
                step = (
                    "Say which, like TENANT.NAME." if found else "'headrace data list' lists those there are."
                )
                code = ProblemCode.BAD_INPUT if found else ProblemCode.NOT_FOUND
                raise HeadraceError(Problem(code, f"{count} called {data!r};", step, related=known))
            tenant, name = found[0].tenant, found[0].name
        return f"/v1/tenants/{quote(tenant, safe='')}/data/{quote(name, safe='')}"
