"""
How Snap and Core say things: Snap in `error_messages` and HTTP codes, Core in a `status_code` of its own.
"""

import uuid
from typing import Any

from paytrust_sandbox.http import Refusal, Request, Response, json_response

SNAP_UNAUTHORIZED = [
    "Access denied due to unauthorized transaction, please check client or server key",
    "Visit https://snap-docs.midtrans.com/#request-headers for more details",
]
CORE_UNAUTHORIZED = "Transaction cannot be authorized with the current client/server key."
INVALID = "One or more parameters in the payload is invalid."
CONFLICT = "The request could not be completed due to a conflict with the current state of the target resource, please try again"
NOT_FOUND = "Transaction doesn't exist."
UNCHANGEABLE = "Transaction status cannot be updated."
# The published description puts every other code under HTTP 200.
HTTP_CODES = frozenset({"400", "401", "429"})


def snap_error(status: int, *messages: str) -> Response:
    return json_response({"error_messages": list(messages)}, status)


def core_error(code: str, message: str, *validation: str) -> Response:
    """Return an error of Core, under HTTP 200 or its own code (see `mirrored` for the switch)."""
    body: dict[str, Any] = {"status_code": code, "status_message": message, "id": str(uuid.uuid4())}
    if validation:
        body["validation_messages"] = list(validation)
    return json_response(body, int(code) if code in HTTP_CODES else 200)


def mirrored(response: Response, code: str) -> Response:
    """Return *response* with its body's status_code as HTTP status."""
    return Response(int(code), response.body, response.headers)


def snap_refusal(status: int, *messages: str) -> Refusal:
    return Refusal(snap_error(status, *messages))


def core_refusal(code: str, message: str, *validation: str) -> Refusal:
    return Refusal(core_error(code, message, *validation))


def core_body(request: Request) -> dict[str, Any]:
    """
    Return the decoded body of a Core call, an empty one as {}. Raises Refusal with 413 for malformed JSON.
    """
    try:
        body = request.json() if request.body.strip() else {}
    except ValueError as exc:
        raise core_refusal(
            "413", "The request cannot be processed due to malformed syntax in the request body."
        ) from exc
    if body is None:
        raise core_refusal("500", "Sorry. Our system is recovering from unexpected issues. Please retry.")
    return body if isinstance(body, dict) else {}
