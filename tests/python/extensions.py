"""The parameters of extensions (PROTOCOL.md, section 4.6) and the `chunk` objects of section 5.5.

What is known is checked, of the right type and in its range; what is not known is ignored.
"""

import json
import secrets
from typing import Dict, NamedTuple, Optional, Tuple, Union

import sec
from wire import SESSION_LIMITS, PeerError, WireError

LARGEST = 2 ** 53 - 1
LARGEST_PIECE = 65536
LEAST_USE = 1024  # what the smallest piece uses of the window
NAME_SIZE = 1024

# member: parameter: (whether it is required, the least, what is above means the last or None)
KNOWN = {
    "limits": {"content": (False, 1, SESSION_LIMITS[1])},
    "coalesce": {},
    "ping": {"timeout": (True, 3000, None)},
    "chunk": {"size": (True, 1024, LARGEST_PIECE), "window": (True, 4096, None),
              "transfers": (True, 1, None), "message": (False, 1, None)},
    "sec": {},  # its parameters are no integers
}
OFFER = {
    "limits": {"content": SESSION_LIMITS[1]},
    "coalesce": {},
    "ping": {"timeout": 15000},
    "chunk": {"size": 65536, "window": 262144, "transfers": 32, "message": 67108864},
    "sec": {},
}
Parameters = Dict[str, Dict[str, Union[int, str]]]


class Operation(NamedTuple):
    by_sender: bool
    content: Optional[bytes]  # what a sender writes there, if it is always the same
    integers: Dict[str, Tuple[bool, int]]  # whether required, the least


OPERATIONS = {
    "begin": Operation(True, b"begin", {"total": (False, 0)}),
    "data": Operation(True, None, {"offset": (True, 0)}),
    "end": Operation(True, b"end", {"offset": (True, 0)}),
    "window": Operation(False, b"window", {"bytes": (True, 1)}),
    "done": Operation(False, b"done", {}),
    "abort": Operation(False, None, {}),
}


def names(text: str) -> Optional[list]:
    """The extensions that `--extensions` names; "none" are none, but negotiated."""
    chosen = {"all": list(KNOWN), "none": []}.get(text)
    chosen = text.split(",") if chosen is None else chosen
    if not set(chosen) <= set(KNOWN):
        raise ValueError(text)
    return [name for name in KNOWN if name in chosen]


def ours(chosen: list, changes: str, key: Optional[bytes] = None) -> Parameters:
    """What this peer says of the extensions; `changes` is JSON to be merged in. A choice names the key."""
    more = json.loads(changes)
    fresh = {"nonce": secrets.token_hex(sec.NONCE_SIZE), **({} if key is None else {"key": sec.key_id(key).hex()})}
    return {name: {**OFFER[name], **(fresh if name == "sec" else {}), **more.get(name, {})} for name in chosen}


def integer(values: dict, name: str, required: bool, least: int) -> Optional[int]:
    value = values.get(name)
    if value is None:
        if required:
            raise WireError("header_json", f"no {name}")
        return None
    if type(value) is not int or not least <= value <= LARGEST:
        raise WireError("header_json", f"{name} is {value!r}")
    return value


def parse(ext, chosen: bool = False) -> Parameters:
    """The known members of an `ext` and their known parameters, capped as the document says."""
    if not isinstance(ext, dict):
        raise WireError("header_json", "ext is no object")
    found: Parameters = {}
    for name, parameters in KNOWN.items():
        if name not in ext:
            continue
        if not isinstance(ext[name], dict):
            raise WireError("header_json", f"{name} is no object")
        values = {}
        for key, (required, least, most) in parameters.items():
            value = integer(ext[name], key, required, least)
            if value is not None:
                values[key] = value if most is None else min(value, most)
        found[name] = values
    if "sec" in found:
        sizes = {"nonce": sec.NONCE_SIZE, **({"key": sec.KEY_ID_SIZE} if chosen else {})}
        found["sec"] = {name: sec.digits(ext["sec"].get(name), size).hex() for name, size in sizes.items()}
    if "chunk" in found and found["chunk"]["window"] < found["chunk"]["size"]:
        raise WireError("header_json", "the window is smaller than a piece")
    return found


def parse_chunk(chunk) -> dict:
    """A `chunk` object of which everything that its operation has is right."""
    if not isinstance(chunk, dict):
        raise WireError("header_json", "chunk is no object")
    op = chunk.get("op")
    if not isinstance(op, str) or op not in OPERATIONS:
        raise WireError("header_json", f"op is {op!r}")
    values = {"op": op, "id": integer(chunk, "id", True, 1)}
    for name, (required, least) in OPERATIONS[op].integers.items():
        values[name] = integer(chunk, name, required, least)
    if op == "begin" and "name" in chunk:
        name = chunk["name"]
        if not isinstance(name, str) or not 1 <= len(name.encode("utf-8")) <= NAME_SIZE:
            raise WireError("header_json", f"name is {name!r:.80}")
        values["name"] = name
    return values
