"""Starting, attaching, stopping."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from paytrust.embedded import binaries


def test_an_empty_place_becomes_a_server_that_answers(place, make, ask):
    dsn = make(place / "new" / "data").start()
    assert ask(dsn, "select current_user || ' ' || current_database()") == "paytrust postgres"


def test_it_is_durable_exact_about_time_and_deaf_to_the_network(make, ask):
    names = (
        "fsync",
        "full_page_writes",
        "synchronous_commit",
        "data_checksums",
        "timezone",
        "listen_addresses",
        "max_connections",
    )
    dsn = make().start()
    assert [ask(dsn, f"show {name}") for name in names] == ["on", "on", "on", "on", "UTC", "", "200"]


def test_the_callers_settings_win(make, ask):
    assert ask(make(settings={"fsync": "off"}).start(), "show fsync") == "off"


def test_another_role_connects_over_the_same_socket(make, ask):
    server = make()
    ask(server.start(), "create role paytrust_service login", "create database shop")
    assert (
        ask(server.dsn("shop", "paytrust_service"), "select current_user || ' ' || current_database()")
        == "paytrust_service shop"
    )


def test_data_is_kept_across_runs(make, ask):
    server = make()
    ask(server.start(), "create table across_runs as select 42 as answer")
    server.stop()
    assert ask(make().start(), "select answer from across_runs") == 42


def test_one_object_starts_again(make, ask):
    server = make()
    assert server.start() == server.start()
    server.stop()
    server.stop()
    assert ask(server.start(), "select 1") == 1


def test_stop_shuts_down_cleanly_and_leaves_nothing_that_blocks(make, data, processes):
    server = make()
    server.start()
    server.stop()
    control = subprocess.run(
        [binaries.find() / "pg_controldata", data], check=True, capture_output=True, text=True
    ).stdout
    assert "Database cluster state:               shut down\n" in control
    assert server.log.read_text().endswith("LOG:  database system is shut down\n")
    assert processes(data) == []
    assert not list(data.glob("postmaster.pid")) + list(data.glob(".s.PGSQL*"))


def fails(ask, dsn, statement):
    with pytest.raises((OSError, asyncpg.PostgresError)):
        ask(dsn, statement)


def test_stop_does_not_wait_for_clients(make, ask):
    server = make()
    dsn = server.start()
    asker = threading.Thread(target=fails, args=(ask, dsn, "select pg_sleep(60)"))
    asker.start()
    time.sleep(0.2)
    before = time.monotonic()
    server.stop()
    asker.join()
    assert time.monotonic() - before < 5


def test_a_second_starter_attaches_and_leaves_the_server_running(make, ask):
    first, second = make(), make()
    assert first.start() == second.start()
    assert (first.attached, second.attached) == (False, True)
    second.stop()
    assert ask(first.dsn("postgres"), "select 1") == 1


def test_the_server_stays_until_its_last_user_leaves(make, ask, data, processes):
    first, second = make(), make()
    first.start()
    dsn = second.start()
    first.stop()
    assert ask(dsn, "select 1") == 1
    second.stop()
    assert processes(data) == []


def test_another_process_attaches(make, app, ask):
    dsn = app().stdout.readline().strip()
    server = make()
    assert server.start() == dsn
    assert server.attached
    assert ask(dsn, "select 1") == 1


def test_starters_at_the_same_moment_create_and_share_one_server(place, make, app):
    data = place / "data"
    apps = [app(data), app(data)]
    server = make(data, settings={"fsync": "off"})
    assert {process.stdout.readline().strip() for process in apps} == {server.start()}


def test_nobody_joins_a_server_that_is_going_down(make, ask, app):
    for _ in range(2):
        process = app()
        process.stdout.readline()
        process.kill()
        server = make()
        dsn = server.start()
        time.sleep(0.2)
        assert ask(dsn, "select 1") == 1
        server.stop()


def test_the_thread_that_started_it_may_end(make, ask):
    server = make()
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    time.sleep(0.3)
    assert ask(server.dsn("postgres"), "select 1") == 1


@pytest.mark.parametrize("name", ["long" * 30, """spaces, commas, % and 'all' "quotes\""""])
def test_any_path_will_do(place, own, make, ask, name):
    (place / name).mkdir()
    own.rename(place / name / "data")
    server = make(place / name / "data")
    dsn = server.start()
    assert ask(dsn, "show data_directory") == str(place / name / "data")
    server.stop()
    Path(parse_qs(urlsplit(dsn).query)["host"][0]).rmdir()  # the short socket directory, empty by now


def test_statements_and_values_stay_out_of_the_log(make, ask):
    server = make()
    with pytest.raises(Exception, match="unique"):
        ask(
            server.start(),
            "create table payer (name text unique)",
            *["insert into payer values ('Siti Rahayu')"] * 2,
        )
    assert "duplicate key" in server.log.read_text()
    assert "Siti" not in server.log.read_text()


def test_the_log_does_not_grow_for_ever(make):
    server = make()
    server.log.write_bytes(b"x" * 10_000_001)
    server.start()
    assert server.log.stat().st_size < 100_000
    assert server.log.with_name("data.log.old").exists()


def test_secrets_of_the_application_are_not_in_the_servers_environment(monkeypatch, make, data, postmaster):
    monkeypatch.setenv("PAYTRUST_XENDIT_KEY", "xnd_secret")
    monkeypatch.setenv("PGPORT", "1")
    make().start()
    environment = Path(f"/proc/{postmaster(data)}/environ").read_bytes()
    assert b"xnd_secret" not in environment


def test_a_forgotten_server_ends_with_its_process(data, processes):
    code = "import sys, pathlib, paytrust.embedded as e; print(e.EmbeddedPostgres(pathlib.Path(sys.argv[1])).start())"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, data], check=True, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert processes(data) == []


def test_a_forked_child_cannot_stop_it(make, ask):
    server = make()
    dsn = server.start()
    child = os.fork()
    if child == 0:
        try:
            server.stop()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    time.sleep(0.2)
    assert ask(dsn, "select 1") == 1
