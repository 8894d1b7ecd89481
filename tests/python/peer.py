#!/usr/bin/env python3
"""An independent peer of the chat protocol, written from PROTOCOL.md alone.

It has deliberately the habits of the oldest (version 1) implementations that section 6 of the
document describes: it takes one read of up to 1,024 bytes for one frame, or for the start of one;
it writes the fixed header and the rest of a frame separately; as a client it pings from the start
and answers no ping; as a server it answers every heartbeat with a pong. What it receives it checks
strictly, and it fails with the first thing that is not as the document says.

With --extensions it is a peer of section 4.6 instead: it reads frame by frame, answers every ping,
and does all that the extensions named ask for; where frames may coalesce it cuts them anywhere.
With `sec` among them every frame is signed and verified as section 4.7 says.

    peer.py vectors FILE
    peer.py client (--tcp HOST:PORT | --unix PATH) SCENARIO [options]
    peer.py server (--tcp HOST:PORT | --unix PATH) SCENARIO [options]

A last line "ok: ..." and exit status 0 mean that everything expected happened; otherwise the status
is 1 and "failed: ..." on standard error says why. It needs Python 3.9 and nothing else.
"""

import argparse
import sys

import chunks
import client
import extensions
import hostile
import server
import vectors
import wire

CLIENT_SCENARIOS = {**client.SCENARIOS, **chunks.SCENARIOS, **hostile.CLIENT_SCENARIOS}
SERVER_SCENARIOS = {**server.SCENARIOS, **hostile.SERVER_SCENARIOS}


def tcp_address(text: str):
    host, _, port = text.rpartition(":")
    return host, int(port)


def parse_arguments(arguments) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    modes.add_parser("vectors", help="check every test vector").add_argument("file")
    for mode, scenarios in (("client", CLIENT_SCENARIOS), ("server", SERVER_SCENARIOS)):
        sub = modes.add_parser(mode)
        where = sub.add_mutually_exclusive_group(required=True)
        where.add_argument("--tcp", type=tcp_address, metavar="HOST:PORT")
        where.add_argument("--unix", metavar="PATH")
        sub.add_argument("scenario", choices=scenarios)
        sub.add_argument("--key-file", metavar="PATH", help="every byte of this file is the key")
        sub.add_argument("--timeout", type=float, default=30, help="for all, in seconds (%(default)s)")
        sub.add_argument("--idle-limit", type=float, default=30, metavar="S",
                         help="longest silence: frames for a client, heartbeats for a server")
        sub.add_argument("--count", type=int, help="messages, or connections of many")
        sub.add_argument("--no-padding", dest="padded", action="store_false",
                         help="send frames as short as they are, as the oldest peers do")
        sub.add_argument("--extensions", type=extensions.names, metavar="LIST",
                         help=f"offer or choose these: of {','.join(extensions.KNOWN)}, or all, or none "
                              "of them; without this the peer is one of version 1")
        sub.add_argument("--fault", metavar="NAME", help="what a hostile peer does wrong (unproven, refuse-late, "
                                                         "forge; bad-proofs, bad-codes: all, without this)")
        sub.add_argument("--demand-sec", action="store_true", help="end the connection without sec")
        sub.add_argument("--parameters", default="{}", metavar="JSON",
                         help="of the extensions, in place of the usual ones, as in the key ext")
    sub = modes.choices["client"]
    sub.add_argument("--ping-interval", type=float, default=5, metavar="S")
    sub.add_argument("--size", type=int, default=0, help="bytes of a message (burst, sizes)")
    sub.add_argument("--delay", type=float, default=0.1, metavar="S", help="between bytes (dribble)")
    sub.add_argument("--expect-reason", default="Server shutting down", metavar="TEXT")
    sub = modes.choices["server"]
    sub.add_argument("--connections", type=int, default=1, help="to serve before it exits (1)")
    sub.add_argument("--delay", type=float, default=0.5, metavar="S", help="before shutdown")
    sub.add_argument("--text", help="of an error, a refusal or a goodbye, in place of the usual one")
    sub.add_argument("--client-key-file", action="append", default=[], metavar="PATH",
                     help="one more key that a client may hold, with sec; as often as there are")
    options = parser.parse_args(arguments)
    if options.mode != "vectors":
        known = {**hostile.FAULTS, **hostile.CLIENT_FAULTS}.get(options.scenario, ())
        needed = options.scenario in hostile.FAULTS
        if options.fault not in known and (needed or options.fault is not None):
            parser.error(f"--fault must be one of {', '.join(known) or 'none here'}")
    return options


def read_key(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def run(options) -> str:
    if options.mode == "vectors":
        return vectors.run(options.file)
    options.key = wire.DEFAULT_KEY
    if options.key_file:
        options.key = read_key(options.key_file)
    if options.mode == "server":
        options.client_keys = [read_key(path) for path in options.client_key_file]
        return server.run(options, SERVER_SCENARIOS[options.scenario])
    return CLIENT_SCENARIOS[options.scenario](options)


def main(arguments=None) -> int:
    options = parse_arguments(arguments)
    try:
        shown = run(options)
    except (wire.PeerError, OSError) as error:
        print(f"failed: {error}", file=sys.stderr, flush=True)
        return 1
    print(f"ok: {shown}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
