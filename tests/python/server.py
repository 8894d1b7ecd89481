"""The server's scenarios: each serves one connection and returns what it counted."""

import os
import random
import socket
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Optional, Tuple

import extensions
import sec
import wire
from link import Ended, Link, TimedOut
from session import Facade, Session
from wire import Frame, PeerError, WireError

EARLY = 0.02  # seconds in which a client shows that it does not wait
ANSI = "\x1b[31mred\x1b[0m\x07\x9b2J bell"


def init(session_id: str, ext: Optional[dict] = None) -> Frame:
    return Frame("session_init", b"Session established", session_id, ext=ext)


def offer_session(link: Link, options) -> Tuple[Optional[dict], Optional[dict]]:
    """The handshake up to `session_ack`; returns what was offered, and the client's part of what it chose."""
    session = str(uuid.uuid4())
    offer = None if options.extensions is None else extensions.ours(options.extensions, options.parameters)
    opening = wire.encode(init(session, offer), link.key)
    link.send_frame(opening)
    if offer is not None:
        link.exact, link.coalesce = True, "coalesce" in offer
    frame = read_ack(link, options, opening, offer)
    if frame.type != "session_ack" or frame.session_id != session:
        raise PeerError(f"{frame.type} with id {frame.session_id} instead of session_ack")
    link.session, link.coalesce = session, False
    if frame.ext is None:
        return offer, None
    if offer is None:
        raise PeerError(f"a choice where nothing was offered: {frame.ext}")
    theirs = extensions.parse(frame.ext, chosen=True)
    if not set(frame.ext) <= set(offer):
        raise PeerError(f"{frame.ext} chosen, of {offer}")
    link.chosen = list(theirs)
    if "sec" in theirs and (link.buffer or link.readable(time.monotonic() + EARLY)):
        raise PeerError("the client goes on before it knows the server")
    return offer, theirs


def establish(link: Link, options) -> Link:
    """The handshake; returns what the session goes over."""
    offer, theirs = offer_session(link, options)
    link.established = True
    if options.demand_sec and "sec" not in (theirs or ()):
        link.send(Frame("error", b"sec is demanded", link.session, wire.TEXT))
        link.say_goodbye("Protocol error")
        link.discard_until_end()
        raise PeerError("the client does not choose sec")
    if theirs is None:
        return link
    if "sec" in theirs:  # the third step of section 4.7
        proof = Frame("session_ack", b"Session acknowledged", link.session)
        link.send(proof, padded=link.padded and "coalesce" not in theirs)
    return Facade(Session(link, options, True, {name: offer[name] for name in theirs}, theirs))


def read_ack(link: Link, options, opening: bytes, offer) -> Frame:
    """The first frame of the client, which with `sec` says itself which key it is signed with."""
    if "sec" not in (offer or ()):
        return link.read()
    data = link.receive()
    _, header, content = wire.split(data, link.limits)
    frame = wire.parse_header(header, content)
    if frame.type != "session_ack" or not isinstance(frame.ext, dict) or "sec" not in frame.ext:
        return link.checked(*wire.decode(data, link.key, link.limits))
    theirs = extensions.parse(frame.ext, chosen=True)["sec"]
    keys = {sec.key_id(key).hex(): key for key in (link.key, *options.client_keys)}
    if theirs["key"] not in keys:
        raise PeerError(f"unknown key {theirs['key']}")
    nonces = (bytes.fromhex(nonce) for nonce in (offer["sec"]["nonce"], theirs["nonce"]))
    wanted, verifying, link.signing = sec.sign_ack(data, opening, keys[theirs["key"]], *nonces)
    if wanted != data:
        raise WireError("hmac", "of session_ack")
    link.verifying = verifying
    return link.checked(frame, header)


def serve(link: Link, options, answer: bool = True, until: Optional[float] = None,
          messages: Optional[int] = None, wait_end: bool = True) -> Counter:
    """The life of a session: until the client's disconnect, `until`, or so many messages.

    Only heartbeats count as the client's life here.
    """
    counts = Counter({"messages": 0, "pings": 0})
    if link.chosen is not None:
        counts[f"clients with {','.join(link.chosen) or 'nothing'}"] = 1
    overdue = time.monotonic() + options.idle_limit
    while messages is None or counts["messages"] < messages:
        try:
            frame = link.read(overdue if until is None else min(until, overdue))
        except TimedOut:
            if until is not None and time.monotonic() >= until:
                return counts
            if time.monotonic() >= overdue:
                raise PeerError(f"no heartbeat for {options.idle_limit} s") from None
            raise
        if frame.type == "heartbeat":
            overdue = time.monotonic() + options.idle_limit
            counts["pings" if frame.content == b"ping" else "other heartbeats"] += 1
            if link.chosen is None:  # others answer where they read
                link.heartbeat(b"pong")
        elif frame.type == "message":
            counts["messages"] += 1
            if answer:
                link.message(frame.content, "text/plain" if link.chosen is None else frame.content_type)
        elif frame.type == "error":
            raise PeerError(f"the client sent error {frame.content[:200]!r}")
        elif frame.type == "disconnect":
            counts[f"disconnects {wire.reason_of(frame)!r}"] += 1
            if wait_end:  # nothing may follow a disconnect but the end
                link.expect_end(reset_allowed=True)
            return counts
        else:
            counts["ignored"] += 1
    return counts


def echo(link: Link, options) -> Counter:
    link = establish(link, options)
    return serve(link, options, wait_end=False)  # closes at once, as section 4.4 allows


def refuse_transfers(link: Link, options) -> Counter:
    """Gives up every transfer of the client, which must say `abort` too, or have said `end`."""
    link = establish(link, options)
    if "chunk" not in (link.chosen or ()):
        raise PeerError("chunk was not agreed on")
    refused = []

    def why(incoming) -> str:
        refused.append(incoming.id)
        return "no room for this"

    link.inner.refuse, link.given_up_is_fine = why, True
    counts = serve(link, options)
    counts["transfers refused"] = len(refused)
    if link.inner.incoming:
        raise PeerError(f"no answer to the abort of {sorted(link.inner.incoming)}")
    return counts


def burst_out(link: Link, options) -> Counter:
    count = 200 if options.count is None else options.count
    link = establish(link, options)
    for number in range(1, count + 1):
        link.message(b"line %04d" % number)
    counts = serve(link, options)
    counts["messages sent"] = count
    return counts


def no_echo(link: Link, options) -> Counter:
    link = establish(link, options)
    return serve(link, options, answer=False, until=link.deadline)


def ansi(link: Link, options) -> Counter:
    link = establish(link, options)
    link.message(ANSI.encode("utf-8"))
    return serve(link, options)


def drop(link: Link, options) -> Counter:
    link = establish(link, options)
    return serve(link, options, messages=1 if options.count is None else options.count)


def shutdown(link: Link, options) -> Counter:
    link = establish(link, options)
    counts = serve(link, options, until=time.monotonic() + options.delay)
    link.say_goodbye(options.text or "Server shutting down")
    link.discard_until_end()
    return counts


def error(link: Link, options) -> Counter:
    link = establish(link, options)
    text = options.text or "bad frame"
    link.send(Frame("error", text.encode("utf-8"), link.session, wire.TEXT))
    link.end_writing()  # a close at once could overtake the error
    try:
        link.discard_until_end()
    except Ended:
        pass
    return Counter({"errors sent": 1})


def refuse(link: Link, options) -> Counter:
    text = options.text or "The server is full"
    link.send(Frame("error", text.encode("utf-8"), None, wire.TEXT), padded=False)
    link.end_writing()
    return wait_for_close(link)


def wait_for_close(link: Link) -> Counter:
    """A client that was never offered a session must close, and send nothing before."""
    start = time.monotonic()
    how = link.expect_end(reset_allowed=True)
    return Counter({f"closes by the client ({how}, {time.monotonic() - start:.1f} s)": 1})


def close_in_handshake(link: Link, options) -> Counter:
    return Counter({"closes": 1})


def http(link: Link, options) -> Counter:
    text = b"<html><body><h1>400 Bad Request</h1></body></html>\r\n"
    link.send_bytes(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nConnection: close\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(text) + text)
    return wait_for_close(link)


def garbage(link: Link, options) -> Counter:
    link.send_bytes(wire.MAGIC + random.Random(1).randbytes(1000 - len(wire.MAGIC)))
    return wait_for_close(link)


def silent(link: Link, options) -> Counter:
    return wait_for_close(link)


def wrong_key(link: Link, options) -> Counter:
    link.send(init(str(uuid.uuid4())), key=options.key + b" but wrong", padded=False)
    return wait_for_close(link)


SCENARIOS = {f.__name__.replace("_", "-"): f for f in (
    echo, refuse_transfers, burst_out, close_in_handshake, http, garbage, silent, wrong_key, refuse, drop, no_echo,
    shutdown, ansi, error)}


def run(options, scenario: Callable) -> str:
    """Listens, says so, and serves the connections asked for, each in its thread."""
    deadline = time.monotonic() + options.timeout

    def one(sock: socket.socket) -> Counter:
        with Link(sock, options.key, max(0.1, deadline - time.monotonic()), options.padded) as link:
            return scenario(link, options)

    listener = socket.socket(socket.AF_UNIX if options.unix else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(options.unix or options.tcp)
    try:
        listener.listen(128)
        where = f"unix {options.unix}" if options.unix else "tcp {}:{}".format(*listener.getsockname())
        print(f"listening on {where}", flush=True)
        with ThreadPoolExecutor(options.connections) as threads:
            futures = []
            for _ in range(options.connections):
                listener.settimeout(max(0.01, deadline - time.monotonic()))
                try:
                    futures.append(threads.submit(one, listener.accept()[0]))
                except socket.timeout:
                    raise PeerError(f"only {len(futures)} connections came") from None
            total = Counter()
            for future in futures:
                total.update(future.result())
    finally:
        listener.close()
        if options.unix:
            os.unlink(options.unix)
    numbers = ", ".join(f"{count} {what}" for what, count in total.items())
    return f"{options.connections} connections, {numbers}"
