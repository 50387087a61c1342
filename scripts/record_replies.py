#!/usr/bin/env python3
"""Record the replies of a server for the tests of src/poller/decode.rs, in RESP2 and RESP3.

    scripts/record_replies.py NAME      writes tests/replies/NAME-resp2.bin and NAME-resp3.bin

NAME is a server under target/servers, such as redis-8.10. A test there lists the commands in this order.
"""

import pathlib
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
STREAM = [
    [b"XADD", b"s", b"170000000000%d-0" % n, b"f", b"v" * n, b"bin", b"\xff\x00"] for n in range(1, 6)
]
BEFORE = [
    *STREAM,
    "XGROUP CREATE s g 0",
    "XGROUP CREATE s idle $",
    [b"XGROUP", b"CREATE", b"s", b"\xffraw", b"1700000000003-0"],
    "XGROUP CREATE empty g 0 MKSTREAM",
    "SET text t",
    "XREADGROUP GROUP g alice COUNT 2 STREAMS s >",
    "XREADGROUP GROUP g bob COUNT 1 STREAMS s >",
    "XACK s g 1700000000003-0",
    "XDEL s 1700000000004-0",
    "XGROUP CREATECONSUMER s g carol",
]
RECORDED = [
    "XINFO STREAM s",
    "XINFO GROUPS s",
    "XINFO CONSUMERS s g",
    "XPENDING s g - + 1",
    "XPENDING s idle - + 1",
    "XPENDING s g - (1700000000002-0 1001",
    "XRANGE s (1700000000001-0 1700000000005-0 COUNT 2",
    "XINFO STREAM empty",
    "XINFO GROUPS empty",
    "HELLO",
    "TIME",
    "SCAN 0 COUNT 1000 TYPE stream",
    "XINFO STREAM nokey",
    "XINFO STREAM text",
    "XINFO CONSUMERS s nogroup",
    "XPENDING s nogroup - + 1",
    "XPENDING nokey g - + 1",
]


def main(name):
    folder = ROOT / "target/servers" / name
    program = next(path for path in folder.glob("*-server"))
    with tempfile.TemporaryDirectory() as data:
        path = f"{data}/socket"
        server = subprocess.Popen(
            [program, "--port", "0", "--unixsocket", path, "--save", "", "--dir", data],
            stdout=subprocess.DEVNULL,
        )
        try:
            record(name, path)
        finally:
            server.terminate()
            server.wait()


def record(name, path):
    for command in BEFORE:
        ask(path, command)
    for protocol in ("2", "3"):
        replies = b"".join(ask(path, command, f"HELLO {protocol}") for command in RECORDED)
        (ROOT / f"tests/replies/{name}-resp{protocol}.bin").write_bytes(replies)


def ask(path, command, first="PING"):
    """Send a command on a connection of its own, after another one whose reply is dropped."""
    with socket.socket(socket.AF_UNIX) as connection:
        for _ in range(100):
            try:
                connection.connect(path)
                break
            except OSError:
                time.sleep(0.05)
        exchange(connection, first)
        return exchange(connection, command)


def exchange(connection, command):
    parts = command if isinstance(command, list) else [part.encode() for part in command.split()]
    connection.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
    reply = b""
    # The replies are short, and the server writes each at once.
    connection.settimeout(0.2)
    while True:
        try:
            chunk = connection.recv(65536)
        except TimeoutError:
            return reply
        if not chunk:
            return reply
        reply += chunk


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: scripts/record_replies.py NAME")
    main(sys.argv[1])
