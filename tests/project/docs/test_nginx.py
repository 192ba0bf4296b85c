"""The configuration of nginx in the deployment guide: which location each route falls into, and that nginx takes it."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from paytrust.accounts.model import new_webhook_token
from paytrust.app import create_app

PAGE = "docs/how-to/deploy.md"
LOCATION = re.compile(r'location (?:~ "?(?P<regex>[^"\s]+?)"? |(?P<prefix>/\S*) )\{(?P<body>[^\n]*)\}')
UUID = "01935c1e-7d3a-7000-8000-5f0a4c9be011"


@pytest.fixture(scope="module")
def configuration(fences):
    [block] = [fence.text for fence in fences(PAGE) if fence.language == "nginx"]
    return block


def location_of(path, configuration):
    """What nginx does with *path*: the first regular expression that fits, else the longest prefix."""
    found = list(LOCATION.finditer(configuration))
    assert len(found) == configuration.count("location ")
    for location in found:
        if location["regex"] is not None and re.search(location["regex"], path):
            return location["body"]
    prefixes = [location for location in found if location["prefix"] and path.startswith(location["prefix"])]
    return max(prefixes, key=lambda location: len(location["prefix"]))["body"]


def paths(settings, security):
    """The paths of the operations that take this kind of key, with values in place of their parameters."""
    document = create_app(settings).openapi_schema.to_schema()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if isinstance(operation, dict) and [security] == [
                next(iter(s), "") for s in operation["security"]
            ]:
                yield re.sub(r"\{\w+\}", UUID, path)


def test_administration_is_not_reachable_from_the_internet(configuration, settings):
    administration = set(paths(settings, "paytrustAdminKey"))
    assert {"/webhooks/failed", f"/webhooks/{UUID}", "/webhooks/replay"} < administration
    for path in {*administration, "/docs", "/openapi.json"}:
        assert "deny all;" in location_of(path, configuration), path


def test_merchants_and_gateways_reach_what_is_theirs(configuration, settings):
    for path in paths(settings, "paytrustApiKey"):
        assert "deny" not in location_of(path, configuration), path
    webhook = location_of(f"/webhooks/xendit/{new_webhook_token()}", configuration)
    assert "deny" not in webhook
    assert "access_log off;" in webhook


def test_a_stopped_process_costs_no_request(configuration):
    assert "proxy_next_upstream error;" in configuration


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed on this machine")
def test_nginx_takes_the_configuration(configuration, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = f"openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=pay.example.com -keyout {key} -out {certificate}"
    subprocess.run(
        made.split(),
        check=True,
        capture_output=True,
    )
    text = configuration.replace("/etc/ssl/pay.example.com.pem", str(certificate))
    text = text.replace("/etc/ssl/pay.example.com.key", str(key))
    file = tmp_path / "nginx.conf"
    file.write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\n{text}}}\n")
    done = subprocess.run(
        ["nginx", "-t", "-p", str(tmp_path), "-c", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
