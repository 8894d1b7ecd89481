"""An established session with extensions (PROTOCOL.md, sections 4.6 and 5.5).

The scenario's thread reads, and checks whatever the other side does; a second one writes: what
answers the other side first, then what was queued and the transfers, in turns.
"""

import random
import threading
import time
from collections import deque
from typing import NamedTuple, Optional

import extensions
import wire
from extensions import LEAST_USE, OPERATIONS
from link import Link, TimedOut
from wire import Frame, PeerError

TICK = 0.2  # seconds between looks at what time does
GIVE_BACK = 0.5  # seconds after which less than half a window is given back, too
PIECES_ABOVE = 8192  # bytes of a message; smaller ones go in one frame
STALL = 15  # seconds that the other side may take to give back what it certainly has taken


NOISE = ("ping", "pong", "begun", "data", "done")  # events that most scenarios do not wait for


class Event(NamedTuple):
    """Something that came: message, error, disconnect, ping, pong; of transfers of the other side
    begun, data, transfer (a whole one), aborted; of ours done, refused."""
    kind: str
    content: bytes = b""
    content_type: str = ""
    id: int = 0


class Outgoing:
    """A transfer of ours. With a `source` the writer sends it; else the scenario does, piece by piece."""

    def __init__(self, number: int, content_type: str, window: int, source: Optional[bytes]):
        self.id, self.content_type, self.window, self.source = number, content_type, window, source
        self.offset = self.used = self.given = 0
        self.begun = False
        self.ended = self.aborted = False  # our last word
        self.total: Optional[int] = None
        self.name: Optional[str] = None
        self.answered = ""  # the other side's last word: done or abort
        self.moved = time.monotonic()

    @property
    def over(self) -> bool:
        return self.aborted or (self.ended and bool(self.answered))

    @property
    def room(self) -> int:
        return self.window + self.given - self.used


class Incoming:
    """A transfer of the other side."""

    def __init__(self, number: int, content_type: str, total: Optional[int], name: Optional[str]):
        self.id, self.content_type, self.total, self.name = number, content_type, total, name
        self.data = bytearray()
        self.offset = self.used = self.given = self.taken = 0
        self.ended = self.refused = self.held = False
        self.gave = time.monotonic()


class Session:
    def __init__(self, link: Link, options, server: bool, mine: extensions.Parameters,
                 theirs: extensions.Parameters):
        """`mine` and `theirs` have the members agreed on, with the parameters of each side."""
        self.link, self.options, self.server, self.mine, self.theirs = link, options, server, mine, theirs
        self.agreed = set(mine)
        self.next_id = 2 if server else 1
        self.outgoing: dict = {}
        self.incoming: dict = {}
        self.greatest = 0  # id that the other side began
        self.events: deque = deque()
        self.refuse = lambda incoming: ""  # why a transfer is not wanted, if so
        self.hold = lambda incoming: False  # whether nothing of it is taken yet
        self.pings = self.pongs = self.unasked = 0
        self.asked_at: Optional[float] = None
        self.heard = time.monotonic()
        self.noise = random.Random(4)
        self.state = threading.Condition()
        self.first: deque = deque()  # answers
        self.queue: deque = deque()
        self.waiting: deque = deque()  # transfers that the writer is to begin
        self.sources: deque = deque()  # and those that it sends
        self.turn = False
        self.idle, self.stopped = True, False
        self.failure: Optional[PeerError] = None
        link.exact, link.coalesce = True, "coalesce" in mine
        self.padded = link.padded and "coalesce" not in mine
        self.writer = threading.Thread(target=self.write, daemon=True)
        self.writer.start()

    # Writing

    def write(self) -> None:
        try:
            while True:
                with self.state:
                    self.idle = True
                    self.state.notify_all()
                    batch = []
                    while not batch:
                        if self.stopped:
                            return
                        most = self.noise.randrange(1, 7) if "coalesce" in self.agreed else 1
                        batch = [frame for frame in (self.pick() for _ in range(most)) if frame]
                        if not batch:
                            self.state.wait()
                    self.idle = False
                if "coalesce" not in self.agreed:
                    self.link.send(batch[0], padded=self.padded)
                    continue
                data = b"".join(wire.encode(frame, self.link.signing) for frame in batch)
                cuts = sorted(self.noise.randrange(len(data)) for _ in range(self.noise.randrange(3)))
                for start, end in zip([0, *cuts], [*cuts, len(data)]):
                    self.link.send_bytes(data[start:end])
        except PeerError as error:
            with self.state:
                self.failure, self.idle = error, True
                self.state.notify_all()

    def pick(self) -> Optional[Frame]:
        """The next frame; None if there is nothing that may be sent now."""
        if self.first:
            return self.first.popleft()
        self.turn = not self.turn
        if self.queue and self.turn:
            return self.queue.popleft()
        if self.waiting and self.may_begin():
            transfer = self.waiting.popleft()
            self.sources.append(transfer)
            return self.begin_frame(transfer)
        for _ in range(len(self.sources)):
            transfer = self.sources.popleft()
            frame = self.piece_of(transfer)
            if not (transfer.ended or transfer.aborted):
                self.sources.append(transfer)
            if frame:
                return frame
        return self.queue.popleft() if self.queue else None

    def piece_of(self, transfer: Outgoing) -> Optional[Frame]:
        if transfer.answered == "abort":
            return self.last_word(transfer, "abort", b"as you wish", wire.TEXT)
        left = len(transfer.source) - transfer.offset
        if not left:
            return self.last_word(transfer, "end", b"end", wire.BINARY)
        size = min(left, self.theirs["chunk"]["size"], transfer.room)
        if transfer.room < LEAST_USE:
            return None
        return self.data_frame(transfer, transfer.source[transfer.offset:transfer.offset + size])

    def data_frame(self, transfer: Outgoing, piece: bytes, offset: Optional[int] = None,
                   content_type: Optional[str] = None) -> Frame:
        chunk = {"id": transfer.id, "op": "data", "offset": transfer.offset if offset is None else offset}
        transfer.offset += len(piece)
        transfer.used += max(len(piece), LEAST_USE)
        transfer.moved = time.monotonic()
        return self.chunk_frame(chunk, piece, content_type or transfer.content_type)

    def last_word(self, transfer: Outgoing, op: str, content: bytes, content_type: str,
                  offset: Optional[int] = None) -> Frame:
        chunk = {"id": transfer.id, "op": op}
        if op == "end":
            transfer.ended = True
            chunk["offset"] = transfer.offset if offset is None else offset
        else:
            transfer.aborted = True
        return self.chunk_frame(chunk, content, content_type)

    def chunk_frame(self, chunk: Optional[dict], content: bytes, content_type: str = wire.BINARY) -> Frame:
        return Frame("chunk", content, self.link.session, content_type, chunk=chunk)

    def put(self, frame: Frame, answer: bool = False) -> None:
        with self.state:
            (self.first if answer else self.queue).append(frame)
            self.state.notify_all()

    def message(self, content: bytes, content_type: str = wire.TEXT) -> None:
        limit = self.theirs.get("limits", {}).get("content", wire.SESSION_LIMITS[1])
        if len(content) > limit:
            raise PeerError(f"a message of {len(content)} bytes cannot be sent: {limit} are taken")
        self.put(Frame("message", content, self.link.session, content_type))

    def ping(self) -> None:
        with self.state:
            self.pings += 1
            if self.asked_at is None:
                self.asked_at = time.monotonic()
        self.put(Frame("heartbeat", b"ping", self.link.session), answer=True)

    def start_pings(self, interval: float) -> None:
        def run():
            while not self.link.no_pings.wait(interval) and not self.stopped and not self.failure:
                if self.pings - self.pongs < 16:
                    self.ping()
        threading.Thread(target=run, daemon=True).start()

    def new_transfer(self, content_type: str, total: Optional[int], name: Optional[str],
                     source: Optional[bytes] = None) -> Outgoing:
        transfer = Outgoing(self.next_id, content_type, self.theirs["chunk"]["window"], source)
        transfer.total, transfer.name = total, name
        self.next_id += 2
        self.outgoing[transfer.id] = transfer
        return transfer

    def begin_frame(self, transfer: Outgoing) -> Frame:
        chunk = {"id": transfer.id, "op": "begin", "total": transfer.total, "name": transfer.name}
        chunk = {key: value for key, value in chunk.items() if value is not None}
        transfer.begun, transfer.moved = True, time.monotonic()
        return self.chunk_frame(chunk, b"begin", transfer.content_type)

    def begin(self, content_type: str, total: Optional[int] = None, name: Optional[str] = None) -> Outgoing:
        """Begins a transfer that the scenario sends, whatever the other side allows."""
        with self.state:
            transfer = self.new_transfer(content_type, total, name)
            self.queue.append(self.begin_frame(transfer))
            self.state.notify_all()
        return transfer

    def send_large(self, content: bytes, content_type: str, total: bool = True,
                   name: Optional[str] = None) -> Outgoing:
        """Has a message sent in pieces, as soon as the other side takes one more transfer."""
        with self.state:
            transfer = self.new_transfer(content_type, len(content) if total else None, name, content)
            self.waiting.append(transfer)
            self.state.notify_all()
        return transfer

    def may_begin(self) -> bool:
        """Whether one more may be open, and none with a smaller id waits in the queue."""
        count = sum(t.begun and not t.over for t in self.outgoing.values())
        queued = any(isinstance(frame.chunk, dict) and frame.chunk.get("op") == "begin" for frame in self.queue)
        return count < self.theirs["chunk"]["transfers"] and not queued

    def piece(self, transfer: Outgoing, piece: bytes, offset: Optional[int] = None,
              content_type: Optional[str] = None) -> None:
        """One piece, whether the window allows it or not."""
        with self.state:
            self.queue.append(self.data_frame(transfer, piece, offset, content_type))
            self.state.notify_all()

    def pieces(self, transfer: Outgoing, content: bytes) -> None:
        """Pieces as the window allows."""
        size = self.theirs["chunk"]["size"]
        for start in range(0, len(content), size):
            piece = content[start:start + size]
            while transfer.room < max(len(piece), LEAST_USE):
                self.step()
            self.piece(transfer, piece)

    def end(self, transfer: Outgoing, offset: Optional[int] = None) -> None:
        with self.state:
            self.queue.append(self.last_word(transfer, "end", b"end", wire.BINARY, offset))
            self.state.notify_all()

    def abort(self, transfer: Outgoing, why: str = "not today") -> None:
        with self.state:
            self.queue.append(self.last_word(transfer, "abort", why.encode(), wire.TEXT))
            self.state.notify_all()

    def chunk(self, chunk: Optional[dict], content: bytes = b"?", content_type: str = wire.BINARY) -> None:
        """A frame with whatever object."""
        self.put(self.chunk_frame(chunk, content, content_type))

    def drain(self) -> None:
        """Waits until everything queued has been written, with reading all the time."""
        while True:
            with self.state:
                if self.failure:
                    raise self.failure
                if self.idle and not (self.first or self.queue or self.waiting or self.sources):
                    return
            self.step(0.01)

    # Reading

    def step(self, wait: float = TICK) -> bool:
        """Reads one frame, if one comes in this time, and does what time asks for."""
        try:
            frame = self.link.read(time.monotonic() + wait)
        except TimedOut:
            if time.monotonic() >= self.link.deadline:
                raise PeerError(f"timed out; still open: {sorted(self.open_transfers())}") from None
            self.watch()
            return False
        self.heard = time.monotonic()
        with self.state:
            self.handle(frame)
            self.give_back()
            self.state.notify_all()
        self.watch()
        return True

    def next(self) -> Event:
        since = time.monotonic()
        while not self.events:
            self.step()
            if time.monotonic() - max(since, self.heard) > self.options.idle_limit:
                raise PeerError(f"no frame for {self.options.idle_limit} s")
        return self.events.popleft()

    def next_of(self, *kinds: str, ignored=NOISE) -> Event:
        while True:
            event = self.next()
            if event.kind in kinds:
                return event
            if event.kind not in ignored:
                raise PeerError(f"{event.kind} {event.content[:200]!r} instead of {' or '.join(kinds)}")

    def open_transfers(self) -> list:
        return [number for number, t in self.outgoing.items() if not t.over] + list(self.incoming)

    def watch(self) -> None:
        """What must have happened by now."""
        now = time.monotonic()
        with self.state:
            self.give_back()
            limit = self.mine["ping"]["timeout"] / 1000 if "ping" in self.agreed else self.options.idle_limit
            if self.asked_at and now - max(self.asked_at, self.heard) > limit and not self.link.buffer:
                raise PeerError(f"no sign of life for {limit} s after a ping")
            for transfer in self.sources:  # the oldest is somewhere among them
                oldest = transfer.id == min(t.id for t in self.sources)
                if oldest and transfer.room < LEAST_USE and now - transfer.moved > STALL:
                    raise PeerError(f"no window for transfer {transfer.id} for {STALL} s")

    def handle(self, frame: Frame) -> None:
        add = self.events.append
        size = len(frame.content)
        if frame.type == "heartbeat":
            if frame.content == b"ping":
                self.first.append(Frame("heartbeat", b"pong", self.link.session))
                add(Event("ping"))
            elif frame.content == b"pong":
                if self.pongs == self.pings:
                    if "ping" not in self.agreed:
                        raise PeerError("a pong that nobody asked for")
                    self.unasked += 1
                else:
                    self.pongs += 1
                self.asked_at = time.monotonic() if self.pongs < self.pings else None
                add(Event("pong"))
        elif frame.type == "message":
            limit = self.mine.get("limits", {}).get("content", wire.SESSION_LIMITS[1])
            if size > limit:
                raise PeerError(f"a message of {size} bytes, {limit} are taken")
            add(Event("message", frame.content, frame.content_type))
        elif frame.type == "chunk":
            self.handle_chunk(frame)
        elif frame.type == "error":
            add(Event("error", frame.content, frame.content_type))
        elif frame.type == "disconnect":
            add(Event("disconnect", wire.reason_of(frame).encode("utf-8")))
        else:
            raise PeerError(f"{frame.type} in an established session")

    def handle_chunk(self, frame: Frame) -> None:
        if "chunk" not in self.agreed:
            raise PeerError("a chunk that was not agreed on")
        chunk = extensions.parse_chunk(frame.chunk)
        op, number = chunk["op"], chunk["id"]
        operation = OPERATIONS[op]
        if operation.content not in (None, frame.content):
            raise PeerError(f"{op} with content {frame.content[:80]!r}")
        wanted = {"abort": wire.TEXT, "begin": None, "data": None}.get(op, wire.BINARY)
        if wanted not in (None, frame.content_type):
            raise PeerError(f"{op} with content type {frame.content_type!r}")
        if op == "abort":
            frame.content.decode("utf-8")
        ours = (number % 2 == 0) == self.server
        if op != "abort" and operation.by_sender == ours:
            raise PeerError(f"{op} for {number}, which is {'ours' if ours else 'theirs'}")
        if ours:
            self.handle_answer(op, number, chunk, frame)
        else:
            self.handle_transfer(op, number, chunk, frame)

    def handle_answer(self, op: str, number: int, chunk: dict, frame: Frame) -> None:
        transfer = self.outgoing.get(number)
        if transfer is None:
            raise PeerError(f"{op} for {number}, which was never begun")
        if transfer.answered:
            raise PeerError(f"{op} for {number} after its {transfer.answered}")
        if op == "window":
            transfer.given += chunk["bytes"]
            transfer.moved = time.monotonic()
            if transfer.given > transfer.used:
                raise PeerError(f"{transfer.given} bytes of window given back of {transfer.used} for {number}")
            return
        if op == "done" and not transfer.ended:
            raise PeerError(f"done for {number} before its end")
        transfer.answered = op
        if not transfer.aborted:
            self.events.append(Event("done" if op == "done" else "refused", frame.content, id=number))

    def handle_transfer(self, op: str, number: int, chunk: dict, frame: Frame) -> None:
        mine = self.mine["chunk"]
        transfer = self.incoming.get(number)
        if op == "begin":
            if number <= self.greatest:
                raise PeerError(f"begin of {number} after {self.greatest}")
            self.greatest = number
            if len(self.incoming) >= mine["transfers"]:
                raise PeerError(f"{len(self.incoming) + 1} transfers open, {mine['transfers']} are taken")
            if chunk["total"] is not None and chunk["total"] > mine.get("message", chunk["total"]):
                raise PeerError(f"a message of {chunk['total']} bytes begun, {mine['message']} are taken")
            transfer = Incoming(number, frame.content_type, chunk["total"], chunk.get("name"))
            self.incoming[number] = transfer
            transfer.held = self.hold(transfer)
            self.events.append(Event("begun", b"", frame.content_type, number))
            why = self.refuse(transfer)
            if why:
                self.refuse_now(transfer, why)
            return
        if transfer is None or (transfer.ended and op != "abort"):
            raise PeerError(f"{op} for {number}, which is not open")
        if op == "abort":
            if transfer.ended:
                raise PeerError(f"abort for {number} after its end")
            del self.incoming[number]
            self.events.append(Event("aborted", frame.content, id=number))
            return
        if chunk["offset"] != transfer.offset:
            raise PeerError(f"{op} for {number} at {chunk['offset']}, not at {transfer.offset}")
        if op == "data":
            size = len(frame.content)
            if size > mine["size"]:
                raise PeerError(f"a piece of {size} bytes, {mine['size']} are taken")
            transfer.offset += size
            transfer.used += max(size, LEAST_USE)
            if transfer.used - transfer.given > mine["window"]:
                raise PeerError(f"{transfer.used - transfer.given} bytes ahead for {number}")
            if frame.content_type != transfer.content_type:
                raise PeerError(f"content type {frame.content_type} for {number}, of {transfer.content_type}")
            if transfer.total is not None and transfer.offset > transfer.total:
                raise PeerError(f"more bytes than the total {transfer.total} for {number}")
            if transfer.offset > mine.get("message", transfer.offset):
                raise PeerError(f"a message of more than {mine['message']} bytes")
            if not transfer.refused:
                transfer.data += frame.content
                transfer.taken = transfer.used
                self.events.append(Event("data", frame.content, "", number))
            return
        transfer.ended = True
        if transfer.total not in (None, transfer.offset) and not transfer.refused:
            raise PeerError(f"{number} ends at {transfer.offset}, not at its total {transfer.total}")
        if transfer.refused:
            del self.incoming[number]
            self.events.append(Event("aborted", b"its end crossed our abort", id=number))
        elif not transfer.held:
            self.finish(transfer)

    def finish(self, transfer: Incoming) -> None:
        if not transfer.data:  # to be refused by whoever puts messages together
            self.refuse_now(transfer, "an empty message")
            self.events.append(Event("aborted", b"empty", id=transfer.id))
            return
        del self.incoming[transfer.id]
        self.first.append(self.chunk_frame({"id": transfer.id, "op": "done"}, b"done"))
        self.events.append(Event("transfer", bytes(transfer.data), transfer.content_type, transfer.id))

    def refuse_now(self, transfer: Incoming, why: str) -> None:
        """Our `abort` of a transfer of theirs."""
        with self.state:
            if transfer.ended:
                del self.incoming[transfer.id]
            transfer.refused = True
            self.first.append(self.chunk_frame({"id": transfer.id, "op": "abort"}, why.encode(), wire.TEXT))
            self.state.notify_all()

    def release(self, transfer: Incoming) -> None:
        """Takes what was held."""
        with self.state:
            transfer.held = False
            if transfer.ended and not transfer.refused:
                self.finish(transfer)
            self.give_back()
            self.state.notify_all()

    def give_back(self) -> None:
        now = time.monotonic()
        for transfer in self.incoming.values():
            due = transfer.taken - transfer.given
            if not due:
                transfer.gave = now
            if transfer.held or transfer.refused or transfer.ended or not due:
                continue
            if due * 2 >= self.mine["chunk"]["window"] or now - transfer.gave > GIVE_BACK:
                transfer.given += due
                transfer.gave = now
                self.first.append(self.chunk_frame({"id": transfer.id, "op": "window", "bytes": due}, b"window"))
                self.state.notify_all()

    # Ends

    def settle(self) -> None:
        """Waits until no transfer is open and every ping has its pong."""
        self.link.no_pings.set()
        while self.open_transfers() or self.pongs < self.pings:
            self.step()
        self.drain()

    def stop_writing(self) -> None:
        self.link.no_pings.set()
        with self.state:
            self.stopped = True
            self.state.notify_all()
        self.writer.join(max(0.1, self.link.deadline - time.monotonic()))

    def expect_goodbye(self, reason: str) -> None:
        """`disconnect` comes, and then the end."""
        said = self.next_of("disconnect", ignored=()).content.decode("utf-8")
        if said != reason:
            raise PeerError(f"disconnect with reason {said!r}, expected {reason!r}")
        self.stop_writing()
        self.link.expect_end()


class Facade:
    """A session with extensions where the scenarios expect a link."""

    def __init__(self, session: Session):
        self.inner, self.link = session, session.link
        self.given_up_is_fine = False

    def __getattr__(self, name: str):
        return getattr(self.link, name)

    def __enter__(self):
        return self

    def __exit__(self, *details):
        self.inner.stopped = True
        self.link.__exit__(*details)

    def send(self, frame: Frame) -> None:
        self.inner.put(frame)

    def message(self, content: bytes, content_type: str = wire.TEXT) -> None:
        """As a message that is small, or in pieces."""
        if "chunk" in self.inner.agreed and len(content) > PIECES_ABOVE:
            self.inner.send_large(content, content_type, total=len(content) % 3 > 0)
        else:
            self.inner.message(content, content_type)

    def heartbeat(self, content: bytes) -> None:
        if content == b"ping":
            self.inner.ping()
        else:
            self.inner.put(Frame("heartbeat", content, self.link.session))

    def start_pings(self, interval: float) -> None:
        self.inner.start_pings(interval)

    def read(self, until: Optional[float] = None) -> Frame:
        """The next frame, where a whole transfer is a `message`; what else is of chunks is not shown."""
        shown = {"message": "message", "transfer": "message", "error": "error", "ping": "heartbeat",
                 "pong": "heartbeat", "disconnect": "disconnect"}
        while True:
            while self.inner.events:
                event = self.inner.events.popleft()
                if event.kind in shown:
                    content = event.content or event.kind.encode()
                    if event.kind == "disconnect":
                        return wire.goodbye(self.link.session, event.content.decode("utf-8"))
                    return Frame(shown[event.kind], content, self.link.session, event.content_type or wire.BINARY)
                if event.kind in ("aborted", "refused") and not self.given_up_is_fine:
                    raise PeerError(f"transfer {event.id} {event.kind}: {event.content[:200]!r}")
            left = min(until or self.link.deadline, self.link.deadline) - time.monotonic()
            if left <= 0:
                raise TimedOut("timed out waiting for a frame")
            self.inner.step(min(TICK, left))

    def end_writing(self) -> None:
        self.inner.drain()
        self.inner.stop_writing()
        self.link.end_writing()

    def say_goodbye(self, reason: str) -> None:
        self.inner.drain()
        self.inner.stop_writing()
        self.link.say_goodbye(reason)
        self.link.exact = True
