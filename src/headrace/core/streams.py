"""The streams of the journal that an event goes into: its tenant's, its site's, the operator's.

They stand in the event's header, which is part of the journal's format: whoever reads goes by what is there, also in journals
that were written when less went into a tenant's stream.
"""

from headrace.core import events as ev
from headrace.core.contracts import Contract, Reservation
from headrace.core.data import events as of_data
from headrace.core.ids import ContractId, DataId, SiteId, TenantId, WindowId
from headrace.core.world import World


def streams(world: World, event: ev.Event) -> tuple[str, ...]:
    """The streams that an event concerns, asked before it is applied: its tenant's, its site's, else the operator's."""
    match event:
        case (
            ev.WorkloadSubmitted(tenant=tenant)
            | ev.TenantErased(tenant=tenant)
            | ev.RequestAnswered(tenant=str(tenant))
        ):
            return (f"tenant:{tenant}",)
        case ev.PlacementMade(tenant=tenant, site=site):
            return (f"tenant:{tenant}", f"site:{site}")
        case (
            ev.PlacementStarted(placement=placement)
            | ev.PlacementEnded(placement=placement)
            | ev.UsageMetered(placement=placement)
            | ev.TokensMetered(placement=placement)
            | ev.EvictionRequested(placement=placement)
            | ev.PauseObserved(placement=placement)
            | ev.CurtailmentOrdered(placement=placement)
            | ev.CurtailmentLifted(placement=placement)
        ):
            known = world.state.placements[placement]
            return (f"tenant:{known.tenant}", f"site:{known.site}")
        case (
            ev.StopRequested(workload=workload)
            | ev.PauseRequested(workload=workload)
            | ev.WorkloadRequeued(workload=workload)
            | ev.WorkloadRefused(workload=workload)
            | ev.LogRead(workload=workload)
        ):
            return (f"tenant:{world.state.workloads[workload].tenant}",)
        case (
            ev.InvoiceIssued(tenant=str(tenant))
            | ev.CreditNoteIssued(tenant=str(tenant))
            | ev.TokenIssued(tenant=str(tenant))
            | ev.EvidenceExported(tenant=tenant)
        ):
            return (f"tenant:{tenant}", "operator")
        case (
            ev.NodeStateChanged(node=place)
            | ev.NodeIntruded(node=place)
            | ev.ExcessMeasured(element=place)
            | ev.LimitersDeclared(site=place)
            | ev.CapsOrdered(site=place)
            | ev.CapsObserved(site=place)
            | ev.CapsLifted(site=place)
        ):
            return (f"site:{_site_of(place)}",)
        case ev.InstructionReceived() | ev.InstructionWithdrawn():
            return (f"site:{_site_instructed(world, event)}", "operator")
        case ev.DecisionRecorded(verdict=verdict) if "@" in verdict.subject:
            return (f"tenant:{verdict.subject.partition('@')[2]}", "operator")
        case ev.DocumentApplied() | ev.DocumentRemoved() | ev.NodesReserved() | ev.TokenRevoked() if (
            owner := _whose(world, event)
        ):
            return (f"tenant:{owner}", "operator")
        case _:
            return of_data.streams_of(event)


def _whose(
    world: World, event: ev.DocumentApplied | ev.DocumentRemoved | ev.NodesReserved | ev.TokenRevoked
) -> str | None:
    """The tenant that a document, a reservation's nodes or a token is of; None: the operator's.

    It decides what new headers say; what a header says stays, and is what every reader goes by.
    """
    match event:
        case ev.TokenRevoked(token=token):
            known = next((one for one in world.state.tokens.values() if one.id == token), None)
            return None if known is None else known.tenant
        case ev.NodesReserved(reservation=window):
            return _of(world.reservations.get(window))
        case ev.DocumentApplied(kind="tenant", name=name) | ev.DocumentRemoved(kind="tenant", name=name):
            return name
        case ev.DocumentApplied(kind="dataset", name=name) | ev.DocumentRemoved(kind="dataset", name=name):
            return of_data.tenant_of(DataId(name))
        case ev.DocumentApplied(kind="contract" | "reservation", document={"tenant": str(tenant)}):
            return tenant
        case ev.DocumentRemoved(kind="contract", name=name):
            return _of(world.contracts.get(ContractId(name)))
        case ev.DocumentRemoved(kind="reservation", name=name):
            return _of(world.reservations.get(WindowId(name)))
        case _:
            return None


def _of(sold: Contract | Reservation | None) -> TenantId | None:
    return None if sold is None else sold.tenant


def _site_instructed(world: World, event: ev.InstructionReceived | ev.InstructionWithdrawn) -> SiteId:
    own = event.instruction
    return world.state.instructions[own].instruction.site if isinstance(own, str) else own.site


def _site_of(place: str) -> SiteId:
    """The site of a node, or of an element of the power tree; of a site itself."""
    return SiteId(place.split("/", 1)[0])
