"""
An account whose gateway keeps failing is left alone over HTTP too: refused at once, tried by one call, and
open again.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from paytrust_sandbox import Servers

from paytrust import development

FAILURES = 3
OPEN_S = 10.0


class Account:
    """A merchant's account at a gateway that is its own for this test."""

    def __init__(self, http, far, tenant_id):
        self.http, self.far = http, far
        credentials = {"secret_key": far.key, "callback_token": far.callback_token}
        body = {
            "gateway": "xendit",
            "name": "x",
            "tenant_id": tenant_id,
            "base_url": far.url,
            "credentials": credentials,
        }
        self.id = http.post("/gateway-accounts", json=body | {"currencies": {"IDR": {}}}).json()["gateway_id"]

    def order(self):
        line = {"product_name": "x", "quantity": 1, "unit_price": "50000"}
        return self.http.post(
            "/invoices", json={"gateway_id": self.id, "currency": "IDR", "line_items": [line]}
        )

    def fail(self, problem):
        """Make it fail as often as it takes."""
        self.far.fault("http_503", on="create", times=FAILURES)
        for _ in range(FAILURES):
            problem(self.order(), 504, "gateway_outcome_unknown")


@pytest.fixture(scope="module")
def gateway():
    with Servers() as servers:
        yield servers.xendit


@pytest.fixture(scope="module")
def http(module_owner_url, settings_for):
    settings = settings_for(module_owner_url, gateway_failures=FAILURES, worker=False)
    headers = {"X-Admin-Key": settings.admin_api_key.get_secret_value()}
    with (
        development.serving(settings),
        httpx.Client(base_url=settings.public_url, headers=headers, timeout=60) as http,
    ):
        yield http


@pytest.fixture
def new_account(http, gateway):
    gateway.reset()
    tenant_id = http.post("/tenants", json={"name": "T"}).json()["tenant_id"]
    http.headers["X-API-Key"] = http.post("/api-keys", json={"tenant_id": tenant_id}).json()["api_key"]
    return lambda: Account(http, gateway, tenant_id)


@pytest.fixture
def account(new_account):
    return new_account()


def test_after_as_many_failures_as_are_set_calls_are_refused_at_once_and_nothing_is_sent(
    account, new_account, gateway, problem
):
    account.fail(problem)
    for _ in range(3):
        answer = account.order()
        told = problem(answer, 503, "gateway_unavailable")
        assert "nothing was sent" in told["detail"]
        assert 1 <= int(answer.headers["retry-after"]) <= OPEN_S
    assert len(gateway.requests) == FAILURES
    assert new_account().order().status_code == 201, "another account at the same gateway is not meant"


def test_one_failure_fewer_and_nothing_is_refused(account, gateway, problem):
    gateway.fault("http_503", on="create", times=FAILURES - 1)
    for _ in range(FAILURES - 1):
        problem(account.order(), 504, "gateway_outcome_unknown")
    assert account.order().status_code == 201


def test_refusals_of_the_gateway_are_answers_and_leave_the_account_open(account, gateway, problem):
    gateway.fault("http_400", on="create", times=2 * FAILURES)
    for _ in range(2 * FAILURES):
        problem(account.order(), 502, "gateway_rejected")
    assert account.order().status_code == 201


def test_then_one_call_tries_and_what_it_finds_decides_for_the_others(new_account, gateway, problem):
    healed, ill = new_account(), new_account()
    for account in (healed, ill):
        account.fail(problem)
    time.sleep(OPEN_S + 0.5)
    asked = len(gateway.requests)
    gateway.fault("http_503", on="create", times=1)
    problem(ill.order(), 504, "gateway_outcome_unknown")
    problem(ill.order(), 503, "gateway_unavailable")
    assert len(gateway.requests) == asked + 1, "a try that fails leaves the account alone again"
    gateway.settings(latency_s=2.0)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: healed.order(), range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [503] * 7
    assert len(gateway.requests) == asked + 2
    gateway.settings(latency_s=0.0)
    assert [healed.order().status_code for _ in range(3)] == [201] * 3, "it is open again"
