"""
What API fuzzing stands on: PostgreSQL, sandbox gateways, processes of the real service, and things of ours
that must survive it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import msgspec
from support.waiting import eventually, is_ready

from paytrust import development
from paytrust.infra.settings import Settings

LIMITS: Final = dict.fromkeys(
    (
        "key_limit_per_minute",
        "admin_limit_per_minute",
        "address_limit_per_minute",
        "webhook_limit_per_minute",
    ),
    1_000_000,
)
START_S: Final = 60


class Fixture(msgspec.Struct, frozen=True):
    """
    What a fuzzer of the API is told: where the services are, good keys, and ids that a request may be given.
    """

    urls: list[str]
    logs: list[str]
    api_key: str
    admin_key: str
    kept: dict[str, str]
    """Ids that no request may change, because the campaign needs them, each with another that it may."""
    accounts: dict[str, str]
    webhooks: dict[str, tuple[str, str]]
    """The path of each gateway's webhooks, and the secret that makes them true."""
    known: dict[str, list[str]]
    """For a parameter of a path, ids of things that exist."""


@contextlib.contextmanager
def prepared(services: int, server_url: str | None) -> Iterator[Fixture]:
    """
    Run *services* processes of the service on one new database, in the PostgreSQL at *server_url* or in one
    of its own.
    """
    with tempfile.TemporaryDirectory(prefix="paytrust-fuzz-") as folder, contextlib.ExitStack() as stack:
        Path(folder).chmod(0o755)  # as root, PostgreSQL runs as another user, who has to get in
        if server_url is not None:
            os.environ["PAYTRUST_DATABASE_OWNER_URL"] = development.create_database(
                server_url, f"paytrust_fuzz_{uuid4().hex[:8]}"
            )
        ports = [development.free_port() for _ in range(services)]
        ready = stack.enter_context(
            development.environment(
                Path(folder),
                port=ports[0],
                log_format="json",
                log_level="error",
                gateway_failures=0,
                **LIMITS,
            )
        )
        logs = [Path(folder, f"service-{port}.log") for port in ports]
        urls = [
            stack.enter_context(_service(ready.settings, port, log))
            for port, log in zip(ports, logs, strict=True)
        ]
        yield _fixture(ready, urls, [str(log) for log in logs])


@contextlib.contextmanager
def _service(settings: Settings, port: int, log: Path) -> Iterator[str]:
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(settings.model_copy(update={"port": port}), log)
    )
    process.start()
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: not process.is_alive() or is_ready(url), "the service starts", START_S)
        if not process.is_alive():
            raise RuntimeError("the service has ended by itself")
        yield url
    finally:
        process.terminate()
        process.join(30)


def _serve(settings: Settings, log: Path) -> None:
    with log.open("wb") as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    from paytrust.app import create_app
    from paytrust.server import server

    server(create_app(settings), settings).run()


def _fixture(ready: development.DevEnvironment, urls: list[str], logs: list[str]) -> Fixture:
    admin_key = ready.settings.admin_api_key.get_secret_value()
    accounts = {gateway: str(account_id) for gateway, account_id in ready.accounts.items()}
    secrets = {
        sandbox.gateway: sandbox.credentials.get("callback_token") or sandbox.credentials["server_key"]
        for sandbox in ready.sandboxes
    }
    with httpx.Client(base_url=urls[0], headers={"x-admin-key": admin_key}, trust_env=False) as admin:
        ours = admin.get("/api-keys").raise_for_status().json()["api_keys"][0]["key_id"]
        spare_key = (
            admin.post("/api-keys", json={"tenant_id": str(ready.tenant_id)})
            .raise_for_status()
            .json()["key_id"]
        )
        spare = {
            "gateway": "xendit",
            "name": "spare",
            "credentials": {"secret_key": "x", "callback_token": "y"},
            "currencies": {"IDR": {}},
            "base_url": "http://127.0.0.1:9",  # nobody listens there
        }
        spare_account = admin.post("/gateway-accounts", json=spare).raise_for_status().json()["gateway_id"]
        listed = admin.get("/gateway-accounts").raise_for_status().json()["gateway_accounts"]
    webhooks = {
        account["gateway"]: (urlsplit(account["webhook_url"]).path, secrets[account["gateway"]])
        for account in listed
        if account["gateway_id"] in accounts.values()
    }
    kept = {ours: spare_key} | dict.fromkeys(accounts.values(), spare_account)
    fixture = Fixture(urls, logs, ready.api_key, admin_key, kept, accounts, webhooks, {})
    fixture.known["invoice_id"] = [_invoice(fixture, number) for number in range(12)]
    fixture.known["event_id"] = [_failed_webhook(fixture)]
    return fixture


def _invoice(fixture: Fixture, number: int) -> str:
    line = {
        "product_name": "Laptop sleeve",
        "quantity": 3,
        "unit_price": str(150_000 + number),
        "tax_rate": "0.11",
    }
    body = {
        "gateway_id": list(fixture.accounts.values())[number % 2],
        "currency": "IDR",
        "line_items": [line],
    }
    installments = {"installments": {"count": 3}} if number % 3 else {}
    answer = httpx.post(
        f"{fixture.urls[0]}/invoices",
        json=body | installments,
        headers={"x-api-key": fixture.api_key},
        trust_env=False,
        timeout=30,
    )
    return str(answer.raise_for_status().json()["invoice_id"])


def _failed_webhook(fixture: Fixture) -> str:
    path, secret = fixture.webhooks["xendit"]
    with httpx.Client(
        base_url=fixture.urls[0], headers={"x-admin-key": fixture.admin_key}, trust_env=False
    ) as admin:
        admin.post(path, content=b"unreadable", headers={"x-callback-token": secret}).raise_for_status()
        failed = eventually(
            lambda: admin.get("/webhooks/failed").raise_for_status().json()["webhooks"],
            "an unreadable webhook fails",
            START_S,
        )
    return str(failed[0]["event_id"])
