"""The caller and its address, as far as every room needs to know."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_ADDRESS: Final = 45


class Scope(StrEnum):
    """The rights of a key."""

    READ = "read"
    WRITE = "write"


class Principal(msgspec.Struct, frozen=True):
    """The holder of one key of one tenant."""

    tenant_id: UUID
    key_id: UUID
    scopes: frozenset[Scope]


class Caller(msgspec.Struct, frozen=True):
    """
    Who does something and from where, as the audit writes it down: "anonymous", "local",
    "admin:<fingerprint>" or "api_key:<id>".
    """

    actor: str
    address: str | None = None
    request_id: str | None = None


LOCAL: Final = Caller("local")
"""
Code on our own machine: the command line, `paytrust dev`, an application that PayTrust is mounted in.
"""
ANONYMOUS: Final = Caller("anonymous")


def network(text: str) -> Network:
    """
    The network that *text* names: "10.0.0.0/8", or one address. Raises `ValueError`, also for bits beyond the
    prefix.
    """
    if "%" in text:
        raise ValueError("a zone has no meaning outside of its machine")
    return ipaddress.ip_network(text)


@functools.lru_cache(maxsize=4096)
def subnet(address: str | None) -> str:
    """
    The /24 of an IPv4 address, the /64 of an IPv6 address: one subscriber can easily have many addresses
    of it.
    """
    parsed = _address(address or "")
    if parsed is None:
        return "unknown"
    return str(ipaddress.ip_network((parsed, 24 if parsed.version == 4 else 64), strict=False))


def contains(networks: Iterable[Network], address: str | None) -> bool:
    """Whether *address* lies in one of *networks*. No address, or one that is none, lies nowhere."""
    parsed = _address(address or "")
    return parsed is not None and any(parsed in one for one in networks)


def client_address(peer: str | None, forwarded_for: Iterable[str], trusted: Sequence[Network]) -> str | None:
    """
    The address of the client: of the other end of the connection (*peer*), unless that is a trusted proxy.

    Then it is the right-most address in *forwarded_for* (the values of X-Forwarded-For, in order) that is not
    a trusted proxy: everything to the left of it was written by an unknown client. A value that is no address
    ends the search at the proxy that wrote it.
    """
    nearest = _address((peer or "").partition("%")[0])
    if nearest is None or not trusted:
        return None if nearest is None else str(nearest)
    hops = ",".join(forwarded_for).split(",")
    while hops and contains(trusted, str(nearest)):
        named = _address(_without_port(hops.pop().strip()))
        if named is None:
            break
        nearest = named
    return str(nearest)


def _address(text: str) -> Address | None:
    return (
        _parsed(text) if len(text) <= MAX_ADDRESS else None
    )  # or clients would choose how much is remembered


@functools.lru_cache(maxsize=4096)
def _parsed(text: str) -> Address | None:
    """
    One form for each address: IPv4 written as IPv6 is IPv4. A zone is refused: a client could write anything
    into it.
    """
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        return None if parsed.scope_id else parsed.ipv4_mapped or parsed
    return parsed


def _without_port(text: str) -> str:
    """Some proxies write "192.0.2.1:4711" or "[2001:db8::1]:4711"."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
