"""
Requests, responses and routes: as little HTTP framework as a faithful imitation needs, so that every byte
sent is ours to choose.
"""

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NoReturn
from urllib.parse import parse_qsl, unquote

import msgspec

LARGEST_EXPONENT = 50  # 1e999999 would keep the server busy for hours
_encoder = msgspec.json.Encoder(decimal_format="number")


@dataclass
class Request:
    """One request as it arrived. Header names are lower case; *target* is path and query exactly as sent."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    params: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(self.target.partition("?")[2], keep_blank_values=True)

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    def json(self) -> object:
        """Return the decoded body, fractions as Decimal. Raises ValueError for anything that is not JSON."""
        try:
            return json.loads(self.body, parse_float=_fraction, parse_constant=_not_json)
        except RecursionError as exc:
            raise ValueError("nested too deeply") from exc


@dataclass
class Response:
    """One answer, whole in memory."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """The request is answered with *response* instead of what the handler would have returned."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


Handler = Callable[[Request], Response | Awaitable[Response]]


@dataclass(frozen=True)
class Route:
    """
    A method and path pattern, and the name of the operation it stands for (what faults are switched on by).
    """

    method: str
    pattern: re.Pattern[str]
    operation: str
    handler: Handler


class Router:
    """Routes in order of registration; the first that matches wins."""

    def __init__(self) -> None:
        self._routes: list[Route] = []

    def add(self, method: str, path: str, operation: str, handler: Handler) -> None:
        """
        Register *handler*. In *path*, `{name}` matches one segment, still percent-encoded while matching.
        """
        literal = re.escape(path).replace(r"\{", "{").replace(r"\}", "}")
        pattern = re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", literal))
        self._routes.append(Route(method, pattern, operation, handler))

    def match(self, request: Request) -> Route | None:
        """Return the route of *request* and leave its decoded path parameters in `request.params`."""
        path = request.path.replace("%21", "!")
        for route in self._routes:
            if route.method == request.method and (found := route.pattern.fullmatch(path)):
                request.params = {name: unquote(value) for name, value in found.groupdict().items()}
                return route
        return None


def json_response(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer *value* as JSON; Decimals become JSON numbers."""
    return Response(status, to_json(value), {"content-type": "application/json", **(headers or {})})


def to_json(value: object) -> bytes:
    return _encoder.encode(value)


def html_response(text: str, status: int = 200) -> Response:
    headers = {
        "content-type": "text/html; charset=utf-8",
        "cache-control": "no-store",
        "content-security-policy": PAGE_POLICY,
    }
    return Response(status, text.encode(), headers)


PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


def see_other(location: str) -> Response:
    return Response(303, b"", {"location": location})


def _fraction(text: str) -> Decimal:
    value = Decimal(text)
    if abs(value.adjusted()) > LARGEST_EXPONENT:
        raise ValueError(f"{text} is out of range")
    return value


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
