"""What FastAPI can't know of the document: the schemas of bodies that handlers read themselves, and tokens."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field

from headrace.api import bodies
from headrace.documents.data import DatasetModel
from headrace.documents.law import FactsModel, OwnershipModel, PolicyTextModel
from headrace.documents.schema import (
    BatchModel,
    ContractModel,
    EstateModel,
    MaintenanceModel,
    Model,
    PricePlanModel,
    ReservationModel,
    TenantModel,
    WorkloadModel,
)
from headrace.documents.whatif import WhatIfModel

_OWN = "HTTPValidationError"


class DocumentsBody(Model):
    """Documents as JSON."""

    documents: list[
        EstateModel
        | TenantModel
        | PricePlanModel
        | ContractModel
        | ReservationModel
        | MaintenanceModel
        | PolicyTextModel
        | FactsModel
        | OwnershipModel
        | DatasetModel
        | WorkloadModel
    ] = Field(min_length=1)


class PlanBody(Model):
    """Documents that are tried, as JSON."""

    documents: list[
        EstateModel
        | TenantModel
        | PricePlanModel
        | ContractModel
        | ReservationModel
        | MaintenanceModel
        | PolicyTextModel
        | FactsModel
        | OwnershipModel
        | DatasetModel
        | WorkloadModel
        | WhatIfModel
    ]


BODIES: tuple[type[BaseModel], ...] = (
    BatchModel,
    DocumentsBody,
    PlanBody,
    bodies.DrainBody,
    bodies.UndrainBody,
    bodies.InstructionBody,
    bodies.WithdrawBody,
    bodies.CopyBody,
    bodies.TokenBody,
    bodies.CreditBody,
    bodies.IssueBody,
    bodies.NoBody,
)


def complete(app: FastAPI, plain: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """FastAPI's document with what it lacks; made once."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    document = plain()
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for model in BODIES:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    _without_422(document, schemas)
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    app.openapi_schema = document
    return document


def _without_422(document: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Take out FastAPI's own shape of a wrong parameter: here it is a 400 like any other wrong input."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if _OWN in str(operation["responses"].get("422", "")):
                del operation["responses"]["422"]
    for name in (_OWN, "ValidationError"):
        schemas.pop(name, None)
