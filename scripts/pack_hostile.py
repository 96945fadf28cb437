#!/usr/bin/env python3
"""Packs a folder of hostile GGUF files into embed-worker/tests/data/hostile.

    python3 scripts/pack_hostile.py FOLDER

FOLDER holds valid control files (ok-*.gguf), files that differ from one of them in one way each,
and index.json, which says for each what is wrong (`what`) and what must come of it (`expect`).
Most differ from their control in a few bytes, so only controls are kept whole: everything else
becomes a list of edits, [offset in the control, bytes taken out, bytes put in (hex)].
"""

import json
import pathlib
import sys

CONTROLS = ["ok-bert.gguf", "ok-qwen3.gguf", "ok-ugm.gguf", "ok-gemma.gguf", "ok-moe.gguf"]

# Magic, version and the two counts.
HEADER_BYTES = 24


def edits(control, wanted):
    """The edits that make `wanted` out of `control`, in ascending order of offset."""
    if len(control) == len(wanted):
        return same_length_edits(control, wanted)
    if len(wanted) < HEADER_BYTES:
        return [[0, len(control), wanted.hex()]]
    # The counts in the header change whenever a key or tensor is added: an edit of their own, so
    # that what lies between them and the addition is not stored.
    header = same_length_edits(control[:HEADER_BYTES], wanted[:HEADER_BYTES])
    start = HEADER_BYTES
    while start < min(len(control), len(wanted)) and control[start] == wanted[start]:
        start += 1
    tail = 0
    longest = min(len(control), len(wanted)) - start
    while tail < longest and control[-1 - tail] == wanted[-1 - tail]:
        tail += 1
    put = wanted[start : len(wanted) - tail]
    return header + [[start, len(control) - tail - start, put.hex()]]


def same_length_edits(control, wanted):
    out = []
    at = 0
    while at < len(control):
        if control[at] == wanted[at]:
            at += 1
            continue
        end = at
        while end < len(control) and control[end] != wanted[end]:
            end += 1
        out.append([at, end - at, wanted[at:end].hex()])
        at = end
    return out


def apply(control, changes):
    out, at = b"", 0
    for offset, taken, put in changes:
        out += control[at:offset] + bytes.fromhex(put)
        at = offset + taken
    return out + control[at:]


def main():
    source = pathlib.Path(sys.argv[1])
    target = pathlib.Path(__file__).parent.parent / "embed-worker/tests/data/hostile"
    target.mkdir(parents=True, exist_ok=True)
    controls = {name: (source / name).read_bytes() for name in CONTROLS}
    for name, data in controls.items():
        (target / name).write_bytes(data)
    lines = []
    for entry in json.loads((source / "index.json").read_text())["files"]:
        wanted = (source / entry["file"]).read_bytes()
        if wanted == controls["ok-bert.gguf"][: len(wanted)]:
            control, changes = "ok-bert.gguf", [[len(wanted), 15456 - len(wanted), ""]]
        else:
            tries = [(name, edits(data, wanted)) for name, data in controls.items()]
            control, changes = min(tries, key=lambda t: len(json.dumps(t[1])))
        assert apply(controls[control], changes) == wanted, entry["file"]
        lines.append(json.dumps({
            "file": entry["file"], "what": entry["what"], "expect": entry["expect"],
            "control": control, "edits": changes,
        }, separators=(",", ":")))
    (target / "index.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


main()
