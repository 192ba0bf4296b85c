"""
From the making of a key to its end, over HTTP, with two processes on one database: what one does, the other
has to know.

What the audit says about it is read here too.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import re
import secrets
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from support.waiting import eventually

PROMISE_S = 1.0
"""How long a key may live on in other processes."""
NOISE_S = 4.0
"""What a busy machine may add; the cache alone would take 30 s."""
OTHER_ADMIN_KEY = "c07de8a95b1f4f2391d4e6b87a3c5d10"


class Node:
    """Another process of the service, on the same database, behind trusted proxies, with two admin keys."""

    def __init__(self, settings, log):
        self.log, self.url = log, settings.public_url
        self.environ = {
            name: value for name, value in os.environ.items() if not name.startswith("PAYTRUST_")
        } | {
            "PAYTRUST_DATABASE_URL": settings.database_url.get_secret_value(),
            "PAYTRUST_ADMIN_API_KEY": settings.admin_api_key.get_secret_value(),
            "PAYTRUST_ADMIN_API_KEY_PREVIOUS": OTHER_ADMIN_KEY,
            "PAYTRUST_KEY_PEPPER": settings.key_pepper.get_secret_value(),
            "PAYTRUST_ENCRYPTION_KEYS": ",".join(
                f"{k}:{v.get_secret_value()}" for k, v in settings.encryption_keys.items()
            ),
            "PAYTRUST_TRUSTED_PROXIES": "127.0.0.0/8, 10.0.0.0/8",
            "PAYTRUST_LOG_LEVEL": "debug",
            "PAYTRUST_PORT": str(settings.port),
            **{f"PAYTRUST_{what}_LIMIT_PER_MINUTE": "1000000" for what in ("KEY", "ADMIN", "ADDRESS")},
        }
        self._process = None

    def start(self):
        with self.log.open("ab") as log:
            command = [str(Path(sys.executable).with_name("paytrust")), "serve"]
            self._process = subprocess.Popen(
                command, env=self.environ, cwd=self.log.parent, stderr=log, stdout=log
            )
        eventually(self._answers, timeout_s=60)

    def _answers(self):
        assert self._process.poll() is None, self.log.read_text()
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/health/ready").status_code == 200

    def stop(self):
        self._process.terminate()
        self._process.wait(60)

    def get(self, api_key, path="/invoices", **headers):
        return httpx.get(self.url + path, headers={"x-api-key": api_key} | headers, timeout=30)


@pytest.fixture(scope="module")
def node(session_owner_url, settings_for, tmp_path_factory, canary):
    made = Node(settings_for(session_owner_url), tmp_path_factory.mktemp("node") / "log")
    made.start()
    yield made
    made.stop()
    canary.look("the log of the other process", made.log.read_text())


@pytest.fixture
def new_key(admin, shop):
    def make(**fields):
        answer = admin.post("/api-keys", json={"tenant_id": shop.tenant_id} | fields)
        assert answer.status_code == 201, answer.text
        return answer.json()

    return make


@pytest.fixture
def get(anonymous):
    """Ask the session's service for something with a key."""
    return lambda api_key, path="/invoices", **headers: anonymous.get(
        path, headers={"x-api-key": api_key} | headers
    )


@pytest.fixture
def audit(admin):
    """The audit of a key, newest first; or of whatever the filters say."""

    def read(**filters):
        answer = admin.get("/api-keys/audit", params={"limit": 200} | filters)
        assert answer.status_code == 200, answer.text
        return answer.json()["audit"]

    return read


def dies(ask):
    """How many seconds it takes until the key is refused."""
    started = time.monotonic()
    eventually(lambda: ask().status_code == 401, timeout_s=60)
    return time.monotonic() - started


# --- within a second ------------------------------------------------------------------------------------------------------


def test_a_revoked_key_is_dead_in_every_process_within_a_second(admin, node, get, new_key):
    key = new_key()
    assert get(key["api_key"]).status_code == node.get(key["api_key"]).status_code == 200
    assert admin.delete(f"/api-keys/{key['key_id']}").status_code == 204
    assert get(key["api_key"]).status_code == 401
    assert dies(lambda: node.get(key["api_key"])) < PROMISE_S + NOISE_S


def test_a_rotated_key_is_refused_everywhere_within_a_second(admin, node, get, new_key):
    """Every process refuses the old key within a second; the new one works at once."""
    key = new_key(
        scopes=["read"],
        description="till 7",
        allowed_addresses=["127.0.0.1"],
        expires_at="2099-01-01T00:00:00Z",
    )
    assert get(key["api_key"]).status_code == node.get(key["api_key"]).status_code == 200
    answer = admin.put(f"/api-keys/{key['key_id']}/rotate")
    assert answer.status_code == 200, answer.text
    rotated = answer.json()
    assert get(key["api_key"]).status_code == 401
    assert get(rotated["api_key"]).status_code == node.get(rotated["api_key"]).status_code == 200
    assert dies(lambda: node.get(key["api_key"])) < PROMISE_S + NOISE_S
    changed = {"api_key", "prefix", "rotated_at"}
    assert {name: value for name, value in rotated.items() if name not in changed} == {
        name: value for name, value in key.items() if name not in changed
    }
    assert rotated["prefix"] == rotated["api_key"][:4]
    assert rotated["rotated_at"]
    assert (
        rotated["api_key"]
        not in admin.get("/api-keys", params={"tenant_id": key["tenant_id"], "limit": 200}).text
    )


def test_a_key_that_is_revoked_in_the_database_by_hand_is_dead_within_a_second(database, node, get, new_key):
    key = new_key()
    assert get(key["api_key"]).status_code == node.get(key["api_key"]).status_code == 200
    database.rows("UPDATE api_keys SET revoked_at = now() WHERE id = $1", key["key_id"])
    assert dies(lambda: get(key["api_key"])) < PROMISE_S + NOISE_S
    assert dies(lambda: node.get(key["api_key"])) < PROMISE_S + NOISE_S


def test_a_process_that_was_not_listening_reads_every_key_again_when_it_is_back(database, node, get, new_key):
    """C2: what happened while the connection was away has told nobody."""
    key = new_key()
    assert get(key["api_key"]).status_code == node.get(key["api_key"]).status_code == 200
    database.rows("SET session_replication_role = replica")  # no trigger tells anybody
    database.rows("UPDATE api_keys SET revoked_at = now() WHERE id = $1", key["key_id"])
    database.rows("SET session_replication_role = origin")
    assert get(key["api_key"]).status_code == node.get(key["api_key"]).status_code == 200
    cut = database.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'paytrust keys' AND datname = current_database()"
    )
    assert len(cut) >= 2
    assert dies(lambda: get(key["api_key"])) < 15
    assert dies(lambda: node.get(key["api_key"])) < 15


def test_no_payment_notifies_anybody(shop, database, sandbox):
    """ADR 0006: a NOTIFY at every commit makes commits wait for each other."""
    triggers = database.rows(
        "SELECT tgrelid::regclass::text AS name FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE p.prosrc ~ 'notify'"
    )
    assert [row["name"] for row in triggers] == ["api_keys"]


# --- rotation, attacked ---------------------------------------------------------------------------------------------------


def test_a_key_rotated_by_several_at_once_has_one_secret_in_the_end(admin, service, get, new_key, audit):
    key = new_key()
    start = threading.Barrier(6)

    def rotate(_):
        with httpx.Client(base_url=service.public_url, headers=dict(admin.headers), timeout=30) as client:
            start.wait()
            return client.put(f"/api-keys/{key['key_id']}/rotate")

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(rotate, range(6)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    shown = [answer.json()["api_key"] for answer in answers if answer.status_code == 200]
    assert [get(secret).status_code for secret in shown].count(200) == 1
    assert get(key["api_key"]).status_code == 401
    assert [entry["action"] for entry in audit(key_id=key["key_id"])].count("rotated") == len(shown)


def test_a_revoked_key_is_not_rotated_back_to_life(admin, problem, new_key):
    key = new_key()
    admin.delete(f"/api-keys/{key['key_id']}")
    problem(admin.put(f"/api-keys/{key['key_id']}/rotate"), 409, "key_not_live")


def test_a_key_of_nobody_cannot_be_rotated(admin, problem):
    problem(admin.put(f"/api-keys/{uuid4()}/rotate"), 404, "not_found")
    for junk in ("1", "x", "audit", "%00", "01935c1e-0000-7000-8000-00000000000g"):
        problem(admin.put(f"/api-keys/{junk}/rotate"), 404, "not_found")


def test_no_api_key_rotates_a_key_not_even_itself(get, shop, new_key, anonymous, problem):
    key = new_key()
    for headers in ({"x-api-key": key["api_key"]}, {"x-admin-key": key["api_key"]}, dict(shop.api.headers)):
        problem(anonymous.put(f"/api-keys/{key['key_id']}/rotate", headers=headers), 401, "unauthenticated")
    assert get(key["api_key"]).status_code == 200


# --- keys that end, and keys with an address --------------------------------------------------------------------------------


def test_an_expired_key_is_refused_by_every_process_that_knew_it(node, get, new_key, problem, admin, audit):
    key = new_key(expires_at=(datetime.now(UTC) + timedelta(seconds=4)).isoformat())
    assert get(key["api_key"]).status_code == node.get(key["api_key"]).status_code == 200
    assert dies(lambda: node.get(key["api_key"])) < 4 + NOISE_S
    assert dies(lambda: get(key["api_key"])) < NOISE_S
    problem(admin.put(f"/api-keys/{key['key_id']}/rotate"), 409, "key_not_live")
    assert eventually(
        lambda: [entry for entry in audit(key_id=key["key_id"]) if entry["reason"] == "expired_key"]
    )


@pytest.mark.parametrize(
    "expires_at",
    [
        *[
            "2001-01-01T00:00:00Z",
            "2099-01-01T00:00:00",
            "2099-02-30T00:00:00Z",
            "tomorrow",
            "",
            4_000_000_000,
        ],
        *["2100-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59"],
    ],
)
def test_a_key_that_would_never_work_is_not_made(admin, shop, problem, nothing_written, expires_at):
    answer = admin.post("/api-keys", json={"tenant_id": shop.tenant_id, "expires_at": expires_at})
    problem(answer, 400, "invalid_request", ["#/expires_at"])


@pytest.mark.parametrize(
    "network", ["x", "", "192.0.2.1/24", "192.0.2.0/33", "010.0.0.1", "fe80::1%eth0", "' OR 1=1 --"]
)
def test_an_address_that_is_none_is_refused(admin, shop, problem, nothing_written, network):
    answer = admin.post(
        "/api-keys", json={"tenant_id": shop.tenant_id, "allowed_addresses": ["192.0.2.0/24", network]}
    )
    problem(answer, 400, "invalid_request", ["#/allowed_addresses/1"])


def test_a_key_works_from_its_addresses_only(node, get, new_key, problem):
    here, elsewhere = (
        new_key(allowed_addresses=["127.0.0.0/8", "::1"]),
        new_key(allowed_addresses=["192.0.2.0/24", "2001:db8::/32"]),
    )
    assert get(here["api_key"]).status_code == 200
    problem(get(elsewhere["api_key"]), 403, "address_not_allowed")
    problem(get(elsewhere["api_key"]), 403, "address_not_allowed")  # also when the key is remembered
    problem(node.get(elsewhere["api_key"]), 403, "address_not_allowed")
    assert elsewhere["allowed_addresses"] == ["192.0.2.0/24", "2001:db8::/32"]


def test_nobody_but_a_trusted_proxy_says_where_a_request_comes_from(node, get, new_key, problem):
    """
    C14: the session's service trusts no proxy, and uvicorn must not do so behind its back; the other process
    trusts 127/8 and 10/8.
    """
    key = new_key(allowed_addresses=["192.0.2.0/24", "2001:db8::/32"])["api_key"]
    names = ("x-forwarded-for", "forwarded", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip")
    problem(get(key, **dict.fromkeys(names, "192.0.2.7")), 403, "address_not_allowed")
    problem(node.get(key, **dict.fromkeys(names[1:], "192.0.2.7")), 403, "address_not_allowed")
    for allowed in (
        "192.0.2.7",
        "203.0.113.9, 192.0.2.7",
        "192.0.2.7, 10.1.1.1",
        "junk, 192.0.2.7",
        "192.0.2.7:99",
        "[2001:db8::5]:99",
    ):
        assert node.get(key, **{"x-forwarded-for": allowed}).status_code == 200, allowed
    for spoofed in (
        "192.0.2.7, 203.0.113.9",
        "192.0.2.7, junk",
        "192.0.2.7, 203.0.113.9, 10.1.1.1",
        "",
        ",",
        "192.0.2.7," * 500 + "203.0.113.9",
    ):
        problem(node.get(key, **{"x-forwarded-for": spoofed}), 403, "address_not_allowed")


# --- the audit --------------------------------------------------------------------------------------------------------------


def test_the_audit_knows_of_everything_that_happens_to_a_key(
    admin, anonymous, node, new_key, get, audit, problem
):
    """T126: created, used, refused, rotated and revoked; by whom, from where, in which request, and when."""
    key = new_key(scopes=["read"])
    key_id = key["key_id"]
    assert (
        node.get(key["api_key"], **{"x-forwarded-for": "198.51.100.7", "x-request-id": "use-1"}).status_code
        == 200
    )
    problem(
        anonymous.post(
            "/invoices", headers={"x-api-key": key["api_key"], "x-request-id": "scope-1"}, json={}
        ),
        403,
        "forbidden",
    )
    admin.put(f"/api-keys/{key_id}/rotate", headers={"x-request-id": "rotate-1"})
    admin.delete(f"/api-keys/{key_id}", headers={"x-request-id": "revoke-1"})
    admin.delete(f"/api-keys/{key_id}", headers={"x-request-id": "revoke-2"})
    eventually(lambda: {"used", "failed"} <= {entry["action"] for entry in audit(key_id=key_id)})
    entries = {entry["action"]: entry for entry in audit(key_id=key_id)}
    assert len(audit(key_id=key_id)) == len(entries) == 5
    for action, entry in entries.items():
        assert entry["tenant_id"] == key["tenant_id"]
        assert entry["times"] == 1
        assert abs(datetime.fromisoformat(entry["at"]) - datetime.now(UTC)) < timedelta(minutes=2)
        assert re.fullmatch(
            "admin:[0-9a-f]{8}" if action in {"created", "rotated", "revoked"} else f"api_key:{key_id}",
            entry["actor"],
        )
        assert entry["address"] == ("198.51.100.7" if action == "used" else "127.0.0.1")
        assert (entry["reason"] is not None) == (action == "failed")
    ids = {action: entry["request_id"] for action, entry in entries.items() if action != "created"}
    assert ids == {"used": "use-1", "failed": "scope-1", "rotated": "rotate-1", "revoked": "revoke-1"}
    assert entries["failed"]["reason"] == "missing_scope"


def test_the_audit_keeps_the_old_hash_of_a_rotation_and_shows_it_to_nobody(admin, database, new_key, audit):
    key = new_key()
    was = database.value("SELECT hash FROM api_keys WHERE id = $1", key["key_id"])
    admin.put(f"/api-keys/{key['key_id']}/rotate")
    assert (
        database.value(
            "SELECT old_hash FROM key_audit WHERE key_id = $1 AND action = 'rotated'", key["key_id"]
        )
        == was
    )
    assert "argon2" not in str(audit(key_id=key["key_id"]))


def test_use_is_not_written_for_each_request(get, node, new_key, audit):
    """R27: a row for each authenticated request once stopped a payment company."""
    key = new_key()
    for _ in range(60):
        assert get(key["api_key"]).status_code == 200
    eventually(lambda: [entry for entry in audit(key_id=key["key_id"]) if entry["action"] == "used"])
    time.sleep(6)  # longer than between two looks of the process
    assert len([entry for entry in audit(key_id=key["key_id"]) if entry["action"] == "used"]) == 1


def test_failures_cannot_fill_the_disk(anonymous, database):
    before = database.value("SELECT count(*) FROM key_audit")
    for n in range(300):
        anonymous.get("/invoices", headers={"x-api-key": f"{n:064x}"})
    eventually(
        lambda: database.value(
            "SELECT count(*) FROM key_audit WHERE reason = 'unknown_key' AND address = '127.0.0.1'"
        )
    )
    time.sleep(6)
    assert database.value("SELECT count(*) FROM key_audit") - before < 20


@pytest.mark.parametrize(
    ("send", "reason"), [({"x-api-key": "0" * 63}, "malformed_key"), ({"x-api-key": "0" * 64}, "unknown_key")]
)
def test_a_key_of_nobody_is_in_the_audit_with_its_address_and_without_itself(
    anonymous, database, send, reason
):
    anonymous.get("/invoices", headers=send)
    eventually(
        lambda: database.rows(
            "SELECT * FROM key_audit WHERE reason = $1 AND address = '127.0.0.1' AND actor = 'anonymous'",
            reason,
        )
    )


def test_the_audit_says_which_of_two_admin_keys_was_used(node, admin, shop, audit):
    """Both work while one replaces the other, and one sees when nobody uses the old one any more."""
    actors = set()
    for admin_key in (admin.headers["x-admin-key"], OTHER_ADMIN_KEY):
        answer = httpx.post(
            f"{node.url}/api-keys", headers={"x-admin-key": admin_key}, json={"tenant_id": shop.tenant_id}
        )
        assert answer.status_code == 201
        [created] = audit(key_id=answer.json()["key_id"])
        actors.add(created["actor"])
    assert len(actors) == 2
    eventually(lambda: actors <= {entry["actor"] for entry in audit() if entry["action"] == "used"})


def test_only_what_is_set_as_an_admin_key_is_one(admin, anonymous, problem, database):
    problem(
        anonymous.get("/api-keys/audit", headers={"x-admin-key": OTHER_ADMIN_KEY}), 401, "unauthenticated"
    )
    eventually(
        lambda: database.rows("SELECT 1 FROM key_audit WHERE reason = 'wrong_admin_key' AND key_id IS NULL")
    )


def test_the_pages_of_the_audit_hold_every_entry_once(admin, new_key, shop):
    made = [new_key()["key_id"] for _ in range(7)]
    seen, cursor = [], None
    while True:
        params = {"limit": 3, "tenant_id": shop.tenant_id} | ({"cursor": cursor} if cursor else {})
        page = admin.get("/api-keys/audit", params=params).json()
        seen += page["audit"]
        if (cursor := page["next_cursor"]) is None:
            break
    assert len({entry["audit_id"] for entry in seen}) == len(seen)
    assert [
        entry["key_id"] for entry in seen if entry["action"] == "created" and entry["key_id"] in made
    ] == made[::-1]
    times = [datetime.fromisoformat(entry["at"]) for entry in seen]
    assert times == sorted(times, reverse=True)


def test_the_audit_is_read_by_tenant_by_key_and_by_time(admin, new_key, make_merchant, audit):
    mine, other = new_key(), make_merchant("Another")
    [entry] = audit(key_id=mine["key_id"])
    at = datetime.fromisoformat(entry["at"])
    assert {entry["tenant_id"] for entry in audit(tenant_id=other.tenant_id)} == {other.tenant_id}
    assert (
        audit(tenant_id=other.tenant_id, key_id=mine["key_id"])
        == audit(tenant_id=str(uuid4()))
        == audit(key_id=str(uuid4()))
        == []
    )
    assert audit(key_id=mine["key_id"], created_from=at.isoformat()) == [entry], "included"
    assert audit(key_id=mine["key_id"], created_to=at.isoformat()) == [], "not included"


@pytest.mark.parametrize(
    ("since", "until", "some"),
    [
        ("0001-01-02T00:00:00Z", "9999-12-30T00:00:00Z", True),
        ("9999-12-30T00:00:00Z", "0001-01-02T00:00:00Z", False),
        ("2020-01-01T00:00:00+14:00", "2020-01-01T00:00:00-12:00", False),
    ],
)
def test_a_huge_range_of_the_audit_is_one_page(admin, new_key, since, until, some):
    new_key()
    answer = admin.get("/api-keys/audit", params={"created_from": since, "created_to": until, "limit": 2})
    assert answer.status_code == 200
    assert len(answer.json()["audit"]) == (2 if some else 0)


@pytest.mark.parametrize("value", ["' OR 1=1 --", "1); DROP TABLE paytrust.key_audit; --", "$1", "\\"])
@pytest.mark.parametrize("name", ["tenant_id", "key_id", "created_from", "created_to", "cursor"])
def test_a_filter_of_the_audit_is_a_value_and_never_sql(admin, problem, nothing_written, name, value):
    problem(admin.get("/api-keys/audit", params={name: value}), 400, "invalid_request", [f"#/{name}"])


# --- what must never be seen ------------------------------------------------------------------------------------------------


def test_no_key_hash_or_secret_is_in_a_log_or_an_answer(node, admin, shop, database):
    """
    T125, C15: at the most talkative log level, with everything that can be done to a key, and everything that
    can fail.
    """
    headers = {"x-admin-key": admin.headers["x-admin-key"]}
    with httpx.Client(base_url=node.url, headers=headers, timeout=30) as there:
        key = there.post("/api-keys", json={"tenant_id": shop.tenant_id, "description": "canary"}).json()
        rotated = there.put(f"/api-keys/{key['key_id']}/rotate").json()
        wrong, malformed = secrets.token_hex(32), "canary-" + secrets.token_hex(8)
        answers = [node.get(secret) for secret in (key["api_key"], rotated["api_key"], wrong, malformed)]
        answers += [
            there.post("/api-keys", json={"tenant_id": str(uuid4())}),
            there.get("/api-keys", headers={"x-admin-key": malformed}),
        ]
        answers += [
            there.get("/api-keys", params={"limit": 200}),
            there.get("/api-keys/audit", params={"limit": 200}),
        ]
        answers += [there.put(f"/api-keys/{uuid4()}/rotate"), there.delete(f"/api-keys/{key['key_id']}")]
    assert [answer.status_code for answer in answers] == [401, 200, 401, 400, 404, 401, 200, 200, 404, 204]
    node.stop()
    node.start()  # and its last words are written
    pepper = node.environ["PAYTRUST_KEY_PEPPER"]
    hidden = {key["api_key"], rotated["api_key"], wrong, malformed, pepper, "$argon2id$"}
    hidden |= {
        headers["x-admin-key"],
        OTHER_ADMIN_KEY,
        node.environ["PAYTRUST_ENCRYPTION_KEYS"].partition(":")[2],
    }
    for secret in (key["api_key"], rotated["api_key"], wrong):
        lookup = hmac.digest(pepper.encode(), secret.encode(), hashlib.sha256)
        hidden |= {secret[4:], lookup.hex(), base64.b64encode(lookup).decode(), repr(lookup)[2:-1]}
    told = node.log.read_text() + "".join(answer.text + str(answer.headers) for answer in answers)
    assert re.search(r'"route": "/api-keys/[^"]*/rotate"', told), "the log was written"
    assert [secret for secret in hidden if secret in told] == []
    stored = str(database.rows("SELECT * FROM api_keys") + database.rows("SELECT * FROM key_audit"))
    assert [
        secret
        for secret in (key["api_key"], rotated["api_key"], wrong, malformed, pepper)
        if secret in stored
    ] == []


def test_every_key_is_stored_as_an_argon2id_hash_and_four_characters(database):
    """T104, T125."""
    keys = database.rows("SELECT prefix, hash, length(lookup) AS length FROM api_keys")
    assert keys
    for key in keys:
        assert re.fullmatch("[0-9a-f]{4}", key["prefix"])
        assert key["hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert key["length"] == 32


def test_what_a_process_has_counted_is_written_before_it_ends(node, new_key, audit):
    key = new_key()
    for _ in range(5):
        assert node.get(key["api_key"]).status_code == 200
    node.stop()
    used = [entry["times"] for entry in audit(key_id=key["key_id"]) if entry["action"] == "used"]
    assert sum(used) == 5
    node.start()
