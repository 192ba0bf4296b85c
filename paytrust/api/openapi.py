"""
What the OpenAPI document says beyond what Litestar reads off a route: stable ids of operations, the headers
of answers, and links from what was just created to everything that can be asked about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Final

import msgspec
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import (
    Components,
    Link,
    OpenAPIHeader,
    OpenAPIType,
    Operation,
    Reference,
    Schema,
    SecurityScheme,
)
from litestar.params import KwargDefinition
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition

from paytrust.api import problems, routing
from paytrust.api.options import options_of

SECURITY: Final[dict[str, list[dict[str, list[str]]]]] = {
    "read": [{"paytrustApiKey": ["read"]}],
    "write": [{"paytrustApiKey": ["write"]}],
    "admin": [{"paytrustAdminKey": []}],
    "public": [{}],  # said outright, or a host's own requirement would be read into it
}
"""What the OpenAPI document says about a route's `access`. Beside a key stands the scope it needs."""
HEADERS: Final = {
    "X-Request-ID": Schema(
        type=OpenAPIType.STRING, description="The request's own when that is sane, else a new one."
    ),
    "RateLimit-Policy": Schema(
        type=OpenAPIType.STRING, description="The limit that was looked at last: `q` requests in `w` seconds."
    ),
    "RateLimit": Schema(
        type=OpenAPIType.STRING,
        description="How many requests are left (`r`), and in how many seconds there is one more (`t`).",
    ),
    "Retry-After": Schema(type=OpenAPIType.INTEGER, minimum=0, description="Seconds to wait."),
}
MAKES: Final = {
    "create_invoice": "invoice_id",
    "create_supplementary": "invoice_id",
    "create_key": "key_id",
    "create_account": "gateway_id",
}
"""What the answer of an operation names. Each operation with that in its path is linked from it."""


_API_KEY: Final = "A tenant's key. It needs the scope that an operation names: `read`, `write`, or both."


def components() -> Components:
    """What the documented handlers refer to."""
    return Components(
        security_schemes={
            "paytrustApiKey": SecurityScheme(
                type="apiKey", name="X-API-Key", security_scheme_in="header", description=_API_KEY
            ),
            "paytrustAdminKey": SecurityScheme(
                type="apiKey", name="X-Admin-Key", security_scheme_in="header", description="The admin key"
            ),
        },
        headers={
            _component(name): OpenAPIHeader(schema=schema, description=schema.description, required=True)
            for name, schema in HEADERS.items()
        },
    )


class PrefixedSchemas(OpenAPISchemaPlugin):
    """
    Calls the schemas of our types by names that begin with `PayTrust`.

    Litestar calls a schema by the name of its class, and gives both longer names where a host has a class of
    the same: its own document would change because we are there.
    """

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        return (
            not field_definition.is_union
            and field_definition.is_subclass_of((msgspec.Struct, Enum))
            and field_definition.annotation.__module__.startswith("paytrust.")
            and not isinstance(field_definition.kwarg_definition, _Named)
        )

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Any:
        type_ = field_definition.annotation
        named = _Named(schema_component_key=f"PayTrust{type_.__name__}")
        return schema_creator.for_field_definition(
            FieldDefinition.from_annotation(type_, name=field_definition.name, kwarg_definition=named)
        )


class _Named(KwargDefinition):
    """A field of which only the name of its schema is said."""


def documented(
    routes: dict[str, list[HTTPRouteHandler]], *, also: Callable[[HTTPRouteHandler], None]
) -> list[HTTPRouteHandler]:
    """
    Copies of all handlers, each with the tag it is listed under, the key it wants, and all it may answer;
    *also* adds to a copy.
    """
    handlers = [handler for found in routes.values() for handler in found]
    return [_documented(handler, tag, handlers, also) for tag, found in routes.items() for handler in found]


def _documented(
    original: HTTPRouteHandler,
    tag: str,
    handlers: list[HTTPRouteHandler],
    also: Callable[[HTTPRouteHandler], None],
) -> HTTPRouteHandler:
    handler = routing.ours(original)
    options = options_of(handler)
    handler.tags = [tag]
    handler.security = SECURITY[str(options.access)]
    also(handler)
    limits = problems.problems(429) if options.limited else {}
    received = problems.problems(408) if handler.http_methods & {"POST", "PATCH"} else {}
    handler.responses = {**(handler.responses or {}), **limits, **received}
    handler.operation_id = _operation_id(original)
    handler.operation_class = _operation(
        handler.operation_class, limited=options.limited, links=_links(original, handlers)
    )
    return handler


def _operation_id(handler: HTTPRouteHandler) -> str:
    return f"paytrust_{handler.handler_name}"  # unique in any application we are mounted in


def _links(handler: HTTPRouteHandler, handlers: Iterable[HTTPRouteHandler]) -> dict[str, Link]:
    name = MAKES.get(handler.handler_name)
    targets = [other for other in handlers if name and any(f"{{{name}:" in path for path in other.paths)]
    return {
        target.handler_name: Link(
            operation_id=_operation_id(target), parameters={str(name): f"$response.body#/{name}"}
        )
        for target in targets
    }


def _operation(base: type[Operation], *, limited: bool, links: dict[str, Link]) -> type[Operation]:
    class Documented(base):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            for status, response in (self.responses or {}).items():
                response.headers = {**(response.headers or {}), **_headers(int(status), limited=limited)}
                if status in {"200", "201"} and links:
                    response.links = dict(links)

    return Documented


def _headers(status: int, *, limited: bool) -> dict[str, Reference]:
    """Those that every answer of this status has."""
    names = ["X-Request-ID"]
    if limited and (status < 300 or status == 429):
        names += ["RateLimit-Policy", "RateLimit"]
    if status in {429, 503}:
        names.append("Retry-After")
    return {name: Reference(ref=f"#/components/headers/{_component(name)}") for name in names}


def _component(header: str) -> str:
    return f"PayTrust-{header}"
