"""The control API itself, the process around the servers, and the plugin."""

import ast
import os
import signal
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import httpx
import paytrust_sandbox
import pytest
from paytrust_sandbox import GatewaySandbox, MidtransConfig, Servers, XenditConfig, register_sandboxes


def test_the_overview_tells_what_can_be_done(browser, xendit):
    overview = browser.get(f"{xendit.url}/_sandbox").json()
    assert overview["gateway"] == "xendit"
    assert overview["actions"] == [
        *(
            "dispute",
            "dispute_lose",
            "dispute_win",
            "expire",
            "pay",
            "refund",
            "refund_fail",
            "refund_succeed",
            "settle",
        )
    ]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/payments/nothing/pay", {}, 404),
        ("POST", "/payments/ORD-1/dance", {}, 404),
        ("POST", "/payments/ORD-1/pay", {"ammount": 1}, 400),
        ("POST", "/payments/ORD-1/pay", {"amount": "lots"}, 400),
        ("POST", "/payments/ORD-1/pay", {"channel": "GCASH"}, 400),
        ("POST", "/payments/ORD-1/settle", {}, 409),
        ("POST", "/webhooks/replay", {}, 404),
        ("PATCH", "/settings", {"weather": "fine"}, 400),
        ("PATCH", "/settings", {"rate_limit": "many"}, 400),
    ],
)
def test_an_instruction_that_cannot_be_obeyed_is_refused_with_a_reason(
    browser, xendit, invoices, method, path, body, status
):
    invoices.create()
    answer = browser.request(method, f"{xendit.url}/_sandbox{path}", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_reset_forgets_what_happened_and_keeps_the_webhook_url(xendit, invoices):
    xendit.webhook_url = "http://127.0.0.1:9/"
    xendit.settings(rate_limit=7)
    xendit.fault("http_503", on="get")
    invoices.create()
    xendit.pay("ORD-1")
    xendit.reset()
    assert (xendit.payments, xendit.deliveries, xendit.requests) == ([], [], [])
    assert xendit.settings()["rate_limit"] == 60
    assert xendit.webhook_url == "http://127.0.0.1:9/"


def test_a_reference_with_slashes_and_spaces_is_found(xendit, invoices):
    invoices.create(external_id="a/b c?d#e")
    assert xendit.pay("a/b c?d#e").status == "PAID"


def test_requests_are_on_record_as_they_were_sent(xendit, xendit_api):
    xendit_api.get("/v2/invoices?external_id=a%2Fb&limit=10.0")
    (request,) = xendit.requests
    assert request.target == "/v2/invoices?external_id=a%2Fb&limit=10.0"
    assert request.headers["authorization"].startswith("Basic ")


def test_two_pairs_of_servers_do_not_know_each_other(xendit, invoices):
    invoices.create()
    with Servers(xendit=XenditConfig(secret_key="other")) as other:
        assert other.xendit.url != xendit.url
        assert other.xendit.payments == []
        assert other.xendit.key == "other"


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_behind(servers):
    port = int(servers.xendit.url.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        Servers(xendit=XenditConfig(port=port)).start()
    with pytest.raises(OSError, match="in use"):
        Servers(midtrans=MidtransConfig(port=port)).start()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_the_process_prints_its_addresses_and_stops_cleanly(how, browser):
    arguments = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "paytrust_sandbox",
        "--xendit-port",
        "0",
        "--midtrans-port",
        "0",
        "--secret-key",
        "k",
    ]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline().split() for _ in range(3)]
        url = lines[0][1]
        assert browser.get(f"{url}/v2/invoices", auth=("k", "")).json() == []
        with httpx.Client(trust_env=False) as hanging:
            hanging.post(f"{url}/_sandbox/faults", json={"name": "hang_before", "on": "list"})
            with pytest.raises(httpx.ReadTimeout):
                hanging.get(f"{url}/v2/invoices", auth=("k", ""), timeout=0.2)
        os.kill(process.pid, how)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "stopped\n", "")


class TestPlugin:
    def test_the_hook_registers_the_sandbox(self):
        registered = []
        register_sandboxes(registered.append)
        assert registered == [GatewaySandbox]

    def test_it_offers_an_account_per_gateway_that_works(self, browser, merchant):
        sandbox = GatewaySandbox()
        xendit, midtrans = sandbox.start()
        try:
            assert (xendit.gateway, xendit.currencies, set(xendit.credentials)) == (
                "xendit",
                ("IDR", "MYR", "USD"),
                {"secret_key", "callback_token"},
            )
            assert (midtrans.gateway, midtrans.currencies, midtrans.options) == (
                "midtrans",
                ("IDR",),
                {"product": "snap"},
            )
            assert set(midtrans.credentials) == {"server_key", "merchant_id"}
            sandbox.configure_webhook(xendit, merchant.url)
            assert browser.get(f"{xendit.base_url}/_sandbox").json()["webhook_url"] == merchant.url
            assert (
                browser.get(
                    f"{midtrans.base_url}/v2/a/status", auth=(midtrans.credentials["server_key"], "")
                ).status_code
                == 200
            )
        finally:
            sandbox.stop()
            sandbox.stop()
        with pytest.raises(httpx.ConnectError):
            browser.get(xendit.base_url)

    def test_only_the_plugin_file_knows_paytrust(self):
        package = Path(paytrust_sandbox.__file__).parent
        knowing = {
            path.name
            for path in package.rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text()))
            for module in _imported(node)
            if module.split(".")[0].startswith("paytrust") and module.split(".")[0] != "paytrust_sandbox"
        }
        assert knowing == {"plugin.py"}


def test_no_file_imports_in_a_circle_not_even_for_types():
    package = Path(paytrust_sandbox.__file__).parent
    known = {_module(path, package): path for path in package.rglob("*.py")}
    imports = {
        name: {found for node in ast.walk(ast.parse(path.read_text())) for found in _modules(node)}
        & known.keys()
        for name, path in known.items()
    }
    assert len(list(TopologicalSorter(imports).static_order())) == len(
        known
    )  # raises CycleError with the circle's files


def _module(path: Path, package: Path) -> str:
    return ".".join((package.name, *path.relative_to(package).with_suffix("").parts)).removesuffix(
        ".__init__"
    )


def _modules(node: ast.AST) -> list[str]:
    """
    Return the modules *node* may import: of `from package import name`, `package.name` where that is a
    module.
    """
    if isinstance(node, ast.ImportFrom):
        return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return _imported(node)


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
