"""A TCP proxy in front of the service, which can lose an answer: the request arrives, is carried out and answered, and
the client sees nothing but a broken connection. As it happens with every real network now and then.
"""

from __future__ import annotations

import socket
import struct
import threading


class Proxy:
    """A context manager. It passes everything on, until it is told to lose an answer."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lost: list[bytes] = []  # the answers that nobody got
        self._losing = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone would leave the thread in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def lose_next(self) -> None:
        """Lose the next answer."""
        with self._lock:
            self._losing += 1

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                self._carry(client)

    def _carry(self, client: socket.socket) -> None:
        """One request with `Connection: close`, one answer."""
        with socket.create_connection(("127.0.0.1", self._behind), timeout=30) as service:
            upward = threading.Thread(target=_pump, args=(client, service), daemon=True)
            upward.start()
            answer = bytearray()
            while data := service.recv(65536):
                answer += data
            with self._lock:
                losing, self._losing = self._losing > 0, max(0, self._losing - 1)
            if losing:
                self.lost.append(bytes(answer))
                # RST: the client can't take this for the end of an answer.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                client.sendall(answer)
            # While a thread waits in recv(), a socket that is closed isn't: let it go first.
            client.shutdown(socket.SHUT_RD)
            upward.join(5)


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass  # one of the two has gone, which the other side sees
