"""
Where anonymous over their limit are turned away: before a route is looked for, because that is what most of
an answer costs.

The rule is the guard's (`guards.access_guard`), which stands behind it and alone where PayTrust is mounted:
requests without a key that this process knows are limited by address, on every route that does not say
`limited: False`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
from litestar.handlers import HTTPRouteHandler
from litestar.types import HTTPResponseBodyEvent, HTTPResponseStartEvent, Scope

from paytrust.api import guards, problems
from paytrust.errors import TooManyRequests
from paytrust.infra.rate_limits import SlidingWindow
from paytrust.security.access import Network, client_address, subnet

_PARAMETER: Final = re.compile(r"\{[^}]*\}")

IsCached = Callable[[str], bool]


class EarlyRateLimit:
    """
    *is_cached_key* and *is_cached_admin* say whether a key was verified already; *exempt_routes* are the routes without
    a limit.
    """

    def __init__(
        self,
        anonymous: SlidingWindow,
        *,
        is_cached_key: IsCached,
        is_cached_admin: IsCached,
        trusted_proxies: Sequence[Network],
        exempt_routes: Iterable[HTTPRouteHandler],
    ) -> None:
        self._anonymous = anonymous
        self._is_cached_key, self._is_cached_admin = is_cached_key, is_cached_admin
        self._trusted = trusted_proxies
        paths = [
            "[^/]+".join(map(re.escape, _PARAMETER.split(path)))
            for handler in exempt_routes
            for path in handler.paths
        ]
        self._open = re.compile("|".join(f"{path}/?" for path in paths))

    def check(self, scope: Scope) -> TooManyRequests | None:
        """Why the request goes no further, or None when it may. Nothing is counted here."""
        keys: dict[bytes, str] = {}
        forwarded = []
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                forwarded.append(value.decode("latin-1"))
            else:
                keys[name] = value.decode("latin-1")
        client = scope.get("client")
        address = subnet(client_address(client[0] if client else None, forwarded, self._trusted))
        decision = self._anonymous.refusal(address)
        if decision is None or self._passes(scope["path"], keys.get(b"x-api-key"), keys.get(b"x-admin-key")):
            return None
        return guards.limited(scope, decision)

    def _passes(self, path: str, key: str | None, admin_key: str | None) -> bool:
        return bool(
            self._open.fullmatch(path)
            or (key is not None and self._is_cached_key(key))
            or (admin_key is not None and self._is_cached_admin(admin_key))
        )


def problem_messages(
    scope: Scope, refusal: TooManyRequests
) -> tuple[HTTPResponseStartEvent, HTTPResponseBodyEvent]:
    """The same that the error handlers of the routes make of *refusal*."""
    body = msgspec.json.encode(problems.problem(scope, refusal))
    headers = [(b"content-type", problems.PROBLEM.encode()), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in problems.problem_headers(refusal).items()]
    return (
        {"type": "http.response.start", "status": refusal.status, "headers": headers},
        {"type": "http.response.body", "body": body, "more_body": False},
    )
