"""What REST and gRPC have in common: models, counts, predictions."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Mapping

import grpc
import numpy as np
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
)

from tfsac.serving.errors import ServingError, from_exception
from tfsac.serving.intake import Intake, Limits
from tfsac.serving.metrics import Metrics
from tfsac.serving.models import Model, Servable, not_found
from tfsac.serving.savedmodel import Signature

__all__ = ["DEFAULT_SIGNATURE", "Service"]

DEFAULT_SIGNATURE = "serving_default"

_log = logging.getLogger(__name__)
# What is no fault of the client's.
_OURS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}


class Service:
    """Answers for all models.

    Args:
        models: By name.
        limits: What clients may ask for.
        metrics: Is told of each request.
    """

    def __init__(
        self, models: Mapping[str, Model], limits: Limits, metrics: Metrics
    ) -> None:
        self.models = models
        self.limits = limits
        self.metrics = metrics
        self.intake = Intake(limits)

    @contextlib.contextmanager
    def counted(self, model: str, protocol: str) -> Iterator[None]:
        """Surrounds a request for a prediction: counts and times it.

        Args:
            model: Its name, of a model or not.
            protocol: `"REST"` or `"gRPC"`.

        Raises:
            ServingError: Any error but a cancellation becomes one.
        """
        start = time.perf_counter()
        code = grpc.StatusCode.CANCELLED
        try:
            yield
            code = grpc.StatusCode.OK
        except Exception as error:
            told = from_exception(error)
            code = told.code
            if told.code in _OURS:
                _log.error("%s %s: %s", protocol, model, told, exc_info=error)
            raise told from error
        finally:
            seconds = time.perf_counter() - start
            self.metrics.answered(model, protocol, code, seconds)

    def deadline(self) -> float:
        """When a request that comes now is given up.

        Returns:
            In the event loop's time.
        """
        return asyncio.get_running_loop().time() + self.limits.timeout

    @contextlib.contextmanager
    def use(self, model: str, number: int | None) -> Iterator[Servable]:
        """The version that a request gets, which stays until it is answered.

        Args:
            model: Its name.
            number: The version; `None` is the latest that is available.

        Yields:
            It.

        Raises:
            ServingError: `NOT_FOUND`.
        """
        found = self._find(model, number)
        with found.batcher.held():
            yield found

    def _find(self, model: str, number: int | None) -> Servable:
        if model not in self.models:
            raise not_found(model, number)
        return self.models[model].find(number)

    async def predict(
        self,
        servable: Servable,
        signature: Signature,
        inputs: list[np.ndarray],
        deadline: float,
    ) -> list[np.ndarray]:
        """Runs a signature.

        Args:
            servable: From `use`.
            signature: One of its signatures.
            inputs: One array for each of its inputs.
            deadline: In the event loop's time.

        Returns:
            One array for each of its outputs.

        Raises:
            ServingError: What was wrong.
        """
        for name, array in zip(signature.inputs, inputs, strict=True):
            if array.dtype.kind == "f" and np.isnan(array).any():
                raise ServingError(
                    f"Expected numbers in the input {name}. Received: NaN"
                )
        rows = {len(array) for array in inputs if array.ndim}
        if signature.batchable and len(rows) > 1:
            raise ServingError(
                "Batching session Run() input tensors must have equal "
                "0th-dimension size"
            )
        return await servable.batcher.run(signature, inputs, deadline)

    def status(
        self, model: str, number: int | None
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The states of a model's versions.

        Args:
            model: Its name.
            number: One version; `None` is all of them.

        Returns:
            The highest first.

        Raises:
            ServingError: `NOT_FOUND`.
        """
        versions = {}
        if model in self.models:
            versions = self.models[model].versions
        if number is not None and number not in versions:
            raise ServingError(
                f"Could not find version {number} of model {model}",
                grpc.StatusCode.NOT_FOUND,
            )
        if not versions:
            raise ServingError(
                f"Could not find any versions of model {model}",
                grpc.StatusCode.NOT_FOUND,
            )
        response = get_model_status_pb2.GetModelStatusResponse()
        numbers = sorted(versions, reverse=True)
        for each in numbers if number is None else [number]:
            version = versions[each]
            told = response.model_version_status.add(
                version=each, state=version.state
            )
            if version.error is not None:
                told.status.error_code = version.error.code.value[0]
                told.status.error_message = version.error.message
            else:
                told.status.SetInParent()
        return response

    def metadata(
        self, model: str, number: int | None
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of a version.

        Args:
            model: Its name.
            number: The version; `None` is the latest that is available.

        Returns:
            They, under `signature_def`.

        Raises:
            ServingError: `NOT_FOUND`.
        """
        servable = self._find(model, number)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, definition in servable.model.definitions.items():
            signatures.signature_def[name].CopyFrom(definition)
        spec = model_pb2.ModelSpec(name=model)
        spec.version.value = servable.number
        response = get_model_metadata_pb2.GetModelMetadataResponse(
            model_spec=spec
        )
        response.metadata["signature_def"].Pack(signatures)
        return response

    def lacking(self) -> list[str]:
        """The models that cannot answer now.

        Returns:
            Their names.
        """
        lacking = []
        for name, model in self.models.items():
            try:
                model.find()
            except ServingError:
                lacking.append(name)
        return lacking
