"""One connection, with the reading and writing habits of the oldest peers (PROTOCOL.md, section 6).

The reader takes up to 1,024 bytes with one read and believes that they are one frame, or the start
of one. The writer passes the fixed header and the rest to the socket separately. Every wait is
bounded.
"""

import select
import socket
import threading
import time
from typing import Optional

import wire
from wire import Frame, PeerError

FIRST_READ = 1024


class TimedOut(PeerError):
    """Nothing came in time; no byte of a frame has been taken."""


class Ended(PeerError):
    """The stream ended between two frames; `how` is "eof" or "reset"."""

    def __init__(self, how: str):
        super().__init__(f"the stream ended ({how})")
        self.how = how


class Link:
    def __init__(self, sock: socket.socket, key: bytes, timeout: float, padded: bool):
        self.sock, self.key, self.padded = sock, key, padded
        self.signing = self.verifying = key  # with `sec` directions of the session
        self.deadline = time.monotonic() + timeout
        self.session: Optional[str] = None
        self.established = False
        self.writing = threading.Lock()
        self.left = False
        self.no_pings = threading.Event()
        self.chosen: Optional[list] = None  # extensions, if any were negotiated
        self.exact = False  # read frame by frame
        self.buffer = bytearray()
        self.coalesce = False  # what comes need not be padded
        sock.settimeout(timeout)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.no_pings.set()
        self.sock.close()

    # Writing

    def send_bytes(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except socket.timeout:
            raise PeerError("timed out writing") from None
        except OSError:
            raise Ended("reset") from None

    def send(self, frame: Frame, key: Optional[bytes] = None, padded: Optional[bool] = None) -> None:
        padded = self.padded if padded is None else padded
        with self.writing:
            if self.left:
                raise PeerError("nothing may follow a disconnect")
            self.left = frame.type == "disconnect"
            self.send_frame(wire.encode(frame, self.signing if key is None else key, padded))

    def send_frame(self, data: bytes) -> None:
        view = memoryview(data)
        self.send_bytes(view[:wire.FIXED.size])
        self.send_bytes(view[wire.FIXED.size:])

    def message(self, content: bytes, content_type: str = wire.TEXT) -> None:
        self.send(Frame("message", content, self.session, content_type))

    def heartbeat(self, content: bytes) -> None:
        self.send(Frame("heartbeat", content, self.session))

    def start_pings(self, interval: float) -> None:
        def run():
            while not self.no_pings.wait(interval):
                try:
                    self.heartbeat(b"ping")
                except PeerError:
                    return
        threading.Thread(target=run, daemon=True).start()

    def say_goodbye(self, reason: str) -> None:
        """`disconnect` as the last frame, and the end of this direction."""
        self.no_pings.set()
        self.send(wire.goodbye(self.session, reason))
        self.end_writing()

    def end_writing(self) -> None:
        with self.writing:
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:  # the other end was quicker
                pass

    # Reading

    def readable(self, until: Optional[float] = None) -> bool:
        """Whether anything, or the end, has come by `until`; fails at the overall deadline."""
        until = self.deadline if until is None else min(until, self.deadline)
        ready, _, _ = select.select([self.sock], [], [], max(0.0, until - time.monotonic()))
        return bool(ready)

    def take(self, size: int) -> bytes:
        """One read; empty at the end of the stream."""
        try:
            return self.sock.recv(size)
        except ConnectionError:
            raise Ended("reset") from None

    def read(self, until: Optional[float] = None) -> Frame:
        """The next frame, read as the oldest peers read and checked strictly."""
        return self.checked(*wire.decode(self.receive(until), self.verifying, self.limits))

    @property
    def limits(self):
        return wire.SESSION_LIMITS if self.established else wire.HANDSHAKE_LIMITS

    def receive(self, until: Optional[float] = None) -> bytes:
        """The bytes of the next frame, of which only lengths have been checked."""
        if self.exact:
            return self.read_buffered(self.limits, until)
        if not self.readable(until):
            raise TimedOut("timed out waiting for a frame")
        first = self.take(FIRST_READ)
        if not first:
            raise Ended("eof")
        if len(first) < wire.FIXED.size:
            raise PeerError(f"first read of only {len(first)} bytes")
        size = wire.FIXED.size + sum(wire.check_fixed(first, self.limits))
        if len(first) > size:
            raise PeerError(f"two frames in one read: {len(first)} bytes, the first has {size}")
        return first + self.read_exactly(size - len(first))

    def checked(self, frame: Frame, header: bytes) -> Frame:
        wire.check_sender(frame, header, not self.established, self.coalesce)
        if self.established and frame.session_id != self.session:
            if frame.type != "error" or frame.session_id is not None:
                raise PeerError(f"{frame.type} with session id {frame.session_id}")
        return frame

    def read_buffered(self, limits, until: Optional[float]) -> bytes:
        """The bytes of the next frame; what follows it, or came of it in time, is kept."""
        while True:
            size = wire.FIXED.size
            if self.buffer:
                if len(self.buffer) >= size:
                    size += sum(wire.check_fixed(self.buffer[:size], limits))
                if wire.FIXED.size < size <= len(self.buffer):
                    data = bytes(self.buffer[:size])
                    del self.buffer[:size]
                    return data
            if not self.readable(until):
                raise TimedOut("timed out waiting for a frame")
            data = self.take(1 << 18)
            if not data:
                if self.buffer:
                    raise PeerError("the stream ended inside a frame")
                raise Ended("eof")
            self.buffer += data

    def read_exactly(self, size: int) -> bytes:
        data = bytearray(size)
        view, have = memoryview(data), 0
        while have < size:
            if not self.readable():
                raise PeerError(f"timed out inside a frame, {size - have} bytes before its end")
            try:
                got = self.sock.recv_into(view[have:])
            except ConnectionError:
                got = 0
            if not got:
                raise PeerError("the stream ended inside a frame")
            have += got
        return bytes(data)

    def expect_end(self, reset_allowed: bool = False) -> str:
        """Waits for the end of the stream; not one more byte may come before it."""
        if self.buffer:
            raise PeerError(f"{len(self.buffer)} bytes instead of the end: {bytes(self.buffer[:80])!r}")
        try:
            if not self.readable():
                raise TimedOut("timed out waiting for the end of the stream")
            data = self.take(FIRST_READ)
        except Ended as end:
            if reset_allowed:
                return end.how
            raise PeerError("reset instead of an end") from None
        if data:
            raise PeerError(f"{len(data)} bytes instead of the end: {data[:80]!r}")
        return "eof"

    def discard_until_end(self) -> None:
        """Reads and discards until the other direction ends, as section 4.4 asks."""
        self.buffer.clear()
        while self.readable():
            if not self.take(65536):
                return
        raise TimedOut("timed out waiting for the end of the stream")
