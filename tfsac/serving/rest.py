"""TensorFlow Serving's REST interface, health, metrics and the status page."""

import contextlib
import json
import re
import urllib.parse

import grpc
from aiohttp import web
from google.protobuf import json_format, message
from tensorflow_serving.apis import get_model_metadata_pb2

from tfsac.serving import json_document, json_tensors, status_page
from tfsac.serving.errors import ServingError
from tfsac.serving.models import Servable
from tfsac.serving.savedmodel import Signature
from tfsac.serving.service import DEFAULT_SIGNATURE, Service

__all__ = ["application"]

# TensorFlow Serving's `http_rest_api_util.cc`.
_PREDICT = re.compile(
    r"(?i)/v1/models/([^/:]+)(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?"
    r":(classify|regress|predict)"
)
_STATUS = re.compile(
    r"(?i)/v1/models(?:/([^/:]+))?"
    r"(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?(?:/(metadata))?"
)


def application(service: Service) -> web.Application:
    """The HTTP side of the server.

    | path | answers |
    |---|---|
    | `/v1/models/NAME...` | as TensorFlow Serving |
    | `/healthz` | 200 if every model can answer, else 503 |
    | `/monitoring/prometheus/metrics` | metrics |
    | `/` | the status page |

    Args:
        service: What answers.

    Returns:
        An application for aiohttp.
    """
    handler = _Handler(service)
    app = web.Application()
    app.router.add_get("/", handler.status_page)
    app.router.add_get("/healthz", handler.health)
    app.router.add_get("/monitoring/prometheus/metrics", handler.metrics)
    app.router.add_route("*", "/{path:(?i:v1)/.*}", handler.models)
    return app


class _Handler:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def models(self, request: web.Request) -> web.Response:
        """Whatever begins with `/v1/`."""
        path = request.rel_url.raw_path
        try:
            if request.method == "POST" and (match := _PREDICT.fullmatch(path)):
                return _json(await self._predict(request, *match.groups()))
            if request.method == "GET" and (match := _STATUS.fullmatch(path)):
                return _json(self._describe(*match.groups()))
            raise ServingError(f"Malformed request: {request.method} {path}")
        except ServingError as error:
            body = json.dumps({"error": error.message}).encode()
            return _json(body, error.http_status)

    async def _predict(
        self,
        request: web.Request,
        name: str,
        version: str | None,
        label: str | None,
        method: str,
    ) -> bytes:
        service = self._service
        name = urllib.parse.unquote(name)
        with service.counted(name, "REST"), contextlib.ExitStack() as stack:
            number = _number(version)
            if method.lower() != "predict":
                raise ServingError(
                    f"Expected predict. Received: {method}",
                    grpc.StatusCode.UNIMPLEMENTED,
                )
            deadline = service.deadline()
            body = await self._read(request, deadline)
            stack.enter_context(service.intake.slot())
            size = len(body)
            async with service.intake.converter(size, deadline) as convert:
                document = await convert(json_document.parse, body)
                wanted = json_tensors.signature_name(document)
                _refuse_label(label)
                found = stack.enter_context(service.use(name, number))
                signature = _signature(found, wanted or DEFAULT_SIGNATURE)
                columns = "inputs" in document
                inputs = await convert(
                    json_tensors.to_arrays,
                    document,
                    signature.inputs,
                    service.limits.max_batch_rows,
                )
                await convert(document.clear)  # larger than the arrays
            del body
            outputs = await service.predict(found, signature, inputs, deadline)
            return json_tensors.format_response(
                columns, signature.outputs, outputs
            )

    async def _read(self, request: web.Request, deadline: float) -> bytes:
        chunks = request.content.iter_any()
        try:
            return await self._service.intake.read(chunks, deadline)
        except (web.RequestPayloadError, ConnectionError) as error:
            raise ServingError(f"Cannot read the request: {error}") from error

    def _describe(
        self,
        name: str | None,
        version: str | None,
        label: str | None,
        metadata: str | None,
    ) -> bytes:
        """A model's status or metadata."""
        number = _number(version)
        if not name:
            raise ServingError("Missing model name in request.")
        _refuse_label(label)
        name = urllib.parse.unquote(name)
        if not metadata:
            return _proto_json(self._service.status(name, number))
        response = self._service.metadata(name, number)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return b'{"model_spec": %s, "metadata": {"signature_def": %s}}' % (
            _proto_json(response.model_spec),
            _proto_json(signatures),
        )

    async def health(self, request: web.Request) -> web.Response:
        lacking = self._service.lacking()
        if lacking:
            text = f"No version is available of: {', '.join(lacking)}\n"
            return web.Response(text=text, status=503)
        return web.Response(text="ok\n")

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(
            body=self._service.metrics.exposition(),
            headers={"Content-Type": "text/plain; version=0.0.4"},
        )

    async def status_page(self, request: web.Request) -> web.Response:
        page = status_page.render(self._service)
        return web.Response(text=page, content_type="text/html")


def _signature(found: Servable, wanted: str) -> Signature:
    if wanted not in found.model.signatures:
        raise ServingError(
            f'Serving signature name: "{wanted}" not found in signature def'
        )
    return found.model.signatures[wanted]


def _number(version: str | None) -> int | None:
    if version is None:
        return None
    if len(version) > 19 or int(version) >= 2**63:
        raise ServingError(f"Failed to convert version: {version} to numeric.")
    return int(version)


def _refuse_label(label: str | None) -> None:
    if label is not None:
        raise ServingError(
            "Unrecognized servable version label: "
            f"{urllib.parse.unquote(label)}"
        )


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(
        body=body, status=status, content_type="application/json"
    )


def _proto_json(proto: message.Message) -> bytes:
    return json_format.MessageToJson(
        proto,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    ).encode()
