"""The canary sings: a secret is heard wherever it comes out. And what most easily shows one, does not."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import asyncpg
import httpx
import pytest
from support.canary import Canary, Leak

SECRET = "planted-secret-2f81c6"
KEY = secrets.token_hex(32)


@pytest.fixture
def trained():
    bird = Canary()
    bird.learn("the planted secret", SECRET)
    bird.learn("the planted key", KEY)
    return bird


FORMS = {
    "as it is": f"error: {SECRET}!",
    "in JSON": json.dumps({"a": [SECRET]}),
    "in Basic authentication": base64.b64encode(f"{SECRET}:".encode()).decode(),
    "in base64": base64.b64encode(SECRET.encode()).decode(),
    "in hex": SECRET.encode().hex(),
    "in a longer hex string": f"ab{KEY}cd",
    "a key nobody taught it": f"key={secrets.token_hex(32)}",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_planted_secret_is_heard_in_every_form_and_not_repeated(trained, form):
    with pytest.raises(Leak) as leak:
        trained.look("this text", FORMS[form])
    assert not trained.found(str(leak.value))


@pytest.mark.parametrize(
    "text", ["", "nothing", "0" * 63, "f" * 65, KEY[:40], SECRET[:-1], "xyz" * 1000], ids=range(7)
)
def test_what_is_no_secret_is_passed_over(trained, text):
    trained.look("this text", text)


def answer(body, status=200, method="GET", path="/invoices", **headers):
    request = httpx.Request(method, f"http://test{path}", headers=headers)
    return httpx.Response(status, headers={"x-request-id": "r"}, content=body, request=request)


def test_a_secret_in_an_answer_is_heard(trained):
    with pytest.raises(Leak, match="the answer to GET /invoices shows the planted secret"):
        trained.hear(answer(json.dumps({"detail": SECRET}), 500))


def test_a_key_may_be_handed_out_once_and_shows_nowhere_else(trained):
    fresh = secrets.token_hex(32)
    made = json.dumps({"api_key": fresh})
    trained.hear(answer(made, 201, "POST", "/api-keys", **{"x-admin-key": "x"}))
    for elsewhere in (
        answer(made, path="/api-keys"),
        answer(made, 400, "POST", "/api-keys", **{"x-admin-key": "x"}),
    ):
        with pytest.raises(Leak, match="an API key"):
            trained.hear(elsewhere)
    with pytest.raises(Leak, match="an API key"):
        trained.look("a log", f"key {fresh}")


def test_a_secret_in_the_output_of_a_command_is_heard(trained):
    with pytest.raises(Leak, match="the output of paytrust doctor shows the planted secret"):
        trained.hear_command(["/bin/paytrust", "doctor"], SECRET)
    fresh = secrets.token_hex(32)
    trained.hear_command(["paytrust", "keys", "create", "T"], fresh)
    with pytest.raises(Leak, match="an API key"):
        trained.hear_command(["paytrust", "keys", "list"], fresh)


async def test_a_secret_in_any_column_is_heard(trained, owner_url):
    connection = await asyncpg.connect(owner_url)
    try:
        await trained.search_database(owner_url)
        assert trained.looked["rows"] > 0
        for column, value in (
            ("t", f"'{SECRET}'"),
            ("b", f"'x{SECRET}'::bytea"),
            ("j", f"""'{{"a": "{SECRET}"}}'"""),
            ("a", f"ARRAY['{SECRET}']"),
        ):
            await connection.execute("CREATE TABLE paytrust.planted (t text, b bytea, j jsonb, a text[])")
            await connection.execute(f"INSERT INTO paytrust.planted ({column}) VALUES ({value})")
            with pytest.raises(Leak, match=rf"planted\.{column} shows the planted secret"):
                await trained.search_database(owner_url)
            await connection.execute("DROP TABLE paytrust.planted")
    finally:
        await connection.close()


LEAKING = """
import logging, sys
import pytest

SECRET = {secret!r}

@pytest.fixture(autouse=True)
def learnt(canary):
    canary.learn("the planted secret", SECRET)

def test_that_prints():
    print(SECRET)

def test_that_writes_to_standard_error():
    sys.stderr.write(SECRET)

def test_that_logs():
    logging.getLogger("x").warning(SECRET)

def test_that_says_nothing():
    pass
"""


def test_a_test_that_prints_a_secret_fails(tmp_path):
    root = Path(__file__).parents[2]
    (tmp_path / "test_leaking.py").write_text(LEAKING.format(secret=SECRET))
    config = [
        "-c",
        str(root / "pyproject.toml"),
        f"--rootdir={root}",
        "-p",
        "no:cacheprovider",
        "--no-cov",
        f"--confcutdir={root}",
    ]
    command = [
        sys.executable,
        "-m",
        "pytest",
        *config,
        f"--basetemp={tmp_path / 'tmp'}",
        "-p",
        "conftest",
        tmp_path / "test_leaking.py",
    ]
    environ = os.environ | {"PYTHONPATH": str(root / "tests")}
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False)
    for where in ("stdout", "stderr", "log"):
        assert f"Captured {where} call (call) shows the planted secret" in done.stdout, (
            done.stdout + done.stderr
        )
    assert "3 failed, 1 passed" in done.stdout


# --- what most easily shows a secret ------------------------------------------------------------------------------------------


def test_nothing_the_service_holds_shows_a_secret_in_its_repr(service, make_merchant, canary):
    from paytrust.accounts import service as accounts
    from paytrust.plugins.registry import Registry
    from paytrust.services import Services

    merchant = make_merchant()
    services = Services(service, Registry())

    async def look():
        await services.db.open()
        try:
            async with services.db.transaction(system=True, readonly=True) as tx:
                account = await accounts.find(tx, merchant.xendit_id)
            gateway = services.accounts.gateway(account)
            for thing in (
                service,
                services,
                account,
                gateway,
                gateway.credentials,
                gateway.http,
                *vars(services).values(),
                services.db,
            ):
                canary.look(
                    f"the repr of {type(thing).__name__}",
                    f"{thing!r} {thing} {vars(thing) if hasattr(thing, '__dict__') and thing is services else ''}",
                )
        finally:
            await services.accounts.close()
            await services.db.close()

    asyncio.run(look())
