"""TensorFlow Serving's gRPC interface."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf import message
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
)

from tfsac.serving import connections, proto_tensors
from tfsac.serving.errors import ServingError, from_exception
from tfsac.serving.service import DEFAULT_SIGNATURE, Service

__all__ = ["server"]

_Answer = Callable[[Any, float], Awaitable[Any]]

# Until a connection speaks HTTP/2.
_HANDSHAKE_SECONDS = 10
# Calls whose request is still being sent, or that are being refused.
_BEING_READ = 256


def server(service: Service) -> grpc.aio.Server:
    """The gRPC side: `PredictionService` and `ModelService`.

    What is not in it (`Classify`, `Regress`, `MultiInference`, the reload of
    a configuration) is answered by `UNIMPLEMENTED`.

    Args:
        service: What answers.

    Returns:
        A server without a port.
    """
    limits = service.limits
    result = grpc.aio.server(
        maximum_concurrent_rpcs=limits.max_requests + _BEING_READ,
        options=[
            ("grpc.max_receive_message_length", limits.max_payload),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a port that is in use is an error
            # Of one client; it waits with what is more.
            ("grpc.max_concurrent_streams", limits.max_requests),
            ("grpc.max_allowed_incoming_connections", connections.most()),
            ("grpc.max_connection_idle_ms", 1_000 * connections.IDLE_SECONDS),
            ("grpc.server_handshake_timeout_ms", 1_000 * _HANDSHAKE_SECONDS),
        ],
    )
    handler = _Handler(service)
    prediction = {
        "Predict": handler.method(handler.predict, predict_pb2.PredictRequest),
        "GetModelMetadata": handler.method(
            handler.metadata, get_model_metadata_pb2.GetModelMetadataRequest
        ),
    }
    status = {
        "GetModelStatus": handler.method(
            handler.status, get_model_status_pb2.GetModelStatusRequest
        )
    }
    for name, methods in (
        ("tensorflow.serving.PredictionService", prediction),
        ("tensorflow.serving.ModelService", status),
    ):
        generic = grpc.method_handlers_generic_handler(name, methods)
        result.add_generic_rpc_handlers((generic,))
    return result


class _Handler:
    def __init__(self, service: Service) -> None:
        self._service = service

    def method(self, answer: _Answer, request: Any) -> grpc.RpcMethodHandler:
        """A method of one request and one response.

        To gRPC it is one of many requests, which on the wire looks the same:
        then it calls before the first has come, and what comes slowly can be
        given up.
        """

        async def call(
            messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext
        ) -> Any:
            try:
                deadline = self._service.deadline()
                parsed = await _receive(messages, request, deadline)
                return await answer(parsed, deadline)
            except Exception as error:
                told = from_exception(error)
            await context.abort(told.code, told.message)

        return grpc.stream_unary_rpc_method_handler(
            call, response_serializer=lambda each: each.SerializeToString()
        )

    async def predict(
        self,
        request: predict_pb2.PredictRequest,
        deadline: float,
    ) -> predict_pb2.PredictResponse:
        service, spec = self._service, request.model_spec
        with (
            service.counted(spec.name, "gRPC"),
            service.intake.slot(),
            service.use(*_name_and_number(spec)) as found,
        ):
            wanted = spec.signature_name or DEFAULT_SIGNATURE
            if wanted not in found.model.signatures:
                raise ServingError(
                    f'Serving signature key "{wanted}" not found.',
                    grpc.StatusCode.FAILED_PRECONDITION,
                )
            signature = found.model.signatures[wanted]
            size = request.ByteSize()
            async with service.intake.converter(size, deadline) as convert:
                inputs = await convert(
                    proto_tensors.from_protos,
                    request.inputs,
                    signature.inputs,
                    service.limits.max_batch_rows,
                )
            names = _filtered(request.output_filter, signature.outputs)
            # A client's own deadline cancels this call.
            outputs = await service.predict(found, signature, inputs, deadline)
            response = predict_pb2.PredictResponse()
            response.model_spec.name = spec.name
            response.model_spec.signature_name = wanted
            response.model_spec.version.value = found.number
            for name, output in zip(signature.outputs, outputs, strict=True):
                if name in names:
                    response.outputs[name].MergeFrom(
                        proto_tensors.to_proto(output)
                    )
            return response

    async def metadata(
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        deadline: float,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        if not request.HasField("model_spec"):
            raise ServingError("Missing ModelSpec")
        if not request.metadata_field:
            raise ServingError(
                "GetModelMetadataRequest must specify at least one "
                "metadata_field"
            )
        for field in request.metadata_field:
            if field != "signature_def":
                raise ServingError(f"Metadata field {field} is not supported")
        return self._service.metadata(*_name_and_number(request.model_spec))

    async def status(
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        deadline: float,
    ) -> get_model_status_pb2.GetModelStatusResponse:
        if not request.HasField("model_spec"):
            raise ServingError("Missing ModelSpec")
        return self._service.status(*_name_and_number(request.model_spec))


async def _receive(
    messages: AsyncIterator[bytes], request: Any, deadline: float
) -> Any:
    try:
        async with asyncio.timeout_at(deadline):
            return request.FromString(await anext(messages))
    except StopAsyncIteration:
        raise ServingError("Expected a request. Received: none") from None
    except message.DecodeError as error:
        raise ServingError(f"Cannot parse the request: {error}") from error
    except TimeoutError:
        raise ServingError(
            "Timed out while reading the request",
            grpc.StatusCode.DEADLINE_EXCEEDED,
        ) from None


def _name_and_number(spec: model_pb2.ModelSpec) -> tuple[str, int | None]:
    if not spec.name:
        raise ServingError("ModelSpec has no name specified.")
    kind = spec.WhichOneof("version_choice")
    if kind == "version_label":
        raise ServingError(
            f"Unrecognized servable version label: {spec.version_label}"
        )
    return spec.name, spec.version.value if kind == "version" else None


def _filtered(wanted: list[str], outputs: list[str]) -> list[str]:
    seen: set[str] = set()
    for name in wanted:
        if name not in outputs:
            raise ServingError(
                f"output tensor alias not found in signature: {name} Outputs "
                f"expected to be in the set {{{','.join(outputs)}}}."
            )
        if name in seen:
            raise ServingError(f"duplicate output tensor alias: {name}")
        seen.add(name)
    return list(seen) or outputs
