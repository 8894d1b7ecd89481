"""Peers that do wrong with `sec` (PROTOCOL.md, section 4.7): as a client, and as a server.

Nothing that they say may be taken for anything. Whoever fails to show that it holds the key hears nothing of it;
whoever breaks an established session is told, as section 4.5 says.
"""

from collections import Counter
from typing import Callable, Optional

import client
import sec
import server
import wire
from link import Link
from wire import Frame, PeerError

OTHER_KEY = b"a key that the other end does not hold"
NEVER = "never to be seen"


def text(link: Link) -> Frame:
    return Frame("message", f"  }} {NEVER}".encode(), link.session, wire.TEXT)


# What comes in an established session

class Forger:
    """Makes bad frames for the other end of an established session."""

    def __init__(self, link: Link, padded: bool):
        self.link, self.padded = link, padded
        self.ours, self.theirs = link.signing, link.verifying

    def message(self, direction: sec.Direction, sequence: int) -> bytes:
        return wire.encode(text(self.link), sec.Direction(direction.key, sequence), self.padded)

    @property
    def good(self) -> bytes:
        return self.message(self.ours, self.ours.sequence)

    def repeated(self) -> bytes:
        ping = wire.encode(Frame("heartbeat", b"ping", self.link.session), self.ours, self.padded)
        return ping + ping

    def left_out(self) -> bytes:
        return self.message(self.ours, self.ours.sequence + 1)

    def reordered(self) -> bytes:
        return self.message(self.ours, self.ours.sequence + 1) + self.good

    def begins_again(self) -> bytes:
        return self.message(self.ours, 0)

    def other_direction(self) -> bytes:
        return self.message(self.theirs, self.ours.sequence)

    def border_moved(self) -> bytes:
        good = self.good
        return sec.refit(good, len(sec.parts(good)[0]) + len(b"  }"))

    def content_changed(self) -> bytes:
        good = self.good
        return sec.refit(good[:-1] + b"?", len(sec.parts(good)[0]))

    def version_1_code(self) -> bytes:
        return wire.encode(text(self.link), self.link.key, self.padded)

    def other_session(self) -> bytes:
        return self.message(sec.Direction(sec.sha256(self.ours.key)), self.ours.sequence)

    def no_code(self) -> bytes:
        good = self.good
        return good[:32] + bytes(32) + good[64:]


FRAMES = {name.replace("_", "-"): function for name, function in vars(Forger).items()
          if callable(function) and not name.startswith("__") and name != "message"}


def expect_told(link: Link, any_reason: bool = False) -> str:
    """`error`, `disconnect` and the end, and no message before; what had been asked for may come."""
    said = []
    while len(said) < 2:
        frame = link.read()
        if frame.type in ("error", "disconnect"):
            said.append(frame)
        elif frame.type != "heartbeat":
            raise PeerError(f"{frame.type} {frame.content[:80]!r} after a bad frame")
    if [frame.type for frame in said] != ["error", "disconnect"]:
        raise PeerError(f"{said[0].type} and {said[1].type}, not error and disconnect")
    if not any_reason:
        client.expect_reason(wire.reason_of(said[1]), "Protocol error")
    link.end_writing()
    link.expect_end()
    return client.printable(said[0].content.decode("utf-8"))


# As a client

class Handshake:
    """A client's part of a handshake in which something is wrong."""

    def __init__(self, link: Link, options):
        self.link = link
        self.init, self.offer, self.mine = client.choose(link, options)
        if "sec" not in self.mine:
            raise PeerError("sec was not agreed on")
        self.padded = "coalesce" not in self.mine

    def signed(self, key: bytes, init: bytes = b"", frame: Optional[Frame] = None) -> bytes:
        answer = wire.encode(self.choice() if frame is None else frame, b"", self.padded)
        return client.start_sec(self.link, answer, init or self.init, self.offer, self.mine, key)

    def choice(self, **changes) -> Frame:
        chosen = {**self.mine, "sec": {**self.mine["sec"], **changes}}
        return client.ack(self.link.session, chosen)

    def code_of_another_key(self) -> bytes:
        return self.signed(OTHER_KEY)

    def unknown_key(self) -> bytes:
        return self.signed(OTHER_KEY, frame=self.choice(key=sec.key_id(OTHER_KEY).hex()))

    def id_of_another_key(self) -> bytes:
        return self.signed(self.link.key, frame=self.choice(key=sec.key_id(OTHER_KEY).hex()))

    def version_1_code(self) -> bytes:
        return wire.encode(self.choice(), self.link.key, self.padded)

    def sequence_1(self) -> bytes:
        return sec.resign(self.signed(self.link.key), self.link.signing.code)

    def other_direction(self) -> bytes:
        return sec.resign(self.signed(self.link.key), self.link.verifying.code)

    def other_offer(self) -> bytes:
        """As if somebody on the way had changed what the server offers."""
        frame, _ = wire.decode(self.init, self.link.key)
        other = frame._replace(ext={**frame.ext, "limits": {"content": 4321}})
        return self.signed(self.link.key, wire.encode(other, self.link.key))

    def other_nonce(self) -> bytes:
        """As if this were another connection."""
        return self.signed(self.link.key, frame=self.choice(nonce="00" * sec.NONCE_SIZE))

    def changed_on_the_way(self) -> bytes:
        made = self.signed(self.link.key)
        header, content = sec.parts(made)
        return wire.seal(header[:-1] + b" }", content, b"")[:32] + made[32:64] + header[:-1] + b" }" + content

    def other_session_id(self) -> bytes:
        return self.signed(self.link.key, frame=self.choice()._replace(session_id=client.OTHER_SESSION))

    def no_key(self) -> bytes:
        return self.signed(self.link.key, frame=self.choice(key=None))

    def short_nonce(self) -> bytes:
        return self.signed(self.link.key, frame=self.choice(nonce="00" * (sec.NONCE_SIZE - 1)))

    def nonce_of_other_letters(self) -> bytes:
        return self.signed(self.link.key, frame=self.choice(nonce="\u0660" * (2 * sec.NONCE_SIZE)))

    def message_first(self) -> bytes:
        self.signed(self.link.key)
        self.link.signing.sequence = 0
        return wire.encode(text(self.link), self.link.signing, self.padded)


HANDSHAKES = {name.replace("_", "-"): function for name, function in vars(Handshake).items()
              if callable(function) and not name.startswith("__") and name not in ("signed", "choice")}


def each(faults: dict, options, act: Callable) -> str:
    """Each fault, or the one that `--fault` names, at a connection of its own; all that go wrong are told."""
    failed = []
    if options.fault:
        faults = {options.fault: faults[options.fault]}
    for name, fault in faults.items():
        with client.connect(options) as link:
            try:
                act(link, fault)
            except PeerError as error:
                failed.append(f"{name}: {error}")
    if failed:
        raise PeerError("; ".join(failed))
    return ", ".join(faults)


def bad_proofs(options) -> str:
    """A client that does not show that it holds the key, in each way, is closed without a word."""
    def act(link: Link, fault) -> None:
        link.send_frame(fault(Handshake(link, options)))
        link.expect_end(reset_allowed=True)

    return f"closed without a word: {each(HANDSHAKES, options, act)}"


def bad_codes(options) -> str:
    """A frame with a code that is wrong, in each way, ends an established session."""
    def act(link: Link, fault) -> None:
        mine, _ = client.handshake(link, options)
        if "sec" not in mine:
            raise PeerError("sec was not agreed on")
        ping = Frame("heartbeat", b"ping", link.session)
        link.send(ping, padded="coalesce" not in mine)  # so that there is something before
        link.send_bytes(fault(Forger(link, "coalesce" not in mine)))
        expect_told(link)

    return f"ended with an error: {each(FRAMES, options, act)}"


def sent_back(options) -> str:
    """What the server itself has sent is not taken from a client, not even at its own place."""
    with client.connect(options) as link:
        mine, _ = client.handshake(link, options)
        if "sec" not in mine:
            raise PeerError("sec was not agreed on")
        link.send(Frame("heartbeat", b"ping", link.session), padded="coalesce" not in mine)
        while True:
            data = link.receive()
            if wire.decode(data, link.verifying, link.limits)[0].content == b"pong":
                break
        link.send_bytes(data)
        return f"error {expect_told(link)!r}, disconnect 'Protocol error', end"


def skip_sec(options) -> str:
    """A client of version 1 where `sec` is demanded: it is told so, and nothing that it says is taken."""
    with client.connect(options) as link:
        link.session = client.read_init(link)
        link.send(client.ack(link.session))
        link.established = True
        return f"error {expect_told(link, any_reason=True)!r}, disconnect, end"


CLIENT_SCENARIOS = {f.__name__.replace("_", "-"): f for f in (bad_proofs, bad_codes, sent_back, skip_sec)}


# As a server

class Proof:
    """What comes in place of the server's `session_ack`."""

    def __init__(self, link: Link, padded: bool):
        self.link, self.padded = link, padded
        self.frame = client.ack(link.session)

    def encode(self, key, frame: Optional[Frame] = None) -> bytes:
        return wire.encode(self.frame if frame is None else frame, key, self.padded)

    def message_first(self) -> bytes:
        return self.encode(self.link.signing, text(self.link))

    def message_of_version_1(self) -> bytes:
        return self.encode(self.link.key, text(self.link))

    def ping_first(self) -> bytes:
        return self.encode(self.link.signing, Frame("heartbeat", b"ping", self.link.session))

    def wrong_key(self) -> bytes:
        """A server that does not hold the client's key, and says the rest as if it did."""
        wrong = sec.Direction(sec.sha256(self.link.signing.key))
        return self.encode(wrong) + self.encode(wrong, text(self.link))

    def version_1_code(self) -> bytes:
        return self.encode(self.link.key) + self.encode(self.link.key, text(self.link))

    def sequence_1(self) -> bytes:
        return self.encode(sec.Direction(self.link.signing.key, 1))

    def other_direction(self) -> bytes:
        return self.encode(sec.Direction(self.link.verifying.key))

    def other_session_id(self) -> bytes:
        return self.encode(self.link.signing, self.frame._replace(session_id=client.OTHER_SESSION))

    def error_of_version_1(self) -> bytes:
        return self.encode(self.link.key, Frame("error", NEVER.encode(), None, wire.TEXT))

    def disconnect_of_version_1(self) -> bytes:
        return self.encode(self.link.key, wire.goodbye(self.link.session, NEVER))

    def nothing(self) -> bytes:
        return b""

    def end(self) -> bytes:
        self.link.end_writing()
        return b""


PROOFS = {name.replace("_", "-"): function for name, function in vars(Proof).items()
          if callable(function) and not name.startswith("__") and name != "encode"}
# What the client takes for what it is, because the code is right.
REFUSALS = {
    "error": lambda link: Frame("error", b"The room is closed", None, wire.TEXT),
    "disconnect": lambda link: wire.goodbye(link.session, "The room is closed"),
}


def unproven(link: Link, options) -> Counter:
    """The handshake up to the client's `session_ack`; then what `--fault` says, and the client must
    close without a word."""
    sent = PROOFS[options.fault](Proof(link, with_sec(link, options)))
    if sent:
        link.send_bytes(sent)
    return server.wait_for_close(link)


def refuse_late(link: Link, options) -> Counter:
    """A refusal in place of the proof, by a server that holds the key."""
    link.send(REFUSALS[options.fault](link), padded=with_sec(link, options))
    link.end_writing()
    return server.wait_for_close(link)


def with_sec(link: Link, options) -> bool:
    """The handshake up to the client's `session_ack`; returns whether what follows is padded."""
    _, theirs = server.offer_session(link, options)
    if "sec" not in (theirs or ()):
        raise PeerError("sec was not agreed on")
    return "coalesce" not in theirs


def forge(link: Link, options) -> Counter:
    """An established session in which the first message of the server is as `--fault` says."""
    facade = server.establish(link, options)
    if "sec" not in (facade.chosen or ()):
        raise PeerError("sec was not agreed on")
    session = facade.inner
    session.stop_writing()
    facade.link.send_bytes(FRAMES[options.fault](Forger(link, session.padded)))
    counts = Counter()
    said = []
    while len(said) < 2:
        frame = link.read()
        if frame.type in ("error", "disconnect"):
            said.append(frame.type)
        counts[frame.type] += 1
    if said != ["error", "disconnect"]:
        raise PeerError(f"{' and '.join(said)}, not error and disconnect")
    client.expect_reason(wire.reason_of(frame), "Protocol error")
    link.end_writing()
    link.expect_end(reset_allowed=True)
    return counts


SERVER_SCENARIOS = {f.__name__.replace("_", "-"): f for f in (unproven, refuse_late, forge)}
FAULTS = {"unproven": PROOFS, "refuse-late": REFUSALS, "forge": FRAMES}  # of a server
CLIENT_FAULTS = {"bad-proofs": HANDSHAKES, "bad-codes": FRAMES}
