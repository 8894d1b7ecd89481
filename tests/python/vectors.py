"""Checks this peer's frames against the protocol's test vectors (PROTOCOL.md, section 10)."""

import hashlib
import json

import wire
from wire import Frame, PeerError, WireError


def content_of(message: dict) -> bytes:
    if "content" in message:
        return bytes.fromhex(message["content"])
    repeat = message["content_repeat"]
    return bytes([repeat["byte"]]) * repeat["count"]


def check(case: dict) -> str:
    """Returns what was checked: "accepted", "accepted, encoded" or "refused"."""
    key = bytes.fromhex(case["key"])
    if "message" not in case:
        try:
            wire.decode(bytes.fromhex(case["frame"]), key)
        except WireError as error:
            if error.name == case["error"]:
                return "refused"
            raise PeerError(f"refused as {error}, not as {case['error']}") from None
        raise PeerError(f"accepted, not refused as {case['error']}")

    message = case["message"]
    wanted = Frame(message["type"], content_of(message), message["session_id"], message["content_type"],
                   message.get("ext"), message.get("chunk"))
    encoded = wire.encode(wanted, key)
    if "frame" in case:
        data = bytes.fromhex(case["frame"])
    else:
        data = bytes.fromhex(case["fixed_header"]) + case["header_json"].encode("utf-8") + wanted.content
        if hashlib.sha256(data).hexdigest() != case["frame_sha256"]:
            raise PeerError("the digest in the file does not fit the frame in the file")
    if wire.decode(data, key)[0] != wanted:
        raise PeerError("decoded differently")
    if case["name"].startswith("json_"):  # not in the canonical form: only to be read
        return "accepted"
    if encoded != data:
        raise PeerError("encoded differently")
    return "accepted, encoded"


def run(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        cases = json.load(file)["cases"]
    done = []
    for case in cases:
        try:
            done.append(check(case))
        except PeerError as error:
            raise PeerError(f"{case['name']}: {error}") from None
    encoded = done.count("accepted, encoded")
    return (f"{len(done)} vectors: {encoded + done.count('accepted')} accepted, "
            f"{encoded} of them encoded identically, {done.count('refused')} refused")
