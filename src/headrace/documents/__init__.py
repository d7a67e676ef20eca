"""The documents' edge: YAML and JSON in, core objects or problems out; and what changes between two of them."""

from headrace.documents.diff import Change, changes
from headrace.documents.kinds import MODELS
from headrace.documents.load import Document, load, load_all, parse_document, parse_documents
from headrace.documents.workload_fast import (
    MAX_BATCH,
    WorkloadIn,
    decode_workload,
    decode_workloads,
    parse_workload,
)

__all__ = [
    "MAX_BATCH",
    "MODELS",
    "Change",
    "Document",
    "WorkloadIn",
    "changes",
    "decode_workload",
    "decode_workloads",
    "load",
    "load_all",
    "parse_document",
    "parse_documents",
    "parse_workload",
]
