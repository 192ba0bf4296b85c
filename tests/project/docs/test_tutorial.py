"""
What a page tells people to type is typed here, against a running service, and must answer what the page
shows.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tomllib
from importlib import metadata

import httpx
import pytest
from support.waiting import eventually

from paytrust import development
from paytrust.plugins.registry import Registry

COPIED = {"invoice_id": "INVOICE_ID", "payment_url": "PAYMENT_URL"}
"""What a page asks its reader to copy from an answer, and the name it gives it."""
WAIT_S = 10


def shows(shown, answer):
    """Whether *answer* has everything that a page shows of it; "..." stands for anything."""
    if isinstance(shown, dict):
        return isinstance(answer, dict) and all(
            name in answer and shows(value, answer[name]) for name, value in shown.items()
        )
    if isinstance(shown, list):
        return isinstance(answer, list) and len(shown) == len(answer) and all(map(shows, shown, answer))
    return shown == answer or (shown == "..." and answer is not None)


def type_in(text, environ):
    done = subprocess.run(
        ["bash", "-euc", text], env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
    return done.stdout


def copy(answer, environ):
    for field, name in COPIED.items():
        if isinstance(answer.get(field), str):
            environ[name] = answer[field]


def answer_that_shows(shown, command, environ, page):
    """What *command* is answered, once it shows *shown*: people are slower than a webhook, a test is not."""
    answers = [{}]

    def answer():
        text = type_in(command, environ)
        answers.append(json.loads(text) if text else {})
        return shows(shown, answers[-1])

    eventually(answer, lambda: f"{page} shows {shown}, the answer is {answers[-1]}", timeout_s=WAIT_S)
    return answers[-1]


def follow(page, blocks, *, url, api_key, gateway_id, **more):
    """Type in what *page* says, block by block, and wait until each answer shows what the page shows."""
    environ = {
        "PATH": os.environ["PATH"],
        "PAYTRUST": url,
        "API_KEY": api_key,
        "GATEWAY_ID": gateway_id,
    } | more
    blocks = [fence for fence in blocks if fence.mark]
    assert [fence.mark for fence in blocks].count("answer") > 0
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block.mark != "run":
            continue
        shown = json.loads(following.text) if following is not None and following.mark == "answer" else {}
        copy(answer_that_shows(shown, block.text, environ, page), environ)


@pytest.mark.parametrize(
    "page", ["docs/tutorial/first-payment.md", "docs/how-to/take-installments.md", "README.md"]
)
def test_what_the_page_tells_to_type_answers_what_the_page_shows(page, fences, merchant, service):
    follow(
        page,
        fences(page),
        url=service.public_url,
        api_key=merchant.api.headers["x-api-key"],
        gateway_id=merchant.xendit_id,
    )


def test_a_missing_payment_is_found_as_the_page_says(fences, merchant, sandbox, service):
    page = "docs/how-to/find-a-missing-payment.md"
    invoice = merchant.invoice()
    sandbox.xendit.pay(merchant.reference(invoice), silent=True)
    follow(
        page,
        fences(page),
        url=service.public_url,
        api_key=merchant.api.headers["x-api-key"],
        gateway_id=merchant.xendit_id,
        INVOICE_ID=invoice["invoice_id"],
    )
    assert merchant.get(invoice)["status"] == "paid"


@pytest.fixture
def tax_rule_page(fences, tmp_path, monkeypatch):
    """The modules of the guide to tax rules, written where they can be imported; and its blocks."""
    page = "docs/how-to/write-a-tax-rule.md"
    names = ("paytrust_tax_sg", "test_tax_sg")
    for name, block in zip(
        names, (fence for fence in fences(page) if fence.language == "python"), strict=True
    ):
        (tmp_path / f"{name}.py").write_text(block.text)
    monkeypatch.syspath_prepend(tmp_path)
    yield page, fences(page)
    for name in names:
        sys.modules.pop(name, None)


def test_the_tests_of_the_guide_to_tax_rules_pass(tax_rule_page):
    tests = [
        test
        for name, test in vars(importlib.import_module("test_tax_sg")).items()
        if name.startswith("test_")
    ]
    assert len(tests) > 1
    for test in tests:
        test()


def test_the_tax_rule_of_the_guide_does_what_the_guide_shows(tax_rule_page, settings, sandbox):
    page, blocks = tax_rule_page
    [project] = [tomllib.loads(block.text)["project"] for block in blocks if block.language == "toml"]
    points = [
        metadata.EntryPoint(name, value, "paytrust")
        for name, value in project["entry-points"]["paytrust"].items()
    ]
    registry = Registry(entry_points=[*metadata.entry_points(group="paytrust"), *points])
    assert "tax-sg" in registry.tax_rules, registry.plugins
    with development.serving(settings, registry=registry) as url:
        gateway_id, api_key = open_shop(url, settings.admin_api_key.get_secret_value(), sandbox.xendit)
        follow(page, blocks, url=url, api_key=api_key, gateway_id=gateway_id)


def open_shop(url, admin_key, xendit):
    """A gateway account and an API key at a service of this test's own."""
    with httpx.Client(base_url=url, headers={"X-Admin-Key": admin_key}, timeout=30) as admin:
        tenant_id = admin.post("/tenants", json={"name": "Shop"}).json()["tenant_id"]
        credentials = {"secret_key": xendit.key, "callback_token": xendit.callback_token}
        account = {
            "gateway": "xendit",
            "name": "xendit",
            "base_url": xendit.url,
            "credentials": credentials,
            "currencies": {"USD": {}},
        }
        gateway_id = admin.post("/gateway-accounts", json=account).json()["gateway_id"]
        return gateway_id, admin.post("/api-keys", json={"tenant_id": tenant_id}).json()["api_key"]


def test_secrets_made_as_the_guide_says_are_accepted(fences, settings_for, owner_url):
    [block] = [fence for fence in fences("docs/how-to/deploy.md") if fence.mark == "run"]
    admin_key, encryption_key = type_in(block.text, dict(os.environ)).split()
    settings = settings_for(owner_url, admin_api_key=admin_key, encryption_keys=encryption_key)
    assert list(settings.encryption_keys) == ["2026a"]


def test_the_client_of_the_guide_creates_an_invoice_once(fences, merchant):
    [block] = [fence for fence in fences("docs/how-to/handle-errors.md") if fence.language == "python"]
    namespace = {}
    exec(block.text, namespace)
    body = merchant.body(external_id="order-7")
    first = namespace["create_invoice"](merchant.api, body)
    assert namespace["create_invoice"](merchant.api, body)["invoice_id"] == first["invoice_id"]
    with pytest.raises(RuntimeError, match="external_id_conflict"):
        namespace["create_invoice"](merchant.api, body | {"description": "another"})


def test_the_client_of_the_guide_gets_over_an_unknown_outcome(fences, merchant, sandbox):
    [block] = [fence for fence in fences("docs/how-to/handle-errors.md") if fence.language == "python"]
    namespace = {}
    exec(block.text, namespace)
    sandbox.xendit.fault("reset_after", on="create", times=1)
    invoice = namespace["create_invoice"](merchant.api, merchant.body(external_id="order-8"))
    assert invoice["status"] == "pending"
    assert len(sandbox.xendit.payments) == 1


def test_the_client_that_repeats_gets_one_invoice_whatever_happens_on_the_way(fences, merchant, sandbox):
    [block] = [fence for fence in fences("docs/how-to/repeat-requests.md") if fence.language == "python"]
    namespace = {}
    exec(block.text, namespace)
    body = json.dumps(merchant.body()).encode()
    sandbox.xendit.fault("reset_after", on="create", times=1)
    invoice = namespace["send"](merchant.api, "/invoices", body, "order-9")
    assert invoice["status"] == "pending"
    assert namespace["send"](merchant.api, "/invoices", body, "order-9") == invoice
    assert len(merchant.api.get("/invoices").json()["invoices"]) == len(sandbox.xendit.payments) == 1
    with pytest.raises(RuntimeError, match="idempotency_key_reused"):
        namespace["send"](merchant.api, "/invoices", body + b" ", "order-9")
