"""The shop with PayTrust inside, run as its README says."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest
from support.waiting import eventually, is_ready

from paytrust import development


@pytest.fixture(scope="module")
def shop(examples, environ):
    """The address of the running shop and the API key it printed."""
    port = development.free_port()
    data = Path(tempfile.mkdtemp(prefix="paytrust-shop-"))
    data.chmod(0o755)  # as root, PostgreSQL runs as another user, who has to get in
    command = [sys.executable, str(examples / "embed_in_litestar/app.py"), str(port)]
    with (data / "output").open("w") as output:
        process = subprocess.Popen(
            command, env=environ | {"PAYTRUST_DATA": str(data)}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield f"http://127.0.0.1:{port}", wait_for_key(process, data / "output", port)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(data)


def wait_for_key(process, output, port):
    def key():
        assert process.poll() is None, output.read_text()
        return re.search(r"X-API-Key is ([0-9a-f]{64})", output.read_text())

    found = eventually(key, output.read_text, timeout_s=60)
    eventually(lambda: is_ready(f"http://127.0.0.1:{port}/pay"), output.read_text, timeout_s=60)
    return found[1]


def test_the_shop_keeps_its_own_pages(shop):
    url, _ = shop
    assert "coffee, IDR 25000" in httpx.get(url).text
    unknown = httpx.post(f"{url}/buy/anvil")
    assert unknown.status_code == 404
    assert unknown.headers["content-type"] == "application/json"


def test_what_is_bought_in_the_shop_is_paid_through_paytrust(shop):
    url, key = shop
    answer = httpx.post(f"{url}/buy/coffee")
    assert answer.status_code == 303
    page = answer.headers["location"]
    assert f"{url}/thanks" in httpx.post(page, data={"do": "pay"}, follow_redirects=True).text

    def invoices():
        return httpx.get(f"{url}/pay/invoices?include=line_items", headers={"X-API-Key": key}).json()[
            "invoices"
        ]

    eventually(lambda: invoices()[0]["status"] == "paid", invoices)
    [invoice] = invoices()
    assert invoice["total_amount"] == "30475"
    assert invoice["line_items"][0]["product_name"] == "coffee"


def test_paytrust_answers_below_its_path_in_its_own_manner(shop):
    url, _ = shop
    answer = httpx.get(f"{url}/pay/invoices")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert httpx.get(f"{url}/invoices").status_code == 404
