"""Sending an event to a stranger's URL without lending him our place in the network.

Theory: whoever subscribes names a URL, and the request comes from this host, which may reach what he may not. So a name
is resolved here, every address is looked at, and the connection goes to an address that was looked at and not to the
name again. Only public addresses are good, and those of `webhook_networks`. Redirects are not followed: a redirect is
another URL. Of the answer only the status is read, within a time limit for the whole of it.

When and what is sent: feed/sinks.py.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from holdfast.clock import SYSTEM
from holdfast.errors import SettingInvalid, UsageError, WebhookRefused

URL_CHARS_MAX: Final = 2048
STATUS_BYTES_MAX: Final = 16_384
SECRET_PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32
#: Public by their number, and a way to private ones: NAT64, 6to4, Teredo.
_TUNNELS: Final = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))
_PORTS: Final = {"http": 80, "https": 443}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Place(NamedTuple):
    """A URL, taken apart."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def networks(text: str | None) -> tuple[Network, ...]:
    """The setting `webhook_networks`. Raises: SettingInvalid."""
    try:
        return tuple(ipaddress.ip_network(word.strip()) for word in (text or "").split(",") if word.strip())
    except ValueError as error:
        raise SettingInvalid(f"webhook_networks is networks with commas between, as 10.1.0.0/16: {error}") from None


def place(url: str) -> Place:
    """Raises: WebhookRefused: it is none that events are sent to."""
    if len(url) > URL_CHARS_MAX or not url.isascii() or not url.isprintable() or " " in url:
        raise WebhookRefused(f"a webhook's URL is at most {URL_CHARS_MAX} visible ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise WebhookRefused(f"that is no URL: {error}") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise WebhookRefused("a webhook's URL is http://HOST… or https://HOST…")
    if parts.username is not None or parts.password is not None:
        raise WebhookRefused("a webhook's URL holds no password: check the signature of what comes instead")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Place(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], path)


def addresses(at: Place, allowed: Sequence[Network]) -> list[str]:
    """Where the place is, as far as events may be sent there. Raises: WebhookRefused; OSError: no such name."""
    try:
        infos = socket.getaddrinfo(at.host, at.port, type=socket.SOCK_STREAM)
    except UnicodeError:  # a part of it is empty, or too long
        raise WebhookRefused(f"{at.host[:80]} is no host name") from None
    found = list(dict.fromkeys(each[4][0] for each in infos))
    good = [str(each) for each in found if may_reach(ipaddress.ip_address(str(each).partition("%")[0]), allowed)]
    if not good:
        raise WebhookRefused(
            f"{at.host} is at an address that is not public: an operator may allow it (webhook_networks)"
        )
    return good


def may_reach(address: Address, allowed: Sequence[Network]) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in allowed if network.version == address.version):
        return True
    if any(address in network for network in _TUNNELS if network.version == address.version):
        return False
    return address.is_global and not address.is_multicast


def new_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(SYSTEM.random_bytes(SECRET_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """Raises: UsageError: it is no secret as Standard Webhooks has them."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not 24 <= len(key) <= 64:
        raise UsageError(f"a webhook's secret is {SECRET_PREFIX} and 24 to 64 bytes in base64; leave it out to get one")
    return key


def signed(secret: str, id: str, at: float, body: bytes) -> dict[str, str]:
    """The headers by which the receiver knows that it was us, and when, as Standard Webhooks has them."""
    moment = str(int(at))
    digest = hmac.new(key_of(secret), b".".join((id.encode(), moment.encode(), body)), hashlib.sha256).digest()
    return {
        "webhook-id": id,
        "webhook-timestamp": moment,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def post(url: str, headers: Mapping[str, str], body: bytes, *, timeout_s: float, allowed: Sequence[Network]) -> int:
    """The status of the answer. Raises: WebhookRefused; OSError: there was none, or no way."""
    end = SYSTEM.monotonic() + timeout_s
    at = place(url)
    connection = _Pinned(at, addresses(at, allowed), end)
    try:
        connection.putrequest("POST", at.path, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": at.host_header, "Connection": "close", **headers}.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        assert connection.sock is not None
        return _status(connection.sock, end)
    except http.client.HTTPException as error:
        raise OSError(f"not sent: {error}") from None
    finally:
        connection.close()


class _Pinned(http.client.HTTPConnection):
    """A connection to addresses that were looked at. `end`: of the time for all of them together, because whose name
    it is says how many there are."""

    def __init__(self, at: Place, addresses: Sequence[str], end: float) -> None:
        super().__init__(at.host, at.port)
        self._at = at
        self._end = end
        self._addresses = addresses

    def connect(self) -> None:
        sock = self._connected()
        if self._at.scheme == "https":
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=self._at.host)
        self.sock = sock

    def _connected(self) -> Any:
        failed: OSError | None = None
        for address in self._addresses:
            left = self._end - SYSTEM.monotonic()
            if left <= 0:
                raise TimeoutError("no connection in time")
            try:
                return socket.create_connection((address, self._at.port), left)
            except OSError as error:
                failed = error
        raise failed or OSError("it has no address")


def _status(sock: socket.socket, end: float) -> int:
    """Of the final answer. Its headers and body are nobody's business."""
    said = b""
    while True:
        while b"\r\n" not in said:
            left = end - SYSTEM.monotonic()
            if left <= 0:
                raise TimeoutError("no answer in time")
            sock.settimeout(left)
            chunk = sock.recv(4096)
            if not chunk or len(said) > STATUS_BYTES_MAX:
                raise OSError("it gave no answer in HTTP")
            said += chunk
        words = said.partition(b"\r\n")[0].split()
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
            raise OSError("it gave no answer in HTTP")
        status = int(words[1])
        if status >= 200:
            return status
        _, border, said = said.partition(b"\r\n\r\n")  # 100 Continue: the answer is behind it
        if not border:
            raise OSError("it gave no answer in HTTP")
