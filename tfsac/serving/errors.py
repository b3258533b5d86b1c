"""Statuses as TensorFlow Serving uses them, in gRPC and in HTTP."""

import grpc
import tensorflow as tf

__all__ = ["ServingError", "from_exception"]

_Code = grpc.StatusCode

# `ToHTTPStatusCode` in TensorFlow Serving's `http_server.cc`.
_HTTP_STATUS = {
    _Code.OK: 200,
    _Code.CANCELLED: 499,
    _Code.UNKNOWN: 500,
    _Code.INVALID_ARGUMENT: 400,
    _Code.DEADLINE_EXCEEDED: 504,
    _Code.NOT_FOUND: 404,
    _Code.ALREADY_EXISTS: 409,
    _Code.PERMISSION_DENIED: 403,
    _Code.RESOURCE_EXHAUSTED: 429,
    _Code.FAILED_PRECONDITION: 400,
    _Code.ABORTED: 409,
    _Code.OUT_OF_RANGE: 400,
    _Code.UNIMPLEMENTED: 501,
    _Code.INTERNAL: 500,
    _Code.UNAVAILABLE: 503,
    _Code.DATA_LOSS: 500,
    _Code.UNAUTHENTICATED: 401,
}
_MAX_BYTES = 2_000
_BY_NUMBER = {code.value[0]: code for code in _Code}


class ServingError(Exception):
    """What a client is told.

    Args:
        message: For the client, in TensorFlow Serving's words. What is long
            is cut.
        code: The status. Defaults to `INVALID_ARGUMENT`.
        http_status: That of HTTP. Defaults to `None`, the one for `code`.
    """

    def __init__(
        self,
        message: str,
        code: grpc.StatusCode = _Code.INVALID_ARGUMENT,
        http_status: int | None = None,
    ) -> None:
        # A header of gRPC, where a byte may become three.
        message = message.encode(errors="replace")[:_MAX_BYTES].decode(
            errors="ignore"
        )
        super().__init__(message)
        self.message = message
        self.code = code
        self.http_status = http_status or _HTTP_STATUS[code]


def from_exception(error: Exception) -> ServingError:
    """Says of any exception what a client is told.

    Args:
        error: One of TensorFlow's keeps its code and its message; any other
            is `INTERNAL`.

    Returns:
        The error, chained to its cause.
    """
    if isinstance(error, ServingError):
        return error
    if isinstance(error, tf.errors.OpError):
        told = ServingError(error.message, _BY_NUMBER[error.error_code])
    else:
        told = ServingError(f"{type(error).__name__}: {error}", _Code.INTERNAL)
    told.__cause__ = error
    return told
