"""Who may use a route is said by the route, and a route that says nothing opens for nobody."""

from __future__ import annotations

import pytest
from litestar import Litestar, get
from litestar.routes import HTTPRoute
from litestar.testing import AsyncTestClient

from paytrust.api import guards, problems
from paytrust.app import create_app
from paytrust.infra.ids import new_id
from paytrust.infra.rate_limits import RateLimits, SharedLimit, SlidingWindow
from paytrust.security.access import LOCAL, Principal, Scope

PUBLIC = {"/health/live", "/health/ready", "/webhooks/{gateway:str}/{token:str}", "/{rest:path}"}


def ours(app):
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            # Litestar answers OPTIONS by itself.
            yield from (
                (route.path, handler)
                for handler in route.route_handlers
                if handler.opt.get("paytrust") and handler.http_methods != {"OPTIONS"}
            )


def test_every_route_says_who_may_use_it(settings):
    found = [
        (path, handler.opt.get("access"), handler.http_methods)
        for path, handler in ours(create_app(settings))
    ]
    assert len(found) > 20
    methods = {"read": {"GET"}, "write": {"POST", "PUT", "PATCH", "DELETE"}}
    for path, access, verbs in found:
        assert access in {"read", "write", "admin", "public"}, path
        assert verbs - {"OPTIONS", "HEAD"} <= methods.get(access, verbs), (
            f"{path}: a key that may only read writes"
        )
    assert {path for path, access, verbs in found if access == "public"} == PUBLIC


@pytest.mark.parametrize("opt", [{}, {"access": ""}, {"access": "raed"}, {"access": None}])
async def test_a_route_that_says_nothing_we_know_opens_for_nobody(opt):
    @get("/", opt=opt)
    async def forgotten() -> str:
        return "open"

    async def authenticate(*_):
        return Principal(new_id(), new_id(), frozenset(Scope))

    rates = RateLimits(SharedLimit("api-key", 9), SharedLimit("admin-key", 9), SlidingWindow("address", 9))
    guard = guards.access_guard(
        authenticate, lambda *_: LOCAL, is_cached=lambda _: True, rates=rates, trusted_proxies=()
    )
    app = Litestar([forgotten], guards=[guard], exception_handlers={Exception: problems.on_error})
    async with AsyncTestClient(app) as client:
        for headers in ({}, {"x-api-key": "0" * 64}, {"x-admin-key": "x"}):
            assert (await client.get("/", headers=headers)).status_code == 403
