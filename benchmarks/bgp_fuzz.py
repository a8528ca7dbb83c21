"""Feed a million mutated BGP messages to the codec and print what it made of them. Bar: nothing but verdicts.

    python -m benchmarks.bgp_fuzz [--messages 1000000] [--seed 7606]      (with ./tests on the path)

The mutants are those of the gate's fuzz (tests/bgp_mutants.py), and so is what has to hold of every answer: values
that are whole, that can be told to another speaker and are understood there, or a NOTIFICATION. The same seed makes the
same messages, whatever the number of processes. What breaks is printed in hexadecimal.
"""

import argparse
import os
import random
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from bgp_mutants import SESSIONS, mutate, seeds, verdict

from benchmarks.figures import Figure, report

CHUNK = 20_000
BROKEN = "broken"


class Found(NamedTuple):
    """What one chunk came to: verdicts, the longest a message took, and the messages that broke something."""

    counts: Counter[str]
    slowest_ms: float
    octets: int
    broken: list[str]


def fuzz(seed: int, messages: int) -> Found:
    """Return what the codec made of this many mutants of a seed."""
    rng, valid = random.Random(seed), seeds()
    counts: Counter[str] = Counter()
    slowest, octets, broken = 0.0, 0, list[str]()
    for _ in range(messages):
        message = mutate(rng, rng.choice(valid))
        negotiated = rng.choice(SESSIONS)
        octets += len(message)
        began = time.process_time()
        try:
            counts[verdict(message, negotiated)] += 1
        except Exception as error:  # noqa: BLE001  whatever it is, it is what this looks for
            counts[BROKEN] += 1
            broken.append(f"{error!r}: {message.hex()} in {negotiated}")
        slowest = max(slowest, time.process_time() - began)
    return Found(counts, slowest * 1000, octets, broken)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=7606)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    chunks = [min(CHUNK, options.messages - at) for at in range(0, options.messages, CHUNK)]
    seeds = [options.seed * 1_000_000 + number for number in range(len(chunks))]
    counts: Counter[str] = Counter()
    slowest_ms, octets, broken = 0.0, 0, list[str]()
    began = time.monotonic()
    with ProcessPoolExecutor(options.processes) as pool:
        for found in pool.map(fuzz, seeds, chunks):
            counts += found.counts
            slowest_ms = max(slowest_ms, found.slowest_ms)
            octets += found.octets
            broken += found.broken
    seconds = time.monotonic() - began
    report(Figure("mutated BGP messages that broke the codec", counts[BROKEN], "messages", bar=0))
    report(Figure("  of", counts.total(), "messages"))
    for words, count in counts.most_common():
        report(Figure(f"  {words}", count, "messages"))
    report(Figure("  mutated, read, checked, sent on, read again", counts.total() / seconds, "messages/s"))
    report(Figure("  mean length", octets / counts.total(), "octets"))
    report(Figure("  longest that one took", slowest_ms, "CPU ms"))
    print(*broken[:20], sep="\n", end="\n" if broken else "")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
