"""Parses JSON as TensorFlow Serving does, with the words of its parser."""

import json
import re
from typing import Any, NoReturn

from tfsac.serving.errors import ServingError

__all__ = ["shown", "parse"]

_DECODER = json.JSONDecoder()
_DEBUG_LENGTH = 256
_LOOKED_THROUGH = 2**16
# What rapidjson says where Python's parser says this.
_PARSE_ERRORS = (
    ("Unterminated string", "Missing a closing quotation mark in string."),
    ("Expecting property name", "Missing a name for object member."),
    ("Illegal trailing comma", "Missing a name for object member."),
    ("Expecting ':'", "Missing a colon after a name of object member."),
    ("Invalid control character", "Invalid encoding in string."),
    ("Invalid \\u", "Incorrect hex digit after \\u escape in string."),
    ("Invalid \\", "Invalid escape character in string."),
)


def parse(body: bytes) -> dict[str, Any]:
    """Parses a request.

    What follows the object is not looked at, and NaN and Infinity are
    numbers, as in TensorFlow Serving.

    Args:
        body: UTF-8.

    Returns:
        The object.

    Raises:
        ServingError: With the offset at which it is no JSON.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _parse_error("Invalid encoding in string.", error.start)
    stripped = text.lstrip(" \t\n\r")
    offset = len(text) - len(stripped)
    if not body:
        raise ServingError("JSON Parse error: The document is empty")
    if not stripped:
        _parse_error("The document is empty.", offset)
    try:
        document, _ = _DECODER.raw_decode(stripped)
    except json.JSONDecodeError as error:
        _parse_error(_rapidjson_message(error), offset + error.pos)
    except RecursionError:
        raise ServingError(
            "JSON Parse error: The document is nested too deeply"
        ) from None
    except ValueError:  # Python bounds the digits of an integer
        raise ServingError(
            "JSON Parse error: Number too big to be stored in double."
        ) from None
    if not isinstance(document, dict):
        raise ServingError(f"JSON Value: {shown(document)} Is not object")
    return document


def shown(value: Any) -> str:
    """Tells a value in an error.

    Args:
        value: Any that was parsed.

    Returns:
        JSON, cut after 256 characters.
    """
    try:  # piece by piece: it may be as large as a request
        told = ""
        for piece in json.JSONEncoder().iterencode(value):
            told += piece
            if len(told) >= _DEBUG_LENGTH:
                break
        return told[:_DEBUG_LENGTH]
    except RecursionError:  # what was parsed may just be too deep to write
        return "..."


def _parse_error(message: str, offset: int) -> NoReturn:
    raise ServingError(f"JSON Parse error: {message} at offset: {offset}")


def _rapidjson_message(error: json.JSONDecodeError) -> str:
    for python, rapidjson in _PARSE_ERRORS:
        if error.msg.startswith(python):
            return rapidjson
    if not error.msg.startswith("Expecting ','"):
        return "Invalid value."
    # In which of the two did a comma lack? Of a big document nobody asks.
    if error.pos > _LOOKED_THROUGH:
        return "Missing a comma or ] after an array element."
    open_: list[str] = []
    pattern = r'"(?:[^"\\]|\\.)*"|[][{}]'
    for token in re.findall(pattern, error.doc[: error.pos]):
        if token in "[{":
            open_.append(token)
        elif token in "]}":
            open_.pop()
    if open_[-1] == "{":
        return "Missing a comma or } after an object member."
    return "Missing a comma or ] after an array element."
