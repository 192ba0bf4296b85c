"""The URL guard: what it takes means the same to every parser, and what is connected to is public."""

from __future__ import annotations

import contextlib
import ipaddress
from urllib.parse import urlsplit

import pytest
import yarl
from hypothesis import example, given
from hypothesis import strategies as st

from paytrust.security import urls
from paytrust.security.access import network
from paytrust.security.urls import Reach

GOOD = {
    "https://checkout.xendit.co/web/6f1d2c": "checkout.xendit.co",
    "https://EXAMPLE.com": "example.com",
    "https://example.com:8443/a?b=c#d": "example.com",
    "https://shop.example/?id={ORDER}|x": "shop.example",
    "https://xn--mnchen-3ya.de/": "xn--mnchen-3ya.de",
    "https://my_service/x": "my_service",
    "https://192.0.2.1/": "192.0.2.1",
    "https://[2001:DB8::1]:443/": "2001:db8::1",
}
BAD = [
    *[
        "",
        "https",
        "https:",
        "https://",
        "https:///x",
        "//example.com",
        "/pay",
        "example.com",
        "https:example.com",
        "https:/example.com",
    ],
    *[
        "javascript:alert(1)",
        "data:text/html,x",
        "JavaScript://example.com/%0aalert(1)",
        "vbscript:x",
        "file:///etc/passwd",
        "ftp://x.y",
    ],
    *[
        "HTTPS://example.com",
        "http://example.com",
        "ws://example.com",
        "https+unix://x",
        "blob:https://example.com/x",
    ],
    *[
        "https://user@example.com",
        "https://user:pass@example.com",
        "https://example.com@evil.example",
        "https://@example.com",
        "https://a:b@c:1",
    ],
    *[
        "https://example.com\\@evil.example",
        "https:\\\\example.com",
        "https://example.com\\x",
        "https://example.com/\\..\\x",
        "https://[::1]\\x",
    ],
    *[
        "https://example.com/\n",
        "https://exa\tmple.com",
        " https://example.com",
        "https://example.com ",
        "https://ex ample.com",
        "https://x/\x00",
    ],
    *[
        "https://example.com/\x7f",
        "https://example.com/\u2028",
        "https://example.com/\u202e",
        "https://example.com/<script>",
        'https://x/"',
    ],
    *[
        "https://ex\u00e4mple.com",
        "https://\uff45xample.com",
        "https://example\u3002com",
        "https://\u0430pple.com",
        "https://example.com/\u00e4",
    ],
    *[
        "https://xn--a.com",
        "https://xn--",
        "https://xn--80ak6aa92e-.com",
        "https://a..b",
        "https://.a",
        "https://a.",
        "https://-a.b",
        "https://a-.b",
    ],
    *[
        "https://" + "a" * 64 + ".com",
        "https://" + "a." * 127 + "com",
        "https://example.com/" + "x" * 2048,
        "https://%65xample.com",
        "https://a%00b",
    ],
    *[
        "https://127.1",
        "https://2130706433",
        "https://0x7f.1",
        "https://0177.0.0.1",
        "https://127.0.0.1.",
        "https://1.2.3.4.5",
        "https://256.1.1.1",
    ],
    *[
        "https://0x7f000001",
        "https://a.0x",
        "https://a.1",
        "https://[::1",
        "https://::1",
        "https://[::1%25eth0]",
        "https://[v1.a]",
        "https://[127.0.0.1]",
    ],
    *[
        "https://a:0",
        "https://a:65536",
        "https://a:99999999999",
        "https://a:",
        "https://a:x",
        "https://a:+1",
        "https://a: 1",
        "https://a:1:2",
    ],
]


def test_an_address_has_2048_characters_at_most():
    longest = "https://example.com/".ljust(2048, "x")
    assert urls.parse(longest).host == "example.com"
    with pytest.raises(ValueError, match="more than 2048"):
        urls.parse(longest + "x")


@pytest.mark.parametrize(("url", "host"), GOOD.items())
def test_a_plain_https_address_is_read(url, host):
    assert urls.parse(url).host == host


@pytest.mark.parametrize("url", BAD, ids=lambda url: ascii(url)[:40])
def test_what_a_browser_may_read_in_another_way_is_refused_and_not_repeated(url):
    with pytest.raises(ValueError, match=r"\w") as refused:
        urls.parse(url)
    assert len(url) < 6 or url not in str(refused.value)


def test_http_is_for_those_who_ask_for_it():
    assert urls.parse("http://example.com/x", insecure=True) == urls.ParsedURL("http", "example.com", None)


# What an attacker puts together: pieces of addresses, and anything else.
PIECES = st.sampled_from(
    [
        *[
            "https://",
            "http://",
            "https:",
            "//",
            "/",
            "\\",
            "@",
            ":",
            "?",
            "#",
            "[",
            "]",
            "%",
            ".",
            "..",
            "-",
            "_",
            "xn--",
            "\t",
            "\n",
            " ",
            "\x00",
        ],
        *[
            "example.com",
            "evil.example",
            "127.0.0.1",
            "127.1",
            "0x7f",
            "::1",
            "::ffff:10.0.0.1",
            "user",
            "443",
            "\u3002",
            "\uff0e",
            "\u2100",
            "\ud800",
        ],
    ]
)
ADDRESSES = st.lists(PIECES | st.text(max_size=3), max_size=12).map("".join) | st.lists(
    PIECES, max_size=12
).map(lambda pieces: "https://" + "".join(pieces))


@given(ADDRESSES)
@example("https://example.com" + "/" * 100_000)
@example("https://" + "a." * 100_000)
@example("https://" + "[" * 100_000)
@example("https://" + "xn--" * 500)
def test_whatever_comes_is_read_or_refused_and_quickly(least_cpu_s, url):
    def read():
        with contextlib.suppress(ValueError):
            urls.parse(url)

    assert least_cpu_s(read, 0.05) < 0.05
    urls.runs_code(url)


@given(ADDRESSES | st.from_regex(urls._FORM, fullmatch=True))
def test_what_is_taken_means_the_same_to_urllib_and_to_what_connects(url):
    try:
        form = urls.parse(url, insecure=True)
    except ValueError:
        return
    ours = form.scheme, form.host, form.port or {"https": 443, "http": 80}[form.scheme]
    parts = urlsplit(url)
    assert (parts.username, parts.password) == (None, None)
    host = parts.hostname
    assert (
        parts.scheme,
        str(ipaddress.ip_address(host)) if ":" in host else host,
        parts.port or ours[2],
    ) == ours
    connects = yarl.URL(url)
    assert (connects.scheme, connects.raw_host, connects.port) == ours
    assert connects.user is None


# --- hosts ------------------------------------------------------------------------------------------------------------------------


def test_a_name_stands_for_what_lies_below_it_and_for_nothing_that_only_looks_like_it():
    assert urls.is_within("xendit.co", {"xendit.co"})
    assert urls.is_within("checkout.xendit.co", {"xendit.co"})
    for other in ("evilxendit.co", "xendit.co.evil.example", "xendit", "co", ""):
        assert not urls.is_within(other, {"xendit.co"})


@pytest.mark.parametrize(
    "text",
    [
        "javascript:x",
        " JaVaScRiPt:x",
        "java\tscript:x",
        "\x01data:text/html,x",
        "vbscript:x",
        "blob:x",
        "file:///x",
    ],
)
def test_code_is_told_from_an_address(text):
    assert urls.runs_code(text)


@pytest.mark.parametrize(
    "text",
    [
        "8808 1234 5678",
        "00020101021226",
        "gojek://gopay/merchanttransfer",
        "https://x/?javascript:",
        "database: x",
    ],
)
def test_what_a_payer_needs_is_no_code(text):
    assert not urls.runs_code(text)


# --- addresses --------------------------------------------------------------------------------------------------------------------

PRIVATE = [
    *[
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
    ],
    *[
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
    ],
    *[
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "100::1",
        "fe80::1",
    ],
    *[
        "fe80::1%eth0",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "3fff::1",
        "5f00::1",
    ],
    *["", "localhost", "junk", "127.1", "1" * 100],
]


@pytest.mark.parametrize("address", PRIVATE, ids=lambda address: address[:20] or "nothing")
def test_an_address_that_is_not_public_is_not_connected_to(address):
    with pytest.raises(ValueError, match="not a public address"):
        Reach().check(address)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.1.1.1",
        "172.15.255.255",
        "172.32.0.1",
        "::ffff:8.8.8.8",
        "2606:4700:4700::1111",
        "2a00:1450::1",
    ],
)
def test_a_public_address_is(address):
    Reach().check(address)


@given(st.ip_addresses())
def test_what_python_does_not_call_global_is_not_public_here(address):
    """
    The other way round Python errs: its list of special networks is shorter, and differs between its
    releases.
    """
    try:
        Reach().check(str(address))
    except ValueError:
        return
    mapped = getattr(address, "ipv4_mapped", None) or address
    assert mapped.is_global
    assert not (mapped.is_multicast)
    assert not (mapped.is_private)
    assert not (mapped.is_loopback)
    assert not (mapped.is_link_local)
    assert not (mapped.is_reserved)


def test_a_network_that_the_operator_names_is_within_reach_and_its_neighbour_is_not():
    reach = Reach(networks=(network("10.20.0.0/16"), network("fd12::/64")))
    for address in ("10.20.3.4", "::ffff:10.20.3.4", "fd12::1", "8.8.8.8"):
        reach.check(address)
    for address in ("10.21.0.1", "127.0.0.1", "fd13::1"):
        with pytest.raises(ValueError, match="not a public address"):
            reach.check(address)


def test_sandboxes_are_on_this_machine_and_nowhere_else():
    for address in ("127.0.0.1", "::1"):
        Reach(insecure=True).check(address)
    for address in ("10.0.0.1", "169.254.169.254", "192.168.0.1", "0.0.0.0"):
        with pytest.raises(ValueError, match="not a public address"):
            Reach(insecure=True).check(address)


@pytest.mark.parametrize(
    "url",
    [
        "https://10.0.0.1",
        "https://[::1]/x",
        "https://169.254.169.254/latest",
        "https://x/?a=b",
        "https://x/#a",
    ],
)
def test_what_can_never_be_called_is_refused_before_it_is_tried(url):
    with pytest.raises(ValueError, match="not a public address|without a query"):
        Reach().read(url)
