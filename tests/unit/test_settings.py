from __future__ import annotations

import base64
import json
import os
import secrets
import traceback

import pytest

from paytrust.errors import ConfigurationError
from paytrust.infra import settings
from paytrust.infra.settings import Settings

KEY = base64.b64encode(b"k" * 32).decode()
ADMIN_KEY = "3f9c1b7e5a20d8465e1f0a9b7c6d2e834b5a"
GOOD = {
    "PAYTRUST_DATABASE_URL": "postgresql://service:database-secret@db/paytrust",
    "PAYTRUST_ADMIN_API_KEY": ADMIN_KEY,
    "PAYTRUST_KEY_PEPPER": "p" * 32,
    "PAYTRUST_ENCRYPTION_KEYS": f"k1:{KEY}",
}


def told(settings):
    return f"{settings.port} {settings.log_level} {settings.disabled_plugins} {sorted(settings.encryption_keys)} {settings!r}"


def load(environ, cwd, show=told):
    """
    What *show* says of the settings that are read in this environment and folder, or the traceback of what is
    wrong with them.
    """
    with pytest.MonkeyPatch.context() as patched:
        for name in [name for name in os.environ if name.startswith("PAYTRUST_")]:
            patched.delenv(name)
        for name, value in environ.items():
            patched.setenv(name, value)
        patched.chdir(cwd)
        try:
            return show(settings.load())
        except ConfigurationError:
            return traceback.format_exc()


def test_four_settings_are_enough(tmp_path):
    assert load(GOOD, tmp_path).startswith("8000 info () ['k1']")


def test_no_secret_shows_in_the_settings_or_their_errors(tmp_path):
    shown = load(GOOD, tmp_path) + load(
        GOOD | {"PAYTRUST_PORT": "many", "PAYTRUST_ADMIN_API_KEY": "short-but-secret"}, tmp_path
    )
    assert "PAYTRUST_PORT" in shown
    for secret in ("database-secret", ADMIN_KEY, "p" * 32, KEY, "short-but-secret"):
        assert secret not in shown


def test_every_mistake_is_reported_at_once(tmp_path):
    wrong = {
        "PAYTRUST_ADMIN_API_KEY": "short",
        "PAYTRUST_ENCRYPTION_KEYS": "k1:notbase64",
        "PAYTRUST_PORT": "99999",
        "PAYTRUST_PUBLIC_URL": "ftp://x",
        "PAYTRUST_LOG_LEVLE": "info",
    }
    shown = load(wrong, tmp_path)
    for name in (*wrong, "PAYTRUST_DATABASE_URL", "PAYTRUST_KEY_PEPPER"):
        assert f"{name}: " in shown, name


@pytest.mark.parametrize(
    "name", ["PAYTRUST_DATABASE_URL", "PAYTRUST_DATABASE_OWNER_URL", "PAYTRUST_DATABASE_LISTEN_URL"]
)
@pytest.mark.parametrize("password", ["canary/9", "canary#9", "canary?9", "canary]9[", None])
def test_a_url_that_cannot_be_read_is_a_mistake_that_quotes_nothing_of_it(tmp_path, name, password):
    url = "canary-9" if password is None else f"postgresql://service:{password}@db/paytrust"
    shown = load(GOOD | {name: url}, tmp_path)
    assert f"{name}: is not a URL such as" in shown
    assert "canary" not in shown


@pytest.mark.parametrize(
    "url",
    [
        "postgres://u@/d?host=/tmp&port=5432",
        "postgresql://u:p%2F@a:5432,b:5433/d",
        "postgresql:///d",
        "postgresql://u:p@ss@[::1]:5432/d",
    ],
)
def test_every_form_of_a_database_url_is_taken(tmp_path, url):
    assert load(GOOD | {"PAYTRUST_DATABASE_URL": url}, tmp_path).startswith("8000")


@pytest.mark.parametrize("name", ["PAYTRUST_PROT", "PAYTRUST_DATABASE__URL", "PAYTRUST_"])
def test_a_misspelt_name_is_an_error(tmp_path, name):
    assert f"{name}: no such setting" in load(GOOD | {name: "1"}, tmp_path)


def test_the_environment_beats_dotenv_which_beats_toml(tmp_path):
    (tmp_path / "paytrust.toml").write_text('port = 1\nlog_level = "error"\ndisabled_plugins = ["a", "b"]\n')
    (tmp_path / ".env").write_text("PAYTRUST_PORT=2\nPAYTRUST_LOG_LEVEL=debug\n")
    assert load(GOOD | {"PAYTRUST_PORT": "3"}, tmp_path).startswith("3 debug ('a', 'b')")


@pytest.mark.parametrize(("file", "text"), [("paytrust.toml", "prot = 1\n"), (".env", "PAYTRUST_PROT=1\n")])
def test_a_misspelt_name_in_a_file_is_an_error_too(tmp_path, file, text):
    (tmp_path / file).write_text(text)
    assert "no such setting" in load(GOOD, tmp_path)


def test_other_programs_may_share_the_dotenv_file(tmp_path):
    (tmp_path / ".env").write_text("DEBUG=1\nPAYTRUST_PORT=2\n")
    assert load(GOOD, tmp_path).startswith("2 ")


def test_a_toml_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "paytrust.toml").write_text("port = \n")
    shown = load(GOOD, tmp_path)
    assert "paytrust.toml cannot be read" in shown


def test_a_named_toml_file_has_to_exist(tmp_path):
    assert "PAYTRUST_CONFIG" in load(GOOD | {"PAYTRUST_CONFIG": "nowhere.toml"}, tmp_path)


@pytest.mark.parametrize("keys", ["", "k1", f"k1:{KEY[:-4]}", f":{KEY}", f"k 1:{KEY}", f"{'k' * 17}:{KEY}"])
def test_an_unusable_encryption_key_is_refused(tmp_path, keys):
    assert "PAYTRUST_ENCRYPTION_KEYS: " in load(GOOD | {"PAYTRUST_ENCRYPTION_KEYS": keys}, tmp_path)


def test_several_encryption_keys_keep_their_order(tmp_path):
    shown = load(
        GOOD | {"PAYTRUST_ENCRYPTION_KEYS": f"new:{KEY}, old:{KEY}"},
        tmp_path,
        lambda settings: list(settings.encryption_keys),
    )
    assert shown == ["new", "old"]


@pytest.mark.parametrize("name", ["PAYTRUST_ADMIN_API_KEY", "PAYTRUST_ADMIN_API_KEY_PREVIOUS"])
@pytest.mark.parametrize(
    "key",
    [
        "",
        ADMIN_KEY[:31],
        "a" * 64,
        "ab" * 32,
        "0123456789abcdef" * 4,
        "0123456789abcdefghijklmnopqrstuvwxyz",
        "zyxwvutsrqponmlkjihgfedcba9876543210",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabcdefghijk",
        "admin-" + "a" * 40,
        "changeme-changeme-1234-changeme!",
        f"change-me-{ADMIN_KEY}",
        f"CHANGE_ME_{ADMIN_KEY}",
        f"my-Password-{ADMIN_KEY}",
        "your-admin-key-goes-here-32-characters",
    ],
)
def test_an_admin_key_that_can_be_guessed_is_refused_at_the_start(tmp_path, name, key):
    shown = load(GOOD | {name: key}, tmp_path)
    assert f"{name}: " in shown
    assert not key or key not in shown


def test_an_admin_key_that_was_made_is_taken():
    assert not any(
        settings.is_weak(token(32))
        for token in (secrets.token_hex, secrets.token_urlsafe)
        for _ in range(2000)
    )


def test_both_admin_keys_are_taken_while_one_replaces_the_other(tmp_path):
    assert load(GOOD, tmp_path, Settings.admin_keys) == [ADMIN_KEY]
    both = GOOD | {"PAYTRUST_ADMIN_API_KEY_PREVIOUS": ADMIN_KEY[::-1]}
    assert load(both, tmp_path, Settings.admin_keys) == [ADMIN_KEY, ADMIN_KEY[::-1]]


@pytest.mark.parametrize("networks", ["x", "10.0.0.1/8", "10.0.0.0/8,", "10.0.0.0/8 fd00::/8", "*"])
def test_trusted_proxies_are_networks(tmp_path, networks):
    def trusted(settings):
        return [str(network) for network in settings.trusted_proxies]

    shown = load(GOOD | {"PAYTRUST_TRUSTED_PROXIES": networks}, tmp_path, trusted)
    if networks == "10.0.0.0/8,":
        assert shown == ["10.0.0.0/8"]
    else:
        assert "PAYTRUST_TRUSTED_PROXIES: " in shown
    (tmp_path / "paytrust.toml").write_text('trusted_proxies = ["10.0.0.0/8", "fd00::/8"]\n')
    assert load(GOOD, tmp_path, trusted) == ["10.0.0.0/8", "fd00::/8"]


# --- secrets in files -------------------------------------------------------------------------------------------------------

SECRETS = {
    **GOOD,
    "PAYTRUST_DATABASE_OWNER_URL": "postgresql://owner@db/paytrust",
    "PAYTRUST_DATABASE_LISTEN_URL": "postgresql://service@db/paytrust",
    "PAYTRUST_ADMIN_API_KEY_PREVIOUS": ADMIN_KEY[::-1],
    "PAYTRUST_RATES_URL": "redis://cache",
}


def everything(read):
    """All settings, secrets included."""
    return json.dumps(
        read.model_dump(),
        default=lambda value: value.get_secret_value() if hasattr(value, "get_secret_value") else str(value),
    )


def in_files(folder, values):
    """The environment that names files which hold *values*."""
    for name, value in values.items():
        (folder / name).write_text(value)
    return {f"{name}_FILE": str(folder / name) for name in values}


def test_every_secret_may_lie_in_a_file(tmp_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("secrets")
    from_files = load(
        in_files(folder, {name: f"{value}\n" for name, value in SECRETS.items()}), tmp_path, everything
    )
    assert from_files == load(SECRETS, tmp_path, everything)
    assert ADMIN_KEY in from_files


def test_a_file_of_encryption_keys_may_hold_one_on_each_line(tmp_path):
    named = in_files(tmp_path, {"PAYTRUST_ENCRYPTION_KEYS": f"new:{KEY}\r\nold:{KEY}\n"})
    environ = {name: value for name, value in GOOD.items() if name != "PAYTRUST_ENCRYPTION_KEYS"} | named
    assert load(environ, tmp_path, lambda read: list(read.encryption_keys)) == ["new", "old"]


def test_the_dotenv_file_may_name_a_file_too(tmp_path):
    (tmp_path / "pepper").write_text("p" * 40)
    (tmp_path / ".env").write_text("PAYTRUST_KEY_PEPPER_FILE=pepper\n")
    environ = {name: value for name, value in GOOD.items() if name != "PAYTRUST_KEY_PEPPER"}
    assert load(environ, tmp_path, lambda read: len(read.key_pepper)) == 40


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe" * 20, "not UTF-8 text"),
        (b"p" * 70_000, "larger than 65536 bytes"),
    ],
)
def test_a_file_that_holds_no_secret_is_named(tmp_path, content, said):
    if content is not None:
        (tmp_path / "pepper").write_bytes(content)
    shown = load(GOOD | {"PAYTRUST_KEY_PEPPER_FILE": str(tmp_path / "pepper")}, tmp_path)
    (line,) = [line for line in shown.splitlines() if said in line]
    assert "PAYTRUST_KEY_PEPPER_FILE: " in line
    assert "ppp" not in shown


def test_a_folder_is_no_file_of_a_secret(tmp_path):
    assert "Is a directory" in load(GOOD | {"PAYTRUST_KEY_PEPPER_FILE": str(tmp_path)}, tmp_path)


def test_a_secret_that_is_set_twice_is_a_mistake(tmp_path):
    shown = load(GOOD | in_files(tmp_path, {"PAYTRUST_KEY_PEPPER": "q" * 40}), tmp_path)
    assert "PAYTRUST_KEY_PEPPER is set, too" in shown
    assert "qqq" not in shown


@pytest.mark.parametrize("name", ["PAYTRUST_PORT_FILE", "PAYTRUST_KEY_PEPPER_FILE_FILE", "PAYTRUST__FILE"])
def test_what_is_no_secret_has_no_file(tmp_path, name):
    assert f"{name}: no such setting" in load(GOOD | {name: "x"}, tmp_path)


def test_the_rules_of_a_secret_hold_for_one_in_a_file(tmp_path):
    environ = {name: value for name, value in GOOD.items() if name != "PAYTRUST_ADMIN_API_KEY"}
    shown = load(environ | in_files(tmp_path, {"PAYTRUST_ADMIN_API_KEY": "a" * 64}), tmp_path)
    assert "PAYTRUST_ADMIN_API_KEY: " in shown
    assert "aaa" not in shown
