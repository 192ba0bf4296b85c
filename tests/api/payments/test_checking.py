"""Asking the gateway now: what is found is booked, and what is left out is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def check(merchant):
    def check_(invoice):
        answer = merchant.api.post(f"/invoices/{invoice['invoice_id']}/payments/check")
        assert answer.status_code == 200, answer.text
        return answer.json()

    return check_


def test_money_whose_webhook_never_came_is_booked_at_once(merchant, sandbox, check):
    invoice = merchant.invoice()
    reference = merchant.reference(invoice)
    sandbox.xendit.pay(reference, silent=True)
    [payment] = merchant.get(invoice, "/payments")["payments"]
    told = {"payment_id": payment["payment_id"], "reference": reference, "reason": None}
    assert check(invoice) == {
        "invoice_id": invoice["invoice_id"],
        "status": "paid",
        "payments": [told | {"result": "changed"}],
    }
    assert check(invoice)["payments"] == [told | {"result": "unchanged"}]


def test_what_came_of_an_unknown_outcome_is_found_and_adopted(merchant, sandbox, check):
    sandbox.xendit.fault("reset_after", on="create", times=1)
    merchant.api.post("/invoices", json=merchant.body(external_id="order"))
    [invoice] = merchant.api.get("/invoices").json()["invoices"]
    assert invoice["payment_url"] is None
    assert check(invoice)["status"] == "pending"
    assert merchant.get(invoice)["payment_url"] is not None


def test_a_refused_attempt_is_skipped_with_its_reason(merchant, sandbox, check):
    sandbox.xendit.fault("http_400", on="create", times=1)
    merchant.api.post("/invoices", json=merchant.body(external_id="order"))
    [invoice] = merchant.api.get("/invoices").json()["invoices"]
    [payment] = check(invoice)["payments"]
    assert (payment["result"], payment["reason"]) == ("skipped", "rejected")


def test_a_failed_call_is_said_with_its_code(merchant, sandbox, check):
    invoice = merchant.invoice()
    sandbox.xendit.fault("http_503", on="list", times=1)
    [payment] = check(invoice)["payments"]
    assert (payment["result"], payment["reason"]) == ("failed", "gateway_unavailable")


def test_another_tenants_invoice_cannot_be_checked(make_merchant):
    invoice = make_merchant().invoice()
    answer = make_merchant().api.post(f"/invoices/{invoice['invoice_id']}/payments/check")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.fixture
def command(service):
    """`paytrust payments check NAME --json` beside the running service: its exit code, lines and messages."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PAYTRUST_")} | {
        "PAYTRUST_DATABASE_URL": service.database_url.get_secret_value(),
        "PAYTRUST_ADMIN_API_KEY": service.admin_api_key.get_secret_value(),
        "PAYTRUST_KEY_PEPPER": service.key_pepper.get_secret_value(),
        "PAYTRUST_ENCRYPTION_KEYS": ",".join(
            f"{name}:{key.get_secret_value()}" for name, key in service.encryption_keys.items()
        ),
        "PAYTRUST_INSECURE_GATEWAYS": "true",
    }

    def run(name):
        done = subprocess.run(
            [Path(sys.executable).with_name("paytrust"), "payments", "check", name, "--json"],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    return run


@pytest.mark.parametrize("by", ["invoice_id", "reference"])
def test_the_command_line_checks_an_invoice_by_id_or_reference(merchant, sandbox, command, by):
    invoice = merchant.invoice()
    reference = merchant.reference(invoice)
    sandbox.xendit.pay(reference, silent=True)
    code, [payment], said = command(invoice["invoice_id"] if by == "invoice_id" else reference)
    assert (code, payment["reference"], payment["result"]) == (0, reference, "changed")
    assert f"invoice {invoice['invoice_id']} is paid" in said


@pytest.mark.parametrize("name", ["PT-1", "0197c8f0-0000-7000-8000-00000000beef"])
def test_the_command_line_says_that_there_is_no_such_invoice(command, name):
    code, lines, said = command(name)
    assert (code, lines) == (1, [])
    assert "Error:" in said
    assert "Traceback" not in said
