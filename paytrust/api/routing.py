"""
Routes of ours in an application that may be somebody else's.

A route is ours because its options say so, never because of how its path reads. What a host has set for its
own routes ends at ours: its exception handlers, dependencies, parameters, encoders and cache headers stay
outside. What it sets to protect the whole application, guards and middleware above all, holds for ours too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from litestar import HttpMethod, Litestar
from litestar.handlers import HTTPRouteHandler

from paytrust.api.options import OPT, RouteOptions
from paytrust.api.problems import MethodNotAllowed
from paytrust.errors import NotFound

METHODS: Final = frozenset(method.value for method in HttpMethod)

T = TypeVar("T")


def _of_the_whole_application(resolve: Callable[[HTTPRouteHandler], T]) -> Callable[[Any], T]:
    """One of Litestar's ways to gather what the layers above a handler say, the application included."""

    def resolved(self: OurRoute) -> T:
        self.sees_host = True
        try:
            return resolve(self)
        finally:
            self.sees_host = False

    return resolved


class OurRoute(HTTPRouteHandler):
    """
    A handler to which the application above our router has nothing to say, but for what is listed here.

    Litestar asks `ownership_layers` for everything that is inherited, so what it may learn to inherit in
    future stays out as well.
    """

    sees_host = False

    @property
    def ownership_layers(self) -> list[Any]:
        layers: list[Any] = super().ownership_layers
        return layers if self.sees_host else [layer for layer in layers if not isinstance(layer, Litestar)]

    @property
    def app(self) -> Litestar:
        layers: list[Any] = super().ownership_layers
        application: Litestar = layers[0]
        return application

    resolve_guards = _of_the_whole_application(HTTPRouteHandler.resolve_guards)
    resolve_middleware = _of_the_whole_application(HTTPRouteHandler.resolve_middleware)
    resolve_before_request = _of_the_whole_application(HTTPRouteHandler.resolve_before_request)
    resolve_after_response = _of_the_whole_application(HTTPRouteHandler.resolve_after_response)
    resolve_response_headers = _of_the_whole_application(HTTPRouteHandler.resolve_response_headers)
    resolve_response_cookies = _of_the_whole_application(HTTPRouteHandler.resolve_response_cookies)
    resolve_include_in_schema = _of_the_whole_application(HTTPRouteHandler.resolve_include_in_schema)
    _resolve_all_opts = _of_the_whole_application(HTTPRouteHandler.resolve_opts)

    def resolve_opts(self) -> None:
        """The application's too, and what exempts ours from its CSRF: our routes take keys, not cookies."""
        self._resolve_all_opts()
        if (csrf := self.app.csrf_config) is not None:
            self.opt[csrf.exclude_from_csrf_key] = True


def ours(original: HTTPRouteHandler) -> HTTPRouteHandler:
    """A copy of a handler as it is registered. A route writes `opt={"access": "read"}`, without our prefix."""
    handler = copy.copy(original)
    handler.__class__ = OurRoute
    handler.opt = {OPT: RouteOptions(**original.opt)}
    return handler


def complete(handlers: Iterable[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """
    Registered *handlers*, HEAD where there is GET, and 405 for every other method of their paths.

    Litestar would raise the 405 before it knows the route: past our guards, which count, and for the host's
    error pages to answer.
    """
    handlers = list(handlers)
    heads = [_head(handler) for handler in handlers if "GET" in handler.http_methods]
    taken: dict[str, set[str]] = {}
    for handler in (*handlers, *heads):
        for path in handler.paths:
            taken.setdefault(path, set()).update(handler.http_methods)
    refusals = [_refuse_methods(path, methods) for path, methods in taken.items() if METHODS - methods]
    return [*refusals, *handlers, *heads]  # those first, or Litestar adds an OPTIONS of its own


def _head(get: HTTPRouteHandler) -> HTTPRouteHandler:
    """The same, for HEAD: whatever sends the answer leaves its body out."""
    handler = copy.copy(get)
    handler.http_methods = {"HEAD"}
    handler.include_in_schema = False
    return handler


def _refuse_methods(path: str, allowed: set[str]) -> HTTPRouteHandler:
    allow = ", ".join(sorted(allowed))

    async def method_not_allowed() -> None:
        raise MethodNotAllowed(f"this path takes {allow}", allow=allow)

    return _public(path, METHODS - allowed, method_not_allowed)


def nothing_here(*paths: str) -> HTTPRouteHandler:
    """Every path of ours that is not a route: the same answer as for an object that is another tenant's."""

    async def nothing_here() -> None:
        raise NotFound("there is nothing at this path")

    return _public(list(paths), METHODS, nothing_here)


def _public(path: str | list[str], methods: Iterable[str], answer: Callable[..., Any]) -> HTTPRouteHandler:
    return OurRoute(
        path,
        http_method=[HttpMethod(method) for method in sorted(methods)],
        include_in_schema=False,
        opt={OPT: RouteOptions("public")},
    )(answer)
