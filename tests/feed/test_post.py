"""Where events may be sent, and how the receiver knows that it was us."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from holdfast.errors import SettingInvalid, UsageError, WebhookRefused
from holdfast.feed import post

LOOPBACK = post.networks("127.0.0.0/8, ::1/128")


@pytest.mark.parametrize(
    ("address", "may"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("172.16.3.4", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),  # where clouds keep their secrets
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_only_public_addresses_are_reached(address: str, may: bool) -> None:
    assert post.may_reach(ipaddress.ip_address(address), ()) is may


def test_an_operator_may_allow_others() -> None:
    allowed = post.networks("10.1.0.0/16")
    assert post.may_reach(ipaddress.ip_address("10.1.2.3"), allowed)
    assert not post.may_reach(ipaddress.ip_address("10.2.2.3"), allowed)
    assert post.networks(None) == ()
    with pytest.raises(SettingInvalid, match="webhook_networks"):
        post.networks("everywhere")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "http://",
        "example.com",
        "http://user:word@example.com/",
        "http://example.com:port/",
        "http://example.com/\r\nHost: x",
        "http://exämple.com/",
        "http://[::1/",
        "http://example.com/" + "x" * 2048,
    ],
)
def test_what_is_no_url_for_this(url: str) -> None:
    with pytest.raises(WebhookRefused):
        post.place(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "http://localhost:1/", "http://[::1]/", "http://2130706433/"])
def test_a_private_place_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(WebhookRefused, match="not public"):
        post.post(url, {}, b"", timeout_s=1, allowed=())


@pytest.mark.parametrize("url", ["http://a..b/", "http://" + "x" * 70 + ".com/"])
def test_what_is_no_host_name(url: str) -> None:
    with pytest.raises(WebhookRefused, match="is no host name"):
        post.post(url, {}, b"", timeout_s=1, allowed=())


@contextmanager
def answering(said: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that says this to whoever comes first."""
    heard: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            data = b""
            while b"\r\n\r\n{}" not in data:
                data += connection.recv(4096)
            heard.append(data)
            connection.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/hook?a=1", heard
        thread.join()


def test_a_request_and_its_answer() -> None:
    with answering(b"HTTP/1.1 204 No Content\r\n\r\n") as (url, heard):
        assert post.post(url, {"X-One": "1"}, b"{}", timeout_s=5, allowed=LOOPBACK) == 204
    lines = heard[0].decode().split("\r\n")
    assert lines[0] == "POST /hook?a=1 HTTP/1.1"
    assert {"X-One: 1", "Connection: close", "Content-Length: 2"} <= set(lines)
    assert f"Host: {url.split('/')[2]}" in lines


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", 302),  # and it is not followed
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", 200),
        (b"HTTP/1.0 500 Oh\r\n", 500),
    ],
)
def test_only_the_status_of_an_answer_is_read(said: bytes, status: int) -> None:
    with answering(said) as (url, _):
        assert post.post(url, {}, b"{}", timeout_s=5, allowed=LOOPBACK) == status


@pytest.mark.parametrize("said", [b"", b"hello\r\n", b"HTTP/1.1\r\n", b"x" * 40_000])
def test_what_is_no_answer_is_an_error(said: bytes) -> None:
    with answering(said) as (url, _), pytest.raises(OSError, match=r"no answer|reset"):
        post.post(url, {}, b"{}", timeout_s=5, allowed=LOOPBACK)


def test_a_receiver_that_says_nothing_is_not_waited_for_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(TimeoutError):
        post.post(f"http://127.0.0.1:{listener.getsockname()[1]}/", {}, b"{}", timeout_s=0.2, allowed=LOOPBACK)


def test_a_name_of_many_addresses_is_not_tried_for_long() -> None:
    """Whose name it is says how many there are, and that none of them answers."""
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        at = post.place(f"http://many.example:{full.getsockname()[1]}/")
        connection = post._Pinned(at, ["127.0.0.1"] * 50, began + 0.3)
        with pytest.raises(TimeoutError):
            connection.connect()
    assert 0.2 < time.monotonic() - began < 2


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """Checked as a receiver does, by the description alone."""
    secret = post.new_secret()
    headers = post.signed(secret, "evt_7", 1700000000.9, b'{"a":1}')
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("evt_7", "1700000000")
    key = base64.b64decode(secret.removeprefix("whsec_"))
    wanted = hmac.new(key, b'evt_7.1700000000.{"a":1}', hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(wanted).decode()
    assert len(key) == 32


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!!", "abc", "whsec_" + base64.b64encode(b"short").decode()])
def test_what_is_no_secret(secret: str) -> None:
    with pytest.raises(UsageError, match="whsec_"):
        post.key_of(secret)
