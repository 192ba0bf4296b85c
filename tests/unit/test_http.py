"""What reaches a gateway plugin, whatever the far side does: tried against a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import socketserver
import ssl
import struct
import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from paytrust.contract.http import GatewayHTTP, new_client
from paytrust.errors import GatewayRejected, GatewayUnavailable, OutcomeUnknown
from paytrust.security import redaction
from paytrust.security.access import network
from paytrust.security.urls import Reach


@contextlib.asynccontextmanager
async def answering(*chunks, pause_s=0.0, reset=False):
    """A server that reads a request and writes *chunks*, then closes or resets the connection."""
    seen = []

    class Far(socketserver.StreamRequestHandler):
        def handle(self):
            head = list(iter(self.rfile.readline, b"\r\n"))
            length = next(
                (int(line.split(b":")[1]) for line in head if line.lower().startswith(b"content-length")), 0
            )
            seen.append(b"".join(head) + self.rfile.read(length))
            for chunk in chunks:
                self.request.sendall(chunk)
                time.sleep(pause_s)
            if reset:
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        def finish(self):
            with contextlib.suppress(OSError):
                super().finish()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, request, client_address):
            """The client left: that is what some of these tests are about."""

    with Server(("127.0.0.1", 0), Far) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        try:
            async with new_client(Reach(insecure=True)) as client:
                http = GatewayHTTP(
                    client,
                    gateway="far",
                    base_url=f"http://127.0.0.1:{server.server_address[1]}/",
                    headers={"authorization": "Basic secret"},
                    explain=lambda answer: answer.json(dict)["why"],
                    deadline_s=0.6,
                )
                yield http, seen
        finally:
            server.shutdown()


def response(status, body=b"{}", *headers):
    head = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


async def test_a_reason_that_repeats_a_secret_is_quoted_without_it():
    """Providers do: "the API key xnd_... is not valid"."""
    redaction.register_secret("planted-in-a-reason")
    body = b'{"why": "planted-in-a-reason is no key, and Basic cGxhbnRlZDo= is not either"}'
    async with answering(response(401, body)) as (http, _):
        with pytest.raises(GatewayRejected) as refused:
            await http.get("/")
    assert refused.value.detail.endswith("HTTP 401: [removed] is no key, and Basic [removed] is not either")


async def test_a_good_answer_comes_back_with_exact_numbers():
    async with answering(response(200, b'{"amount": 0.1}')) as (http, seen):
        answer = await http.post(
            "/x", json={"amount": Decimal("19.99"), "name": "é"}, headers={"x-extra": "1"}
        )
    assert answer.json(dict[str, Decimal]) == {"amount": Decimal("0.1")}
    request = seen[0].lower()
    assert b'{"amount":19.99,"name":"\xc3\xa9"}' in request
    for header in (
        b"authorization: basic secret",
        b"accept-encoding: identity",
        b"content-type: application/json",
        b"x-extra: 1",
    ):
        assert header in request


BROKEN = {
    "a server error": ([response(500)], {}),
    "a redirect": ([response(302, b"", "location: http://127.0.0.1:1/")], {}),
    "no answer at all": ([], {}),
    "a reset": ([], {"reset": True}),
    "a body cut short": ([b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"], {}),
    "a body that drips": (
        [b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", *[b"x"] * 50],
        {"pause_s": 0.1},
    ),
    "something that is no HTTP": ([b"hello\r\n\r\n"], {}),
    "a broken chunk": ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"], {}),
    "a broken chunk after a good one": (
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n", b"zz\r\n"],
        {"pause_s": 0.05},
    ),
    "two lengths": ([b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"], {}),
    "endless headers": ([b"HTTP/1.1 200 OK\r\n", *[b"x-many: " + b"x" * 8_000 + b"\r\n"] * 100], {}),
    "a header that never ends": ([b"HTTP/1.1 200 OK\r\nx-long: ", *[b"x" * 100_000] * 50], {}),
    "a change of protocol": (
        [b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"],
        {},
    ),
    "provisional answers for ever": ([b"HTTP/1.1 100 Continue\r\n\r\n"] * 50, {"pause_s": 0.05}),
    "a compressed body": ([response(200, gzip.compress(b"0" * 10_000_000), "content-encoding: gzip")], {}),
    "a huge body": ([b"HTTP/1.1 200 OK\r\ncontent-length: 50000000\r\n\r\n", *[b"x" * 1_000_000] * 50], {}),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_a_write_that_may_have_arrived_has_an_unknown_outcome_and_a_read_may_be_repeated(what):
    chunks, options = BROKEN[what]
    started = time.monotonic()
    async with answering(*chunks, **options) as (http, _):
        with pytest.raises(OutcomeUnknown):
            await http.post("/x", json={})
        with pytest.raises(GatewayUnavailable):
            await http.get("/x")
    assert time.monotonic() - started < 2.5


async def test_what_never_left_us_is_unavailable():
    async with new_client(Reach(insecure=True)) as client:
        http = GatewayHTTP(
            client, gateway="far", base_url="http://127.0.0.1:1", headers={}, explain=lambda _: None
        )
        with pytest.raises(GatewayUnavailable, match="no connection"):
            await http.post("/x", json={})


async def test_a_connection_that_was_closed_behind_our_back_is_not_used_again():
    async with answering(response(200)) as (http, seen):
        for _ in range(10):
            await http.post("/x", json={})
            time.sleep(0.05)  # noqa: ASYNC251 - the loop is busy while the far side, which said nothing of it, closes the connection
    assert len(seen) == 10


async def test_a_read_that_breaks_on_a_kept_connection_is_sent_once():
    asked = []

    async def far(reader, writer):
        for answer in (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", b""):
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(far, "127.0.0.1", 0)
    async with server, new_client(Reach(insecure=True)) as client:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        http = GatewayHTTP(client, gateway="far", base_url=url, headers={}, explain=lambda _: None)
        await http.get("/x")
        with pytest.raises(GatewayUnavailable):
            await http.get("/x")
    assert len(asked) == 2


async def test_throttling_is_unavailable():
    async with answering(response(429)) as (http, _):
        with pytest.raises(GatewayUnavailable, match="429"):
            await http.post("/x", json={})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"why": "too small"}', "too small"),
        (b"<html>", "no readable reason"),
        (b'{"why": null}', "no reason"),
    ],
)
async def test_a_refusal_carries_the_gateways_reason(body, reason):
    async with answering(response(400, body)) as (http, _):
        with pytest.raises(GatewayRejected, match=reason):
            await http.post("/x", json={})


async def test_a_status_the_plugin_expects_is_an_answer():
    async with answering(response(404)) as (http, _):
        assert (await http.get("/x", answers={404})).status == 404


async def test_no_credential_is_in_an_error():
    async with answering(response(500)) as (http, _):
        with pytest.raises(OutcomeUnknown) as caught:
            await http.post("/x", json={"secret": "value"})
    assert "secret" not in str(caught.value)


async def test_behind_a_certificate_nobody_vouches_for_nothing_is_sent(tmp_path):
    seen = []

    async def far(reader, writer):
        seen.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(far, "127.0.0.1", 0, ssl=self_signed(tmp_path))
    async with server, new_client(Reach(insecure=True)) as client:
        port = server.sockets[0].getsockname()[1]
        http = GatewayHTTP(
            client, gateway="far", base_url=f"https://localhost:{port}", headers={}, explain=lambda _: None
        )
        with pytest.raises(GatewayUnavailable, match="no connection"):
            await http.post("/x", json={"secret": "value"})
    assert b"".join(seen) == b""


def self_signed(folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), today, today + timedelta(days=1)
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "pair.pem").write_bytes(secret + certificate.public_bytes(Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "pair.pem")
    return context


async def test_a_request_that_cannot_be_written_is_an_error_of_ours():
    async with answering(response(200)) as (http, _):
        with pytest.raises(OutcomeUnknown):
            await http.post("/x", json={}, headers={"x-bad": "a\r\nb: c"})


async def test_no_cookie_wanders_from_one_account_to_another():
    async with answering(
        response(200, b"{}", "set-cookie: session=of-the-first; path=/", "connection: close")
    ) as (http, seen):
        await http.post("/x", json={})
        await http.post("/x", json={})
    assert b"cookie" not in seen[1].lower()


# --- where it connects to ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def local():
    """A server of this machine that a call must not reach: its port, and who has connected."""
    met = []

    async def meet(reader, writer):
        met.append(writer.get_extra_info("peername"))
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response(200))
        writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], met


@pytest.fixture
def dns(monkeypatch):
    """
    A name server of the attacker's: `dns["far.example"]` holds one list of addresses for each time it is
    asked; the last one stays.
    """
    answers = {}
    real = socket.getaddrinfo

    def resolve(host, port, *how, **more):
        if host not in answers:
            return real(host, port, *how, **more)
        addresses = answers[host].pop(0) if len(answers[host]) > 1 else answers[host][0]
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return answers


async def call(reach, base_url):
    async with new_client(reach) as client:
        return await GatewayHTTP(
            client, gateway="far", base_url=base_url, headers={}, explain=lambda _: None, deadline_s=5
        ).post("/x", json={})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_this_machine_is_not_called(local, host):
    port, met = local
    with pytest.raises(GatewayUnavailable, match="no connection"):
        await call(Reach(), f"https://{host}:{port}")
    assert met == []


async def test_a_name_that_changes_its_mind_is_looked_at_when_it_is_connected_to(local, dns):
    """DNS rebinding: what it stood for when the account was made says nothing."""
    port, met = local
    dns["far.example"] = [["93.184.215.14"], ["127.0.0.1"]]
    base_url = f"https://far.example:{port}"
    Reach().read(base_url)
    Reach().check(socket.getaddrinfo("far.example", port)[0][4][0])
    with pytest.raises(GatewayUnavailable, match="no connection"):
        await call(Reach(), base_url)
    assert met == []


async def test_of_several_addresses_only_those_within_reach_are_tried(local, dns):
    port, met = local
    dns["far.example"] = [["169.254.169.254", "10.0.0.1", "127.0.0.1"]]
    started = time.monotonic()
    assert (await call(Reach(insecure=True), f"http://far.example:{port}")).status == 200
    assert len(met) == 1
    assert time.monotonic() - started < 3, "the others were tried as well"


async def test_http_is_not_spoken_unless_it_is_allowed(local):
    port, met = local
    with pytest.raises(GatewayUnavailable):
        await call(Reach(networks=(network("127.0.0.0/8"),)), f"http://127.0.0.1:{port}")
    assert met == []


async def test_a_network_that_the_operator_allows_is_called(local):
    """By https, so the connection comes about and the handshake fails: here nobody speaks TLS."""
    port, met = local
    with pytest.raises(GatewayUnavailable):
        await call(Reach(networks=(network("127.0.0.1"),)), f"https://127.0.0.1:{port}")
    assert len(met) == 1


async def test_proxies_of_the_environment_are_not_used(local, monkeypatch):
    port, met = local
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    with pytest.raises(GatewayUnavailable):
        await call(Reach(), "https://127.0.0.1:1")
    assert met == []
