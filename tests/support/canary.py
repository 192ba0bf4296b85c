"""
Listens to the whole session for secrets that come out somewhere (T17 of the test plan).

It learns every secret that the tests and the service use: from the settings, from the accounts, and API keys
and webhook tokens from the answers that hand them out. Then it looks for them in every answer of the service,
in everything that is printed or logged while a test runs, in the outputs and log files of processes that
tests show it, and in every column of every test's database. It also looks for what has the shape of an API
key, known or not. A hit fails the test in which it is heard.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

SHORTEST = 8
API_KEY = re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{64}(?![0-9A-Za-z])")
HEX = re.compile(r"[0-9a-f]{32,}")
OURS = "x-request-id"
"""The header by which our answers are told from those of the sandboxes."""
PLAIN = {("gateway_accounts", "webhook_token")}
"""Columns that may hold a secret: by this one a webhook's account is found."""
DIGESTS = {("migrations", "checksum"), ("webhooks", "event_key")}
"""Columns that look like an API key, and are none."""


class Leak(AssertionError):
    """A secret came out."""


class Canary:
    def __init__(self):
        self._words = {}  # what to look for -> what it is
        self._hex = {}
        self.looked = dict.fromkeys(("answers", "reports", "databases", "rows", "texts"), 0)

    # --- learning ---------------------------------------------------------------------------------------------------------

    def learn(self, what, value):
        """*value* is a secret; *what* it is, says the message."""
        if len(value) < SHORTEST:
            return
        if HEX.fullmatch(value) and len(value) in {32, 64}:
            self._hex[value] = what
            return
        raw = value.encode()
        for form in (
            value,
            raw.hex(),
            *(base64.b64encode(one).decode().rstrip("=") for one in (raw, raw + b":")),
        ):
            self._words[form] = what

    def learn_settings(self, settings):
        for name in type(settings).model_fields:
            value = getattr(settings, name)
            for one in value.values() if isinstance(value, dict) else [value]:
                if isinstance(one, SecretStr):
                    secret = one.get_secret_value()
                    found = re.match(r"\w+://[^:/@]*:([^@]+)@", secret)
                    self.learn(name, found[1] if found else "" if "://" in secret else secret)
            if name == "encryption_keys":
                for one in value.values():
                    self.learn("a master key in hex", base64.b64decode(one.get_secret_value()).hex())

    # --- looking ----------------------------------------------------------------------------------------------------------

    def found(self, text, *, shapes=True):
        """What secrets *text* holds: {value: what it is}."""
        hits = {word: what for word, what in self._words.items() if word in text}
        for run in HEX.findall(text):
            for length in (32, 64):
                for start in range(len(run) - length + 1):
                    if (part := run[start : start + length]) in self._hex:
                        hits[part] = self._hex[part]
        if shapes:
            hits |= {key: "what looks like an API key" for key in API_KEY.findall(text) if key not in hits}
        return hits

    def look(self, where, text, *, allowed=(), shapes=True):
        """
        Raise `Leak` if *text* holds a secret that is not *allowed* there. The message does not repeat it.
        """
        self.looked["texts"] += 1
        if hits := {what for value, what in self.found(text, shapes=shapes).items() if value not in allowed}:
            raise Leak(f"{where} shows {', '.join(sorted(hits))}")

    def hear(self, response):
        """Look at an answer of the service. The two that hand secrets out to administrators teach them."""
        if OURS not in response.headers:
            return
        self.looked["answers"] += 1
        request = response.request
        handed = (
            self._handed_out(request.url.path, response)
            if "x-admin-key" in request.headers and response.is_success
            else set()
        )
        text = (
            "\n".join(f"{name}: {value}" for name, value in response.headers.items()) + "\n" + response.text
        )
        self.look(
            f"the answer to {request.method} {request.url.path}",
            text,
            allowed=handed,
            shapes="/openapi" not in request.url.path,
        )

    def _handed_out(self, path, response):
        handed = set()
        if "/api-keys" in path and isinstance(body := _json(response), dict) and "api_key" in body:
            self.learn("an API key", body["api_key"])
            handed.add(body["api_key"])
        if "/gateway-accounts" in path and response.content:  # deleting one answers nothing
            body = _json(response)
            for account in body.get("gateway_accounts", [body]):
                token = account["webhook_url"].rpartition("/")[2]
                self.learn("the token of a webhook URL", token)
                handed.add(token)
        return handed

    def hear_command(self, command, output):
        """
        Look at what `paytrust ...` printed. Two commands print a new key, `dev` those of its toy, `gateways`
        webhook URLs.
        """
        program, *args = map(str, command)
        if Path(program).name != "paytrust" or args[:1] == ["dev"]:
            return
        handed = (
            set(API_KEY.findall(output)) if args[:2] in (["keys", "create"], ["keys", "rotate"]) else set()
        )
        for key in handed:
            self.learn("an API key", key)
        if args[:1] == ["gateways"]:
            handed |= set(re.findall(r"/webhooks/\w+/(\w+)", output))
        self.look(f"the output of paytrust {' '.join(args)}", output, allowed=handed)

    async def search_database(self, url):
        """Look at every value of every row, as somebody would who holds a dump."""
        connection = await asyncpg.connect(url)
        try:
            self.looked["databases"] += 1
            tables = await connection.fetch(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'paytrust' ORDER BY tablename"
            )
            for (table,) in tables:
                for row in await connection.fetch(f'SELECT * FROM paytrust."{table}"'):
                    self.looked["rows"] += 1
                    for column, value in row.items():
                        if value is not None and (table, column) not in PLAIN:
                            self._look_into(f"{table}.{column}", value, shapes=(table, column) not in DIGESTS)
        finally:
            await connection.close()

    def _look_into(self, where, value, *, shapes):
        if isinstance(value, bytes):
            self.look(where, value.hex(), shapes=False)
            value = value.decode("latin-1")
        self.look(where, str(value), shapes=shapes)

    # --- the session ------------------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self):
        report = yield
        for title, text in report.sections:
            self.looked["reports"] += 1
            if title.startswith("Captured"):
                try:
                    self.look(f"{title} ({report.when})", text)
                except Leak as leak:
                    report.outcome, report.longrepr = "failed", str(leak)
        return report


CANARY = Canary()
"""The one that listens to the tests."""


def _json(response):
    try:
        return json.loads(response.text)
    except ValueError:
        return {}


def listen(canary):
    """
    Have the canary hear every answer that an httpx client of this process gets, and what every command
    prints.
    """
    patch = pytest.MonkeyPatch()
    for client in (httpx.Client, httpx.AsyncClient):
        _hear(canary, client, patch)
    original = subprocess.Popen.communicate

    def communicate(self, *args, **options):
        outputs = original(self, *args, **options)
        if isinstance(self.args, (list, tuple)):
            canary.hear_command(self.args, "\n".join(output for output in outputs if isinstance(output, str)))
        return outputs

    patch.setattr(subprocess.Popen, "communicate", communicate)
    return patch


def _hear(canary, client, patch):
    original = client.send
    if client is httpx.Client:

        def send(self, request, **options):
            response = original(self, request, **options)
            if not options.get("stream"):
                canary.hear(response)
            return response

    else:

        async def send(self, request, **options):
            response = await original(self, request, **options)
            if not options.get("stream"):
                canary.hear(response)
            return response

    patch.setattr(client, "send", send)
