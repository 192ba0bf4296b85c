"""
Where strangers over their limit are turned away: before a route is looked for, because that is what most of
an answer costs.

The rule is the guard's (`guards.access_guard`), which stands behind it and alone where PayTrust is mounted:
whoever shows no key that this process knows is limited by address, on every route that does not say `limited:
False`.
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
from paytrust.infra.rate_limits import Windows
from paytrust.security.access import Network, client_address, neighbourhood

_PARAMETER: Final = re.compile(r"\{[^}]*\}")

Knows = Callable[[str], bool]


class Door:
    """
    *knows_key* and *knows_admin* say whether a key was verified already; *open_to_all* are the routes without
    a limit.
    """

    def __init__(
        self,
        strangers: Windows,
        *,
        knows_key: Knows,
        knows_admin: Knows,
        trusted_proxies: Sequence[Network],
        open_to_all: Iterable[HTTPRouteHandler],
    ) -> None:
        self._strangers = strangers
        self._knows_key, self._knows_admin = knows_key, knows_admin
        self._trusted = trusted_proxies
        paths = [
            "[^/]+".join(map(re.escape, _PARAMETER.split(path)))
            for handler in open_to_all
            for path in handler.paths
        ]
        self._open = re.compile("|".join(f"{path}/?" for path in paths))

    def refusal(self, scope: Scope) -> TooManyRequests | None:
        """Why the request goes no further, or None when it may. Nothing is counted here."""
        keys: dict[bytes, str] = {}
        forwarded = []
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                forwarded.append(value.decode("latin-1"))
            else:
                keys[name] = value.decode("latin-1")
        client = scope.get("client")
        address = neighbourhood(client_address(client[0] if client else None, forwarded, self._trusted))
        allowance = self._strangers.refusal(address)
        if allowance is None or self._passes(scope["path"], keys.get(b"x-api-key"), keys.get(b"x-admin-key")):
            return None
        return guards.limited(scope, allowance)

    def _passes(self, path: str, key: str | None, admin_key: str | None) -> bool:
        return bool(
            self._open.fullmatch(path)
            or (key is not None and self._knows_key(key))
            or (admin_key is not None and self._knows_admin(admin_key))
        )


def answer(scope: Scope, refusal: TooManyRequests) -> tuple[HTTPResponseStartEvent, HTTPResponseBodyEvent]:
    """The same that the error handlers of the routes make of *refusal*."""
    body = msgspec.json.encode(problems.problem(scope, refusal))
    headers = [(b"content-type", problems.PROBLEM.encode()), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in problems.problem_headers(refusal).items()]
    return (
        {"type": "http.response.start", "status": refusal.status, "headers": headers},
        {"type": "http.response.body", "body": body, "more_body": False},
    )
