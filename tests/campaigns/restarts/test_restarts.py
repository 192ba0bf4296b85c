"""
The database goes away and comes back, the process is told to stop: a real service in a process of its own,
and nobody helps it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest
from support.waiting import eventually

from paytrust.embedded import EmbeddedPostgres
from paytrust.infra import migrations

PAYTRUST = str(Path(sys.executable).with_name("paytrust"))
HEALED_S = 30
healed = partial(eventually, timeout_s=HEALED_S)
STARTED_S = 90
"""A machine that does much else takes its time to import all of it."""


def assert_unavailable(answer):
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), answer.text
    assert answer.headers["retry-after"]


@pytest.fixture(scope="module")
def database():
    """A PostgreSQL of our own, to be stopped and started."""
    with tempfile.TemporaryDirectory(prefix="paytrust-restarts-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder, "postgres"), settings={"fsync": "off"})
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="module")
def owner_url(database):
    url = database.start()
    asyncio.run(migrations.migrate(url))
    return url


@contextlib.contextmanager
def frozen(database):
    """PostgreSQL with all its processes stopped: connections stand, and nothing is answered."""
    [pid_file] = database.data.rglob("postmaster.pid")
    postmaster = psutil.Process(int(pid_file.read_text().split()[0]))
    stopped = [postmaster, *postmaster.children(recursive=True)]
    for process in stopped:
        process.suspend()
    try:
        yield
    finally:
        for process in reversed(stopped):
            process.resume()


@pytest.fixture
def ask(owner_url):
    """The first value of a statement, as the owner of the database."""

    async def answer(sql, *args):
        connection = await asyncpg.connect(owner_url)
        try:
            return await connection.fetchval(sql, *args)
        finally:
            await connection.close()

    return lambda sql, *args: asyncio.run(answer(sql, *args))


class Running:
    """The service's process, and a merchant with an account at the sandbox."""

    def __init__(self, process, settings, log, sandbox):
        self.process, self.log, self.sandbox = process, log, sandbox
        self.http = httpx.Client(base_url=settings.public_url, timeout=40)
        eventually(self.ready, timeout_s=STARTED_S)
        self.http.headers["X-Admin-Key"] = settings.admin_api_key.get_secret_value()
        tenant_id = self.http.post("/tenants", json={"name": "T"}).json()["tenant_id"]
        self.http.headers["X-API-Key"] = self.http.post("/api-keys", json={"tenant_id": tenant_id}).json()[
            "api_key"
        ]
        far = sandbox.xendit
        credentials = {"secret_key": far.key, "callback_token": far.callback_token}
        body = {
            "gateway": "xendit",
            "name": "x",
            "base_url": far.url,
            "credentials": credentials,
            "currencies": {"IDR": {}},
        }
        account = self.http.post("/gateway-accounts", json=body).json()
        self.gateway_id = account["gateway_id"]
        far.reset()
        far.webhook_url = account["webhook_url"]

    def ready(self):
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.http.get("/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def order(self):
        line = {"product_name": "x", "quantity": 1, "unit_price": "50000"}
        return self.http.post(
            "/invoices", json={"gateway_id": self.gateway_id, "currency": "IDR", "line_items": [line]}
        )

    def invoice(self, invoice_id):
        return self.http.get(f"/invoices/{invoice_id}").json()

    def reference(self, invoice_id):
        return self.http.get(f"/invoices/{invoice_id}/payments").json()["payments"][-1]["reference"]

    def all_is_well(self, ask):
        """Everything the service does, more often at once than it has connections."""
        with ThreadPoolExecutor(24) as pool:
            orders = list(pool.map(lambda _: self.order(), range(48)))
        assert {order.status_code for order in orders} == {201}, {
            order.text for order in orders if order.status_code != 201
        }
        paid = orders[0].json()["invoice_id"]
        self.sandbox.xendit.pay(self.reference(paid))
        healed(lambda: self.invoice(paid)["status"] == "paid")
        assert ask("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'paytrust %'") <= 18


@pytest.fixture
def settings(owner_url, settings_for):
    settings = settings_for(owner_url)
    asyncio.run(migrations.ensure_service_login(owner_url, settings.database_url.get_secret_value()))
    return settings


@pytest.fixture
def environ(request, settings):
    return {name: value for name, value in os.environ.items() if not name.startswith("PAYTRUST_")} | {
        "PAYTRUST_DATABASE_URL": settings.database_url.get_secret_value(),
        "PAYTRUST_ADMIN_API_KEY": settings.admin_api_key.get_secret_value(),
        "PAYTRUST_KEY_PEPPER": settings.key_pepper.get_secret_value(),
        "PAYTRUST_ENCRYPTION_KEYS": ",".join(
            f"{k}:{v.get_secret_value()}" for k, v in settings.encryption_keys.items()
        ),
        "PAYTRUST_PUBLIC_URL": settings.public_url,
        "PAYTRUST_PORT": str(settings.port),
        "PAYTRUST_INSECURE_GATEWAYS": "true",
        "PAYTRUST_DRAIN_S": str(getattr(request, "param", 0)),
    }


@contextlib.contextmanager
def started(environ, tmp_path, *arguments):
    """`paytrust` with *arguments*, and its log."""
    log = tmp_path / f"log-{arguments[0]}"
    with log.open("w") as file:
        process = subprocess.Popen([PAYTRUST, *arguments], env=environ, cwd=tmp_path, stderr=file)
    try:
        yield process, log
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended by itself, with its children
            for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                one.kill()
        process.wait()


@pytest.fixture
def serving(environ, settings, sandbox, tmp_path, canary):
    """The service with the options of its command line, and a merchant."""

    @contextlib.contextmanager
    def serve(*options, **changes):
        with started(environ | changes, tmp_path, "serve", *options) as (process, log):
            running = Running(process, settings, log, sandbox)
            try:
                yield running
            finally:
                running.http.close()
                sandbox.xendit.reset()
        canary.look("the log of the service", log.read_text())

    return serve


@pytest.fixture
def service(serving):
    with serving() as running:
        yield running


def test_a_restart_of_postgresql_is_503_meanwhile_and_heals_by_itself(service, database, ask):
    service.all_is_well(ask)
    for _ in range(2):
        database.stop()
        for _ in range(3):
            started = time.monotonic()
            assert_unavailable(service.http.get("/invoices"))
            assert time.monotonic() - started < 5
        assert_unavailable(service.order())
        assert httpx.post(service.sandbox.xendit.webhook_url, content=b"{}").status_code == 503
        database.start()
        healed(lambda: service.http.get("/invoices").status_code == 200)
        service.all_is_well(ask)


def test_webhooks_refused_during_an_outage_count_when_repeated(service, database):
    """Webhooks that came while the database was away are taken when the gateway repeats them."""
    invoice_id = service.order().json()["invoice_id"]
    reference = service.reference(invoice_id)
    database.stop()
    service.sandbox.xendit.pay(reference)
    time.sleep(0.5)
    database.start()
    healed(lambda: service.http.get("/invoices").status_code == 200)
    service.sandbox.xendit.replay(reference)
    healed(lambda: service.invoice(invoice_id)["status"] == "paid")


def test_connections_that_are_all_killed_again_and_again_leak_nothing(service, ask):
    over = False

    def work():
        seen = set()
        while not over:
            seen.add(service.order().status_code)
            seen.add(service.http.get("/invoices?limit=1").status_code)
        return seen

    with ThreadPoolExecutor(8) as pool:
        workers = [pool.submit(work) for _ in range(8)]
        for _ in range(10):
            time.sleep(0.3)
            ask(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'paytrust %'"
            )
        over = True
        seen = set().union(*(worker.result() for worker in workers))
        assert seen <= {200, 201, 503}, service.log.read_text()
    service.all_is_well(ask)


def test_a_server_that_takes_no_more_connections_is_503_and_heals(service, ask):
    """As a failover to a pool that is empty and may not be filled yet."""
    ask("ALTER ROLE paytrust_tests NOLOGIN")
    try:
        ask(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'paytrust %'"
        )
        eventually(lambda: service.http.get("/invoices").status_code == 503, timeout_s=5)
        for _ in range(5):
            assert_unavailable(service.http.get("/invoices"))
    finally:
        ask("ALTER ROLE paytrust_tests LOGIN")
    healed(lambda: service.http.get("/invoices").status_code == 200)
    service.all_is_well(ask)


def test_a_process_that_is_told_to_stop_answers_what_is_under_way_and_ends_within_25_s(service, ask):
    service.sandbox.xendit.fault("hang_after", on="create", times=1)
    began = ask("SELECT now()")
    creating = "SELECT count(*) FROM paytrust.payments WHERE status = 'creating' AND created_at >= $1"  # killed connections left others
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(service.order)
        healed(lambda: ask(creating, began))
        time.sleep(0.3)
        service.process.send_signal(signal.SIGTERM)
        told_at = time.monotonic()
        time.sleep(0.5)
        with pytest.raises(httpx.TransportError):
            httpx.get(service.http.base_url.join("/health/live"))
        assert service.process.wait(27) in {0, -signal.SIGTERM}
        assert time.monotonic() - told_at < 25
        assert under_way.result().json()["code"] == "gateway_outcome_unknown"
    assert ask(creating, began) == 0
    assert '"level": "error"' not in service.log.read_text()


def test_a_process_that_is_told_to_stop_gives_its_leases_back(service, ask):
    invoice_id = service.order().json()["invoice_id"]
    reference = service.reference(invoice_id)
    service.sandbox.xendit.fault("hang_before", on="list")
    service.sandbox.xendit.pay(reference)
    leased = (
        "SELECT lease_until IS NOT NULL FROM paytrust.webhooks WHERE reference = $1 AND status = 'received'"
    )
    healed(lambda: ask(leased, reference))
    service.process.send_signal(signal.SIGTERM)
    told_at = time.monotonic()
    assert service.process.wait(27) in {0, -signal.SIGTERM}
    assert time.monotonic() - told_at < 8
    assert ask(leased, reference) is False, service.log.read_text()


def test_a_frozen_database_is_503_within_2_s_and_heals(service, database, ask):
    service.all_is_well(ask)
    with frozen(database):
        for _ in range(20):  # more often than there are connections
            answer = service.http.get("/health/ready")
            assert_unavailable(answer)
            assert answer.elapsed.total_seconds() < 2
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda _: service.http.get("/invoices"), range(24)))
        for answer in answers:
            assert_unavailable(answer)
            assert answer.elapsed.total_seconds() < 10
        assert service.http.get("/health/live").status_code == 200
    healed(service.ready)
    service.all_is_well(ask)


@pytest.mark.parametrize("environ", [3], indirect=True)
def test_on_sigterm_ready_is_503_first_and_the_port_closes_later(service):
    with httpx.Client(base_url=service.http.base_url) as balancer:
        assert balancer.get("/health/ready").status_code == 200
        service.process.send_signal(signal.SIGTERM)
        told_at = time.monotonic()
        eventually(lambda: balancer.get("/health/ready").status_code == 503, timeout_s=2)
        time.sleep(1.2)  # until uvicorn has its headers made anew
        answer = service.http.get("/invoices")
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert service.process.wait(20) in {0, -signal.SIGTERM}
        assert 3 <= time.monotonic() - told_at < 12
        with pytest.raises(httpx.TransportError):
            balancer.get("/health/live")


@pytest.mark.parametrize("environ", [60], indirect=True)
def test_a_second_signal_ends_the_drain(service):
    service.process.send_signal(signal.SIGTERM)
    eventually(lambda: service.http.get("/health/ready").status_code == 503, timeout_s=2)
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(12) in {0, -signal.SIGTERM}


def test_serve_waits_for_its_database(environ, settings, database, tmp_path):
    """As at the start of a machine: systemd gives up a unit that ends at once a few times."""
    database.stop()
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen([PAYTRUST, "serve"], env=environ, cwd=tmp_path, stderr=file)
    try:
        eventually(lambda: "waiting for the database" in log.read_text(), timeout_s=STARTED_S)
        assert process.poll() is None
        database.start()

        def ready():
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{settings.public_url}/health/ready").status_code == 200

        eventually(ready, timeout_s=STARTED_S)
    finally:
        process.kill()
        process.wait()


def test_serve_does_not_wait_longer_than_it_may_nor_for_a_wrong_name(environ, tmp_path):
    def serve(**changes):
        started = time.monotonic()
        ended = subprocess.run(
            [PAYTRUST, "serve"],
            env=environ | changes,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ended.returncode, "cannot connect to PostgreSQL" in ended.stderr) == (1, True), ended.stderr
        assert "Traceback" not in ended.stderr
        return time.monotonic() - started

    away = "postgresql://x@127.0.0.1:1/x"
    assert serve(PAYTRUST_DATABASE_URL=away, PAYTRUST_START_TIMEOUT_S="2") < 50
    wrong = environ["PAYTRUST_DATABASE_URL"].replace("@/postgres?", "@/no_such_database?")
    assert serve(PAYTRUST_DATABASE_URL=wrong) < 50


# --- several processes ----------------------------------------------------------------------------------------------------------


def workers_of(process):
    """The processes that answer: all children but the one that Python keeps for itself."""
    found = set()
    for child in psutil.Process(process.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # or a zombie, which is one
            if "spawn_main" in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


def test_workers_answer_on_one_port_and_the_dead_are_replaced(serving):
    with serving("--workers", "2") as service:
        eventually(lambda: len(workers_of(service.process)) == 2, timeout_s=STARTED_S)
        before = workers_of(service.process)
        assert {service.order().status_code for _ in range(6)} == {201}
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: len(workers_of(service.process) - before) == 1, timeout_s=STARTED_S)
        eventually(service.ready, timeout_s=STARTED_S)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(30) == 0, service.log.read_text()
        assert not any(map(psutil.pid_exists, before - {victim}))


def test_sighup_replaces_every_process_and_refuses_no_request(serving):
    with serving("--workers", "2") as service:
        eventually(lambda: len(workers_of(service.process)) == 2, timeout_s=STARTED_S)
        before = workers_of(service.process)
        service.process.send_signal(signal.SIGHUP)
        seen = set()

        def replaced():
            seen.add(httpx.get(f"{service.http.base_url}/health/live", timeout=20).status_code)
            return not before & workers_of(service.process) and len(workers_of(service.process)) == 2

        eventually(replaced, timeout_s=STARTED_S)
        assert seen == {200}
        eventually(service.ready, timeout_s=STARTED_S)
        assert service.order().status_code == 201


def test_sigterm_while_processes_are_replaced_stops_them_all(serving):
    with serving("--workers", "2") as service:
        eventually(lambda: len(workers_of(service.process)) == 2, timeout_s=STARTED_S)
        service.process.send_signal(signal.SIGHUP)
        time.sleep(1)
        service.process.send_signal(signal.SIGTERM)
        started = workers_of(service.process)
        assert service.process.wait(40) == 0, service.log.read_text()
        eventually(lambda: not any(map(psutil.pid_exists, started)))


def test_a_worker_does_the_work_that_serve_leaves(serving, environ, tmp_path):
    with serving(PAYTRUST_WORKER="false") as service:
        invoice_id = service.order().json()["invoice_id"]
        service.sandbox.xendit.pay(service.reference(invoice_id))
        time.sleep(2)
        assert service.invoice(invoice_id)["status"] == "pending"
        with started(environ, tmp_path, "worker") as (worker, log):
            eventually(lambda: service.invoice(invoice_id)["status"] == "paid", timeout_s=STARTED_S)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(10) == 0, log.read_text()


def is_answered(path):
    with socket.socket(socket.AF_UNIX) as asked:
        return asked.connect_ex(str(path)) == 0


def over(path):
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://paytrust", timeout=20)


def test_serve_answers_over_a_unix_socket_and_takes_it_away_again(environ, tmp_path):
    path = tmp_path / "socket"
    environ |= {"PAYTRUST_TRUSTED_PROXIES": "127.0.0.1", "PAYTRUST_ADDRESS_LIMIT_PER_MINUTE": "3"}
    with started(environ, tmp_path, "serve", "--unix-socket", str(path)) as (process, log):
        eventually(lambda: is_answered(path), timeout_s=STARTED_S)
        with over(path) as http:
            eventually(lambda: http.get("/health/ready").status_code == 200, timeout_s=STARTED_S)
            addresses = ["192.0.2.1"] * 4 + ["198.51.100.1"]
            seen = [http.get("/nothing", headers={"X-Forwarded-For": one}).status_code for one in addresses]
            assert seen == [404, 404, 404, 429, 404]
        second = subprocess.run(
            [PAYTRUST, "serve", "--unix-socket", str(path)],
            env=environ, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (second.returncode, f"cannot listen at {path}" in second.stderr) == (1, True), second.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in {0, -signal.SIGINT}, log.read_text()
    assert not path.exists()


def test_a_socket_left_behind_is_replaced_and_a_file_is_not(environ, tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with started(environ, tmp_path, "serve", "--unix-socket", str(path)), over(path) as http:
        eventually(lambda: is_answered(path), timeout_s=STARTED_S)
        assert http.get("/health/live").status_code == 200
    file = tmp_path / "file"
    file.write_text("precious")
    refused = subprocess.run(
        [PAYTRUST, "serve", "--unix-socket", str(file)],
        env=environ, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (refused.returncode, f"cannot listen at {file}" in refused.stderr) == (1, True), refused.stderr
    assert file.read_text() == "precious"
