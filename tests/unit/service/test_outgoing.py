"""Nobody reaches our own network by an address that they name, whatever it is made to look like."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Thread

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service import outgoing
from service.errors import AddressRefused, Invalid, TryAgain

PUBLIC = ("93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c")
PRIVATE = {
    "loopback": "127.0.0.1",
    "loopback elsewhere": "127.8.9.1",
    "private": "10.1.2.3",
    "private 172": "172.20.0.1",
    "private 192": "192.168.0.7",
    "shared": "100.64.0.1",
    "link-local, where clouds tell secrets": "169.254.169.254",
    "a cloud's in the shared range": "100.100.100.200",
    "a cloud's in a reserved range": "192.0.0.192",
    "a cloud's with a public number": "168.63.129.16",
    "this host": "0.0.0.0",  # noqa: S104
    "multicast": "224.0.0.1",
    "broadcast": "255.255.255.255",
    "benchmarks": "198.18.0.1",
    "IPv6 loopback": "::1",
    "IPv6 of nothing": "::",
    "IPv6 link-local": "fe80::1",
    "IPv6 link-local with its link": "fe80::1%1",
    "IPv6 site-local": "fec0::1",
    "IPv6 of one's own": "fd00:ec2::254",
    "IPv6 multicast": "ff02::1",
    "IPv4 in IPv6, mapped": "::ffff:127.0.0.1",
    "IPv4 in IPv6, compatible": "::127.0.0.1",
    "IPv4 in IPv6, NAT64": "64:ff9b::7f00:1",
    "IPv4 in IPv6, 6to4": "2002:7f00:1::",
    "IPv4 in IPv6, Teredo": "2001:0:4136:e378:8000:63bf:3fff:fdd2",
}


@pytest.fixture
def connected(monkeypatch) -> list[str]:
    """The addresses that connections were made to; none of them is."""
    made: list[str] = []

    def connect(_self, host, _port, **_):
        made.append(host)
        raise httpcore.ConnectError

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect)
    # Reading all authorities takes a while, and nobody is asked for a certificate here.
    monkeypatch.setattr(ssl, "create_default_context", lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    return made


@pytest.fixture
def names(monkeypatch) -> Callable[..., None]:
    """Have every name lead to these addresses, in turn."""

    def lead(*turns: tuple[str, ...]) -> None:
        left = list(turns)
        genuine = socket.getaddrinfo

        def resolve(host, port, *more, **options):
            if host[0].isdecimal():  # an address is its own
                return genuine(host, port, *more, **options)
            found = left.pop(0)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

        monkeypatch.setattr(outgoing.socket, "getaddrinfo", resolve)

    return lead


BODY = b"{}"


def send(url: str, **more) -> int:
    return outgoing.post(url, BODY, {}, **{"seconds": 5} | more)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_name_that_leads_to_a_public_address_is_connected_to(names, connected, address):
    names((address,))
    with pytest.raises(TryAgain):
        send("https://hooks.example/x")
    assert connected == [address]


@pytest.mark.parametrize("address", PRIVATE.values(), ids=PRIVATE)
def test_a_name_that_leads_to_an_address_of_ours_is_not(names, connected, address):
    names((address,))
    with pytest.raises(AddressRefused, match="not a public address"):
        send("https://hooks.example/x")
    assert connected == []


@pytest.mark.parametrize("address", PRIVATE.values(), ids=PRIVATE)
def test_an_address_of_ours_is_refused_before_anything_is_sent(address):
    host = f"[{address}]" if ":" in address else address
    with pytest.raises((AddressRefused, Invalid)):
        outgoing.check_url(f"https://{host}/x", may_loop_back=False)


def test_one_private_address_among_public_ones_is_enough(names, connected):
    names((PUBLIC[0], "10.0.0.1"))
    with pytest.raises(AddressRefused):
        send("https://hooks.example/x")
    assert connected == []


def test_a_name_that_leads_elsewhere_a_moment_later_does_not_help(names, connected):
    names((PUBLIC[0],), ("127.0.0.1",))
    with pytest.raises(TryAgain):
        send("https://hooks.example/x")
    assert connected == [PUBLIC[0]]


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "localhost", "localhost."])
def test_loopback_in_another_spelling_is_loopback(connected, host):
    with pytest.raises((AddressRefused, Invalid, TryAgain)):
        send(f"https://{host}/x")
    assert connected == []


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/x",
        "ftp://hooks.example/x",
        "file:///etc/passwd",
        "gopher://hooks.example/x",
        "https://",
        "https:///x",
        "//hooks.example/x",
        "https://user:word@hooks.example/x",
        "https://hooks.example@127.0.0.1/x",
        "https://hooks.example\\@127.0.0.1/x",
        "https://hooks.example/x#y",
        "https://hooks.example:99999/x",
        "https://[::1/x",
        "https://hooks.example/x y",
        "https://hooks.example/x\r\nHost: other",
        "https://höoks.example/x",
        "https://hooks.example/" + "x" * 500,
    ],
)
def test_what_is_no_plain_https_address_is_refused(names, connected, url):
    names((PUBLIC[0],))
    with pytest.raises(Invalid):
        send(url)
    assert connected == []


def test_a_plain_https_address_is_not_refused():
    outgoing.check_url("https://hooks.example:8443/x?y=z", may_loop_back=False)


def test_without_tls_only_this_machine_is_sent_to_and_only_where_a_setting_says_so(names, connected):
    names((PUBLIC[0],))
    with pytest.raises(AddressRefused, match="without TLS"):
        send("http://hooks.example/x", may_loop_back=True)
    with pytest.raises(Invalid):
        send("http://127.0.0.1/x")
    names(("127.0.0.1",))
    with pytest.raises(TryAgain):
        send("http://127.0.0.1/x", may_loop_back=True)
    assert connected == ["127.0.0.1"]


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server on loopback for one connection; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                answer(connection)

        thread = Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def drip(connection: socket.socket, *, letters: int | None) -> None:
    """Answer, but with a letter of the next header every few milliseconds, for ever unless they are counted."""
    connection.recv(65_536)
    connection.settimeout(0.01)
    sent = 0
    try:
        connection.sendall(b"HTTP/1.1 204 No Content\r\nX: ")
        while letters is None or sent < letters:
            connection.sendall(b"x")
            sent += 1
            try:
                if not connection.recv(1):
                    return
            except TimeoutError:
                continue
        connection.sendall(b"\r\n\r\n")
    except OSError:
        return


def test_an_answer_that_drips_ends_by_the_deadline_though_no_single_read_is_late():
    with serving(lambda connection: drip(connection, letters=None)) as port, pytest.raises(TryAgain):
        send(f"http://127.0.0.1:{port}/", seconds=0.3, may_loop_back=True)


def test_an_answer_that_drips_and_ends_in_time_is_heard():
    with serving(lambda connection: drip(connection, letters=5)) as port:
        assert send(f"http://127.0.0.1:{port}/", seconds=10, may_loop_back=True) == 204


@pytest.mark.parametrize(
    "said", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 204 No\r\n" + b"x" * 200_000]
)
def test_what_is_no_answer_is_none(said):
    def lie(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(said)

    with serving(lie) as port, pytest.raises(TryAgain):
        send(f"http://127.0.0.1:{port}/", may_loop_back=True)


def test_a_body_without_an_end_is_not_read():
    def flood(connection: socket.socket) -> None:
        connection.recv(65_536)
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                connection.sendall(b"x" * 65_536)
        except OSError:
            return

    with serving(flood) as port:
        assert send(f"http://127.0.0.1:{port}/", may_loop_back=True) == 200


@pytest.mark.parametrize(("name", "is_heard"), [("hooks.example", True), ("other.example", False)])
def test_the_connection_that_was_pinned_is_to_whom_the_certificate_names(
    names, tmp_path, monkeypatch, name, is_heard
):
    certificate = _certificate(tmp_path, "hooks.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, host, _context: asked.append(host)
    heard: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        try:
            with context.wrap_socket(connection, server_side=True) as wrapped:
                said = b""
                # To close with something unread resets the connection, and may take the answer with it.
                while not said.endswith(BODY) and (part := wrapped.recv(65_536)):
                    said += part
                heard.append(said)
                wrapped.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        except OSError:
            return

    names(("127.0.0.1",))
    with serving(answer) as port:
        url = f"https://{name}:{port}/x"
        if is_heard:
            assert send(url, may_loop_back=True) == 204
            assert f"Host: {name}:{port}".encode() in heard[0]
        else:
            with pytest.raises(TryAgain):
                send(url, may_loop_back=True)
    assert asked == [name]
    assert bool(heard) == is_heard


def _certificate(folder, name: str):
    """A key and a certificate that it signs itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "certificate.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path
