"""What `make audit` and `make sbom` promise, against a list of vulnerabilities of our own over real HTTP."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest

from paytrust import development

if find_spec("pip_audit") is None or find_spec("cyclonedx") is None:
    pytest.skip("needs the group dev", allow_module_level=True)

ROOT = Path(__file__).parents[3]
SERVICE = ROOT / "requirements/service.txt"
PINNED = set(re.findall(r"^([a-z0-9.-]+)(?:\[[^]]*\])?==([^ ;\\]+)", SERVICE.read_text(), re.MULTILINE))
KNOWN = {
    "id": "PYSEC-2026-1",
    "summary": "it was careless",
    "affected": [
        {
            "package": {"name": "litestar", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}],
        }
    ],
}


@pytest.fixture
def osv():
    """
    A list of vulnerabilities that knows what the test puts into `known`, and is out of order while `broken`.
    """

    class Query(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            server.asked.append((asked["package"]["name"], asked["version"]))
            body = json.dumps(
                {"vulns": found} if (found := server.known.get(asked["package"]["name"])) else {}
            ).encode()
            self.send_response(500 if server.broken else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Query)
    server.known, server.asked, server.broken = {}, [], False
    server.url = f"http://127.0.0.1:{server.server_port}/v1/query"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def audit(url, path=SERVICE):
    command = [sys.executable, ROOT / "requirements/audit.py", "--osv-url", url, path]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


def test_every_pinned_distribution_of_the_service_is_looked_up(osv):
    done = audit(osv.url)
    assert (done.returncode, done.stdout) == (
        0,
        f"service.txt: {len(PINNED)} distributions audited, 0 known vulnerabilities\n",
    )
    assert set(osv.asked) == PINNED


def test_a_known_vulnerability_is_named_and_fails(osv):
    osv.known["litestar"] = [KNOWN]
    done = audit(osv.url)
    assert done.returncode == 1
    assert f"litestar {dict(PINNED)['litestar']}: PYSEC-2026-1, fixed in 99.0" in done.stdout


def test_a_list_that_is_away_or_out_of_order_is_said_and_fails(osv):
    osv.broken = True
    for url in (osv.url, f"http://127.0.0.1:{development.free_port()}"):
        done = audit(url)
        assert done.returncode == 2
        assert done.stdout.startswith(
            "service.txt: NOT AUDITED, the list of vulnerabilities could not be asked"
        )
        assert "usage" not in done.stdout + done.stderr
    assert osv.asked


def test_the_audit_needs_nothing_that_the_service_installs():
    assert not {"pip-audit", "cyclonedx-bom", "schemathesis"} & set(dict(PINNED))


@pytest.mark.timeout(300)
def test_the_bill_of_materials_lists_exactly_what_is_pinned_and_is_the_same_each_time(tmp_path):
    made = [bill(tmp_path / name) for name in ("one", "two")]
    assert made[0] == made[1]
    told = json.loads(made[0])
    assert (told["bomFormat"], told["metadata"]["component"]["name"]) == ("CycloneDX", "paytrust")
    assert {(one["name"], one["version"]) for one in told["components"]} == PINNED
    assert all(one["externalReferences"][0]["hashes"] for one in told["components"])


def bill(folder):
    """As the Makefile makes it; the tool checks it against CycloneDX's schema before it writes."""
    recipe = re.search(r"^sbom:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    command = next(line for line in recipe.splitlines() if "cyclonedx-py" in line).strip("\t@")
    assert "--no-validate" not in command
    folder.mkdir()
    words = [word.replace("$(BIN)/", "").replace("dist/", f"{folder}/") for word in command.split()]
    subprocess.run([Path(sys.executable).with_name(words[0]), *words[1:]], cwd=ROOT, check=True, timeout=100)
    (made,) = folder.iterdir()
    return made.read_bytes()
