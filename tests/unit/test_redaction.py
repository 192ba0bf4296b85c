"""No secret reaches a log line, whoever puts it there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from paytrust.security import redaction

SECRET, TOKEN = "planted-secret-2f81c6", "planted-token-9d03"

CARELESS = """
import asyncio, sys
from paytrust.infra import logs
from paytrust.accounts import service as accounts
from paytrust.accounts.model import CreateAccount, NewFee
from paytrust.errors import GatewayUnavailable
from paytrust.services import Services
from paytrust.plugins.registry import Registry
from paytrust.infra.settings import load
from paytrust.tenants.model import CreateTenant

settings = load(log_format=sys.argv[1], log_level="debug")
logs.configure(settings)
registry = Registry()
xendit = registry.gateways["xendit"]
services = Services(settings, registry)


def in_its_words(credentials):
    raise RuntimeError("cannot use " + credentials.secret_key)

def in_its_arguments(credentials):
    raise RuntimeError(credentials, credentials.secret_key, {"k": credentials.callback_token})

def in_a_variable(credentials):
    secret, words = credentials.secret_key, [credentials.callback_token]
    raise RuntimeError("no")

def in_the_cause(credentials):
    try:
        int(credentials.secret_key)
    except ValueError as exc:
        raise RuntimeError("no") from exc

def in_an_exit(credentials):
    raise SystemExit(credentials.secret_key)


async def main():
    await services.db.open()
    tenant = await services.tenants.create(CreateTenant("T"))
    data = CreateAccount(
        gateway="xendit", name="x", credentials={"secret_key": sys.argv[2], "callback_token": sys.argv[3]},
        currencies={"IDR": NewFee()}, tenant_id=tenant.tenant_id,
    )
    account_id = (await services.accounts.create(data)).gateway_id
    async with services.db.transaction(system=True, readonly=True) as tx:
        account = await accounts.find(tx, account_id)
    for mistake in (in_its_words, in_its_arguments, in_a_variable, in_the_cause, in_an_exit):
        registry.gateways["xendit"] = type("Careless", (xendit,), {"__init__": lambda _, credentials, *__: mistake(credentials)})
        try:
            services.accounts.gateway(account)
        except GatewayUnavailable as exc:
            print(exc.detail)
    await services.accounts.close()
    await services.db.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_plugin_that_fails_with_its_credentials_at_hand_does_not_show_them(form, settings, tmp_path):
    """
    The console's own tracebacks show every local variable; an exception shows whatever the plugin put into
    it.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PAYTRUST_")} | {
        "PAYTRUST_DATABASE_URL": settings.database_url.get_secret_value(),
        "PAYTRUST_ADMIN_API_KEY": settings.admin_api_key.get_secret_value(),
        "PAYTRUST_KEY_PEPPER": settings.key_pepper.get_secret_value(),
        "PAYTRUST_ENCRYPTION_KEYS": ",".join(
            f"{k}:{v.get_secret_value()}" for k, v in settings.encryption_keys.items()
        ),
    }
    command = [sys.executable, "-c", CARELESS, form, SECRET, TOKEN]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.count("failed to start: ") == 5, done.stderr
    for mistake in ("in_its_words", "in_its_arguments", "in_a_variable", "in_the_cause", "in_an_exit"):
        assert f"in {mistake}" in done.stderr, "where it failed can be seen"
    for secret in (SECRET, TOKEN, settings.key_pepper.get_secret_value(), "canary-database-password"):
        assert secret not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "text",
    [
        f"key {'ab12' * 16} refused",
        "Authorization: Basic eG5kX2RldmVsb3BtZW50Og==",
        "Bearer abcdef.123456",
        "postgresql://service:hunter22@db/paytrust",
        f"POST /webhooks/xendit/{'0a' * 16}",
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
    ],
)
def test_what_has_the_shape_of_a_secret_is_taken_out(text):
    cleaned = redaction.redact(text)
    assert redaction.REMOVED in cleaned
    assert not any(part in cleaned for part in ("ab12", "eG5k", "abcdef.1", "hunter22", "0a0a", "C2FV"))


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "X-API-Key",
        "secret_key",
        "password",
        "callback_token",
        "Authorization",
        "set-cookie",
        "key_pepper",
    ],
)
def test_a_field_named_as_a_secret_is_taken_out(name):
    assert redaction.redact_event(None, "info", {"event": "x", name: "plain"}) == {
        "event": "x",
        name: redaction.REMOVED,
    }


def test_what_is_no_secret_stays():
    event = {
        "event": "request",
        "key_id": "1",
        "event_key": "INV-1",
        "tokens": "x",
        "reason": "expired",
        "status": 200,
        "route": "/api-keys",
    }
    assert redaction.redact_event(None, "warning", dict(event)) == event


def test_what_is_remembered_of_secrets_is_bounded(monkeypatch):
    monkeypatch.setattr(redaction, "KEPT", 3)
    monkeypatch.setattr(redaction, "_known", {})
    redaction.register_secret(*(f"secret-{number}" for number in range(10)), "short", None, 7)
    assert list(redaction._known) == ["secret-7", "secret-8", "secret-9"]


@pytest.mark.parametrize("method", ["info", "error"])
def test_no_log_line_shows_a_card_number(method):
    event = {
        "event": "paid by 4111-1111-1111-1111",
        "external_id": "4111111111111111",
        "of": ["5555555555554444"],
    }
    said = str(redaction.redact_event(None, method, event))
    assert said.count("[card number]") == 3
    assert not {"4111-1111-1111-1111", "4111111111111111", "5555555555554444"} & set(said.split("'"))
