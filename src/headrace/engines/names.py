"""Names in the file of engines that are nobody's: a node that the estate does not have, a tenant that is not there.

The file is read before the estate is known, and the estate may be applied later: such a name is no error at the start, and would
be silent for ever. It is told in ``headrace doctor``, at the start, and in the table of ``headrace engines``.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from headrace.core.errors import did_you_mean
from headrace.core.ids import NodeId, TenantId

MOST_NAMED = 3
"""So many known names are listed beside the one that may be meant."""

ALL_NAMES = 3
"""So many names that are known are listed beside the one that is meant."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a file says of nodes and tenants by their names: what each is in the cluster, like its host or its account.

    ``addresses``: the cluster's own names of nodes for which it says an address.
    """

    nodes: Mapping[NodeId, str]
    tenants: Mapping[TenantId, str]
    addresses: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Misnamed:
    """A name that is nobody's: in which ``field`` of the file it stands, for what, that it is no ``kind``, and what helps."""

    field: str
    name: str
    value: str
    kind: str
    next_step: str

    @property
    def message(self) -> str:
        """What is wrong, without the next step."""
        return f"{self.field}: no {self.kind} {self.name!r};"

    def line(self) -> str:
        """In one line."""
        return f"{self.message} {self.next_step}"

    def briefly(self) -> str:
        """For a cell of a table."""
        _, asks, name = self.next_step.partition("Did you mean ")
        return f"no such {self.kind}" + (f"; did you mean {name}" if asks else "")


def misnamed(
    named: Named,
    here: Collection[NodeId],
    everywhere: Collection[NodeId],
    tenants: Collection[TenantId] | None,
) -> Iterator[Misnamed]:
    """Names that are nobody's. ``here``: the estate's nodes that are this engine's; ``tenants``: None where they are not known.

    Without any node there is no estate yet, and nothing is said of nodes.
    """
    for node, host in named.nodes.items() if everywhere else ():
        if node not in everywhere:
            step = did_you_mean(node, here or everywhere, MOST_NAMED)
            yield Misnamed("nodes", node, host, "node of the estate", step)
        elif node not in here:
            step = "its site has another engine: take it out, or name this one there."
            yield Misnamed("nodes", node, host, "node of this engine", step)
    hosts = {named.nodes.get(node) or node.rpartition("/")[2] for node in here} if named.addresses else set()
    for host in named.addresses if hosts else ():
        if host not in hosts:
            step = did_you_mean(host, hosts, MOST_NAMED)
            yield Misnamed("addresses", host, host, "node that is called so", step)
    for tenant, what in named.tenants.items() if tenants is not None else ():
        if tenant not in (tenants or ()):
            yield Misnamed("tenants", tenant, what, "tenant", did_you_mean(tenant, tenants or (), MOST_NAMED))
