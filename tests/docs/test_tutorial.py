"""What a page tells people to type is typed here, against a running service, and must answer what the page shows."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest

COPIED = {"invoice_id": "INVOICE_ID", "payment_url": "PAYMENT_URL"}
"""What a page asks its reader to copy from an answer, and the name it gives it."""
WAIT_S = 10


def shows(shown, answer):
    """Whether *answer* has everything that a page shows of it; "..." stands for anything."""
    if isinstance(shown, dict):
        return isinstance(answer, dict) and all(name in answer and shows(value, answer[name]) for name, value in shown.items())
    if isinstance(shown, list):
        return isinstance(answer, list) and len(shown) == len(answer) and all(map(shows, shown, answer))
    return shown == answer or (shown == "..." and answer is not None)


def type_in(text, environ):
    done = subprocess.run(["bash", "-euc", text], env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
    return done.stdout


def copy(answer, environ):
    for field, name in COPIED.items():
        if isinstance(answer.get(field), str):
            environ[name] = answer[field]


@pytest.mark.parametrize("page", ["docs/tutorial/first-payment.md", "README.md"])
def test_what_the_page_tells_to_type_answers_what_the_page_shows(page, fences, merchant, service):
    environ = {"PATH": os.environ["PATH"], "PAYTRUST": service.public_url, "API_KEY": merchant.api.headers["x-api-key"]}
    environ["GATEWAY_ID"] = merchant.xendit_id
    blocks = [fence for fence in fences(page) if fence.mark]
    assert [fence.mark for fence in blocks].count("answer") > 0
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block.mark != "run":
            continue
        shown = json.loads(following.text) if following is not None and following.mark == "answer" else {}
        until = time.monotonic() + WAIT_S
        while True:  # people are slower than the webhook; a test is not
            text = type_in(block.text, environ)
            answer = json.loads(text) if text else {}
            if shows(shown, answer):
                break
            assert time.monotonic() < until, f"{page} shows {shown}, the answer is {answer}"
            time.sleep(0.05)
        copy(answer, environ)


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
