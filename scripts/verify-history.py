#!/usr/bin/env python3
"""Checks an export of Rota's history with nothing but Python's standard library.

    rota history export --output history.jsonl
    scripts/verify-history.py history.jsonl --anchors anchors.txt

It shares no code with Rota: what it relies on is written in docs/auditing.md.
Anchors are the lines `checkpoint N sha256:...` that were kept outside of the
database (in Slack, in a bucket); without them a history that was rewritten from
some row to the end, checkpoints included, still looks whole.

Exit status: 0 everything holds, 1 something does not (named on standard output),
2 the files cannot be read.
"""

import argparse
import hashlib
import json
import re
import sys

ZERO = "0" * 64
MAX_SAFE_INTEGER = 2**53 - 1
HASH = re.compile(r"[0-9a-f]{64}")
ANCHOR = re.compile(r"\bcheckpoint ([1-9][0-9]*) sha256:([0-9a-f]{64})")
ROW_KEYS = {"at", "chain", "db_user", "entry", "prev", "seq"}
CHECKPOINT_KEYS = {"at", "chains", "checkpoint", "heads", "prev", "rows"}


class Broken(Exception):
    """The first thing that does not hold."""


class Unreadable(Exception):
    """The export itself is not one."""


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256(text):
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def integer(value):
    return isinstance(value, int) and not isinstance(value, bool)


def small_integer(digits):
    if abs(int(digits)) > MAX_SAFE_INTEGER:
        raise ValueError
    return int(digits)


def no_fraction(digits):
    raise ValueError


def parse(text, keys):
    """The object in `text`, or None where it is not written in the one way."""
    try:
        value = json.loads(text, parse_int=small_integer, parse_float=no_fraction, parse_constant=no_fraction)
        if canonical(value) != text or set(value) != keys:
            return None
    except (ValueError, TypeError, RecursionError):
        return None
    return value


def read_export(lines):
    """Rows in their order, and checkpoints by number."""
    rows, checkpoints = [], []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if "row" in record:
                row = record["row"]
                rows.append((str(row["chain"]), int(row["seq"]), str(row["canonical"]), str(row["hash"])))
            else:
                point = record["checkpoint"]
                checkpoints.append((int(point["number"]), str(point["canonical"]), str(point["hash"])))
        except (ValueError, TypeError, KeyError):
            raise Unreadable(f"line {number} is neither a row nor a checkpoint") from None
    return rows, sorted(checkpoints)


def check_checkpoints(checkpoints, anchors):
    """Returns what is sealed, as {chain: [(seq, hash, checkpoint)]}, and what is anchored."""
    sealed, anchored, before = {}, {}, ZERO
    last_anchored = max((number for number, _ in anchors), default=0)
    for number, (found, text, digest) in enumerate(checkpoints, 1):

        def require(holds, problem, number=number):
            if not holds:
                raise Broken(f"checkpoint {number} {problem}")

        require(found == number, "is missing")
        require(sha256(text) == digest, "does not have the hash of its bytes")
        point = parse(text, CHECKPOINT_KEYS)
        require(point is not None and well_formed(point), "has bytes that are not those of a checkpoint")
        require(point["checkpoint"] == number, "has the bytes of another checkpoint")
        require(point["prev"] == before, "does not follow on the checkpoint before it")
        heads = [(head["chain"], head["seq"], head["hash"]) for head in point["heads"]]
        names = [chain for chain, _, _ in heads]
        require(
            names == sorted(set(names))
            and point["chains"] == len(heads)
            and all(seq > 0 for _, seq, _ in heads)
            and point["rows"] == sum(seq for _, seq, _ in heads),
            "counts other chains or rows than it seals",
        )
        require(all(a != number or h == digest for a, h in anchors), "is not the one that was anchored")
        now = {chain: seq for chain, seq, _ in heads}
        shrinks = any(now.get(chain, 0) < seals[-1][0] for chain, seals in sealed.items())
        require(not shrinks, "seals less than the checkpoint before it")
        for chain, seq, head in heads:
            sealed.setdefault(chain, []).append((seq, head, number))
        if number == last_anchored:
            anchored = now
        before = digest
    if last_anchored > len(checkpoints):
        raise Broken(f"checkpoint {last_anchored} is missing")
    return sealed, anchored


def well_formed(point):
    return (
        all(integer(point[key]) for key in ("chains", "checkpoint", "rows"))
        and isinstance(point["at"], str)
        and isinstance(point["prev"], str)
        and isinstance(point["heads"], list)
        and all(
            isinstance(head, dict)
            and set(head) == {"chain", "hash", "seq"}
            and isinstance(head["chain"], str)
            and integer(head["seq"])
            and isinstance(head["hash"], str)
            and HASH.fullmatch(head["hash"])
            for head in point["heads"]
        )
    )


def check_row(row, before, seals):
    """One row against the one before it in its chain, or None."""
    chain, seq, text, digest = row

    def require(holds, problem, seq=seq):
        if not holds:
            raise Broken(f"row {seq} of chain `{chain}` {problem}")

    expected = before[1] + 1 if before else 1
    require(seq >= expected, "stands twice, or not in its place")
    require(seq == expected, "is missing", expected)
    require(sha256(text) == digest, "does not have the hash of its bytes")
    content = parse(text, ROW_KEYS)
    formed = (
        content is not None
        and all(isinstance(content[key], str) for key in ("at", "chain", "db_user", "prev"))
        and integer(content["seq"])
    )
    require(formed, "has bytes that are not those of a row")
    require((content["chain"], content["seq"]) == (chain, seq), "has the bytes of another row")
    require(content["prev"] == (before[3] if before else ZERO), "does not follow on the row before it")
    for sealed_seq, sealed_hash, number in seals:
        if sealed_seq == seq:
            require(sealed_hash == digest, f"is not the row that checkpoint {number} sealed")


def check_end(before, seals):
    if before:
        chain, found = before[0], before[1]
        for seq, _, number in seals:
            if seq > found:
                raise Broken(
                    f"chain `{chain}` ends at row {found}, but checkpoint {number} sealed its row {seq}"
                )


def verify(rows, checkpoints, anchors):
    sealed, anchored = check_checkpoints(checkpoints, anchors)
    done, before, not_anchored = set(), None, 0
    for row in rows:
        chain, seq = row[0], row[1]
        if before and before[0] != chain:
            check_end(before, sealed.get(before[0], ()))
            done.add(before[0])
            before = None
        if chain in done:
            raise Broken(f"row {seq} of chain `{chain}` stands twice, or not in its place")
        check_row(row, before, sealed.get(chain, ()))
        not_anchored += seq > anchored.get(chain, 0)
        before = row
    if before:
        check_end(before, sealed.get(before[0], ()))
        done.add(before[0])
    for chain in sorted(sealed):
        if chain not in done:
            seq, _, number = sealed[chain][0]
            raise Broken(f"chain `{chain}` is gone, but checkpoint {number} sealed its row {seq}")
    return (
        f"{len(rows)} rows in {len(done)} chains hold, {len(checkpoints)} checkpoints; "
        f"{not_anchored} rows are not anchored"
    )


def main():
    parser = argparse.ArgumentParser(description="Check an export of Rota's history.")
    parser.add_argument("export", help="what `rota history export` wrote")
    parser.add_argument("--anchors", action="append", default=[], help="a file with lines `checkpoint N sha256:...`")
    options = parser.parse_args()
    try:
        with open(options.export, encoding="utf-8", newline="\n") as lines:
            rows, checkpoints = read_export(lines)
        anchors = []
        for path in options.anchors:
            with open(path, encoding="utf-8") as text:
                found = [(int(number), digest) for number, digest in ANCHOR.findall(text.read())]
            if not found:
                raise Unreadable(f"{path} has no line `checkpoint N sha256:...`")
            anchors += found
        print(verify(rows, checkpoints, anchors))
    except Broken as broken:
        print(broken)
        return 1
    except (Unreadable, OSError, UnicodeDecodeError) as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
