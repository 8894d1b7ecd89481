#!/usr/bin/env python3
"""The extension `sec` (PROTOCOL.md, section 4.7), and its test vectors.

    sec.py make [FILE]     writes the vectors
    sec.py check [FILE]    verifies every one of them

The default is chat-core/tests/vectors/sec.json. A last line "ok: ..." and exit status 0 mean that
everything is right; otherwise the status is 1 and "failed: ..." says what is not.
"""

import hashlib
import hmac
import json
import os
import struct
import sys
import zlib
from typing import Callable, NamedTuple, Optional

import wire
from wire import Frame, PeerError, WireError

HERE = os.path.dirname(os.path.abspath(__file__))
VECTORS = os.path.join(HERE, "..", "..", "chat-core", "tests", "vectors", "sec.json")
NONCE_SIZE = 32
KEY_ID_SIZE = 8
CODE = slice(32, 64)  # where the code is in a frame


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def hkdf(key: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    """HKDF-SHA256 of RFC 5869; an empty salt is none."""
    secret = hmac.new(salt or bytes(32), key, hashlib.sha256).digest()
    made = block = b""
    for number in range(1, -(-size // 32) + 1):
        block = hmac.new(secret, block + info + bytes([number]), hashlib.sha256).digest()
        made += block
    return made[:size]


def check_hkdf() -> None:
    """Test case 1 of RFC 5869."""
    made = hkdf(b"\x0b" * 22, bytes(range(0x0d)), bytes(range(0xf0, 0xfa)), 42)
    same("HKDF", made.hex(), "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")


def key_id(key: bytes) -> bytes:
    return hkdf(key, b"", b"chat sec 1 key id", KEY_ID_SIZE)


def without_code(frame: bytes) -> bytes:
    return frame[:CODE.start] + frame[CODE.stop:]


def transcript(init: bytes, ack: bytes, binding: bytes = b"") -> bytes:
    """Of the whole `session_init` and of `session_ack`, whatever its code is."""
    return sha256(sha256(init) + sha256(without_code(ack)) + sha256(binding))


class Direction:
    """What one end signs, and the other verifies: a key and the number of the next frame."""

    def __init__(self, key: bytes, sequence: int = 0):
        self.key, self.sequence = key, sequence

    def code(self, fixed: bytes, header: bytes, content: bytes) -> bytes:
        """The code of the next frame."""
        made = code(self.key, self.sequence, fixed, header, content)
        self.sequence += 1
        return made


def digest(content: bytes) -> bytes:
    """What stands for a content in a code."""
    return content.ljust(32, b"\0") if len(content) <= 32 else sha256(content)


def code(key: bytes, sequence: int, fixed: bytes, header: bytes, content: bytes, digest=digest) -> bytes:
    repeated = fixed[:20] + bytes(12) + sha256(header)
    signed = repeated + struct.pack("!Q", sequence) + fixed[20:32] + digest(content)
    return hmac.new(key, signed, hashlib.sha256).digest()


def session_keys(key: bytes, server_nonce: bytes, client_nonce: bytes, of: bytes):
    """`K_client` and `K_server`."""
    salt = server_nonce + client_nonce
    return tuple(hkdf(key, salt, b"chat sec 1 " + end + of, 32) for end in (b"client", b"server"))


def digits(text, size: int) -> bytes:
    """So many bytes that a parameter gives in hexadecimal digits."""
    if not isinstance(text, str) or len(text) != 2 * size or not set(text) <= set("0123456789abcdefABCDEF"):
        raise WireError("header_json", f"{text!r:.80} is not {size} bytes in hexadecimal")
    return bytes.fromhex(text)


def sign_ack(ack: bytes, init: bytes, key: bytes, server_nonce: bytes, client_nonce: bytes, binding: bytes = b""):
    """`session_ack` with its code, and both directions, the client's with the number after that."""
    keys = session_keys(key, server_nonce, client_nonce, transcript(init, ack, binding))
    client, server = map(Direction, keys)
    return resign(ack, client.code), client, server


def parts(frame: bytes):
    """JSON header and content, by the length in the fixed header."""
    border = wire.FIXED.size + int.from_bytes(frame[12:16], "big")
    return frame[wire.FIXED.size:border], frame[border:]


def resign(frame: bytes, code_of: Callable[[bytes, bytes, bytes], bytes]) -> bytes:
    """The frame with another code."""
    return frame[:CODE.start] + code_of(frame[:CODE.start], *parts(frame)) + frame[CODE.stop:]


# The vectors

SESSION = "38b4e652-e44d-47f2-b70d-9e260e271365"
OTHER_SESSION = "00000000-0000-4000-8000-000000000000"
USUAL = {
    "limits": {"content": 10485760}, "coalesce": {}, "ping": {"timeout": 15000},
    "chunk": {"size": 65536, "window": 262144, "transfers": 32, "message": 67108864},
}
DESCRIPTION = [
    "Section 4.7 of PROTOCOL.md; bytes are in hexadecimal.",
    "Each case: `key` is shared, with `server_key` the server signs `session_init`; `init` and `ack` are the whole "
    "frames; `ack_sha256` is of `ack` without its code. `frames` are those after the `ack`, in the order of the "
    "stream; `sequence` counts those of their sender, of which the `ack` is the client's number 0. `padded` says "
    "whether they are padded, and `ack_padded` whether the `ack` is. Cases whose name begins with `json_` are "
    "written in other ways than a sender should.",
    "Each of `bad` belongs to the `case` named: the end `to` which it comes has verified the first `sequence` frames "
    "of the other end, the `ack` counted, and is in this `state`. `error` is by the names of section 2.3, "
    "or `unknown_key`, or `protocol` for a frame with a right code out of its place, or null for one that is what "
    "it says. `ends` is `silently` where the connection is closed without a word, `told` where `error` and "
    "`disconnect` are sent, `refused` and `left` where the client of section 4.2 takes `error` and `disconnect` for "
    "what they are. Nothing of it is ever delivered as a message.",
]


class Case(NamedTuple):
    name: str
    key: bytes
    server_key: Optional[bytes] = None
    binding: bytes = b""
    choice: tuple = tuple(USUAL)
    ack_padded: bool = False
    upper: bool = False


RANDOM_KEY = sha256(b"a key for the vectors of sec")
CASES = (
    Case("default_key", wire.DEFAULT_KEY),
    Case("random_key", RANDOM_KEY),
    Case("server_key_differs", RANDOM_KEY, server_key=sha256(b"the server's own key")),
    Case("server_key_is_the_default", RANDOM_KEY, server_key=wire.DEFAULT_KEY),
    Case("binding", RANDOM_KEY, binding=sha256(b"what tls-exporter gives")),
    Case("binding_is_short", RANDOM_KEY, binding=b"\x00"),
    Case("padded", RANDOM_KEY, choice=("limits", "ping", "chunk"), ack_padded=True),
    Case("ack_padded_with_coalesce", RANDOM_KEY, ack_padded=True),
    Case("sec_and_chunk", RANDOM_KEY, choice=("coalesce", "chunk")),
    Case("empty_key", b""),
    Case("key_of_one_zero_byte", b"\x00"),
    Case("long_key", bytes(range(200))),
    Case("json_upper_case", RANDOM_KEY, upper=True),
)


def message_of(frame: Frame) -> dict:
    values = {"type": frame.type, "session_id": frame.session_id, "content_type": frame.content_type,
              "content": frame.content.hex()}
    values.update((name, getattr(frame, name)) for name in ("ext", "chunk") if getattr(frame, name) is not None)
    return values


def frame_of(message: dict) -> Frame:
    return Frame(message["type"], bytes.fromhex(message["content"]), message["session_id"], message["content_type"],
                 message.get("ext"), message.get("chunk"))


PROOF = Frame("session_ack", b"Session acknowledged", SESSION)


def conversation():
    """Who sends what after `session_ack`."""
    def chunk(number: int, op: str, content: bytes = b"", kind: str = wire.BINARY, **more) -> Frame:
        return Frame("chunk", content or op.encode(), SESSION, kind, chunk={"id": number, "op": op, **more})

    def message(text: str) -> Frame:
        return Frame("message", text.encode("utf-8"), SESSION, wire.TEXT)

    def heartbeat(content: bytes) -> Frame:
        return Frame("heartbeat", content, SESSION)

    yield "server", PROOF
    yield "client", message("Hello, World!")
    yield "server", message("Hello, you — 你好 from a room")
    yield "client", heartbeat(b"ping")
    yield "server", heartbeat(b"pong")
    yield "server", heartbeat(b"ping")
    yield "client", heartbeat(b"pong")
    yield "client", chunk(1, "begin", kind="image/png", total=12, name="a.png")
    yield "client", chunk(1, "data", b"\x89PNG\x00\x01", "image/png", offset=0)
    yield "client", chunk(1, "data", b"\x02\x03\x04\x05\x06\x07", "image/png", offset=6)
    yield "client", chunk(1, "end", offset=12)
    yield "server", chunk(1, "window", bytes=1024)
    yield "server", chunk(1, "done")
    yield "server", chunk(2, "begin", kind=wire.TEXT)
    yield "server", chunk(2, "data", b"piece", wire.TEXT, offset=0)
    yield "server", chunk(2, "end", offset=5)
    yield "client", chunk(2, "done")
    yield "server", Frame("error", b"no such room: nobody is in there", SESSION, wire.TEXT)
    yield "client", wire.goodbye(SESSION, "Client disconnecting")
    yield "server", wire.goodbye(SESSION, "Server shutting down")


def ext_of(case: Case, nonce: bytes, chosen: bool) -> dict:
    def text(data: bytes) -> str:
        return data.hex().upper() if case.upper else data.hex()
    ext = {name: USUAL[name] for name in USUAL if not chosen or name in case.choice}
    ext["sec"] = {"nonce": text(nonce), **({"key": text(key_id(case.key))} if chosen else {})}
    return ext


class Made:
    """A case worked out."""

    def __init__(self, case: Case, salt: bytes = b""):
        self.case = case
        self.padded = "coalesce" not in case.choice
        own = case.key if case.server_key is None else case.server_key
        name = case.name.encode() + salt
        self.server_nonce, self.client_nonce = sha256(b"server " + name), sha256(b"client " + name)
        self.init = wire.encode(Frame("session_init", b"Session established", SESSION,
                                      ext=ext_of(case, self.server_nonce, False)), own)
        self.choice = Frame("session_ack", b"Session acknowledged", SESSION, ext=ext_of(case, self.client_nonce, True))
        self.ack, self.client, self.server = self.signed(self.choice)
        self.frames, self.data = [], []
        for end, frame in conversation():
            direction = self.client if end == "client" else self.server
            sequence = direction.sequence
            data = wire.encode(frame, direction, self.padded)
            self.data.append(data)
            self.frames.append({"from": end, "sequence": sequence, "message": message_of(frame), "frame": data.hex()})
        self.server_key = own

    def signed(self, choice: Frame, key: Optional[bytes] = None, init: Optional[bytes] = None):
        return sign_ack(wire.encode(choice, b"", self.case.ack_padded), init or self.init,
                        self.case.key if key is None else key, self.server_nonce, self.client_nonce, self.case.binding)

    def frame(self, end: str, sequence: int) -> bytes:
        return next(bytes.fromhex(frame["frame"]) for frame in self.frames
                    if (frame["from"], frame["sequence"]) == (end, sequence))

    def sign_key(self, end: str) -> bytes:
        return self.client.key if end == "client" else self.server.key

    def sign(self, end: str, sequence: int, frame: Frame, padded: bool = False) -> bytes:
        return wire.encode(frame, Direction(self.sign_key(end), sequence), padded)

    def vector(self) -> dict:
        case = self.case
        return {
            "name": case.name, "key": case.key.hex(), "server_key": self.server_key.hex(),
            "binding": case.binding.hex(), "session_id": SESSION,
            "server_nonce": self.server_nonce.hex(), "client_nonce": self.client_nonce.hex(),
            "padded": self.padded, "ack_padded": case.ack_padded,
            "init": self.init.hex(), "ack": self.ack.hex(),
            "init_sha256": sha256(self.init).hex(), "ack_sha256": sha256(without_code(self.ack)).hex(),
            "transcript": transcript(self.init, self.ack, case.binding).hex(), "key_id": key_id(case.key).hex(),
            "k_client": self.client.key.hex(), "k_server": self.server.key.hex(), "frames": self.frames,
        }


def refit(frame: bytes, border: int) -> bytes:
    """The same JSON header and content with the border between them elsewhere, lengths and CRCs fixed up."""
    inner = frame[wire.FIXED.size:]
    return wire.FIXED.pack(wire.MAGIC, wire.VERSION, wire.FRAME_TYPE, border, zlib.crc32(inner[:border]),
                           len(inner) - border, zlib.crc32(inner[border:]), frame[CODE]) + inner


def bad_established(made: Made) -> list:
    """What comes to an end that is established; nothing of it may be taken."""
    found = []
    again = Made(made.case, b" once more")

    def add(name: str, to: str, sequence: int, frame: bytes, error: str = "hmac") -> None:
        found.append({"name": f"{name}_to_{to}", "case": made.case.name, "to": to, "state": "Established",
                      "sequence": sequence, "frame": frame.hex(), "error": error, "ends": "told"})

    for to, end in (("server", "client"), ("client", "server")):
        number = 2
        at = {"from": end, "to": to}
        frame = Frame("message", b"  } it is never taken", SESSION, wire.TEXT)
        good = made.sign(end, number, frame)
        header, content = parts(good)
        add("repeated", to, number, made.frame(end, number - 1))
        add("left_out", to, number, made.frame(end, number + 1))
        add("begins_again", to, number, made.sign(end, 0, frame))
        add("sequence_too_large", to, number, made.sign(end, 2 ** 64 - 1, frame))
        add("sent_back", to, number, made.frame(at["to"], number))
        add("other_direction", to, number, made.sign(to, number, frame))
        add("border_moved", to, number, refit(good, len(header) + 3))
        following = made.sign(end, number + 1, frame)
        add("next_one_taken_for_content", to, number, refit(good + following, len(header)))
        add("content_changed", to, number, refit(good[:-1] + b"!", len(header)))
        add("content_cut", to, number, refit(good[:-1], len(header)))
        spaced = header[:-1] + b" }"
        add("header_padded", to, number, refit(good[:64] + spaced + content, len(spaced)))
        add("content_damaged", to, number, good[:-1] + b"!", "content_crc")
        add("version_1_code", to, number, wire.encode(frame, made.case.key))
        add("version_1_code_of_server_key", to, number, wire.encode(frame, made.server_key))
        add("other_session", to, number, again.sign(end, number, frame))
        hashed = code(made.sign_key(end), number, good[:32], header, content, sha256)
        add("short_content_hashed", to, number, good[:32] + hashed + good[64:])
        add("no_code", to, number, good[:32] + bytes(32) + good[64:])
        add("first_bit_of_code", to, number, good[:32] + bytes([good[32] ^ 0x80]) + good[33:])
        add("last_bit_of_code", to, number, good[:63] + bytes([good[63] ^ 1]) + good[64:])
        add("unknown_type", to, number, made.sign(end, number, frame._replace(type="gossip")), "unknown_type")
        add("foreign", to, number, made.sign(end, number, frame._replace(session_id=OTHER_SESSION)), "protocol")
        add("another_ack", to, number, made.sign(end, number, PROOF), "protocol")
        add("another_init", to, number, made.sign(end, number, frame._replace(type="session_init")), "protocol")
    return found


def bad_handshakes(made: Made) -> list:
    found = []
    again = Made(made.case, b" once more")
    key, choice = made.case.key, made.choice
    other = sha256(b"a key that nobody else has")

    def add(name: str, to: str, frame: bytes, error: Optional[str] = "hmac", ends: str = "silently") -> None:
        state = "AwaitAck" if to == "server" else "AwaitProof"
        found.append({"name": name, "case": made.case.name, "to": to, "state": state, "sequence": 0,
                      "frame": frame.hex(), "error": error, "ends": ends})

    def chosen(**changes) -> Frame:
        sec = {**choice.ext["sec"], **changes}
        sec = {name: value for name, value in sec.items() if value is not None}
        return choice._replace(ext={**choice.ext, "sec": sec})

    def ack(frame: Frame, **more) -> bytes:
        return made.signed(frame, **more)[0]

    add("ack_version_1_code", "server", wire.encode(choice, key))
    add("ack_wrong_key", "server", ack(choice, key=other))
    add("ack_unknown_key", "server", ack(chosen(key=key_id(other).hex()), key=other), "unknown_key")
    add("ack_sequence_1", "server", resign(made.ack, Direction(made.client.key, 1).code))
    add("ack_server_direction", "server", resign(made.ack, Direction(made.server.key).code))
    add("ack_of_another_session", "server", again.ack)
    less = choice._replace(ext={"sec": choice.ext["sec"]})
    add("ack_changed", "server", resign(wire.encode(less, b""), Direction(made.client.key).code))
    offer = wire.decode(made.init, made.server_key)[0]
    offered_less = wire.encode(offer._replace(ext={"coalesce": {}, "sec": offer.ext["sec"]}), made.server_key)
    add("ack_of_another_offer", "server", ack(less, init=offered_less))
    add("ack_for_init_without_its_code", "server", ack(choice, init=without_code(made.init)))
    add("ack_for_binding", "server",
        sign_ack(made.ack, made.init, key, made.server_nonce, made.client_nonce, b"another channel")[0])
    add("ack_for_nonces_swapped", "server",
        sign_ack(made.ack, made.init, key, made.client_nonce, made.server_nonce, made.case.binding)[0])
    add("ack_without_nonce", "server", ack(chosen(nonce=None)), "header_json")
    add("ack_without_key", "server", ack(chosen(key=None)), "header_json")
    add("ack_nonce_too_short", "server", ack(chosen(nonce=made.client_nonce.hex()[2:])), "header_json")
    add("ack_nonce_no_hexadecimal", "server", ack(chosen(nonce="g" * 64)), "header_json")
    add("ack_key_too_long", "server", ack(chosen(key=key_id(key).hex() + "00")), "header_json")
    add("ack_key_is_a_number", "server", ack(chosen(key=1)), "header_json")
    add("ack_foreign", "server", ack(choice._replace(session_id=OTHER_SESSION)), "protocol")
    add("message_for_ack", "server", made.sign("client", 0, Frame("message", b"me first", SESSION, wire.TEXT)))

    add("proof_wrong_key", "client", resign(made.frame("server", 0), made.signed(choice, key=other)[2].code))
    add("proof_version_1_code", "client", wire.encode(PROOF, key))
    add("proof_sequence_1", "client", made.sign("server", 1, PROOF))
    add("proof_client_direction", "client", made.sign("client", 0, PROOF))
    add("proof_client_direction_sequence_1", "client", made.sign("client", 1, PROOF))
    add("proof_is_the_ack", "client", made.ack)
    add("proof_of_another_session", "client", again.frame("server", 0))
    add("proof_foreign", "client", made.sign("server", 0, PROOF._replace(session_id=OTHER_SESSION)), "protocol")
    add("proof_without_id", "client", made.sign("server", 0, PROOF._replace(session_id=None)), "protocol")
    message = Frame("message", b"me first", SESSION, wire.TEXT)
    refusal = Frame("error", b"The server is full", None, wire.TEXT)
    goodbye = wire.goodbye(SESSION, "Server shutting down")
    for name, frame in (("message", message), ("heartbeat", Frame("heartbeat", b"ping", SESSION)),
                        ("init", Frame("session_init", b"Session established", SESSION))):
        add(f"{name}_for_proof", "client", made.sign("server", 0, frame), "protocol")
    add("message_for_proof_version_1_code", "client", wire.encode(message, key))
    add("error_for_proof_version_1_code", "client", wire.encode(refusal, key))
    add("disconnect_for_proof_version_1_code", "client", wire.encode(goodbye, key))
    add("error_for_proof", "client", made.sign("server", 0, refusal), None, "refused")
    add("disconnect_for_proof", "client", made.sign("server", 0, goodbye), None, "left")
    return found


def make() -> dict:
    cases = {case.name: Made(case) for case in CASES}
    bad = bad_established(cases["random_key"]) + bad_handshakes(cases["random_key"])
    bad += [one for one in bad_established(cases["server_key_differs"]) if "version_1" in one["name"]]
    return {"description": DESCRIPTION, "cases": [case.vector() for case in cases.values()], "bad": bad}


# The check

def same(what: str, found, wanted) -> None:
    if found != wanted:
        raise PeerError(f"{what}: {found!r:.300}, not {wanted!r:.300}")


def check_lower_case(parameters: dict) -> None:
    """As a sender should write them."""
    for name, text in parameters.items():
        same(name, text, text.lower())


class Checked:
    """What both ends of a case know, worked out of its two frames and the key."""

    def __init__(self, case: dict):
        self.case = case
        data = {name: bytes.fromhex(case[name]) for name in ("key", "server_key", "binding", "init", "ack")}
        self.key, self.binding, self.init, self.ack = (data[name] for name in ("key", "binding", "init", "ack"))
        init, header = wire.decode(self.init, data["server_key"], wire.HANDSHAKE_LIMITS)
        wire.check_sender(init, header, True)
        if init.session_id is None:
            raise PeerError("init without an id")
        same("type", init.type, "session_init")
        self.session = init.session_id
        self.server_nonce = digits(init.ext["sec"]["nonce"], NONCE_SIZE)

    def take_ack(self, data: bytes):
        """As a server does; returns both directions."""
        header, content = parts(data)
        frame = wire.parse_header(header, content)
        if frame.type != "session_ack" or not isinstance(frame.ext, dict) or "sec" not in frame.ext:
            raise WireError("hmac", "the code of version 1 would have to be right, and is not")
        nonce, name = digits(frame.ext["sec"].get("nonce"), NONCE_SIZE), digits(frame.ext["sec"].get("key"), KEY_ID_SIZE)
        if name != key_id(self.key):
            raise WireError("unknown_key")
        client, server = map(Direction, session_keys(self.key, self.server_nonce, nonce,
                                                     transcript(self.init, data, self.binding)))
        frame, header = wire.decode(data, client, wire.HANDSHAKE_LIMITS)
        if frame.session_id != self.session:
            raise WireError("protocol", "foreign")
        return frame, header, nonce, client, server

    def run(self) -> int:
        case, binding = self.case, self.binding
        frame, header, nonce, client, server = self.take_ack(self.ack)
        for name, found in (("session_id", self.session), ("server_nonce", self.server_nonce), ("client_nonce", nonce),
                            ("init_sha256", sha256(self.init)), ("ack_sha256", sha256(self.ack[:32] + self.ack[64:])),
                            ("key_id", key_id(self.key)), ("k_client", client.key), ("k_server", server.key),
                            ("transcript", sha256(sha256(self.init) + sha256(self.ack[:32] + self.ack[64:]) + sha256(binding))),
                            ("padded", "coalesce" not in frame.ext)):
            same(name, found.hex() if isinstance(found, bytes) else found, case[name])
        same("ack_padded", header.endswith(b" }"), case["ack_padded"])
        wire.check_sender(frame, header, True, "coalesce" in frame.ext)
        if not case["name"].startswith("json_"):
            check_lower_case(frame.ext["sec"])
            check_lower_case(wire.decode(self.init, bytes.fromhex(case["server_key"]))[0].ext["sec"])
        ends = {"client": client, "server": server}
        count = 0
        for one in case["frames"]:
            direction = ends[one["from"]]
            same("sequence", direction.sequence, one["sequence"])
            data = bytes.fromhex(one["frame"])
            found, header = wire.decode(data, direction)
            same(f"frame {count}", found, frame_of(one["message"]))
            wire.check_sender(found, header, False, not case["padded"])
            if found != PROOF if one is case["frames"][0] else found.type == "session_ack":
                raise PeerError("the server's session_ack is not the first frame")
            again = wire.encode(found, Direction(direction.key, one["sequence"]), case["padded"])
            same(f"frame {count} encoded", again.hex(), data.hex())
            count += 1
        for end, least in (("client", 8), ("server", 8)):
            if ends[end].sequence < least:
                raise PeerError(f"only {ends[end].sequence} frames of the {end}")
        return count

    def refuse(self, bad: dict) -> None:
        """A bad frame, after the good ones that come before."""
        data, sequence, to = bytes.fromhex(bad["frame"]), bad["sequence"], bad["to"]
        error, ends = None, "silently"
        try:
            if bad["state"] == "AwaitAck":
                same("to", (to, sequence), ("server", 0))
                self.take_ack(data)
            else:
                _, _, _, client, server = self.take_ack(self.ack)
                direction = server if to == "client" else client
                direction.sequence = sequence
                established = bad["state"] == "Established"
                ends = "told" if established else "silently"
                frame, _ = wire.decode(data, direction, wire.SESSION_LIMITS if established else wire.HANDSHAKE_LIMITS)
                if not established:
                    same("to", (to, sequence), ("client", 0))
                    ends = {"error": "refused", "disconnect": "left"}.get(frame.type, ends)
                    if ends == "silently" and (frame.type != "session_ack" or frame.session_id != self.session):
                        raise WireError("protocol", f"{frame.type} in place of the proof")
                elif frame.type in ("session_init", "session_ack") or frame.session_id != self.session:
                    raise WireError("protocol", f"{frame.type} with id {frame.session_id}")
                if ends not in ("refused", "left"):
                    raise PeerError("nothing is wrong with it")
        except WireError as found:
            error = found.name
        same("error", error, bad["error"])
        same("ends", ends, bad["ends"])


def check(path: str) -> str:
    check_hkdf()
    with open(path, encoding="utf-8") as file:
        vectors = json.load(file)
    cases, frames = {}, 0
    for case in vectors["cases"] + vectors["bad"]:
        try:
            if case["name"] in cases:
                raise PeerError("there are two of this name")
            if "case" in case:
                cases[case["case"]].refuse(case)
                continue
            cases[case["name"]] = Checked(case)
            frames += cases[case["name"]].run()
        except (PeerError, KeyError, ValueError) as error:
            raise PeerError(f"{case['name']}: {error!r}") from None
    if not cases or not vectors["bad"]:
        raise PeerError("no vectors")
    return f"{len(cases)} sessions of {frames} frames accepted and encoded identically, {len(vectors['bad'])} frames refused"


def main(arguments) -> int:
    if len(arguments) not in (1, 2) or arguments[0] not in ("make", "check"):
        print(__doc__, file=sys.stderr)
        return 2
    path = arguments[1] if len(arguments) == 2 else VECTORS
    try:
        if arguments[0] == "make":
            check_hkdf()
            with open(path, "w", encoding="utf-8") as file:
                json.dump(make(), file, indent=1, ensure_ascii=False)
                file.write("\n")
        print(f"ok: {check(path)}", flush=True)
    except (PeerError, OSError) as error:
        print(f"failed: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
