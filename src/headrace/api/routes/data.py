"""Data sets: declare, list, say where they may lie, copy, remove, open."""

import base64
from typing import Annotated

from fastapi import Query, Response

from headrace.api.bodies import CopyBody, body
from headrace.api.endpoint import Group, IdPath, carry_out, head_view, json_body, reply
from headrace.api.guard import Call, CallDep, not_there, of_query_tenant, of_tenant
from headrace.api.routes.documents import BODY, apply_data
from headrace.api.views import Applied, rfc3339
from headrace.api.views_data import CopyAsked, CopyView, Datasets, DatasetView, FileView, Wheres, WhereView
from headrace.core import commands as c
from headrace.core.authority import Target
from headrace.core.data.model import Dataset, data_id
from headrace.core.errors import HeadraceError, unknown
from headrace.core.ids import DataId, SiteId, TenantId
from headrace.ports import Store

data = Group("data")
MOST_READ = 1_000_000
PATH = "/v1/tenants/{tenant}/data/{name}"


def of_data(call: Call) -> Target:
    """The data set in the path."""
    tenant, name = TenantId(call.request.path_params["tenant"]), call.request.path_params["name"]
    ident = data_id(tenant, name)
    if ident not in call.world.laws.datasets or call.tenant not in (None, tenant):
        raise not_there("data set", ident)
    return Target("data set", tenant, ident)


def _data(call: Call, tenant: str, name: str) -> Dataset:
    return call.world.laws.datasets[data_id(TenantId(tenant), name)]


@data.get("/v1/data", "dataset.read", of_query_tenant("data"), Datasets)
async def list_data(
    call: CallDep,
    tenant: Annotated[str, Query(max_length=63, description="whose; of the operator's token: all")] = "",
) -> Response:
    """Data sets and where they lie: a tenant's, or with the operator's token everybody's."""
    whose = TenantId(tenant) if tenant else call.tenant
    found = sorted(call.world.laws.datasets.values(), key=lambda one: one.id)
    return reply(Datasets(tuple(_view(call, one) for one in found if whose in (None, one.tenant))))


@data.write(
    "POST", "/v1/tenants/{tenant}/data", "dataset.apply", of_tenant("data"), Applied, errors=(422,), body=BODY
)
async def declare_data(
    call: CallDep,
    tenant: IdPath,
    dry_run: Annotated[bool, Query(description="only say what would change")] = False,
) -> Response:
    """Apply documents of a tenant's data sets, all or none. Twice changes nothing."""
    return await apply_data(call, TenantId(tenant), dry_run=dry_run)


@data.get(PATH, "dataset.read", of_data, DatasetView)
async def read_data(call: CallDep, tenant: IdPath, name: IdPath) -> Response:
    """A data set with its copies."""
    return reply(_view(call, _data(call, tenant, name)))


@data.get(f"{PATH}/where", "dataset.read", of_data, Wheres)
async def where_data(call: CallDep, tenant: IdPath, name: IdPath) -> Response:
    """Each site: whether the data may lie there and be used there, by its policy, and why."""
    world, one = call.world, _data(call, tenant, name)
    world.at(call.service.control.now_ms())
    copies, found = world.state.copies.get(one.id, {}), []
    for number, site in enumerate(world.fleet.sites):
        if site.dedicated_to not in (None, one.tenant):
            continue
        lie, use = world.laws.of_data(world, one, number)
        why = lie if not lie.allowed or use.allowed else use
        copy = copies.get(site.id)
        state = copy.state if copy is not None else ""
        stored = site.id in world.state.stores
        said = "; ".join(why.reasons)
        found.append(WhereView(site.id, site.country, lie.allowed, use.allowed, said, state, stored))
    return reply(Wheres(one.id, tuple(found)))


@data.write(
    "POST",
    f"{PATH}/copies",
    "dataset.copy",
    of_data,
    CopyAsked,
    status=202,
    errors=(422,),
    body=json_body(CopyBody),
)
async def copy_data(call: CallDep, tenant: IdPath, name: IdPath) -> Response:
    """Copy a data set to another site: decided and on record when this is answered; its bytes follow."""
    asked = await body(call.request, CopyBody)
    return await _asked(call, c.CopyData(data_id(TenantId(tenant), name), SiteId(asked.site)), 202)


@data.write("DELETE", f"{PATH}/copies/{{site}}", "dataset.remove", of_data, CopyAsked, status=202)
async def remove_copy(
    call: CallDep,
    tenant: IdPath,
    name: IdPath,
    site: IdPath,
    last: Annotated[bool, Query(description="also if it is the last copy that is present")] = False,
) -> Response:
    """Remove a copy that nothing uses."""
    return await _asked(call, c.RemoveCopy(data_id(TenantId(tenant), name), SiteId(site), last), 202)


async def _asked(call: Call, command: c.Command, status: int) -> Response:
    named, head = await carry_out(call, command)
    if not isinstance(named, c.Named):
        raise TypeError(f"{command} was answered with {named}")
    return reply(CopyAsked(named.name, named.changed, head_view(head)), status)


@data.get(f"{PATH}/file", "dataset.open", of_data, FileView, errors=(409,))
async def open_file(
    call: CallDep,
    tenant: IdPath,
    name: IdPath,
    file: Annotated[
        str, Query(min_length=1, max_length=1_000, description="the file's path in the data set")
    ],
    site: Annotated[str, Query(max_length=63, description="which copy; else the first copy's site")] = "",
    offset: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_READ)] = 65_536,
) -> Response:
    """A piece of a file where it lies. By its policy too: whose people read it, and from where; and audited."""
    one = _data(call, tenant, name)
    where = SiteId(site or one.site)
    store = call.service.stores.get(where)
    await call.service.run(call.caller, c.OpenData(one.id, where, file))
    if store is None:
        raise HeadraceError(unknown("store of site", where, call.service.stores))
    found = await call.service.aside(lambda: _piece(store, one.id, file, offset, limit))
    if found is None:
        raise not_there("file", file)
    raw, size = found
    return reply(FileView(file, where, base64.b64encode(raw).decode(), offset, size))


def _piece(store: Store, ident: DataId, path: str, offset: int, limit: int) -> tuple[bytes, int] | None:
    """A piece of a file, and how long that is; None for a file that the data set has not."""
    size = next((one.size_bytes for one in store.files(ident) if one.path == path), None)
    if size is None:
        return None
    found, at = b"", 0
    for piece in store.read(ident, path):
        found += piece[max(0, offset - at) : max(0, offset + limit - at)]
        at += len(piece)
        if at >= offset + limit:
            break
    return found, size


def _view(call: Call, one: Dataset) -> DatasetView:
    copies = call.world.state.copies.get(one.id, {})
    shown = tuple(
        CopyView(
            copy.site,
            copy.state,
            rfc3339(copy.since_ms),
            copy.unlawful,
            copy.problem,
            copy.source,
            copy.verdict,
        )
        for copy in sorted(copies.values(), key=lambda copy: copy.site)
    )
    its = call.world.laws.named(call.world, one.tenant, one.policy)
    policy = its.profile or ", ".join(its.countries) or "public"
    return DatasetView(
        one.id, one.tenant, one.name, one.kind, one.data_class, policy, one.digest, one.size_bytes, one.licence,
        one.on_forbidden, shown,
    )  # fmt: skip
