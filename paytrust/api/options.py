"""What a route says about itself, under one name of ours among the options of its handler."""

from __future__ import annotations

from typing import Final

import msgspec
from litestar.handlers import BaseRouteHandler
from litestar.types import Scope

OPT: Final = "paytrust"
"""The one key of ours among a handler's options: what a host keeps there has other names."""


class RouteOptions(msgspec.Struct, frozen=True):
    """What a route says about itself."""

    access: str | None = None
    """Which key opens it: "read", "write", "admin" or "public"."""
    limited: bool = True
    """Whether requests without a key count against their address."""
    sender: str = "client"
    """A "gateway" takes a 4xx for an answer and gives up, so it is never told 429."""
    content_security_policy: bytes | None = None
    """Where the API's own does not do: a page of ours."""


CLOSED: Final = RouteOptions()
"""What holds for a route that says nothing: it opens for nobody."""


def options_of(handler: BaseRouteHandler) -> RouteOptions:
    """What a registered route says about itself."""
    options = handler.opt.get(OPT)
    return options if isinstance(options, RouteOptions) else CLOSED


def routed_options(scope: Scope) -> RouteOptions | None:
    """What the route of a request says about itself; None when it is no route of ours, or none was found."""
    handler = scope.get("route_handler")
    options = None if handler is None else handler.opt.get(OPT)
    return options if isinstance(options, RouteOptions) else None
