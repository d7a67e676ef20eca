"""The Python SDK: a synchronous client of the HTTP API, with typed answers.

from headrace.sdk import Client

with Client.from_env() as client:
    made = client.submit({"name": "hello", "type": "job", "project": "research", "commands": ["echo hello"]})
    print(client.explain(made.workloads[0]).line)
"""

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.sdk.client import Client
from headrace.sdk.transport import ApiError, HeadWentBack, Unreachable

__all__ = ["ApiError", "Client", "HeadWentBack", "HeadraceError", "Problem", "ProblemCode", "Unreachable"]
