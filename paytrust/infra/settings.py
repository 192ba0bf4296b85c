"""
Settings: from the environment, a `.env` file and a TOML file, in this order of precedence.

A secret may lie in a file of its own, which `PAYTRUST_<NAME>_FILE` names: so containers are handed theirs.
Every mistake is reported at once, and a `PAYTRUST_` name that means nothing is a mistake.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import os
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from paytrust.errors import ConfigurationError
from paytrust.security.access import Network, network

PREFIX: Final = "PAYTRUST_"
ELSEWHERE: Final = {"PAYTRUST_CONFIG", "PAYTRUST_DATA", "PAYTRUST_PG_BIN", "PAYTRUST_PG_USER"}
"""Names read before or beside these settings."""

DOTENV: Final = ".env"
IN_FILE: Final = "_FILE"
MAX_SECRET_BYTES: Final = 64 * 1024
PLACEHOLDERS: Final = (
    "changeme",
    "changethis",
    "replaceme",
    "placeholder",
    "password",
    "example",
    "yourkey",
    "youradmin",
    "adminkey",
    "insecure",
)
MIN_VARIETY: Final = 10
"""
Different characters in an admin key; 32 random hex digits have 14 on average, and fewer than 10 three times
in a million.
"""

Secret = Annotated[SecretStr, Field(min_length=32)]


class PluginSettings(BaseSettings):
    """Which plugins are loaded. Apart, because commands that only list them need no other setting."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=DOTENV, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    disabled_plugins: Annotated[tuple[str, ...], NoDecode] = ()
    """Entry-point names that are not loaded, comma-separated."""

    @field_validator("disabled_plugins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(name.strip() for name in value.split(",") if name.strip())
            if isinstance(value, str)
            else value
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic passes it by name
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments beat the environment, which beats `.env`, which beats the TOML file."""
        return (
            init_settings,
            env_settings,
            dotenv_settings,
            TomlConfigSettingsSource(settings_cls, toml_file=_toml_file(os.environ)),
        )


class Settings(PluginSettings):
    """The settings of an operator. Each field is read from `PAYTRUST_<NAME>` or from the TOML file."""

    database_url: SecretStr
    """How the service connects: a role that owns nothing and cannot bypass row-level security."""
    database_owner_url: SecretStr | None = None
    """
    How `paytrust migrate` connects: a role that may create the schema and roles. The service never uses it.
    """
    database_listen_url: SecretStr | None = None
    """
    How the service hears that an API key was changed, where `database_url` leads to a pooler that cannot
    LISTEN.
    """
    admin_api_key: Secret
    """Opens the administration routes through the header X-Admin-Key."""
    admin_api_key_previous: Secret | None = None
    """Opens them too, while it is being replaced."""
    key_pepper: Secret
    """Keys the HMAC by which API keys are looked up. Changing it makes every key unknown."""
    encryption_keys: Annotated[dict[str, SecretStr], NoDecode]
    """
    Encrypt gateway credentials and kept answers: `<id>:<32 bytes in base64>`, comma-separated; the first one
    encrypts, all decrypt.
    """

    public_url: str = "http://127.0.0.1:8000"
    """Where gateways reach this service, without a trailing slash."""
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    unix_socket: Path | None = None
    """
    Where `paytrust serve` listens instead of on a port. Its requests come from 127.0.0.1, which is to be a
    trusted proxy when a proxy is at the other end.
    """
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = ()
    """
    Networks of the proxies in front, comma-separated: from them, and only from them, X-Forwarded-For is
    believed.
    """
    key_limit_per_minute: int = Field(1000, ge=1, le=1_000_000)
    """Requests of one API key."""
    admin_limit_per_minute: int = Field(300, ge=1, le=1_000_000)
    """Requests of one admin key."""
    address_limit_per_minute: int = Field(120, ge=1, le=1_000_000)
    """Requests without a valid key from one address: from its /24 for IPv4, its /64 for IPv6."""
    webhook_limit_per_minute: int = Field(6000, ge=1, le=1_000_000)
    """Webhooks to one address of ours, and to addresses that are none from one sender."""
    rates_url: SecretStr | None = None
    """
    A Redis or Valkey in which all processes count the requests of a key together: redis:// or rediss://.
    """
    receive_timeout_s: float = Field(30.0, gt=0, le=600)
    """How long a whole request may take to arrive."""
    send_timeout_s: float = Field(30.0, gt=0, le=600)
    """How long a client may take to read what it was sent before its connection is closed."""
    keep_alive_s: int = Field(75, ge=1, le=3600)
    """
    How long a connection may be idle: longer than at a proxy (nginx and AWS: 60 s), or the service closes one
    that is just used again.
    """
    drain_s: float = Field(5.0, ge=0, le=600)
    """
    How long `paytrust serve` goes on serving after SIGTERM, not ready any more, before it closes its port:
    longer than the balancer in front takes to notice. 0: not at all.
    """
    start_timeout_s: float = Field(60.0, ge=0, le=3600)
    """How long the service waits for its database when it starts. 0: not at all."""
    pool_size: int = Field(10, ge=2, le=100)
    """Connections for API calls, per process."""
    intake_pool_size: int = Field(4, ge=1, le=50)
    """
    Connections for storing webhooks, per process: apart, so that a crowd of API calls cannot delay them.
    """
    work_pool_size: int = Field(4, ge=1, le=50)
    """Connections for work in the background, per process."""
    worker: bool = True
    """
    Whether this process also works in the background: on stored webhooks, payments to ask about, the daily
    comparison, old idempotency keys.
    """
    gateway_calls: int = Field(64, ge=4, le=1000)
    """
    Calls to one gateway at once, per process. One tenant has a quarter of them at each account; work in the
    background has as many again as a tenant.
    """
    gateway_failures: int = Field(5, ge=0, le=1000)
    """
    Failures within 30 s after which a circuit opened for gateway account for 10 s, if they are half of its calls;
    0: never.
    """
    watchdog: bool = True
    """Log a warning with the stack when something blocks the event loop for longer than 100 ms."""
    insecure_gateways: bool = False
    """Allow http:// addresses, and gateways on this very machine: for sandboxes."""
    gateway_networks: Annotated[tuple[Network, ...], NoDecode] = ()
    """
    Networks in which gateways may be called though their addresses are not public, comma-separated: a
    provider behind a VPN.
    """
    docs: bool = True
    """Serve /openapi.json and /docs."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"

    @field_validator("admin_api_key", "admin_api_key_previous")
    @classmethod
    def _check_admin_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and is_weak(value.get_secret_value()):
            raise ValueError(
                "can be guessed; make one with: python3 -c 'import secrets; print(secrets.token_hex(32))'"
            )
        return value

    @field_validator("database_url", "database_owner_url", "database_listen_url")
    @classmethod
    def _check_database_url(cls, value: SecretStr | None) -> SecretStr | None:
        # Said here, because whoever stumbles over it later quotes it, and a password that is cut at its slash
        # looks like a port.
        if value is not None and not _is_database_url(value.get_secret_value()):
            raise ValueError(
                "is not a URL such as postgresql://USER:PASSWORD@HOST/DATABASE; in a password, / ? # and % are written %2F %3F %23 and %25"
            )
        return value

    @field_validator("rates_url")
    @classmethod
    def _check_rates_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("redis://", "rediss://")):
            raise ValueError("needs to start with redis:// or rediss://")
        return value

    @field_validator("trusted_proxies", "gateway_networks", mode="before")
    @classmethod
    def _read_networks(cls, value: object) -> object:
        names = value.split(",") if isinstance(value, str) else value
        return (
            tuple(network(str(name).strip()) for name in names if str(name).strip())
            if isinstance(names, Iterable)
            else value
        )

    @field_validator("encryption_keys", mode="before")
    @classmethod
    def _read_keys(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [pair.partition(":") for pair in value.replace(",", " ").split()]
        return {key_id: key for key_id, _, key in pairs}

    @field_validator("encryption_keys")
    @classmethod
    def _check_keys(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        if not value:
            raise ValueError("needs at least one key, written as <id>:<base64 of 32 bytes>")
        for key_id, key in value.items():
            if not (key_id.isascii() and key_id.isalnum()) or len(key_id) > 16 or len(_decode(key)) != 32:
                raise ValueError(
                    "each key is written as <id>:<base64 of 32 bytes>; the id is 1 to 16 letters and digits"
                )
        return value

    @field_validator("public_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if not value.startswith(("https://", "http://")):
            raise ValueError("needs to start with https:// or http://")
        return value.rstrip("/")

    def master_keys(self) -> dict[str, bytes]:
        """The keys under which data keys are sealed, the one that seals first."""
        return {key_id: _decode(key) for key_id, key in self.encryption_keys.items()}

    def admin_keys(self) -> list[str]:
        """The admin keys that are accepted, the current one first."""
        return [
            key.get_secret_value()
            for key in (self.admin_api_key, self.admin_api_key_previous)
            if key is not None
        ]


def _is_database_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _, _, hosts = parts.netloc.rpartition("@")
        for host in hosts.split(","):
            _ = urlsplit(f"//{host}").port
    except ValueError:
        return False
    return parts.scheme in {"postgresql", "postgres"}


def is_weak(key: str) -> bool:
    """
    Whether a key was typed rather than made: a placeholder, few different characters, a repetition or a
    sequence.
    """
    plain = "".join(filter(str.isalnum, key)).lower()
    steps = Counter(ord(b) - ord(a) for a, b in itertools.pairwise(key))
    repeated = (key + key).find(key, 1) < len(key)
    sequence = max(steps.values(), default=0) * 2 > len(key)
    return any(word in plain for word in PLACEHOLDERS) or len(set(key)) < MIN_VARIETY or repeated or sequence


def _decode(key: SecretStr) -> bytes:
    """The bytes of a base64 key; empty when it is no base64."""
    try:
        return base64.b64decode(key.get_secret_value(), validate=True)
    except binascii.Error:
        return b""


def load(environ: Mapping[str, str] = os.environ, **given: Any) -> Settings:
    """Read the settings, or raise one `ConfigurationError` that names everything wrong."""
    files = _files(environ)
    problems = [
        f"{name}: no such setting" for name in sorted(_given(environ) - ELSEWHERE - _names() - files.keys())
    ]
    path = environ.get("PAYTRUST_CONFIG")
    if path and not Path(path).is_file():
        problems.append(f"PAYTRUST_CONFIG: {path} is not a file")
    read, objections = _read_files(files, _given(environ))
    problems += objections
    settings: Settings | None = None
    try:
        settings = Settings(**(read | given))
    except ValidationError as exc:
        problems += [
            f"{_name(error['loc'])}: {_sentence(error)}"
            for error in exc.errors(include_input=False, include_url=False)
        ]
    if settings is None or problems:
        raise ConfigurationError(
            "the settings have mistakes:\n" + "\n".join(f"  {problem}" for problem in problems)
        )
    return settings


def _given(environ: Mapping[str, str]) -> set[str]:
    """
    Every name of ours in the environment, the `.env` file (which may hold other programs' names too) and the
    TOML file.
    """
    dotenv = {name.upper() for name in dotenv_values(DOTENV) if name.upper().startswith(PREFIX)}
    try:
        toml = tomllib.loads(_toml_file(environ).read_text())
    except FileNotFoundError:
        toml = {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as exc:
        raise ConfigurationError(f"{_toml_file(environ)} cannot be read: {exc}") from exc
    return (
        {name for name in environ if name.startswith(PREFIX)}
        | dotenv
        | {PREFIX + name.upper() for name in toml}
    )


def _files(environ: Mapping[str, str]) -> dict[str, str]:
    """
    The files that hold secrets, by the names that name them: in the environment, else in the `.env` file.
    """
    names = {
        PREFIX + name.upper() + IN_FILE
        for name, field in Settings.model_fields.items()
        if "SecretStr" in repr(field.annotation)
    }
    given = {name.upper(): value or "" for name, value in dotenv_values(DOTENV).items()} | dict(environ)
    return {name: given[name] for name in sorted(names & given.keys())}


def _read_files(files: Mapping[str, str], given: set[str]) -> tuple[dict[str, str], list[str]]:
    """The settings that lie in files, without the line's end, and what is wrong with the rest."""
    read, problems = {}, []
    for name, path in files.items():
        setting = name.removesuffix(IN_FILE)
        try:
            with Path(path).open("rb") as file:
                value = file.read(MAX_SECRET_BYTES + 1)
            read[setting.removeprefix(PREFIX).lower()] = value.decode().strip()
        except (OSError, ValueError) as exc:  # a ValueError: no UTF-8, or a path with a NUL
            why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
            problems.append(f"{name}: {path} cannot be read: {why}")
            continue
        if not value.strip() or len(value) > MAX_SECRET_BYTES:
            problems.append(
                f"{name}: {path} is {'empty' if not value.strip() else f'larger than {MAX_SECRET_BYTES} bytes'}"
            )
        if setting in given:
            problems.append(f"{name}: {setting} is set, too; keep one of them")
    return read, problems


def _toml_file(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("PAYTRUST_CONFIG", "paytrust.toml"))


def _names() -> set[str]:
    return {PREFIX + field.upper() for field in Settings.model_fields}


def _name(loc: tuple[int | str, ...]) -> str:
    name = ".".join(map(str, loc)).upper()
    return name if name.startswith(PREFIX) else PREFIX + name


def _sentence(error: Mapping[str, Any]) -> str:
    if error["type"] == "missing":
        return "is not set"
    return str(error["msg"]).removeprefix("Value error, ")


def disabled_plugins() -> tuple[str, ...]:
    """
    The plugins that are not loaded, for commands that need no other setting. Raises `ConfigurationError`.
    """
    _given(os.environ)  # says which file cannot be read
    return PluginSettings().disabled_plugins
