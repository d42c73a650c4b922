"""Addresses, and what answers there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from familyseer.errors import UserError
from familyseer.fleet import _tracker as tracker_module
from familyseer.fleet import check_fleet, parse_tracker
from tests.familyseer.fleet.conftest import free_port


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:9190", ("localhost", 9190)),
        (" 10.0.0.7:1 ", ("10.0.0.7", 1)),
        ("[::1]:9190", ("::1", 9190)),
    ],
)
def test_addresses_are_read(text: str, address: tuple[str, int]) -> None:
    assert parse_tracker(text) == address


@pytest.mark.parametrize(
    "text", ["", "host", ":9190", "host:", "host:0", "host:65536", "host:x", "::1:9190", "host:²"]
)
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="expected HOST:PORT"):
        parse_tracker(text)


def test_nobody_at_the_address_is_told() -> None:
    port = free_port()
    with pytest.raises(UserError, match=f"127.0.0.1:{port}: .*refused.*expected a TVM RPC tracker"):
        check_fleet(f"127.0.0.1:{port}", "key")


@contextmanager
def listener(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def test_a_server_of_something_else_is_told_from_a_tracker() -> None:
    with (
        listener(lambda c: c.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port,
        pytest.raises(UserError, match="no tracker's greeting; expected a TVM RPC tracker"),
    ):
        check_fleet(f"127.0.0.1:{port}", "key")


def test_silence_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker_module, "ANSWER_S", 0.2)
    # accepted, and then nothing until the client hangs up
    with (
        listener(_read_to_the_end) as port,
        pytest.raises(UserError, match="no tracker's greeting"),
    ):
        check_fleet(f"127.0.0.1:{port}", "key")


def _read_to_the_end(connection: socket.socket) -> None:
    connection.settimeout(60)
    while connection.recv(1024):
        pass
