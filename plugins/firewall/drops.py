"""Tells of denied packets: which pod wanted to reach which, and whose policies stood in the way (I/O).

The kernel logs at most ten a minute in each direction; whoever has bound the group gets them, and one process can. So
where somebody else has it (ulogd, ``tcpdump -i nflog:100``) that is said, and asked for again from time to time. Each
denied packet becomes a line in the log and a note in the journal, within bounds, and is kept for ``kr drops``. What
the names were is looked up at once: a moment later the pod may be gone.
"""

import errno
import logging
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import anyio

from kube_router.core import nlmsg
from kube_router.core.netlink import NETLINK_NETFILTER
from kube_router.events.errors import KernelError
from kube_router.plugins.firewall import nflog
from kube_router.plugins.firewall.fixed import NFLOG_GROUP
from kube_router.plugins.firewall.model import Direction
from kube_router.plugins.firewall.nflog import Packet

logger = logging.getLogger(__name__)

KEPT = 1000
TOLD_A_MINUTE = 120
POLICIES_TOLD = 5
AGAIN_S = 30.0
DATAGRAM_MAX = 64 << 10
DATAGRAMS_AT_ONCE = 32  # then the loop gets its turn: finding a pod's name looks at every pod
OWNERS = Path("/proc/thread-self/net/netfilter/nfnetlink_log")
TAKEN = (errno.EPERM, errno.EBUSY)  # the kernel says EPERM for a group that another socket has
LACKING = (errno.EINVAL, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT)

Describe = Callable[[str], str]
PoliciesOf = Callable[[str, Direction], list[str]]


@dataclass(frozen=True, slots=True)
class Drop:
    """A denied packet with names: ``number`` counts from 1, ``t`` is Unix ms; a pod is "" for an address of none."""

    number: int
    t: int
    packet: Packet
    source_pod: str
    destination_pod: str
    policies: tuple[str, ...]

    @property
    def text(self) -> str:
        """What the journal's note says; ``kr drops --from`` reads it (cli/drops.py)."""
        packet = self.packet
        ends = f"{_end(self.source_pod, packet.source)} -> {_end(self.destination_pod, packet.destination)}"
        what = packet.protocol
        if packet.port is not None:
            what += f" {packet.port}"
        elif packet.icmp_type is not None:
            what += f" type {packet.icmp_type} code {packet.icmp_code}"
        return f"denied {packet.direction} {ends} {what}; {self._why()}"

    def _why(self) -> str:
        if not self.policies:
            return "no policy isolates it now"
        more = len(self.policies) - POLICIES_TOLD
        return f"isolated by {', '.join(self.policies[:POLICIES_TOLD])}" + (f" and {more} more" if more > 0 else "")

    def log_line(self) -> str:
        packet = self.packet
        words = {
            "direction": packet.direction,
            "src": packet.source,
            "src_pod": self.source_pod,
            "dst": packet.destination,
            "dst_pod": self.destination_pod,
            "proto": packet.protocol,
            "dport": packet.port,
            "icmp_type": packet.icmp_type,
            "policies": ",".join(self.policies[:POLICIES_TOLD]),
            "more_policies": max(0, len(self.policies) - POLICIES_TOLD) or None,
        }
        said = (f"{name}={value}" for name, value in words.items() if value not in (None, ""))
        return f"packet_denied {' '.join(said)}"

    def document(self) -> dict[str, object]:
        """Return it for ``kr drops -o json``."""
        return {
            "number": self.number,
            "t": self.t,
            "direction": self.packet.direction,
            "source": self.packet.source,
            "source_pod": self.source_pod,
            "source_port": self.packet.source_port,
            "destination": self.packet.destination,
            "destination_pod": self.destination_pod,
            "protocol": self.packet.protocol,
            "port": self.packet.port,
            "icmp_type": self.packet.icmp_type,
            "icmp_code": self.packet.icmp_code,
            "policies": list(self.policies),
        }


def _end(pod: str, address: str) -> str:
    return f"{pod} ({address})" if pod else address


class Drops:
    """Reads the group while ``run`` runs, and remembers the last ``KEPT``.

    ``describe`` names an address's pod, ``policies_of`` the policies that isolate a pod's address in a direction;
    ``note`` writes into the journal.
    """

    def __init__(self, *, describe: Describe, policies_of: PoliciesOf, note: Callable[[str], None]) -> None:
        self.state = "not started"
        self.lost = 0  # times the socket's buffer overran
        self.untold = 0  # kept, but neither logged nor noted: too many
        self._describe, self._policies_of, self._note = describe, policies_of, note
        self._kept: deque[Drop] = deque(maxlen=KEPT)
        self._count = 0
        self.born_ms = _now_ms()  # tells the numbers of one agent from those of the next
        self._owed = 0  # of the untold, those that no summary told of yet
        self._tokens, self._filled_at = float(TOLD_A_MINUTE), time.monotonic()

    @property
    def status(self) -> str:
        """What ``kr status`` shows."""
        said = [self.state]
        if self._count:
            said.append(f"{self._count} denied packets")
        if self.untold:
            said.append(f"{self.untold} of them neither logged nor journaled: too many")
        if self.lost:
            said.append(f"came too fast {self.lost} times")
        return ", ".join(said)

    def since(self, number: int) -> list[Drop]:
        """Return the drops after this number, as far as they are kept."""
        return list(islice(self._kept, max(0, len(self._kept) - max(0, self._count - number)), None))

    def answer(self, question: Mapping[str, object]) -> dict[str, object]:
        """Answer ``kr drops``: those after number ``after``, all where ``born`` is not that of this agent's numbers."""
        after, born = question.get("after", 0), question.get("born", self.born_ms)
        if not isinstance(after, int) or not 0 <= after <= self._count or born != self.born_ms:
            after = 0
        return {
            "state": self.state,
            "born": self.born_ms,
            "last": self._count,
            "lost": self.lost,
            "untold": self.untold,
            "drops": [drop.document() for drop in self.since(after)],
        }

    async def run(self) -> None:
        """Read until cancelled. Never raises for what the kernel or somebody else does."""
        try:
            while True:
                try:
                    with _bound() as reader:
                        self._say(f"reading NFLOG group {NFLOG_GROUP}", logging.INFO)
                        await self._read(reader)
                except (OSError, KernelError) as error:
                    self._say(_trouble(error), logging.WARNING)
                await anyio.sleep(AGAIN_S)
        finally:
            self.state = "stopped"

    async def _read(self, reader: socket.socket) -> None:
        while True:
            await anyio.wait_readable(reader)
            for _ in range(DATAGRAMS_AT_ONCE):
                try:
                    data = reader.recv(DATAGRAM_MAX)
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    self.lost += 1
                    continue
                for packet in nflog.packets(data):
                    self.take(packet)

    def take(self, packet: Packet) -> Drop:
        """Keep a denied packet, and tell of it unless too many are told already."""
        self._count += 1
        own = packet.source if packet.direction == "egress" else packet.destination
        drop = Drop(
            self._count,
            _now_ms(),
            packet,
            self._describe(packet.source),
            self._describe(packet.destination),
            tuple(self._policies_of(own, packet.direction)),
        )
        self._kept.append(drop)
        if self._may_tell():
            self._tell(drop)
        else:
            self.untold += 1
            self._owed += 1
        return drop

    def _tell(self, drop: Drop) -> None:
        if self._owed:
            logger.info("packets_denied_untold count=%d", self._owed)
            self._note(f"denied {self._owed} more, too many to tell of each")
            self._owed = 0
        logger.info(drop.log_line())
        self._note(drop.text)

    def _may_tell(self) -> bool:
        now = time.monotonic()
        self._tokens = min(TOLD_A_MINUTE, self._tokens + (now - self._filled_at) * TOLD_A_MINUTE / 60)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _say(self, state: str, level: int) -> None:
        if state != self.state:
            logger.log(level, "drops_reader state=%r", state)
        self.state = state


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _bound() -> socket.socket:
    """Return a socket that has the group, in the network namespace of this thread. OSError where it cannot be had."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    reader = socket.socket(socket.AF_NETLINK, kind, NETLINK_NETFILTER)
    try:
        reader.bind((0, 0))
        reader.send(nflog.bind())
        _acknowledged(reader)
    except BaseException:
        reader.close()
        raise
    return reader


def _acknowledged(reader: socket.socket) -> None:
    """Look at the answer to the request, which is there once it was sent. OSError for a refusal.

    A packet that comes before it is not told of.
    """
    while True:
        for kind, _, _, body in nlmsg.split(memoryview(reader.recv(DATAGRAM_MAX))):
            if kind == nlmsg.NLMSG_ERROR:
                code = -int.from_bytes(body[:4], sys.byteorder, signed=True)
                if code:
                    raise OSError(code, os.strerror(code))
                return


def _trouble(error: OSError | KernelError) -> str:
    """Return in words why the group cannot be read."""
    if error.errno in TAKEN:
        owner = _owner()
        if owner is None:
            return f"NFLOG group {NFLOG_GROUP} cannot be read without CAP_NET_ADMIN"
        return f"somebody else reads NFLOG group {NFLOG_GROUP} (tcpdump or ulogd? netlink port {owner}, mostly its pid)"
    if error.errno in LACKING:
        return "the kernel has no nfnetlink_log: denied packets are counted, but not shown"
    return f"NFLOG group {NFLOG_GROUP} cannot be read: {error}"


def _owner() -> int | None:
    try:
        return nflog.owner(OWNERS.read_text().splitlines())
    except OSError as error:
        logger.debug("nflog_owners_not_read error=%r", error)
        return None
