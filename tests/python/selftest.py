#!/usr/bin/env python3
"""Self test of the peer: its checks fail on bad input, and its client and server get on together.

    selftest.py [FRAMES_JSON]    (the default is chat-core/tests/vectors/frames.json)
"""

import os
import socket
import subprocess
import sys
import tempfile
import unittest

import vectors
import wire
from link import Link
from wire import Frame, PeerError

HERE = os.path.dirname(os.path.abspath(__file__))
PEER = [sys.executable, os.path.join(HERE, "peer.py")]
FRAMES = os.path.join(HERE, "..", "..", "chat-core", "tests", "vectors", "frames.json")
SESSION = "38b4e652-e44d-47f2-b70d-9e260e271365"
KEY = wire.DEFAULT_KEY
HELLO = Frame("message", b"hello", SESSION, wire.TEXT)


class Strictness(unittest.TestCase):
    def fails(self, pattern: str, *writes: bytes, established: bool = True) -> None:
        """A peer that is sent this refuses it, with such a message."""
        ours, theirs = socket.socketpair()
        with Link(ours, KEY, 2, True) as link, theirs:
            link.session, link.established = SESSION, established
            for data in writes:
                theirs.sendall(data)
            theirs.shutdown(socket.SHUT_WR)
            with self.assertRaisesRegex(PeerError, pattern):
                link.read()

    def header(self, text: str) -> bytes:
        return wire.seal(text.encode("utf-8", "surrogatepass"), b"x" * 2000, KEY)

    def test_what_is_right_is_accepted(self):
        ours, theirs = socket.socketpair()
        with Link(ours, KEY, 2, True) as link, theirs:
            link.session, link.established = SESSION, True
            for content in (b"a", b"b" * 5000, b"c"):
                theirs.sendall(wire.encode(HELLO._replace(content=content), KEY, padded=True))
            self.assertEqual([len(link.read().content) for _ in range(3)], [1, 5000, 1])

    def test_reading_habits(self):
        small, padded = wire.encode(HELLO, KEY), wire.encode(HELLO, KEY, padded=True)
        self.fails("two frames in one read", small + small)
        self.fails("two frames in one read", small + padded)
        self.fails("first read of only 63 bytes", padded[:63])
        self.fails("inside a frame", padded[:-1])
        self.fails(r"ended \(eof\)")

    def test_padding(self):
        init = Frame("session_init", b"i", SESSION)
        self.fails("message is not padded", wire.encode(HELLO, KEY))
        self.fails("with 8.. of padding", wire.encode(init, KEY, padded=True), established=False)
        self.fails("session_init of 11.. bytes", wire.encode(init._replace(content=b"i" * 1000), KEY),
                   established=False)
        self.fails("content_too_large", wire.encode(init._replace(content=b"i" * 1025), KEY),
                   established=False)

    def test_sessions_and_content_types(self):
        self.fails("session id None", wire.encode(HELLO._replace(session_id=None), KEY, padded=True))
        self.fails("session id 0000",
                   wire.encode(HELLO._replace(session_id="0" * 8 + SESSION[8:]), KEY, padded=True))
        self.fails("content type", wire.encode(Frame("heartbeat", b"ping", SESSION, wire.TEXT), KEY, padded=True))

    def test_json(self):
        good = wire.header_json(HELLO).decode()
        self.fails("not canonical", self.header(good.replace(" ", "")))
        self.fails("not canonical", self.header(good.replace(SESSION, SESSION.upper())))
        self.fails("not canonical", self.header(good[:-1] + ', "n": 1}'))
        for extra in ('"type": "message"', '"t\\u0079pe": "message"', '"n": {"a": 1, "\\u0061": 1}', '"n": NaN',
                      '"n": 1e999', '"n": 1' + "0" * 400, '"n": "\\ud800"', '"n": "\ud800"', '"\\udfff": 1',
                      '"n": 01', '"n": "\t"', '"n": ' + "[" * 8 + "]" * 8, '"n": ' + "[" * 30000 + "]" * 30000,
                      ", ".join(f'"{n}": 1' for n in range(30))):
            self.fails("header_json", self.header(good[:-1] + ", " + extra + "}"))
        for text in (" {}", "{} ", "{}", "{]}", good.replace(SESSION, SESSION[:-1]), good.replace(wire.TEXT, "")):
            self.fails("header_json", self.header(text))
        self.fails("unknown_type", self.header(good.replace("message", "gossip")))

    def test_limits_of_the_json_header(self):
        head = wire.header_json(HELLO)[:-1]
        for extra in (b'"n": ' + b"[" * 7 + b"]" * 7, b", ".join(b'"%d": 1' % n for n in range(29))):
            data = wire.seal(head + b", " + extra + b"}", b"hello", KEY)
            self.assertEqual(wire.decode(data, KEY)[0], HELLO)

    def test_vectors(self):
        self.assertIn("75 vectors", vectors.run(FRAMES))


class Scenarios(unittest.TestCase):
    def meet(self, server: str, client: str, client_fails: str = "", server_fails: str = "",
             unix: bool = False) -> None:
        """Runs our server and our client; what fails must fail with that message."""
        with tempfile.TemporaryDirectory() as folder:
            where = ["--unix", os.path.join(folder, "s")] if unix else ["--tcp", "127.0.0.1:0"]
            pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            command = [*PEER, "server", *where, "--timeout", "20", *server.split()]
            with subprocess.Popen(command, **pipes) as process:
                try:
                    ready = process.stdout.readline().split()
                    self.assertEqual(ready[:2], ["listening", "on"])
                    run = subprocess.run([*PEER, "client", "--" + ready[2], ready[3], "--timeout", "20",
                                          *client.split()], timeout=30, **pipes)
                    out, err = process.communicate(timeout=30)
                finally:
                    process.kill()
        for name, code, text, errors, failure in (
                ("client", run.returncode, run.stdout, run.stderr, client_fails),
                ("server", process.returncode, out, err, server_fails)):
            last = (text.splitlines() or [""])[-1] if code == 0 else errors.strip()
            print(f"{server} | {client}: {name}: {last}", flush=True)
            self.assertEqual(code, 1 if failure else 0, errors)
            self.assertRegex(last, f"^failed: .*{failure}" if failure else "^ok: ")

    def test_all_goes_well(self):
        for unix in (False, True):
            for client in ("burst", "sizes", "goodbye"):
                self.meet("echo", client, unix=unix)
            self.meet("burst-out --count 0", "burst", unix=unix)
            self.meet("shutdown", "hold --ping-interval 0.1", unix=unix)
            self.meet("shutdown --delay 1.5", "silent-hold", unix=unix)
            self.meet("shutdown --delay 2 --connections 20", "many", unix=unix)
        self.meet("echo", "burst --count 5000 --size 3000", unix=True)  # TCP may cut a header off

    def test_bad_clients(self):
        for client, reason in (("wrong-key", "hmac"), ("wrong-ack", "instead of session_ack"),
                               ("garbage", "first read of only 52"), ("dribble", "first read of only 1 "),
                               ("burst --no-padding", "two frames in one read|is not padded")):
            self.meet("echo", client, server_fails=reason, client_fails="ended" if "burst" in client else "")
        self.meet("echo --timeout 2", "mute", server_fails="timed out")
        self.meet("echo", "wrong-session", client_fails="the stream ended", server_fails="session id 0000")
        self.meet("echo", "heartbeat", client_fails="1 pongs for 1 x b'pong'", server_fails="ended")

    def test_bad_servers(self):
        for server, reason in (("close-in-handshake", "ended"), ("http", "bad_magic"), ("wrong-key", "hmac"),
                               ("garbage", "unsupported_version"), ("refuse", "refused: The server is full"),
                               ("drop", "ended"), ("error", "error in an established|error instead of message"),
                               ("burst-out", "came back different"), ("ansi", "came back different")):
            client_wins = server in ("burst-out", "ansi")
            self.meet(server, "burst", client_fails=reason,
                      server_fails="ended|reset|inside a frame|first read" if client_wins else "")
        self.meet("silent", "burst --timeout 1", client_fails="timed out")
        self.meet("no-echo", "burst --idle-limit 1", client_fails="no frame for 1.0 s", server_fails="ended")


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].endswith(".json"):
        FRAMES = sys.argv.pop(1)
    unittest.main()
