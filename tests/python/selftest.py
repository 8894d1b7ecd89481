#!/usr/bin/env python3
"""Self test of the peer: its checks fail on bad input, and its client and server get on together.

    selftest.py [FRAMES_JSON] [CLASS...]    (by default chat-core/tests/vectors/frames.json, and all)
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import unittest

import extensions
import hostile
import sec
import vectors
import wire
from link import Link
from session import Session
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


class Extensions(unittest.TestCase):
    """A client with small limits, and what a server must not do to it."""

    LIMITS = {"limits": {"content": 3000}, "coalesce": {}, "ping": {"timeout": 3000},
              "chunk": {"size": 2000, "window": 4096, "transfers": 2, "message": 9000}}

    def frames(self, *frames, without=()) -> bytes:
        made = (Frame("chunk", content, SESSION, content_type, chunk=chunk) for chunk, content, content_type in frames)
        return b"".join(wire.encode(frame, KEY, padded="coalesce" in without) for frame in made)

    def session(self, link: Link, without=()) -> Session:
        mine = {name: values for name, values in self.LIMITS.items() if name not in without}
        link.session, link.established = SESSION, True
        return Session(link, argparse.Namespace(idle_limit=2), False, mine, mine)

    def fails(self, pattern: str, *data: bytes, without=(), before=lambda session: None) -> None:
        ours, theirs = socket.socketpair()
        with Link(ours, KEY, 2, True) as link, theirs:
            session = self.session(link, without)
            before(session)
            theirs.sendall(b"".join(data))
            theirs.shutdown(socket.SHUT_WR)
            try:
                with self.assertRaisesRegex(PeerError, pattern):
                    while True:
                        session.step()
            finally:
                session.stop_writing()

    def begin(self, number: int = 2, total=None, kind: str = "a/b"):
        return {"id": number, "op": "begin", **({} if total is None else {"total": total})}, b"begin", kind

    def data(self, offset: int, size: int = 1000, number: int = 2, kind: str = "a/b"):
        return {"id": number, "op": "data", "offset": offset}, b"x" * size, kind

    def end(self, offset: int, number: int = 2):
        return {"id": number, "op": "end", "offset": offset}, b"end", wire.BINARY

    def bare(self, op: str, number: int, content: bytes = b"", kind: str = wire.BINARY, **more):
        return {"id": number, "op": op, **more}, content or op.encode(), kind

    def test_transfers_of_a_server(self):
        begin, data, end, bare = self.begin, self.data, self.end, self.bare
        whole = (begin(), data(0), end(1000))
        for pattern, *frames in (
                (r"ended \(eof\)", *whole, begin(8), data(0, number=8), bare("abort", 8, b"why", wire.TEXT)),
                ("which is ours", begin(1)), ("begin of 2 after 2", *whole, begin()), ("begin of 2 after 4", begin(4), begin()),
                ("data for 2, which is not open", data(0)), ("end for 2, which is not open", *whole, end(1000)),
                ("data for 2, which is not open", *whole, data(1000)), ("3 transfers open", begin(), begin(4), begin(6)),
                ("abort for 2, which is not open", *whole, bare("abort", 2, b"why", wire.TEXT)),
                ("a piece of 2001", begin(), data(0, 2001)), ("bytes ahead", begin(), *(data(n, 1) for n in range(5))),
                ("at 999, not at 1000", begin(), data(0), data(999)), ("not at 1000", begin(), data(0), end(999)),
                ("content type b/c", begin(), data(0, kind="b/c")), ("more bytes than the total", begin(2, 999), data(0)),
                ("not at its total", begin(2, 1001), data(0), end(1000)), ("9001 bytes begun", begin(2, 9001)),
                ("end with content", begin(), data(0), (end(1000)[0], b"END", wire.BINARY)),
                ("no offset", begin(), bare("data", 2)), ("op is 'more'", bare("more", 2)), ("id is 2.0", begin(2.0)),
                ("never begun", bare("done", 1)), ("which is theirs", begin(), bare("window", 2, bytes=1))):
            with self.subTest(pattern):
                held = "ahead" in pattern
                before = (lambda session: setattr(session, "hold", lambda incoming: True)) if held else (lambda session: None)
                self.fails(pattern, self.frames(*frames), before=before)

    def test_answers_of_a_server(self):
        def begun(session: Session) -> None:
            session.piece(session.begin("a/b"), b"x" * 2000)
        for pattern, frame in (("done for 1 before its end", self.bare("done", 1)),
                               ("of 2000 for 1", self.bare("window", 1, bytes=2001)), ("bytes is 0", self.bare("window", 1, bytes=0))):
            self.fails(pattern, self.frames(frame), before=begun)
        self.fails("after its abort", self.frames(*[self.bare("abort", 1, b"why", wire.TEXT)] * 2), before=begun)

    def test_what_was_not_agreed_on(self):
        self.fails("chunk that was not agreed on", self.frames(self.begin()), without=("chunk",))
        small = wire.encode(HELLO, KEY)
        self.fails("is not padded", small, without=("coalesce",))
        self.fails(r"ended \(eof\)", small + small)
        self.fails("a message of 3001 bytes", wire.encode(HELLO._replace(content=b"x" * 3001), KEY))
        pong = wire.encode(Frame("heartbeat", b"pong", SESSION), KEY)
        self.fails("nobody asked", pong, without=("ping",))
        self.fails(r"ended \(eof\)", pong)

    def test_parameters(self):
        chunk = {"size": 1024, "window": 4096, "transfers": 1}
        for bad in (7, None, [], {"chunk": {}}, {"chunk": None}, {"coalesce": 1}, {"ping": {"timeout": 2999}}, {"ping": {"timeout": True}},
                    {"limits": {"content": 0}}, {"limits": {"content": 1.0}}, {"limits": {"content": 2 ** 53}},
                    *({"chunk": {**chunk, **more}} for more in ({"size": 1023}, {"size": 8192}, {"window": 4095}, {"transfers": 0},
                                                                {"message": 0}, {"size": None}))):
            with self.assertRaisesRegex(PeerError, "header_json", msg=str(bad)):
                extensions.parse(bad)
        self.assertEqual(extensions.parse({"limits": {"content": 1 << 40, "x": []}, "y": 1, "chunk": {**chunk, "message": None}}),
                         {"limits": {"content": 10485760}, "chunk": chunk})


class Sec(unittest.TestCase):
    def test_vectors(self):
        sec.check_hkdf()
        self.assertIn("13 sessions", sec.check(sec.VECTORS))

    def test_length_of_the_example(self):
        ext = {**sec.USUAL, "sec": {"nonce": "02" * 32}}
        self.assertEqual(len(wire.encode(Frame("session_init", b"Session established", SESSION, ext=ext), KEY)), 459)

    def test_what_is_altered_is_found(self):
        with open(sec.VECTORS, encoding="utf-8") as file:
            text = file.read()
        vectors_of = json.loads(text)
        case = vectors_of["cases"][0]
        changed = 0
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "sec.json")
            texts = [case[name] for name in ("key", "init", "ack", "init_sha256", "ack_sha256", "transcript", "key_id",
                                             "k_client", "k_server", "server_nonce", "client_nonce")]
            texts += [frame["frame"] for frame in case["frames"]]
            for old in texts:
                new = old[:-1] + ("0" if old[-1] != "0" else "1")
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text.replace(f'"{old}"', f'"{new}"', 1))
                with self.assertRaises(PeerError, msg=old):
                    sec.check(path)
                changed += 1
        self.assertEqual(changed, 11 + len(case["frames"]))

    def test_parameters(self):
        good = {"nonce": "aB" * 32, "key": "0F" * 8}
        self.assertEqual(extensions.parse({"sec": good}, chosen=True),
                         {"sec": {"nonce": "ab" * 32, "key": "0f" * 8}})
        self.assertEqual(extensions.parse({"sec": {**good, "key": 7, "more": []}}), {"sec": {"nonce": "ab" * 32}})
        for bad in ({"nonce": "ab" * 31}, {"nonce": "ab" * 33}, {"nonce": " a" * 32}, {"nonce": "\u0661" * 64}, {"nonce": None},
                    {"nonce": 7}, {"key": None}, {"key": "0f" * 7}, {"key": "0f" * 9}, {"key": "0x" * 8}):
            with self.assertRaisesRegex(PeerError, "header_json", msg=str(bad)):
                extensions.parse({"sec": {**good, **bad}}, chosen=True)


class Meeting(unittest.TestCase):
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


class Scenarios(Meeting):
    def test_all_goes_well(self):
        for unix in (False, True):
            for client in ("burst", "sizes", "goodbye"):
                self.meet("echo", client, unix=unix)
            self.meet("burst-out --count 0", "burst", unix=unix)
            self.meet("shutdown", "hold --ping-interval 0.1", unix=unix)
            self.meet("shutdown --delay 1.5", "silent-hold", unix=unix)
            self.meet("shutdown --delay 2 --connections 20", "many", unix=unix)
        self.meet("echo", "burst --count 5000 --size 3000", unix=True)  # TCP may cut a header off

    def test_extensions(self):
        for server, client in (("all", "all"), ("limits,ping,chunk", "all"), ("all", "chunk")):
            for scenario in ("chunks", "unknown-size", "burst"):
                self.meet(f"echo --extensions {server}", f"{scenario} --extensions {client}", unix=True)
        for server, client in (("--extensions all", ""), ("--extensions all", "--extensions none"),
                               ("--extensions ping", "--extensions all"), ("--extensions none", "--extensions coalesce")):
            self.meet(f"echo {server}", f"burst {client}")
        self.meet("echo", "burst --extensions all", client_fails="offers no extensions", server_fails="ended")
        self.meet("echo --extensions ping", "chunks --extensions all", client_fails="chunk was not agreed on",
                  server_fails="ended")

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


class SecScenarios(Meeting):
    def test_sec(self):
        for server, client in (("all", "all"), ("limits,ping,chunk,sec", "all"), ("all", "chunk,sec")):
            for scenario in ("chunks", "burst"):
                self.meet(f"echo --extensions {server} --demand-sec", f"{scenario} --extensions {client} --demand-sec",
                          unix=True)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "key")
            with open(path, "wb") as file:
                file.write(os.urandom(32))
            for server in (f"--client-key-file {path}", f"--key-file {path}"):
                self.meet(f"echo --extensions all {server}", f"burst --extensions sec --key-file {path}")
            self.meet("echo --extensions all", f"burst --extensions sec --key-file {path}", client_fails="ended",
                      server_fails="unknown key")
            self.meet("echo --extensions ping", f"burst --extensions all --key-file {path}", client_fails="hmac",
                      server_fails="ended")
        self.meet("echo --extensions ping", "burst --extensions all --demand-sec", client_fails="does not offer sec",
                  server_fails="ended")
        for choice in ("--extensions ping", ""):
            self.meet("echo --extensions all --demand-sec", f"burst {choice}", client_fails="error|reset",
                      server_fails="does not choose sec|reset")
        self.meet("echo --extensions all --demand-sec", "skip-sec", server_fails="does not choose sec")

    def test_hostile_servers(self):
        for scenario, faults in hostile.FAULTS.items():
            for fault in faults:
                if fault != "nothing":
                    self.meet(f"{scenario} --extensions all --fault {fault}", "burst --count 1 --extensions all",
                              client_fails=".", server_fails="ended|reset|inside" if scenario == "forge" else "")

    def test_hostile_clients(self):
        wanted = {"unknown-key": "unknown key", "id-of-another-key": "unknown key", "no-key": "hexadecimal",
                  "short-nonce": "hexadecimal", "nonce-of-other-letters": "hexadecimal",
                  "other-session-id": "instead of session_ack"}
        for number, fault in enumerate(hostile.HANDSHAKES):
            choice = ("all", "sec")[number % 2]
            self.meet("echo --extensions all", f"bad-proofs --extensions {choice} --fault {fault}",
                      server_fails=wanted.get(fault, "hmac"))


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].endswith(".json"):
        FRAMES = sys.argv.pop(1)
    unittest.main()
