"""The kinds of document, and the model of each."""

from headrace.documents.data import DatasetModel
from headrace.documents.law import FactsModel, OwnershipModel, PolicyTextModel
from headrace.documents.schema import (
    ContractModel,
    EstateModel,
    MaintenanceModel,
    Model,
    PricePlanModel,
    ReservationModel,
    TenantModel,
    WorkloadModel,
)

MODELS: dict[str, type[Model]] = {
    "estate": EstateModel,
    "tenant": TenantModel,
    "price-plan": PricePlanModel,
    "contract": ContractModel,
    "reservation": ReservationModel,
    "maintenance": MaintenanceModel,
    "policy": PolicyTextModel,
    "facts": FactsModel,
    "ownership": OwnershipModel,
    "dataset": DatasetModel,
    "workload": WorkloadModel,
}
"""The kinds of document and the model of each."""
