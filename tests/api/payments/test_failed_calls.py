"""A failed call to a gateway is one warning, with all that an operator needs to follow it up."""

from __future__ import annotations

import pytest

from paytrust.plugins import breaker, calls

CODES = {
    "http_400": "gateway_rejected",
    "http_503": "gateway_outcome_unknown",
    "reset_before": "gateway_outcome_unknown",
}


@pytest.mark.parametrize(("fault", "code"), CODES.items())
def test_a_failed_call_is_one_warning_that_names_the_payment(merchant, sandbox, logged, fault, code):
    lines = logged(calls)
    sandbox.xendit.fault(fault, on="create", times=1)
    answer = merchant.api.post("/invoices", json=merchant.body(external_id="order"))
    assert answer.json()["code"] == code
    [invoice] = merchant.api.get("/invoices").json()["invoices"]
    [line] = [
        line for line in lines if line["event"] == "gateway call failed" and line["call"] == "create_payment"
    ]
    assert line.pop("reason")
    assert line == {
        "event": "gateway call failed",
        "log_level": "warning",
        "call": "create_payment",
        "code": code,
        "gateway": "xendit",
        "gateway_id": merchant.xendit_id,
        "invoice_id": invoice["invoice_id"],
        "reference": merchant.reference(invoice),
    }


def test_the_line_about_a_circuit_has_its_reason(logged):
    lines = logged(breaker)
    breakers = breaker.Breakers(failures=1)
    breakers.record("account", probe=False, failed=True, reason="no connection: OSError")
    [line] = lines
    assert (line["event"], line["reason"]) == (
        "circuit opened for gateway account",
        "no connection: OSError",
    )
