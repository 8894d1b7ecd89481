"""The client's scenarios: each takes the options and returns what was shown."""

import random
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Container, Optional, Tuple

import extensions
import sec
import wire
from link import Ended, Link, TimedOut
from session import Facade, Session
from wire import Frame, PeerError

SIZES = (1, 8191, 8192, 8193, 102400, 10485760)
OTHER_SESSION = "00000000-0000-4000-8000-000000000000"
HTTP_REQUEST = b"GET /chat HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"
UUID_4 = re.compile(r".{14}4.{4}[89ab].*")


def printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def connect(options) -> Link:
    address = options.unix or options.tcp
    sock = socket.socket(socket.AF_UNIX if options.unix else socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(options.timeout)
    sock.connect(address)
    return Link(sock, options.key, options.timeout, options.padded)


def read_init(link: Link) -> str:
    """`session_init`, checked; returns the session's id."""
    return read_offer(link)[0].session_id


def read_offer(link: Link, with_sec: bool = False) -> Tuple[Frame, bytes]:
    """`session_init`, and its bytes. Who takes `sec` takes it from a server whose own key is another."""
    data = link.receive()
    _, header, content = wire.split(data, link.limits)
    frame = wire.parse_header(header, content) if with_sec else None
    if frame is None or not offers_sec(frame):
        frame, header = wire.decode(data, link.verifying, link.limits)
    link.checked(frame, header)
    if frame.type == "error" and frame.session_id is None:
        raise PeerError(f"refused: {printable(frame.content.decode('utf-8', 'replace'))}")
    if frame.type != "session_init" or frame.session_id is None:
        raise PeerError(f"{frame.type} with id {frame.session_id} instead of session_init")
    if not UUID_4.fullmatch(frame.session_id):
        raise PeerError(f"session id is not a UUID of version 4: {frame.session_id}")
    return frame, data


def offers_sec(frame: Frame) -> bool:
    return frame.type == "session_init" and isinstance(frame.ext, dict) and "sec" in frame.ext


def ack(session_id: str, ext: Optional[dict] = None) -> Frame:
    return Frame("session_ack", b"Session acknowledged", session_id, ext=ext)


def choose(link: Link, options) -> Tuple[bytes, extensions.Parameters, extensions.Parameters]:
    """Takes the offer; returns its bytes, what is offered of what was asked for, and the choice."""
    init, data = read_offer(link, "sec" in options.extensions)
    if init.ext is None:
        raise PeerError("the server offers no extensions")
    offer = extensions.parse(init.ext)
    if options.demand_sec and "sec" not in offer:
        raise PeerError("the server does not offer sec")
    offer = {name: offer[name] for name in options.extensions if name in offer}
    link.session = init.session_id
    return data, offer, extensions.ours(list(offer), options.parameters, options.key)


def handshake(link: Link, options) -> Tuple[extensions.Parameters, extensions.Parameters]:
    """Up to an established session; returns the choice, and the offer of the same members."""
    data, offer, mine = choose(link, options)
    answer, padded = ack(link.session, mine), link.padded and "coalesce" not in mine
    if "sec" in mine:
        link.send_frame(start_sec(link, wire.encode(answer, b"", padded), data, offer, mine))
        read_proof(link, "coalesce" in mine)
    else:
        link.send(answer, padded=padded)
    link.established = True
    return mine, offer


def start_sec(link: Link, answer: bytes, init: bytes, offer, mine, key: Optional[bytes] = None) -> bytes:
    """The acknowledgement with its code; the link signs and verifies what follows."""
    nonces = (bytes.fromhex(ext["sec"]["nonce"]) for ext in (offer, mine))
    signed, link.signing, link.verifying = sec.sign_ack(answer, init, link.key if key is None else key, *nonces)
    return signed


def read_proof(link: Link, coalesce: bool) -> None:
    """The third step of the handshake, of section 4.7."""
    link.exact, link.coalesce = True, coalesce
    frame = link.read()
    if frame.type == "error":
        raise PeerError(f"refused: {printable(frame.content.decode('utf-8', 'replace'))}")
    if frame != ack(link.session):
        raise PeerError(f"{frame.type} {frame.content[:80]!r} with {frame.ext} in place of the server's session_ack")


def open_session(options) -> Session:
    """A session with as many of the extensions asked for as the server offers."""
    link = connect(options)
    try:
        mine, offer = handshake(link, options)
    except BaseException:
        link.sock.close()
        raise
    return Session(link, options, False, mine, offer)


def establish(options, pings: bool = True) -> Link:
    if options.extensions is not None:
        facade = Facade(open_session(options))
        if pings:
            facade.start_pings(options.ping_interval)
        return facade
    link = connect(options)
    try:
        link.session = read_init(link)
        link.send(ack(link.session))
    except BaseException:
        link.sock.close()
        raise
    link.established = True
    if pings:
        link.start_pings(options.ping_interval)
    return link


def read_live(link: Link, options) -> Frame:
    """The next frame; any verified frame shows that the server lives."""
    try:
        return link.read(time.monotonic() + options.idle_limit)
    except TimedOut:
        if time.monotonic() < link.deadline:
            raise PeerError(f"no frame for {options.idle_limit} s") from None
        raise


def read_kind(link: Link, options, wanted: str) -> Frame:
    """The next frame that is no heartbeat; it must be of the type wanted."""
    while True:
        frame = read_live(link, options)
        if frame.type == wanted:
            return frame
        if frame.type != "heartbeat":
            raise PeerError(f"{frame.type} instead of {wanted}: {frame.content[:200]!r}")


def leave(link: Link, agreed: Container[str] = ()) -> None:
    """The goodbye of section 4.4, up to the end of the server's direction: what it has sent meanwhile comes first."""
    expected = ("heartbeat", "message", *(["chunk"] if "chunk" in agreed else []))
    link.say_goodbye("Client disconnecting")
    while True:
        try:
            frame = link.read()
        except Ended as end:
            if end.how == "eof":
                return
            raise PeerError("reset instead of an end after disconnect") from None
        if frame.type not in expected:
            raise PeerError(f"{frame.type} after the client's disconnect")


def confirm(link: Link, options) -> None:
    """Waits until the server, too, takes the session for established."""
    link.heartbeat(b"ping")
    while True:
        frame = read_live(link, options)
        if frame.type == "heartbeat" and frame.content == b"pong":
            return
        if frame.type not in ("heartbeat", "message"):
            raise PeerError(f"{frame.type} instead of a pong")


def wait_disconnect(link: Link, options) -> str:
    """Drains until the server says goodbye and ends; returns its reason."""
    while True:
        frame = read_live(link, options)
        if frame.type == "disconnect":
            link.no_pings.set()
            link.expect_end()
            return wire.reason_of(frame)
        if frame.type not in ("heartbeat", "message"):
            raise PeerError(f"{frame.type} in an established session: {frame.content[:200]!r}")


def expect_reason(reason: str, expected: str) -> None:
    if reason != expected:
        raise PeerError(f"disconnect with reason {reason!r}, expected {expected!r}")


def burst(options) -> str:
    count = 200 if options.count is None else options.count
    noise = random.Random(count)
    lines = [b"message %04d" % i for i in range(1, count + 1)]
    lines = [line + noise.randbytes(max(0, options.size - len(line))) for line in lines]
    with establish(options) as link, ThreadPoolExecutor(1) as writer:
        written = writer.submit(lambda: [link.message(line) for line in lines])
        for number, line in enumerate(lines, 1):
            if read_kind(link, options, "message").content != line:
                raise PeerError(f"message {number} of {count} came back different")
        written.result()
        leave(link)
    return f"{count} messages written without waiting came back identical and in order"


def sizes(options) -> str:
    with establish(options) as link:
        for size in SIZES if not options.size else (options.size,):
            content = random.Random(size).randbytes(size)
            link.message(content, wire.BINARY)
            if read_kind(link, options, "message").content != content:
                raise PeerError(f"the message of {size} bytes came back different")
        leave(link)
    return f"messages of {options.size or ', '.join(map(str, SIZES))} bytes came back identical"


def count_pongs(link: Link, wanted: int) -> int:
    """The pongs that come until so many are there and a second was quiet (but for pings)."""
    count = 0
    while True:
        try:
            frame = link.read(time.monotonic() + 1 if count >= wanted else None)
        except TimedOut:
            return count
        if frame.type != "heartbeat" or frame.content not in (b"ping", b"pong"):
            raise PeerError(f"{frame.type} {frame.content[:80]!r} instead of a pong")
        count += frame.content == b"pong"


def heartbeat(options) -> str:
    with establish(options, pings=False) as link:
        for content, times, wanted in ((b"ping", 1, 1), (b"pong", 1, 0), (b"hello?", 1, 0), (b"ping", 5, 5)):
            for _ in range(times):
                link.heartbeat(content)
            count = count_pongs(link, wanted)
            if count != wanted:
                raise PeerError(f"{count} pongs for {times} x {content!r}, expected {wanted}")
        leave(link)
    return "1 pong for 1 ping, 0 for a pong, 0 for another content, 5 for 5 pings"


def hold(options, pings: bool = True) -> str:
    start = time.monotonic()
    with establish(options, pings) as link:
        confirm(link, options)
        print(f"established {link.session}", flush=True)
        reason = wait_disconnect(link, options)
    print(f"disconnect: {printable(reason)}", flush=True)
    if pings:
        expect_reason(reason, options.expect_reason)
    return f"disconnect and end after {time.monotonic() - start:.1f} s"


def silent_hold(options) -> str:
    return hold(options, pings=False)


def mute(options) -> str:
    with connect(options) as link:
        start = time.monotonic()
        read_init(link)
        how = link.expect_end(reset_allowed=True)
        return f"closed ({how}) after {time.monotonic() - start:.1f} s without an answer"


def dribble(options) -> str:
    with connect(options) as link:
        start = time.monotonic()
        data = wire.encode(ack(read_init(link)), options.key, options.padded)
        for sent in range(len(data)):
            if link.readable(time.monotonic() + options.delay):
                how = link.expect_end(reset_allowed=True)
                return f"closed ({how}) after {sent} of {len(data)} bytes, {time.monotonic() - start:.1f} s"
            if time.monotonic() > link.deadline:
                raise TimedOut("timed out; the server still takes bytes")
            try:
                link.send_bytes(data[sent:sent + 1])
            except Ended:
                return f"closed at byte {sent} of {len(data)}, {time.monotonic() - start:.1f} s"
    raise PeerError(f"all {len(data)} bytes of the acknowledgement were taken")


def answer_badly(options, answer) -> str:
    """Answers session_init as `answer` does; the end must follow, and nothing before it."""
    with connect(options) as link:
        answer(link, read_init(link))
        return f"end ({link.expect_end(reset_allowed=True)}), 0 frames after session_init"


def wrong_key(options) -> str:
    return answer_badly(options, lambda link, session: link.send(ack(session), options.key + b" but wrong"))


def wrong_ack(options) -> str:
    return answer_badly(options, lambda link, session: link.send(ack(OTHER_SESSION)))


def garbage(options) -> str:
    return answer_badly(options, lambda link, session: link.send_bytes(HTTP_REQUEST))


def wrong_session(options) -> str:
    with establish(options, pings=False) as link:
        link.send(Frame("message", b"whose?", OTHER_SESSION, wire.TEXT))
        text = read_kind(link, options, "error").content.decode("utf-8")
        expect_reason(wire.reason_of(read_kind(link, options, "disconnect")), "Protocol error")
        link.expect_end()
    return f"error {printable(text)!r}, disconnect 'Protocol error', end"


def goodbye(options) -> str:
    with establish(options) as link:
        link.message(b"one and only")
        if read_kind(link, options, "message").content != b"one and only":
            raise PeerError("the message came back different")
        leave(link)
    return "1 message came back, end after disconnect"


def many(options) -> str:
    count = 20 if options.count is None else options.count
    links = []
    with ThreadPoolExecutor(max(1, count)) as threads:
        try:
            for future in [threads.submit(establish, options) for _ in range(count)]:
                links.append(future.result())
            for link in links:
                confirm(link, options)
            print(f"established {len(links)}", flush=True)
            if len({link.session for link in links}) != count:
                raise PeerError("two sessions have the same id")
            for reason in threads.map(lambda link: wait_disconnect(link, options), links):
                expect_reason(reason, options.expect_reason)
        finally:
            for link in links:
                link.__exit__()
    return f"{count} sessions got disconnect {options.expect_reason!r} and the end"


SCENARIOS = {f.__name__.replace("_", "-"): f for f in (
    burst, sizes, heartbeat, hold, silent_hold, mute, dribble, wrong_key, wrong_session, wrong_ack,
    garbage, goodbye, many)}
