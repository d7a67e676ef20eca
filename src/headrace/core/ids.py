"""A type per identity, so that swapping two of them does not type-check."""

import re
from typing import NewType

OperatorId = NewType("OperatorId", str)
SiteId = NewType("SiteId", str)
PowerNodeId = NewType("PowerNodeId", str)
"""Unique within the estate: ``site/element``; the connection itself is ``site``."""
NodeId = NewType("NodeId", str)
"""Unique within the estate: ``site/block/group-rack-node``."""
TenantId = NewType("TenantId", str)
ProjectId = NewType("ProjectId", str)
PrincipalId = NewType("PrincipalId", str)
TokenId = NewType("TokenId", str)
WorkloadId = NewType("WorkloadId", str)
"""``tenant-number``: counted per tenant, so that no tenant learns another's volume."""
PlacementId = NewType("PlacementId", str)
"""``workload.attempt``."""
PlanId = NewType("PlanId", str)
"""Name of a price plan."""
ContractId = NewType("ContractId", str)
WindowId = NewType("WindowId", str)
"""Name of a reservation or of a maintenance window."""
DataId = NewType("DataId", str)
"""``tenant.name``: a data set; names have no dots."""
InvoiceNumber = NewType("InvoiceNumber", str)
EventSeq = NewType("EventSeq", int)
"""Number of an event in the journal, from 0: also its leaf's index in the Merkle tree."""
Epoch = NewType("Epoch", int)
"""Counts the starts of the control plane; a runner refuses an order of a superseded one."""
Digest = NewType("Digest", str)
"""SHA-256 in lower-case hexadecimal."""

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
NAME_RULE = (
    "lower-case letters, digits and hyphens, 1 to 63 of them, starting and ending with a letter or digit"
)


def is_name(text: str) -> bool:
    """Whether ``text`` can name a thing (a DNS label)."""
    return NAME.fullmatch(text) is not None
