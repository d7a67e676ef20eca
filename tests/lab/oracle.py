"""The published OpenAPI document of OpenADR 3.1.1 as a judge: of every request to a server, and of every answer."""

import copy
import os
from pathlib import Path
from typing import Any

import httpx
import yaml
from openapi_core import OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.testing import MockRequest, MockResponse

DATA = Path(os.environ.get("HEADRACE_DATA", Path(__file__).parents[3] / "shared/data")) / "openadr3"
DOCUMENT = DATA / "openadr3_3.1.1.yaml"
BASE = "http://127.0.0.1:8480"


def published() -> dict[str, Any]:
    """The document as it is published."""
    found: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text())
    return found


def corrected() -> dict[str, Any]:
    """The document, mended where it contradicts itself, and nowhere else; tests/lab/test_vtn.py shows that it does.

    1. A ``ven`` and a ``resource`` have ``objectType`` twice, once as VEN or RESOURCE and once as BL_..._REQUEST: no value is
       both. The first is kept, as the Definitions have it ("a VTN SHALL populate ... objectType").
    2. The default of BlVenRequest.targets is a text, by a slip of the pen (``null          -``).
    3. The descriptors of a program's payloads are told apart by ``objectType``, whose values name no schema, and no mapping
       does: left out, for each of the two says itself which ``objectType`` it has.

    Its ``servers`` is where it is mocked; ours is :data:`BASE`.
    """
    found = published()
    schemas = found["components"]["schemas"]
    for name, request in (("ven", "BlVenRequest"), ("resource", "BlResourceRequest")):
        schemas[request]["properties"].get("targets", {})["default"] = None
        body = copy.deepcopy(schemas[request])
        del body["properties"]["objectType"]
        body["required"].remove("objectType")
        schemas[name]["allOf"] = [{"$ref": "#/components/schemas/objectMetadata"}, body]
    del schemas["programRequest"]["properties"]["payloadDescriptors"]["items"]["discriminator"]
    found["servers"] = [{"url": BASE}]
    # Who may ask what is another test's: this judge can't tell OAuth's scopes apart.
    for path in found["paths"].values():
        for operation in path.values():
            if isinstance(operation, dict):
                operation.pop("security", None)
    return found


class Judge:
    """Says of a request and of an answer whether the document has it so; ``seen`` are the operations that were judged."""

    def __init__(self) -> None:
        self._api = OpenAPI.from_dict(corrected())
        self.seen: set[tuple[str, str, int]] = set()

    def request(self, request: httpx.Request) -> str:
        """What is wrong with a request; "": nothing."""
        try:
            self._api.validate_request(_request(request))
        except OpenAPIError as error:
            return _chain(error)
        return ""

    def response(self, request: httpx.Request, response: httpx.Response) -> str:
        """What is wrong with an answer to a request; "": nothing."""
        answer = MockResponse(
            response.content, response.status_code, content_type=response.headers.get("content-type", "")
        )
        asked = _request(request)
        try:
            self._api.validate_response(asked, answer)
        except OpenAPIError as error:
            return _chain(error)
        self.seen.add((request.method, request.url.path.split("/")[1], response.status_code))
        return ""


def _request(request: httpx.Request) -> MockRequest:
    args: list[tuple[str, str]] = list(request.url.params.multi_items())
    kind = request.headers.get("content-type", "application/json").partition(";")[0]
    return MockRequest(
        BASE,
        request.method.lower(),
        request.url.path,
        args=args,  # type: ignore[arg-type]
        headers=dict(request.headers),
        data=request.content,
        content_type=kind,
    )


def _chain(error: BaseException) -> str:
    """An error with all its causes: the reason stands in the last."""
    said = [str(error), *(str(each) for each in getattr(error, "schema_errors", ()))]
    return "; ".join(said if error.__cause__ is None else [*said, _chain(error.__cause__)])


class Judged(httpx.AsyncBaseTransport):
    """A way to a server on which everything that passes is judged. ``wrong``: what was; ``excused``: paths that aren't judged."""

    def __init__(self, inner: httpx.AsyncBaseTransport, judge: Judge, *, requests: bool = True) -> None:
        self._inner, self._judge, self._requests = inner, judge, requests
        self.wrong: list[str] = []
        self.count = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass it on, and judge both ways."""
        await request.aread()
        if self._requests and (said := self._judge.request(request)):
            self.wrong.append(f"request {request.method} {request.url}: {said}")
        response = await self._inner.handle_async_request(request)
        await response.aread()
        self.count += 1
        if said := self._judge.response(request, response):
            self.wrong.append(f"response {request.method} {request.url} {response.status_code}: {said}")
        return response

    async def aclose(self) -> None:
        """End the connections."""
        await self._inner.aclose()
