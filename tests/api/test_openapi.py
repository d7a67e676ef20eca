"""The OpenAPI document: 3.1, complete, and true: what it says is what the API does, whatever is sent."""

from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from urllib3 import HTTPResponse

from headrace.api.app import create_app
from headrace.api.inline import call
from headrace.service import InlineService
from tests.api.small import JOB, TOKENS, Small, small

EXAMPLES = 15
KNOWN = {
    "site": "glomfjord",
    "tenant": "fjord-ai",
    "workload": "fjord-ai-1",
    "kind": "contract",
    "name": "fjord-on-demand",
    "number": "2026-11-fjord-ai-NOK-0",
    "period": "2026-11",
    "token": "t-4",
    "line": 1,
    "seq": 0,
    "instruction": "evening",
}

load_all_checks()
CHECKED = CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)
# The document needs no control plane to be written.
SCHEMA = schemathesis.openapi.from_dict(create_app(cast(InlineService, None)).openapi())
OPERATIONS: list[Any] = [cast(Any, found).ok() for found in SCHEMA.get_all_operations()]


class Wire(HTTPAdapter):
    """Requests go to the app by hand, without a socket or an event loop."""

    def __init__(self, world: Small) -> None:
        super().__init__()
        self.world = world

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        raw: Any = request.body or b""
        headers = {name: str(value) for name, value in request.headers.items()}
        body = raw.encode() if isinstance(raw, str) else bytes(raw)
        status, found, content = call(
            self.world.app, str(request.method), str(request.path_url), headers, body
        )
        answer = HTTPResponse(BytesIO(content), found, status, preload_content=False)
        return self.build_response(request, answer)


@pytest.fixture
def session(tmp_path: Path) -> Any:
    """A session with a control plane that has a running workload and an invoice."""
    world = small(tmp_path)
    world.submit(dict(JOB, type="service", ports={"http": "auto"}, counters="llamacpp"))
    world.run(30)
    world.ask("POST", "/v1/tenants/fjord-ai/invoices", {"period": "2026-11"})
    found = requests.Session()
    found.trust_env = False
    found.mount("http://", Wire(world))
    yield found
    world.store.close()


@pytest.mark.parametrize("mode", [mode.value for mode in GenerationMode])
@pytest.mark.parametrize("operation", OPERATIONS, ids=[one.label for one in OPERATIONS])
def test_whatever_is_sent_is_answered_as_the_document_says(operation: Any, mode: str, session: Any) -> None:
    """Valid or not: never a 5xx, always a documented status, type and shape; about things that are and that are not."""
    if mode == "negative" and not (operation.body or operation.query or operation.path_parameters):
        mode = "positive"
    strategy = operation.as_strategy(generation_mode=GenerationMode(mode))

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy, known=st.booleans())
    def send(case: Any, known: bool) -> None:
        if known:
            case.path_parameters = {name: KNOWN[name] for name in case.path_parameters or {}}
        headers = {"authorization": f"Bearer {TOKENS['admin']}"}
        response = case.call(base_url="http://inline", session=session, headers=headers)
        case.validate_response(response, checks=CHECKED)

    send()


def test_the_document_is_3_1_and_says_the_action_and_the_errors_of_each_route(world: Small) -> None:
    """Every operation but the public ones has its action, its token, and the one shape for each error."""
    document = world.ask("GET", "/openapi.json", token="").json
    assert document["openapi"].startswith("3.1")
    error = {"$ref": "#/components/schemas/ErrorView"}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if path == "/healthz":
                continue
            assert operation["x-headrace-action"], (method, path)
            assert operation["security"] == [{"bearer": []}]
            assert operation["description"], (method, path)
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert response["content"]["application/json"]["schema"] == error, (path, status)
    _check_references(document, document)


def _check_references(node: Any, document: dict[str, Any]) -> None:
    if isinstance(node, dict):
        if "$ref" in node:
            assert node["$ref"].startswith("#/components/schemas/")
            assert node["$ref"].rpartition("/")[2] in document["components"]["schemas"], node["$ref"]
        for value in node.values():
            _check_references(value, document)
    elif isinstance(node, list):
        for value in node:
            _check_references(value, document)
