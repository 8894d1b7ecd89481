#!/usr/bin/env python3
"""Makes the seeds in fuzz/corpus from what was found: few small inputs that reach most.

    fuzz/seeds.py TARGET_DIR [TARGET...]

TARGET_DIR is where fuzz/long.sh, which must have run before, has put what it built. Seeds that somebody
has named go first and keep their names; others are called after the SHA-256 of their bytes. What reaches
nothing that the others do not is left out.
"""

import hashlib
import pathlib
import subprocess
import sys
import tempfile

FILES = 50
BYTES = 14_000
# A seed that is longer is one only if it is the only one of its kind.
LONG = 2048

ROOT = pathlib.Path(__file__).resolve().parent


def coverage(binary, files):
    """Which features, as libFuzzer calls them, each file reaches."""
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "out").mkdir()
        (scratch / "in").mkdir()
        for number, file in enumerate(files):
            (scratch / "in" / f"{number:06}").write_bytes(file.read_bytes())
        control = scratch / "control"
        subprocess.run(
            [binary, "-set_cover_merge=1", f"-merge_control_file={control}", scratch / "out", scratch / "in"],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        lines = control.read_text().splitlines()
    count = int(lines[0])
    names = [int(pathlib.Path(line).name) for line in lines[2 : 2 + count]]
    edges = {}
    for line in lines[2 + count :]:
        kind, number, *values = line.split()
        if kind == "FT":
            edges.setdefault(files[names[int(number)]], set()).update(values)
    return edges


def choose(edges, named):
    """Takes what reaches most that is new, for its length, until there is enough."""
    chosen, reached, size = [], set(), 0
    while len(chosen) < FILES:

        def worth(file):
            length = file.stat().st_size
            new = len(edges[file] - reached)
            first = new > 0 and file in named
            return first, new / (64 + length + 8 * max(0, length - LONG))

        rest = sorted(file for file in edges if file not in chosen)
        best = max(rest, key=worth, default=None)
        if best is None or not edges[best] - reached:
            break
        reached |= edges[best]
        if size + best.stat().st_size > BYTES:
            continue
        chosen.append(best)
        size += best.stat().st_size
    return chosen


def main():
    target_dir, *targets = sys.argv[1:]
    (binaries,) = pathlib.Path(target_dir).glob("*/release/")
    for target in targets or sorted(path.name for path in (ROOT / "found").iterdir()):
        corpus = ROOT / "corpus" / target
        corpus.mkdir(parents=True, exist_ok=True)
        # What has a hash for a name was found, by whoever ran it without a place for that.
        seeds = [it for it in sorted(corpus.iterdir()) if not is_hash(it.name)]
        named = {it for it in seeds if not it.name.startswith("seed-")}
        found = sorted((ROOT / "found" / target).iterdir())
        chosen = choose(coverage(binaries / target, seeds + found), named)
        contents = {seed_name(file, named): file.read_bytes() for file in chosen}
        for file in seeds:
            file.unlink()
        for name, content in contents.items():
            (corpus / name).write_bytes(content)
        print(f"{target}: {len(contents)} seeds, {sum(map(len, contents.values()))} bytes")


def is_hash(name):
    return len(name) == 40 and all(digit in "0123456789abcdef" for digit in name)


def seed_name(file, named):
    if file in named:
        return file.name
    return f"seed-{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"


if __name__ == "__main__":
    main()
