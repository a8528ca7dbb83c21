"""Print what reading and writing ten thousand BGP prefixes costs: packed into few messages, and one per message.

CPU milliseconds of this process, the best of five runs, caches emptied before each. The bars are what a codec written
for nothing but speed took on the same kind of machine; a peer's table comes grouped, its changes mostly do not.
"""

import argparse
import time
from collections.abc import Callable

from benchmarks.figures import Figure, report
from kube_router.plugins.routing.bgp import attrs, nexthop, update
from kube_router.plugins.routing.bgp.model import Attributes, Family, Negotiated, NextHop, Prefix, Segment, SegmentType
from kube_router.plugins.routing.bgp.update import UpdateParser, encode_reach

PREFIXES = 10_000
SESSION = Negotiated(asn=65001, router_id=1, internal=True, hold_time_s=90, families=frozenset(Family))
HOP4 = NextHop(b"\x0a\0\0\1")
HOP6 = NextHop(b"\xfd" + bytes(14) + b"\1")
FOUR = [Prefix(bytes((10, number >> 8 & 255, number & 255, 0)), 24) for number in range(PREFIXES)]
SIX = [Prefix(b"\xfd\0" + number.to_bytes(4) + bytes(10), 64) for number in range(PREFIXES)]


def attributes(asn: int) -> Attributes:
    return Attributes(as_path=(Segment(SegmentType.AS_SEQUENCE, (65001, asn)),), local_pref=100)


ALIKE = [attributes(4200000000)] * PREFIXES
EACH = [attributes(asn) for asn in range(1, PREFIXES + 1)]


def grouped(prefixes: list[Prefix], next_hop: NextHop) -> list[bytes]:
    return encode_reach(ALIKE[0], next_hop, prefixes, SESSION)


def single(prefixes: list[Prefix], next_hop: NextHop, theirs: list[Attributes]) -> list[bytes]:
    pairs = zip(prefixes, theirs, strict=True)
    return [message for prefix, its in pairs for message in encode_reach(its, next_hop, [prefix], SESSION)]


def forget() -> None:
    """Empty what the codec remembers."""
    update.remembering.cache_clear()
    attrs.remembering.cache_clear()
    nexthop.parse_next_hop.cache_clear()


def read(messages: list[bytes]) -> Callable[[], None]:
    bodies = [message[19:] for message in messages]

    def once() -> None:
        forget()
        parser = UpdateParser(SESSION)
        for body in bodies:
            parser.parse(body)

    return once


def cpu_ms(work: Callable[[], object], rounds: int) -> float:
    """Return the least CPU time of several rounds."""
    times = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    reading = (
        ("read 10k IPv4 prefixes, grouped", grouped(FOUR, HOP4), 10.0),
        ("read 10k IPv4 prefixes, one per message", single(FOUR, HOP4, ALIKE), 66.0),
        ("read 10k IPv4 prefixes, each with its attributes", single(FOUR, HOP4, EACH), 218.0),
        ("read 10k IPv6 prefixes, grouped", grouped(SIX, HOP6), 11.0),
        ("read 10k IPv6 prefixes, one per message", single(SIX, HOP6, ALIKE), 206.0),
    )
    for what, messages, bar in reading:
        report(Figure(what, cpu_ms(read(messages), rounds), "CPU ms", bar=bar))
    ms = cpu_ms(lambda: grouped(FOUR, HOP4), rounds)
    report(Figure("write 10k IPv4 prefixes, grouped", ms, "CPU ms", bar=5.0))
    ms = cpu_ms(lambda: single(FOUR, HOP4, ALIKE), rounds)
    report(Figure("write 10k IPv4 prefixes, one per message", ms, "CPU ms", bar=74.0))


if __name__ == "__main__":
    main()
