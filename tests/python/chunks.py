"""The client's scenarios with messages in pieces (PROTOCOL.md, section 5.5)."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, NamedTuple, Optional

import client
import wire
from session import NOISE, Event, Session
from wire import PeerError

MEGABYTE = 1 << 20
PIECE_SIZES = (1, 1023, 1024, 8191, 8192, 8193, 65535, 65536, 65537, 131073, 262144, 262145, 1000000,
               MEGABYTE, 3 * MEGABYTE)
SKIPPED = object()
MANY = 40  # transfers that are short, more than may be open


def noise_of(size: int, seed: int) -> bytes:
    return random.Random(size * 1000 + seed).randbytes(size)


class Connected:
    """A session with chunks, to its goodbye."""

    def __init__(self, options, pings: bool = True):
        self.options, self.pings = options, pings

    def __enter__(self) -> Session:
        self.session = client.open_session(self.options)
        if "chunk" not in self.session.agreed:
            raise PeerError("chunk was not agreed on")
        if self.pings:
            self.session.start_pings(self.options.ping_interval)
        return self.session

    def __exit__(self, kind, *_):
        try:
            if kind is None and not self.session.link.left and not self.session.stopped:
                self.session.settle()
                leftover = [event for event in self.session.events if event.kind not in (*NOISE, "aborted")]
                if leftover:
                    raise PeerError(f"{leftover[0].kind} that nobody waits for: {leftover[0].content[:200]!r}")
                self.session.stop_writing()
                client.leave(self.session.link, self.session.agreed)
        finally:
            self.session.stopped = True
            self.session.link.__exit__()


def expect(event: Event, content: bytes, content_type: str = wire.TEXT) -> None:
    if event.content != content:
        raise PeerError(f"{len(event.content)} bytes came back for {len(content)}: {event.content[:80]!r}")
    if event.content_type != content_type and (event.content_type, content_type) != ("text/plain", wire.TEXT):
        raise PeerError(f"content type {event.content_type!r} came back for {content_type!r}")


def still_works(session: Session, note: str, ignored=(*NOISE, "aborted")) -> None:
    """A message and a transfer come back, and nothing else."""
    session.message(f"after {note}".encode())
    expect(session.next_of("message", ignored=ignored), f"after {note}".encode())
    content = noise_of(100000, len(note))
    session.send_large(content, wire.BINARY)
    expect(session.next_of("transfer", "message", ignored=ignored), content, wire.BINARY)


def chunks(options) -> str:
    with Connected(options) as session:
        sent = {}
        ordered = []
        plan = [(size, seed) for seed, size in enumerate(PIECE_SIZES)]
        plan += [(10000 + n, 100 + n) for n in range(MANY)]
        in_pieces = 0
        for size, seed in plan:
            content, content_type = noise_of(size, seed), f"application/x-noise; n={seed}"
            sent[content_type] = content
            session.send_large(content, content_type, total=seed % 3 > 0)
            in_pieces += 1
            line = f"between {size} {seed}".encode()
            ordered.append(line)
            session.message(line)
        for size in (8000, 60000, MEGABYTE):  # large messages may still be sent in one
            content, content_type = noise_of(size, 99), f"application/x-whole; n={size}"
            sent[content_type] = content
            session.message(content, content_type)
        for _ in range(len(sent) + len(ordered)):
            event = session.next_of("message", "transfer")
            if event.content_type in (wire.TEXT, "text/plain"):  # an old echo says the latter
                if not ordered or event.content != ordered.pop(0):
                    raise PeerError(f"{event.content[:80]!r} is not the next of the small messages")
                continue
            content = sent.pop(event.content_type, None)
            if content is None:
                raise PeerError(f"{event.content_type!r} came back, and was not sent or had come before: {event.content[:80]!r}")
            expect(event, content, event.content_type)
        pinged = session.pings
    return (f"{in_pieces} messages of 1 to {3 * MEGABYTE} bytes in pieces came back identical, small ones between "
            f"them in order, {pinged} pings answered, with {','.join(sorted(session.agreed))}")


def unknown_size(options) -> str:
    with Connected(options) as session:
        limit = session.theirs["chunk"]["size"]
        for number, size in enumerate((1, 1000, 8193, 65537, 300000, 2 * MEGABYTE)):
            content, noise = noise_of(size, number), random.Random(number)
            transfer = session.begin("application/x-unknown")
            cuts, half = 0, False
            while cuts < size:
                if not half and cuts * 2 >= size:
                    half = True
                    line = f"in the middle of {size}".encode()
                    session.message(line)  # a message in pieces holds nothing up
                    expect(session.next_of("message"), line)
                step = min(size - cuts, noise.choice((1, 7, 1024, 5000, limit - 1, limit, limit)))
                session.pieces(transfer, content[cuts:cuts + step])
                cuts += step
            session.end(transfer)
            expect(session.next_of("transfer", "message"), content, "application/x-unknown")
    return "6 messages without a total came back identical, small ones in the middle of them"


def transfer_abort(options) -> str:
    with Connected(options) as session:
        # The sender gives up: at once, in the middle, and before the end.
        for size, part in ((None, 0), (MEGABYTE, 0), (MEGABYTE, 1), (None, 400000), (MEGABYTE, 700000),
                           (300000, 300000)):
            transfer = session.begin("application/x-never", size)
            session.pieces(transfer, noise_of(part, 5))
            if part > 300000:
                session.message(b"meanwhile")
                expect(session.next_of("message", ignored=(*NOISE, "aborted")), b"meanwhile")
            session.abort(transfer)
            still_works(session, f"{part} of {size}")
        session.settle()
        # Several at once, one of which is given up.
        given_up = session.begin("application/x-never", MEGABYTE)
        content = noise_of(MEGABYTE, 6)
        session.send_large(content, "application/x-other")
        session.pieces(given_up, noise_of(500000, 7))
        session.abort(given_up)
        expect(session.next_of("transfer", ignored=(*NOISE, "aborted")), content, "application/x-other")
        # The receiver gives up: what is far from its end, and what has perhaps ended already.
        for size, held, piece in ((MEGABYTE, True, False), (MEGABYTE, False, True), (100000, False, False)):
            session.settle()
            session.events.clear()
            refused = []

            def why(incoming, first=not piece):
                return "no room for this" if first and incoming.content_type == "application/x-refused" else ""

            session.refuse = why
            session.hold = lambda incoming, held=held: held and incoming.content_type == "application/x-refused"
            transfer = session.send_large(noise_of(size, 8), "application/x-refused")
            while True:
                event = session.next()
                if event.kind == "begun":
                    refused.append(event.id)
                elif event.kind == "data" and piece and event.id in session.incoming:
                    session.refuse_now(session.incoming[event.id], "enough of this")
                    piece = False
                elif event.kind == "aborted":
                    if event.id not in refused:
                        raise PeerError(f"{event.id} was aborted, not {refused}")
                    break
                elif event.kind not in (*NOISE, "refused"):
                    raise PeerError(f"{event.kind} of what was refused: {event.content[:200]!r}")
            session.refuse, session.hold = (lambda incoming: ""), (lambda incoming: False)
            while not transfer.over:
                session.step()
            session.events.clear()
            still_works(session, f"{size} refused")
    return "6 transfers given up by the sender and 3 by the receiver, of which nothing was delivered; the others went on"


class Bad(NamedTuple):
    """Something that section 5.5 forbids; `ends` is "connection" or "transfer", or "nothing" where a
    receiver that puts nothing together may take it."""
    name: str
    act: Callable
    ends: str = "connection"


def open_one(session: Session, size: Optional[int] = None):
    return session.begin("application/x-bad", size)


def begun(session: Session, size: int = 3 * MEGABYTE) -> int:
    """Makes the server begin a transfer, which cannot end because its window is not given back."""
    session.hold = lambda incoming: True
    session.send_large(noise_of(size, 1), "application/x-bad")
    return session.next_of("begun", ignored=("ping", "pong", "data", "done")).id


def with_object(**members):
    return lambda session: session.chunk(members)


def on_open(**members):
    """Something about a transfer that is open, has had one piece of 1,000 bytes, and no total."""
    def act(session: Session):
        transfer = open_one(session)
        session.piece(transfer, b"x" * 1000)
        session.chunk({"id": transfer.id, **members}, content_type="application/x-bad")
    return act


def on_ended(op: str):
    def act(session: Session):
        transfer = open_one(session)
        session.piece(transfer, b"x" * 1000)
        session.end(transfer)
        session.chunk({"id": transfer.id, "op": op, "offset": 1000}, content_type="application/x-bad")
    return act


def on_aborted(op: str):
    def act(session: Session):
        transfer = open_one(session)
        session.piece(transfer, b"x" * 1000)
        session.abort(transfer)
        session.chunk({"id": transfer.id, "op": op, "offset": 1000}, content_type="application/x-bad")
    return act


def id_again(session: Session) -> None:
    session.send_large(b"x" * 9000, "application/x-bad")
    session.next_of("transfer", "message")
    session.chunk({"id": 1, "op": "begin"})


def smaller_id(session: Session) -> None:
    session.next_id = 7
    open_one(session)
    session.next_id = 5
    open_one(session)


def too_many(session: Session) -> None:
    for _ in range(session.theirs["chunk"]["transfers"] + 1):
        open_one(session)


def too_long(session: Session) -> None:
    session.piece(open_one(session), b"x" * (session.theirs["chunk"]["size"] + 1))


def too_far(session: Session) -> None:
    """Without regard to the window, while the server can pass nothing on and puts nothing together."""
    session.hold = lambda incoming: True
    open_one(session, session.theirs["chunk"].get("message"))
    transfer = open_one(session)
    size = session.theirs["chunk"]["size"]
    for _ in range(8 * MEGABYTE // size):
        session.piece(transfer, b"x" * size)


def too_far_in_crumbs(session: Session):
    """Pieces of one byte use 1,024 each."""
    limit = session.theirs["chunk"].get("message")
    if limit is None:
        return SKIPPED  # who passes them on may well have taken them all
    open_one(session, limit)
    transfer = open_one(session)
    for _ in range(8 * session.theirs["chunk"]["window"] // 1024):
        session.piece(transfer, b"x")


def about_theirs(**members):
    def act(session: Session):
        number = begun(session)
        session.chunk({"id": number, **members}, content_type=wire.BINARY)
    return act


def wrong_total(total: int, size: int, at_end: bool):
    def act(session: Session):
        transfer = open_one(session, total)
        session.piece(transfer, b"x" * size)
        if at_end:
            session.end(transfer)
        return transfer
    return act


def wrong_piece(offset: Optional[int] = None, content_type: Optional[str] = None):
    def act(session: Session):
        transfer = open_one(session, 100000)
        session.piece(transfer, b"x" * 20000)
        session.piece(transfer, b"y" * 20000, offset, content_type)
        return transfer
    return act


def wrong_end(session: Session):
    transfer = open_one(session)
    session.piece(transfer, b"x" * 20000)
    session.end(transfer, 19999)
    return transfer


def too_large(session: Session):
    limit = session.theirs["chunk"].get("message")
    if limit is None:
        return SKIPPED  # there is none
    return open_one(session, limit + 1)


def empty(session: Session):
    transfer = open_one(session)
    session.end(transfer)
    return transfer


BAD = (
    Bad("no chunk", lambda session: session.chunk(None)),
    Bad("an id of the server's", with_object(id=2, op="begin")),
    Bad("an id twice", id_again),
    Bad("a smaller id", smaller_id),
    *(Bad(f"{op} for what is not open", with_object(id=1, op=op, offset=0)) for op in ("data", "end", "abort")),
    *(Bad(f"{op} after end", on_ended(op)) for op in ("data", "end", "abort")),
    *(Bad(f"{op} after abort", on_aborted(op)) for op in ("data", "end", "abort")),
    *(Bad(f"{op} for what was never begun", with_object(id=2, op=op, bytes=1)) for op in ("window", "done", "abort")),
    Bad("window for a transfer of one's own", on_open(op="window", bytes=1)),
    Bad("done for a transfer of one's own", on_open(op="done")),
    Bad("done before end", about_theirs(op="done")),
    Bad("more window than was used", about_theirs(op="window", bytes=1 << 40)),
    Bad("data for a transfer of the server's", about_theirs(op="data", offset=0)),
    Bad("too many transfers", too_many),
    Bad("a piece too long", too_long),
    Bad("more than the window", too_far),
    Bad("more than the window, in crumbs", too_far_in_crumbs),
    *(Bad(f"the object {members}", with_object(**members)) for members in (
        {}, {"op": "begin"}, {"id": 1}, {"id": "1", "op": "begin"}, {"id": 1.0, "op": "begin"},
        {"id": -1, "op": "begin"}, {"id": 0, "op": "begin"}, {"id": 2 ** 53 + 1, "op": "begin"},
        {"id": None, "op": "begin"}, {"id": True, "op": "begin"}, {"id": 1, "op": "start"}, {"id": 1, "op": None},
        {"id": 1, "op": "begin", "total": "1"}, {"id": 1, "op": "begin", "total": 1.5},
        {"id": 1, "op": "begin", "total": -1}, {"id": 1, "op": "begin", "total": 2 ** 53},
        {"id": 1, "op": "begin", "name": ""}, {"id": 1, "op": "begin", "name": "x" * 1025},
        {"id": 1, "op": "begin", "name": 1})),
    Bad("an object that is none", lambda session: session.chunk([1])),
    Bad("data without offset", on_open(op="data")),
    Bad("end without offset", on_open(op="end")),
    Bad("window without bytes", about_theirs(op="window")),
    Bad("window of nothing", about_theirs(op="window", bytes=0)),
    Bad("a gap", wrong_piece(20001), "transfer"),
    Bad("an overlap", wrong_piece(19999), "transfer"),
    Bad("an other content type", wrong_piece(None, "text/plain"), "transfer"),
    Bad("more than the total", wrong_total(20000, 20001, False), "transfer"),
    Bad("more than the total, and end", wrong_total(20000, 20001, True), "transfer"),
    Bad("less than the total", wrong_total(20000, 19999, True), "transfer"),
    Bad("an end elsewhere", wrong_end, "transfer"),
    Bad("too large", too_large, "transfer"),
    Bad("nothing", empty, "nothing"),
)


def expect_protocol_error(session: Session) -> str:
    session.link.no_pings.set()
    while True:
        event = session.next()
        if event.kind == "error":
            break
        if event.kind not in (*NOISE, "aborted", "refused") and event.content_type != "application/x-bad":
            raise PeerError(f"{event.kind} {event.content[:200]!r} instead of error")
    text = event.content.decode("utf-8")
    goodbye = session.next().content.decode("utf-8")
    client.expect_reason(goodbye, "Protocol error")
    session.stopped = True
    session.link.expect_end()
    return text


def ends_connection(bad: Bad, options) -> str:
    with Connected(options, pings=False) as session:
        if bad.act(session) is SKIPPED:
            return ""
        return expect_protocol_error(session)


def ends_transfers(cases: list, options) -> None:
    """Each is aborted, what follows is discarded, and the next goes on in the same session."""
    with Connected(options) as session:
        for bad in cases:
            try:
                transfer = bad.act(session)
                if transfer is SKIPPED:
                    continue
                kinds = ("refused", "done") if bad.ends == "nothing" else ("refused",)
                event = session.next_of(*kinds, ignored=tuple({*NOISE, "aborted"} - set(kinds)))
                if event.id != transfer.id:
                    raise PeerError(f"transfer {event.id} was aborted, not {transfer.id}")
                if not transfer.ended:
                    session.piece(transfer, b"late", 12345, "text/html")  # is discarded
                    session.abort(transfer)
                still_works(session, bad.name)
            except PeerError as error:
                raise PeerError(f"{bad.name}: {error}") from None


def bad_chunks(options) -> str:
    told, failed = set(), []

    def run(bad: Bad) -> None:
        try:
            told.add(ends_connection(bad, options))
        except PeerError as error:
            failed.append(f"{bad.name}: {error}")

    cases = [bad for bad in BAD if bad.ends == "connection"]
    for bad in cases:  # one after the other: at a relay, one would hold the others up
        run(bad)
    for bad in BAD:
        if bad.ends != "connection":
            try:
                ends_transfers([bad], options)
            except PeerError as error:
                failed.append(str(error))
    others = [bad for bad in BAD if bad.ends != "connection" and not any(f.startswith(f"{bad.name}:") for f in failed)]
    ends_transfers(others, options)
    for text in sorted(told - {""}):
        print(f"error: {client.printable(text)}", flush=True)
    if failed:
        raise PeerError(f"{len(failed)} of {len(BAD)}: " + "; ".join(failed))
    return f"{len(cases)} violations ended the connection with an error, {len(BAD) - len(cases)} the transfer only"


def chunk_unasked(options) -> str:
    """A chunk where none was agreed on ends the connection."""
    session = client.open_session(options)
    with session.link:
        if "chunk" in session.agreed:
            raise PeerError("chunk was agreed on")
        session.chunk({"id": 1, "op": "begin"}, b"begin", wire.TEXT)
        text = expect_protocol_error(session)
    return f"error {client.printable(text)!r}, disconnect 'Protocol error', end"


def bad_choice(options) -> str:
    """A choice that is wrong, or of what was not offered, ends the connection without a word."""
    choices = (7, [], "all", {"chunk": {}}, {"chunk": 1}, {"chunk": None}, {"ping": {"timeout": 2999}}, {"ping": {}},
               {"ping": {"timeout": 3000.5}}, {"ping": {"timeout": None}}, {"ping": {"timeout": 1e400}},
               {"ping": {"timeout": "3000"}}, {"ping": {"timeout": 2 ** 53}}, {"limits": {"content": 0}},
               {"limits": {"content": -1}}, {"limits": {"content": True}}, {"coalesce": True}, {"coalesce": []},
               *({"chunk": {"size": 4096, "window": 8192, "transfers": 2, **bad}} for bad in (
                   {"size": 1023}, {"size": None}, {"size": 16384}, {"window": 4095}, {"size": 1024, "window": 4095},
                   {"transfers": 0}, {"transfers": 1.0}, {"message": 0}, {"message": "1"})))
    good = ({}, {"unknown": None} if options.count else {}, {"ping": {"timeout": 3000, "more": [1]}},
            {"limits": {}}, {"limits": {"content": None}}, {"limits": {"content": 1 << 40}},
            {"coalesce": {"x": {"y": None}}},
            {"chunk": {"size": 1 << 20, "window": 1 << 21, "transfers": 1 << 50, "message": None}})
    taken = []
    for choice in choices:
        with client.connect(options) as link:
            link.send(client.ack(client.read_init(link), choice))
            try:
                link.expect_end(reset_allowed=True)
            except PeerError as error:
                taken.append(f"{choice}: {error}")
    for choice in good:
        with client.connect(options) as link:
            link.session = client.read_init(link)
            link.send(client.ack(link.session, choice))
            link.established, link.exact, link.coalesce = True, True, True
            link.heartbeat(b"ping")
            try:
                if link.read().content != b"pong":
                    raise PeerError("no pong")
                client.leave(link)
            except PeerError as error:
                taken.append(f"{choice}, which is right: {error}")
    if taken:
        raise PeerError("; ".join(taken))
    return f"{len(choices)} wrong choices ended the connection, {len(good)} right ones did not"


def slow_sender(options) -> str:
    """What is taken a second after `begin`, or after something was given back, gives the window back."""
    with Connected(options) as session:
        transfer = session.begin("application/x-slow")
        for _ in range(3):
            due = time.monotonic() + 1.2
            while time.monotonic() < due:
                session.step(0.05)
            before = transfer.given
            session.piece(transfer, b"x" * 20000)
            limit = time.monotonic() + 3
            while transfer.given == before:
                if time.monotonic() > limit:
                    raise PeerError(f"{before} of {transfer.used} bytes of the window given back after 3 s")
                session.step(0.05)
        session.end(transfer)
        expect(session.next_of("transfer", "message"), b"x" * 60000, "application/x-slow")
    return "3 pieces, with more than a second between them, gave the window back"


def named(options) -> str:
    """A file, which has a name, arrives at the other end of a relay, whole and with its name."""
    with Connected(options) as one, Connected(options) as other:
        other.message(b"here")
        one.next_of("message")
        other.next_of("message")
        for size, name in ((1, "a"), (9000, "n\u00f6ise \U0001f600"), (MEGABYTE, "x" * 1024)):
            content = noise_of(size, 3)
            seen = []
            other.hold = lambda incoming: bool(seen.append(incoming.name))
            one.send_large(content, "application/x-file", total=size > 1, name=name)
            while not other.events or other.events[-1].kind != "transfer":
                one.step(0.01)
                other.step(0.01)
            if seen != [name]:
                raise PeerError(f"begun with the names {seen!r:.200}, expected {name!r:.80}")
            expect(other.next_of("transfer"), content, "application/x-file")
    return "3 files of 1 to 1048576 bytes arrived at the other end, with their names"


def old_and_new(options) -> str:
    one, many = noise_of(MEGABYTE, 1), noise_of(11 * MEGABYTE, 2)
    text = f"application/x-{'old'}"
    told = []
    plain = type(options)(**{**vars(options), "extensions": None})
    with Connected(options) as session, client.establish(plain) as old, ThreadPoolExecutor(1) as reader:
        client.confirm(old, plain)

        def old_hears(content: Optional[bytes] = None, content_type: str = wire.TEXT) -> bytes:
            frame = client.read_kind(old, plain, "message")
            if content is not None:
                expect(Event("message", frame.content, frame.content_type), content, content_type)
            return frame.content

        def new_hears(content: bytes, content_type: str = wire.TEXT) -> None:
            expect(session.next_of("message", "transfer"), content, content_type)

        for total in (True, False):
            heard = reader.submit(old_hears, one, text)
            session.send_large(one, text, total=total)
            new_hears(one, text)
            heard.result()  # in one frame
            heard = reader.submit(old_hears)
            session.send_large(many, text, total=total)
            new_hears(many, text)
            missed = heard.result()
            if len(missed) > 8192:
                raise PeerError(f"{len(missed)} bytes instead of a word about what was missed")
            told.append(client.printable(missed.decode("utf-8")))
            heard = reader.submit(old_hears, b"from the new one")
            session.message(b"from the new one")
            new_hears(b"from the new one")
            heard.result()
            heard = reader.submit(old_hears, b"from the old one")
            old.message(b"from the old one")
            new_hears(b"from the old one")
            heard.result()
            large = noise_of(2 * MEGABYTE, 3)
            heard = reader.submit(old_hears, large, wire.BINARY)
            old.message(large, wire.BINARY)
            new_hears(large, wire.BINARY)
            heard.result()
        client.leave(old)
    print("\n".join(f"told: {line}" for line in told), flush=True)
    return f"a message of {len(one)} bytes in one frame, and a word about one of {len(many)}: {told[0]!r}"


SCENARIOS = {f.__name__.replace("_", "-"): f for f in (
    chunks, unknown_size, transfer_abort, bad_chunks, chunk_unasked, bad_choice, slow_sender, named, old_and_new)}
