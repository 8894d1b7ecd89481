"""The frames of the chat protocol, version 1, as PROTOCOL.md specifies them.

`encode` writes a frame, `decode` reads one with every check of section 2.3 in its order, and
`check_sender` checks what senders (not receivers) are held to: the canonical JSON header of
section 3 and the padding of section 6. Errors have the names that the test vectors use.
"""

import hashlib
import hmac
import json
import math
import re
import struct
import zlib
from typing import Any, NamedTuple, Optional, Tuple

MAGIC = bytes.fromhex("89504E470E0B1B0B")
VERSION = 1
FRAME_TYPE = 0
FIXED = struct.Struct("!8sHHIIQI32s")
BEFORE_CODE = struct.Struct("!8sHHIIQI")
SESSION_LIMITS = (65536, 10485760)  # JSON header, content
HANDSHAKE_LIMITS = (4096, 1024)
PADDED_SIZE = 1024
MAX_DEPTH = 8
MAX_KEYS = 32
DEFAULT_KEY = b"default-key"
TYPES = ("session_init", "session_ack", "heartbeat", "message", "chunk", "error", "disconnect")
BINARY = "application/octet-stream"
TEXT = "text/plain; charset=utf-8"
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class PeerError(Exception):
    """Whatever makes a scenario fail."""


class WireError(PeerError):
    """A frame that must be refused; `name` says at which check."""

    def __init__(self, name: str, detail: str = ""):
        super().__init__(f"{name}: {detail}" if detail else name)
        self.name = name


class Frame(NamedTuple):
    type: str
    content: bytes
    session_id: Optional[str] = None
    content_type: str = BINARY
    ext: Any = None  # of session_init and session_ack, as it came
    chunk: Any = None  # of chunk, as it came


def header_json(frame: Frame) -> bytes:
    """The canonical JSON header, without padding."""
    header = {"type": frame.type, "content_type": frame.content_type, "session_id": frame.session_id}
    header.update((key, value) for key, value in (("ext", frame.ext), ("chunk", frame.chunk)) if value is not None)
    return json.dumps(header).encode("ascii")


def code_of(key, fixed: bytes, header: bytes, content: bytes) -> bytes:
    """The code of a frame with this beginning of its fixed header: under a key, that of version 1;
    what is no key makes its own, as `sec` does for the next frame of a direction."""
    if not isinstance(key, bytes):
        return key.code(fixed, header, content)
    mac = hmac.new(key, header, hashlib.sha256)
    mac.update(content)
    return mac.digest()


def seal(header: bytes, content: bytes, key) -> bytes:
    """The bytes of a frame with this JSON header, whatever that holds."""
    fixed = BEFORE_CODE.pack(MAGIC, VERSION, FRAME_TYPE, len(header), zlib.crc32(header),
                             len(content), zlib.crc32(content))
    return b"".join((fixed, code_of(key, fixed, header, content), header, content))


def encode(frame: Frame, key, padded: bool = False) -> bytes:
    header = header_json(frame)
    if padded:
        missing = PADDED_SIZE - FIXED.size - len(header) - len(frame.content)
        header = header[:-1] + b" " * missing + b"}"
    return seal(header, frame.content, key)


def check_fixed(data: bytes, limits: Tuple[int, int]) -> Tuple[int, int]:
    """Checks 1 and 2 on the first bytes of a stream; returns both lengths."""
    if data[:8] != MAGIC[:len(data)]:
        raise WireError("bad_magic", repr(bytes(data[:8])))
    if len(data) < FIXED.size:
        raise WireError("incomplete", f"{len(data)} bytes of a fixed header")
    _, version, frame_type, header_size, _, content_size, _, _ = FIXED.unpack_from(data)
    if version != VERSION:
        raise WireError("unsupported_version", str(version))
    if frame_type != FRAME_TYPE:
        raise WireError("unsupported_frame_type", str(frame_type))
    if header_size > limits[0]:
        raise WireError("header_too_large", f"{header_size} bytes")
    if header_size < 2:
        raise WireError("header_json", f"{header_size} bytes")
    if content_size > limits[1]:
        raise WireError("content_too_large", f"{content_size} bytes")
    if content_size == 0:
        raise WireError("empty_content")
    return header_size, content_size


def decode(data: bytes, key, limits: Tuple[int, int] = SESSION_LIMITS) -> Tuple[Frame, bytes]:
    """The frame that `data` is, exactly, and its JSON header as it came; `key` is as in `code_of`."""
    fixed, header, content = split(data, limits)
    if not hmac.compare_digest(code_of(key, fixed[:BEFORE_CODE.size], header, content), fixed[BEFORE_CODE.size:]):
        raise WireError("hmac")
    return parse_header(header, content), header


def split(data: bytes, limits: Tuple[int, int]) -> Tuple[bytes, bytes, bytes]:
    """Fixed header, JSON header and content, after checks 1 to 4."""
    header_size, content_size = check_fixed(data, limits)
    size = FIXED.size + header_size + content_size
    if len(data) < size:
        raise WireError("incomplete", f"{len(data)} of {size} bytes")
    if len(data) > size:
        raise PeerError(f"{len(data) - size} bytes too many")
    _, _, _, _, header_crc, _, content_crc, _ = FIXED.unpack_from(data)
    header = bytes(data[FIXED.size:FIXED.size + header_size])
    content = bytes(data[FIXED.size + header_size:])
    if header[:1] != b"{":
        raise WireError("header_json", "does not begin with {")
    if zlib.crc32(header) != header_crc:
        raise WireError("header_crc")
    if header[-1:] != b"}":
        raise WireError("header_json", "does not end with }")
    if zlib.crc32(content) != content_crc:
        raise WireError("content_crc")
    return bytes(data[:FIXED.size]), header, content


def parse_header(header: bytes, content: bytes) -> Frame:
    """Check 6: the JSON header, by the rules of section 3."""
    values = parse_object(header)
    kind, content_type, session_id = (values.get(k) for k in ("type", "content_type", "session_id"))
    if not isinstance(kind, str):
        raise WireError("header_json", "type missing or not a string")
    if kind not in TYPES:
        raise WireError("unknown_type", ascii(kind))
    if not isinstance(content_type, str) or not content_type:
        raise WireError("header_json", "content_type missing, empty or not a string")
    if session_id is not None:
        if not isinstance(session_id, str) or not UUID.fullmatch(session_id):
            raise WireError("header_json", "session_id is not a UUID")
        session_id = session_id.lower()
    ext = values.get("ext") if kind in ("session_init", "session_ack") else None
    return Frame(kind, content, session_id, content_type, ext, values.get("chunk") if kind == "chunk" else None)


def parse_object(data: bytes) -> dict:
    keys = 0

    def pairs(items):
        nonlocal keys
        keys += len(items)
        if keys > MAX_KEYS:
            raise WireError("header_json", "too many keys")
        if len(dict(items)) != len(items):
            raise WireError("header_json", "duplicate key")
        return dict(items)

    def number(text):
        value = float(text)
        if math.isinf(value):
            raise WireError("header_json", "number does not fit a double")
        return value

    def integer(text):
        number(text)
        return int(text)

    def constant(name):
        raise WireError("header_json", name)

    try:
        values = json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_int=integer,
                            parse_float=number, parse_constant=constant)
        check_tree(values)
    except (ValueError, RecursionError) as error:  # bad UTF-8, bad JSON, bad Unicode
        raise WireError("header_json", str(error)) from None
    if not isinstance(values, dict):
        raise WireError("header_json", "not an object")
    return values


def check_tree(root) -> None:
    """Depth, and that every string can be encoded (no lone surrogate)."""
    pending = [(root, 1)]
    while pending:
        value, depth = pending.pop()
        if isinstance(value, str):
            value.encode("utf-8")
        elif isinstance(value, (dict, list)):
            if depth > MAX_DEPTH:
                raise WireError("header_json", "nested too deep")
            inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            pending.extend((item, depth + 1) for item in inner)


def check_sender(frame: Frame, header: bytes, handshake: bool, coalesce: bool = False) -> None:
    """What a sender is held to, over and above what a receiver must check; section 6 does not hold
    between peers that may `coalesce`."""
    canonical = header_json(frame)
    spaces = len(header) - len(canonical)
    if header != canonical[:-1] + b" " * max(spaces, 0) + b"}":
        raise PeerError(f"JSON header is not canonical: {header[:200]!r}")
    size = FIXED.size + len(header) + len(frame.content)
    if frame.type == "session_init" or (frame.type == "error" and handshake):
        if spaces or size > PADDED_SIZE:
            raise PeerError(f"{frame.type} of {size} bytes with {spaces} of padding")
    elif size < PADDED_SIZE and not coalesce:
        raise PeerError(f"{frame.type} is not padded: {size} bytes")
    expected = {"heartbeat": BINARY, "error": TEXT, "disconnect": "application/json"}.get(frame.type)
    if expected not in (None, frame.content_type):
        raise PeerError(f"{frame.type} has content type {frame.content_type!r}")


def goodbye(session_id: Optional[str], reason: str) -> Frame:
    content = json.dumps({"message": "Disconnecting", "reason": reason}).encode("ascii")
    return Frame("disconnect", content, session_id, "application/json")


def reason_of(frame: Frame) -> str:
    """The reason of a `disconnect`; empty if it cannot be read."""
    try:
        reason = parse_object(frame.content).get("reason", "")
    except WireError:
        return ""
    return reason if isinstance(reason, str) else ""
