"""Addresses, and the counting that keeps the audit small."""

from __future__ import annotations

from uuid import uuid4

import pytest

from paytrust.errors import Invalid
from paytrust.keys import model
from paytrust.keys.model import Action, Audited, Reason, Tally
from paytrust.security.access import Caller, client_address, contains, network

PROXIES = (network("10.0.0.0/8"), network("2001:db8:ffff::/48"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),  # whoever is no proxy of ours may write what he likes
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1, 203.0.113.9, 10.2.2.2"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1", "203.0.113.9", "10.2.2.2"], "203.0.113.9"),
        ("10.0.0.1", ["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        ("10.0.0.1", ["203.0.113.9, junk"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, junk, 10.2.2.2"], "10.2.2.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [",,,"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["2001:DB8:0::1"], "2001:db8::1"),
        ("10.0.0.1", ["fe80::1%<script>"], "10.0.0.1"),
        ("10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("2001:db8:ffff::1", ["203.0.113.9"], "203.0.113.9"),
        ("fe80::1%eth0", ["203.0.113.9"], "fe80::1"),
        ("10.0.0.1", ["0" * 60_000], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.1," * 5_000 + "203.0.113.9"], "203.0.113.9"),
        ("testclient", ["203.0.113.9"], None),
        (None, ["203.0.113.9"], None),
        ("", [], None),
    ],
)
def test_the_client_is_the_right_most_address_that_no_proxy_of_ours_has(peer, forwarded, client):
    assert client_address(peer, forwarded, PROXIES) == client


def test_without_trusted_proxies_nobody_is_believed():
    assert client_address("127.0.0.1", ["203.0.113.9"], ()) == "127.0.0.1"


@pytest.mark.parametrize("address", [None, "", "junk", "2001:db8::1", "192.0.3.1"])
def test_an_address_that_is_none_lies_in_no_network(address):
    assert not contains([network("192.0.2.0/24")], address)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1",
        "192.0.2.1/24",
        "192.0.2.0/33",
        "192.0.2.0/-1",
        "010.0.0.1",
        "192.0.2.0/24 ",
        "fe80::%eth0/64",
        "*",
    ],
)
def test_what_is_no_network_is_refused_with_a_pointer(text):
    with pytest.raises(Invalid) as caught:
        model.normalised(["192.0.2.0/24", text])
    assert [error.pointer for error in caught.value.errors] == ["#/allowed_addresses/1"]


def test_networks_are_written_in_one_form_and_once():
    assert model.normalised(["192.0.2.1", "2001:DB8::/32", "192.0.2.1/32"]) == [
        "192.0.2.1/32",
        "2001:db8::/32",
    ]


def used(address="192.0.2.1"):
    return Audited(Action.USED, "api_key:1", address)


def test_a_thing_is_written_at_once_and_then_once_in_a_window():
    tally = Tally(limit=10, window_s=60)
    tally.note(used(), "r1", now_s=0)
    assert [entry.times for entry in tally.take(now_s=1)] == [1]
    for now_s in range(2, 59):
        tally.note(used(), f"r{now_s}", now_s=now_s)
        assert tally.take(now_s=now_s) == []
    [entry] = tally.take(now_s=61)
    assert (entry.times, entry.request_id, entry.age_s) == (57, "r2", 59)
    assert tally.take(now_s=200) == []


def test_nothing_is_lost_when_the_process_ends():
    tally = Tally(limit=10, window_s=60)
    tally.note(used(), None, now_s=0)
    tally.take(now_s=0)
    tally.note(used(), None, now_s=1)
    assert [entry.times for entry in tally.take(now_s=2, everything=True)] == [1]


def test_what_could_not_be_written_is_taken_again_with_what_came_meanwhile():
    tally = Tally(limit=10, window_s=60)
    tally.note(used(), "r1", now_s=0)
    taken = tally.take(now_s=1)
    tally.note(used(), "r2", now_s=2)
    tally.give_back(taken, now_s=3)
    [entry] = tally.take(now_s=4)
    assert (entry.times, entry.request_id) == (2, "r1")


def test_an_attacker_with_many_addresses_fills_neither_memory_nor_disk():
    tally = Tally(limit=100, window_s=60)
    for n in range(10_000):
        tally.note(
            model.refused(Reason.UNKNOWN_KEY, Caller("anonymous", f"10.0.{n // 256}.{n % 256}")),
            None,
            now_s=n / 1_000,
        )
    entries = tally.take(now_s=10)
    assert len(entries) == len(tally._counts) == 101
    assert sum(entry.times for entry in entries) == 10_000
    assert [entry.times for entry in entries if entry.about.address is None] == [9_900]
    assert tally.take(now_s=1_000) == []
    assert tally._counts == {}, "what is over is forgotten"


def test_an_unknown_callers_ipv6_addresses_count_as_one_subscriber_and_a_known_keys_do_not():
    caller = Caller("anonymous", "2001:db8:1:2:3:4:5:6")
    assert model.refused(Reason.UNKNOWN_KEY, caller).address == "2001:db8:1:2::/64"
    known = model.refused(Reason.REVOKED_KEY, caller, tenant_id=uuid4(), key_id=uuid4())
    assert known.address == caller.address


def test_a_fingerprint_tells_admin_keys_apart_and_needs_the_pepper():
    assert (
        len(
            {
                model.fingerprint("pepper", "one"),
                model.fingerprint("pepper", "two"),
                model.fingerprint("other", "one"),
            }
        )
        == 3
    )
