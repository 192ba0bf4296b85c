"""
URLs that come from outside: where a browser is sent, and where the service itself connects.

A web address is taken only in a form that every parser reads alike; a form that a browser would repair is
refused instead (D15). The service checks an address at the moment of connecting, because the address behind a
name can change (D14).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import Final

import idna
import msgspec

from paytrust.security.access import Network, contains, network

MAX_URL: Final = 2048

_FORM: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?:[/?#][!-~]*)?",
    re.ASCII,
)
_CONFUSING: Final = frozenset('\\"<>`')
_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*", re.ASCII)
_CODE: Final = re.compile(r"(?:javascript|data|vbscript|blob|file):", re.IGNORECASE)

EVERYWHERE: Final = (network("0.0.0.0/0"), network("::/0"))
LOOPBACK: Final = (network("127.0.0.0/8"), network("::1"))
NOT_PUBLIC: Final = tuple(
    network(text)
    for text in (
        *(
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
        ),
        *(
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",
        ),
        # Of IPv6 only 2000::/3 is public, and of that not: Teredo and its kin, documentation, 6to4.
        *("::/3", "4000::/2", "8000::/1", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)
"""
IANA's special-purpose registries, written down because Python's `is_global` differs between patch releases.
"""


class ParsedURL(msgspec.Struct, frozen=True):
    """
    What an acceptable address consists of: its *scheme*, its *host* in lower case without brackets, its
    *port* if it names one.
    """

    scheme: str
    host: str
    port: int | None


def parse(url: str, *, insecure: bool = False) -> ParsedURL:
    """
    Read a web address: https, or with *insecure* http too; a host, and perhaps a port, a path, a query and a
    fragment.

    Raises `ValueError` with a sentence that does not repeat the address.
    """
    if len(url) > MAX_URL:
        raise ValueError(f"has more than {MAX_URL} characters")
    found = _FORM.fullmatch(url)
    if found is None or _CONFUSING & set(url):
        raise ValueError(
            "expected a plain web address: scheme, host, no user name, no spaces, and only ASCII"
        )
    if found["scheme"] == "http" and not insecure:
        raise ValueError("expected an address that starts with https://")
    port = None if found["port"] is None else int(found["port"])
    if port is not None and not 1 <= port <= 65_535:
        raise ValueError("expected a port from 1 to 65535")
    try:
        return ParsedURL(found["scheme"], _host(found["host"]), port)
    except ValueError as exc:
        raise ValueError("not a valid host name or IP address") from exc


def _host(text: str) -> str:
    host = text.lower()
    if host.startswith("["):
        return str(ipaddress.IPv6Address(host[1:-1]))
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("not a host name")
    if _NUMBER.fullmatch(labels[-1]):
        # Browsers take 127.1, 0x7f.1 and 2130706433 for 127.0.0.1: only the usual way of writing means the
        # same to all.
        return str(ipaddress.IPv4Address(host))
    for label in labels:
        if label.startswith("xn--"):
            idna.ulabel(label)  # an IDNAError is a ValueError
    return host


def is_within(host: str, names: Collection[str]) -> bool:
    """Whether *host* is one of *names*, or lies below one: "pay.example.com" below "example.com"."""
    return any(host == name or host.endswith(f".{name}") for name in names)


def runs_code(text: str) -> bool:
    """Whether a browser that is sent to *text* would run or show it, rather than go somewhere."""
    return _CODE.match("".join(char for char in text if char > " ")) is not None


class Reach(msgspec.Struct, frozen=True):
    """
    What the service may call: https at public addresses, and whatever address lies in *networks*.

    With *insecure* also http, and this machine's own addresses: for sandboxes.
    """

    insecure: bool = False
    networks: tuple[Network, ...] = ()

    def read(self, url: str) -> ParsedURL:
        """
        Read the address below which something is called. Raises `ValueError`; a name is looked at when it is
        connected to.
        """
        form = parse(url, insecure=self.insecure)
        if {"?", "#"} & set(url):
            raise ValueError("expected an address without a query or a fragment: paths are added to it")
        if _NUMBER.fullmatch(form.host.rpartition(".")[2]) or ":" in form.host:
            self.check(form.host)
        return form

    def check(self, address: str) -> None:
        """Raise `ValueError` for an IP address that is not to be connected to."""
        allowed = (*self.networks, *LOOPBACK) if self.insecure else self.networks
        if not contains(allowed, address) and (
            contains(NOT_PUBLIC, address) or not contains(EVERYWHERE, address)
        ):
            raise ValueError("not a public address")
