"""``kind: dataset``: what a tenant says of files that lie at sites."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from headrace.core.data.model import DataKind, Dataset, OnForbidden, data_id
from headrace.core.ids import SiteId, TenantId
from headrace.core.sovereignty.law import CLASSES
from headrace.core.units import MS_PER_HOUR
from headrace.core.workload import PolicyRef
from headrace.documents.fields import Duration, Model, Name, Text, schema, word
from headrace.documents.schema import PolicyField
from headrace.documents.source import show
from headrace.documents.values import Bad

_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST_BYTES = 10**18


def _digest(value: object) -> str:
    if not isinstance(value, str) or _DIGEST.fullmatch(value) is None:
        raise Bad(f"{show(value)} is no SHA-256.", "'headrace data digest DIRECTORY' prints it.")
    return value


def _size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MOST_BYTES:
        step = "Write the number of bytes; 'headrace data digest DIRECTORY' prints it."
        raise Bad(f"{show(value)} is no size.", step)
    return value


Sha256 = Annotated[str, BeforeValidator(_digest), schema("string", pattern="^[0-9a-f]{64}$")]
Bytes = Annotated[int, BeforeValidator(_size), WithJsonSchema({"type": "integer", "minimum": 1})]


class DatasetModel(Model):
    """``kind: dataset``: some files of a tenant's, and the policy that they are under wherever they are copied."""

    kind: Literal["dataset"]
    name: Name
    tenant: Name
    site: Name
    digest: Sha256
    size: Bytes
    type: Annotated[str, *word("type of data set", *DataKind)] = "data"
    data_class: Annotated[str, *word("class of data", *CLASSES)] | None = Field(default=None, alias="class")
    policy: PolicyField = None
    licence: Text = ""
    on_forbidden: Annotated[str, *word("thing to do", "keep", "remove")] = "keep"
    grace: Duration = MS_PER_HOUR


def core_of(model: DatasetModel) -> Dataset:
    """The core object of a data set."""
    tenant, asked = TenantId(model.tenant), model.policy
    policy = PolicyRef()
    if asked is not None:
        policy = PolicyRef(asked.profile or "", tuple(sorted(set(asked.countries or []))))
    does: OnForbidden = "remove" if model.on_forbidden == "remove" else "keep"
    return Dataset(
        id=data_id(tenant, model.name),
        tenant=tenant,
        name=model.name,
        digest=model.digest,
        size_bytes=model.size,
        site=SiteId(model.site),
        kind=DataKind(model.type),
        data_class=model.data_class or "",
        policy=policy,
        licence=model.licence,
        on_forbidden=does,
        grace_ms=model.grace,
    )
