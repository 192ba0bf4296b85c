"""
Every operation of the OpenAPI document x whose thing it is asked about x who asks: no reading and no writing
across tenants.

What each cell expects follows from what the operation declares: its key and its scope, in the security
section. What is read is looked for in the answer; what is written, in every row of every table of the other
tenant. A route without a sample of a thing of one's own (OWN and BODIES in conftest.py) fails. T11 and C6 to
C11 of the failure catalogue; T113 of the roadmap.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from uuid import uuid4

import pytest
from support.waiting import eventually

from paytrust.litestar import ROUTES

ACCESS = {
    f"{method} {re.sub(r':[a-z]+}', '}', path)}": handler.opt["access"]
    for handlers in ROUTES.values()
    for handler in handlers
    for path in handler.paths
    for method in handler.http_methods - {"HEAD", "OPTIONS"}
}
GUARDED = sorted(operation for operation, access in ACCESS.items() if access != "public")
UNAUTHENTICATED, FORBIDDEN = (401, "unauthenticated"), (403, "forbidden")
REFUSED = {
    "a revoked key": UNAUTHENTICATED,
    "an expired key": UNAUTHENTICATED,
    "an unknown key": UNAUTHENTICATED,
    "a malformed key": (400, "malformed_key"),
    "no key": UNAUTHENTICATED,
    "the admin key": UNAUTHENTICATED,
    "the admin key as an API key": (400, "malformed_key"),
    "a key without the scope": FORBIDDEN,
    "a key at a wrong address": (403, "address_not_allowed"),
}
"""How a merchant's route answers a key that does not open it, whatever it is asked about."""
AS_ADMIN = [*(set(REFUSED) - {"the admin key"}), "A's key", "B's key", "A's key as an admin key"]
"""What does not open an administrator's route: 401, every one."""


class World:
    """Two merchants, A and B, and keys of A of every kind."""

    def __init__(self, make_merchant, admin, anonymous, database, admin_key):
        self.a, self.b, self.admin, self.anonymous, self.database = (
            make_merchant("A"),
            make_merchant("B"),
            admin,
            anonymous,
            database,
        )
        key_of_a, key_of_b = (merchant.api.headers["x-api-key"] for merchant in (self.a, self.b))
        revoked, expired = self._key(), self._key()
        admin.delete(f"/api-keys/{revoked['key_id']}").raise_for_status()
        database.rows("UPDATE api_keys SET expires_at = now() WHERE id = $1", expired["key_id"])
        elsewhere = self._key(allowed_addresses=["203.0.113.0/24"])
        self._narrow = {scope: self._key(scopes=[scope]) for scope in ("read", "write")}
        api_keys = {
            "A's key": key_of_a,
            "B's key": key_of_b,
            "a revoked key": revoked["api_key"],
            "an expired key": expired["api_key"],
            "an unknown key": secrets.token_hex(32),
            "a malformed key": "x",
            "the admin key as an API key": admin_key,
            "a key at a wrong address": elsewhere["api_key"],
        }
        self._headers = {name: {"x-api-key": key} for name, key in api_keys.items()} | {
            "no key": {},
            "the admin key": {"x-admin-key": admin_key},
            "A's key as an admin key": {"x-admin-key": key_of_a},
            "A's key in B's name": {"x-api-key": key_of_a} | self.in_the_name_of(self.b),
        }
        account = {
            "name": "apart",
            "credentials": {"secret_key": "k" * 20, "callback_token": secrets.token_hex(16)},
            "currencies": {"IDR": {}},
        }
        apart = admin.post(
            "/gateway-accounts", json=account | {"gateway": "xendit", "tenant_id": self.b.tenant_id}
        ).json()
        self.token_of_b = apart["webhook_url"].rpartition("/")[2]

    def _key(self, **fields):
        answer = self.admin.post("/api-keys", json={"tenant_id": self.a.tenant_id} | fields)
        assert answer.status_code == 201, answer.text
        return answer.json()

    @staticmethod
    def in_the_name_of(merchant):
        """Headers that mean something elsewhere, and nothing here."""
        names = (
            "x-tenant-id",
            "x-tenant",
            "tenant-id",
            "x-act-for-tenant",
            "x-impersonate",
            "x-on-behalf-of",
            "x-forwarded-user",
        )
        return dict.fromkeys(names, merchant.tenant_id) | {
            "cookie": f"tenant_id={merchant.tenant_id}",
            "x-api-key-id": merchant.tenant_id,
        }

    def headers(self, key, route):
        if key == "A's key for just this scope":
            return {"x-api-key": self._narrow[route.scope]["api_key"]}
        if key == "a key without the scope":
            return {"x-api-key": self._narrow["read" if route.scope == "write" else "write"]["api_key"]}
        return self._headers[key]

    def ask(self, route, key, ids, body=None, **how):
        """
        One cell. An answer shows none of the other tenant's ids, except the one it was asked with, to a
        merchant's key.
        """
        given = {"json": body} if body is not None else {}
        given |= {"headers": self.headers(key, route) | how.pop("headers", {})}
        answer = self.anonymous.request(route.method, route.path.format(**ids), **(given | how))
        assert answer.status_code not in {500, 429}, answer.text
        if "A's key" in key or key == "B's key":
            for one in self.database.ids_of((self.a if key == "B's key" else self.b).tenant_id) - set(
                ids.values()
            ):
                assert one not in answer.text, f"{key} on {route} shows {one}"
        return answer

    @contextlib.contextmanager
    def untouched(self, *merchants):
        """Every row of *merchants* is afterwards as it was before."""
        before = [self.database.fingerprint(merchant.tenant_id) for merchant in merchants]
        yield
        assert [self.database.fingerprint(merchant.tenant_id) for merchant in merchants] == before

    def settle(self):
        """Wait until work in the background has nothing to do for either."""
        due = "SELECT id FROM webhooks WHERE tenant_id = ANY($1::uuid[]) AND status = 'received' AND (attempts = 0 OR lease_until > now())"
        eventually(lambda: not self.database.rows(due, [self.a.tenant_id, self.b.tenant_id]))


@pytest.fixture(scope="module")
def world(make_merchant, admin, anonymous, database, service):
    return World(make_merchant, admin, anonymous, database, service.admin_api_key.get_secret_value())


@pytest.fixture
def route(operation, routes):
    [found] = [route for route in routes if repr(route) == operation]
    return found


def of_merchants(routes):
    return [route for route in routes if route.audience == "merchant"]


def told(answer, *ids):
    """
    An answer without what differs between any two: ids that were asked about, the request's own, times and
    counters.
    """
    text = answer.text.replace(answer.headers["x-request-id"], "REQUEST")
    for one in ids:
        text = text.replace(one, "ID")
    headers = {
        name: value
        for name, value in answer.headers.items()
        if name not in {"date", "x-request-id", "ratelimit"}
    }
    return answer.status_code, headers, text


def refusal(answer, expected, problem):
    assert answer.status_code == expected[0], answer.text
    problem(answer, *expected)


def test_the_document_declares_the_key_and_scope_that_the_guard_asks_for(routes):
    declared = {
        repr(route): route.scope if route.audience == "merchant" else route.audience for route in routes
    }
    assert declared == ACCESS


def test_every_operation_has_a_sample_of_a_thing_of_ones_own(routes, samples, world):
    for route in routes:
        assert set(samples.own(world.a, route)) == {
            parameter["name"] for parameter in route.parameters["path"]
        }
        assert (samples.body(world.a, route) is None) == (route.schema is None)


@pytest.mark.parametrize("operation", GUARDED)
def test_a_key_opens_what_the_operation_declares_and_nothing_else(route, world, samples, problem):
    body = samples.body(world.a, route)
    things = {"A's": samples.own(world.a, route), "B's": samples.own(world.b, route)}
    if route.parameters["path"]:
        things["nobody's"] = dict.fromkeys(things["A's"], str(uuid4()))
    refused = REFUSED if route.audience == "merchant" else dict.fromkeys(AS_ADMIN, UNAUTHENTICATED)
    with world.untouched(world.a, world.b):
        for key, expected in refused.items():
            answers = {whose: world.ask(route, key, ids, body) for whose, ids in things.items()}
            for answer in answers.values():
                refusal(answer, expected, problem)
            alike = [told(answer, *things[whose].values()) for whose, answer in answers.items()]
            assert all(one == alike[0] for one in alike), f"{key} learns whose it is"


@pytest.mark.parametrize("operation", [operation for operation in GUARDED if "{" in operation])
def test_anothers_thing_is_as_absent_as_nobodys(route, world, samples, problem):
    mine, theirs = samples.own(world.a, route), samples.own(world.b, route)
    nobodys, malformed = dict.fromkeys(mine, str(uuid4())), dict.fromkeys(mine, "x")
    askers = (
        {"A's key": theirs, "A's key in B's name": theirs, "B's key": mine}
        if route.audience == "merchant"
        else {"the admin key": nobodys}
    )
    with world.untouched(world.a, world.b):
        for key, ids in askers.items():
            answers = []
            for one in (ids, nobodys, malformed):
                answer = world.ask(route, key, one, samples.body(world.a, route))
                refusal(answer, (404, "not_found"), problem)
                answers.append(told(answer, *one.values()))
            assert answers[0] == answers[1]


@pytest.mark.parametrize("operation", sorted(ACCESS))
def test_ones_own_thing_is_there_and_the_other_tenant_does_not_notice(route, world, samples):
    """Without this the refusals would prove nothing: the same requests succeed for whom they are."""
    cells = {"the admin key": (world.a, world.b)}
    if route.audience != "admin":
        cells = {"A's key": (world.a, world.b), "B's key": (world.b, world.a)}
    if route.audience == "merchant":
        cells["A's key for just this scope"] = (world.a, world.b)
    for key, (merchant, other) in cells.items():
        ids, body = samples.own(merchant, route), samples.body(merchant, route)
        headers = {"x-callback-token": merchant.sandbox.xendit.callback_token}
        content = {"content": b'{"id": "x"}'} if "token" in ids else {}
        with world.untouched(other):
            answer = world.ask(route, key, ids, body, headers=headers, **content)
            assert answer.is_success, answer.text
        world.settle()


# --- what is open to everybody ----------------------------------------------------------------------------------------------------


def test_no_key_makes_a_difference_where_none_is_asked_for(routes, world, samples):
    """The webhook intake and health. A webhook in B's account that is signed with A's secret is forged."""
    for route in [route for route in routes if route.audience == "public"]:
        own = samples.own(world.a, route)
        cells = {"A's": (own, 200)}
        if own:
            others = {
                "B's": (world.token_of_b, 401),
                "nobody's": (secrets.token_hex(16), 404),
                "malformed": ("x", 404),
            }
            cells |= {whose: (own | {"token": token}, status) for whose, (token, status) in others.items()}
        body = {"content": b'{"id": "x"}'} if own else {}
        token = {"x-callback-token": world.a.sandbox.xendit.callback_token}
        with world.untouched(world.b):
            for ids, status in cells.values():
                for key in ["A's key", "B's key", *REFUSED]:
                    answer = world.ask(route, key, ids, headers=token, **body)
                    assert answer.status_code == status, f"{key} on {route}: {answer.text}"


# --- ids elsewhere than in the path -----------------------------------------------------------------------------------------------


def test_an_id_of_another_tenant_in_a_query_finds_what_an_id_of_nobody_finds(routes, world):
    """Filters and cursors: a merchant's list never shows, skips or starts at what is somebody else's."""
    invoice = world.b.invoice(external_id=f"b-{uuid4()}")
    supplement = world.b.api.post(
        f"/invoices/{invoice['invoice_id']}/supplementary", json={"line_items": world.b.body()["line_items"]}
    ).json()
    assert supplement["original_invoice_id"] == invoice["invoice_id"]
    world.a.invoice()
    page = world.b.api.get("/invoices", params={"limit": 1}).json()
    cursors = {"cursor": (page["next_cursor"], "AAAAAAAAAAAAAAAAAAAAAA")}
    texts = {"external_id": (invoice["external_id"], f"b-{uuid4()}")}
    ids = {
        "gateway_id": (world.b.xendit_id, str(uuid4())),
        "original_invoice_id": (invoice["invoice_id"], str(uuid4())),
    }
    tried = set()
    for route in of_merchants(routes):
        for parameter in route.parameters["query"]:
            name, schema = parameter["name"], route.resolve(parameter["schema"])
            if schema.get("format") == "uuid" or name in cursors | texts:
                theirs, nobodys = (cursors | texts | ids)[name]
                mine, his = (
                    world.ask(route, "A's key", {}, params={name: value}) for value in (theirs, nobodys)
                )
                assert told(mine, theirs) == told(his, nobodys), f"{route} by {name}"
                found = world.ask(route, "B's key", {}, params={name: theirs})
                assert found.is_success, found.text
                assert name == "cursor" or invoice["invoice_id"] in found.text, (
                    "or the filter would prove nothing"
                )
                tried.add(name)
    assert tried == {"cursor", "external_id", "gateway_id", "original_invoice_id"}


def test_an_id_of_another_tenant_in_a_body_is_refused_like_an_id_of_nobody(routes, world, samples, problem):
    theirs = {"gateway_id": world.b.xendit_id}
    tried = 0
    for route in of_merchants(routes):
        for path, schema, _ in route.fields() if route.schema else ():
            if schema.get("format") == "uuid":
                body, ids = samples.body(world.a, route), samples.own(world.a, route)
                assert len(path) == 1, "put it into place"
                given = [theirs[path[0]], str(uuid4())]
                with world.untouched(world.b):
                    answers = [world.ask(route, "A's key", ids, body | {path[0]: one}) for one in given]
                for answer in answers:
                    problem(answer, 400, "invalid_request", [f"#/{path[0]}"])
                assert told(answers[0], given[0]) == told(answers[1], given[1])
                tried += 1
    assert tried > 0


def test_a_merchant_cannot_say_which_tenant_he_is(routes, world, samples, problem):
    """By header: see "A's key in B's name". By query, body or path it is refused."""
    for route in of_merchants(routes):
        ids, body = samples.own(world.a, route), samples.body(world.a, route)
        with world.untouched(world.a, world.b):
            problem(
                world.ask(route, "A's key", ids, body, params={"tenant_id": world.b.tenant_id}),
                400,
                "invalid_request",
                ["#/tenant_id"],
            )
            if body is not None:
                answer = world.ask(route, "A's key", ids, body | {"tenant_id": world.b.tenant_id})
                problem(answer, 400, "invalid_request", ["#/tenant_id"])
            inside = f"/tenants/{world.b.tenant_id}{route.path.format(**ids)}"
            problem(world.a.api.request(route.method, inside, json=body), 404, "not_found")


# --- idempotency keys -------------------------------------------------------------------------------------------------------------


def test_an_idempotency_key_of_another_tenant_is_a_new_one(routes, world, samples, problem):
    """
    The same key in two tenants names two requests, on every route; and nobody gets the answer that was kept
    for somebody else.
    """
    for route in [route for route in of_merchants(routes) if route.method in {"POST", "PATCH"}]:
        key = {"Idempotency-Key": str(uuid4())}
        of_a, of_b = (
            (samples.own(merchant, route), samples.body(merchant, route)) for merchant in (world.a, world.b)
        )
        first = world.ask(route, "A's key", *of_a, headers=key)
        assert first.is_success, first.text
        with world.untouched(world.a):
            stolen = world.ask(route, "B's key", *of_a, headers=key)  # the very same bytes
            problem(stolen, {400, 404})
            assert "idempotent-replayed" not in stolen.headers
            second = world.ask(route, "B's key", *of_b, headers=key)
        assert second.is_success, second.text
        assert "idempotent-replayed" not in second.headers
        assert second.text != first.text


def test_the_same_bytes_under_the_same_key_on_a_shared_account_are_two_invoices(world, sandbox, admin):
    account = {
        "gateway": "xendit",
        "name": "shared",
        "base_url": sandbox.xendit.url,
        "credentials": {"secret_key": sandbox.xendit.key, "callback_token": sandbox.xendit.callback_token},
        "currencies": {"IDR": {}},
    }
    shared = admin.post("/gateway-accounts", json=account).json()["gateway_id"]
    body = world.a.body(gateway_id=shared, external_id=f"same-{uuid4()}")
    answers = [
        merchant.api.post("/invoices", json=body, headers={"Idempotency-Key": body["external_id"]})
        for merchant in (world.a, world.b)
    ]
    assert [(answer.status_code, "idempotent-replayed" in answer.headers) for answer in answers] == [
        (201, False),
        (201, False),
    ]
    assert answers[0].json()["invoice_id"] != answers[1].json()["invoice_id"]
    for merchant, answer in zip((world.a, world.b), answers, strict=True):
        found = merchant.api.get("/invoices", params={"gateway_id": shared}).json()["invoices"]
        assert [invoice["invoice_id"] for invoice in found] == [answer.json()["invoice_id"]]
