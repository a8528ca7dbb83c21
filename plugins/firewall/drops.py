"""Tells of denied packets: which pod wanted to reach which, and whose policies stood in the way (I/O).

The kernel logs at most ten a minute in each direction; whoever has bound the group gets them, and one process can. So
where somebody else has it (ulogd, ``tcpdump -i nflog:100``) that is said, and asked for again from time to time. Each
denied packet becomes a line in the log and a note in the journal, within bounds, and is kept for ``kr drops``.
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

import anyio

from kube_router.core import nlmsg
from kube_router.core.netlink import NETLINK_NETFILTER
from kube_router.plugins.firewall import nflog
from kube_router.plugins.firewall.model import Direction
from kube_router.plugins.firewall.nflog import Packet

logger = logging.getLogger(__name__)

KEPT = 1000
TOLD_A_MINUTE = 120
AGAIN_S = 30.0
ANSWER_S = 5.0
DATAGRAM_MAX = 64 << 10
DATAGRAMS_AT_ONCE = 256  # then the loop gets its turn
TAKEN = (errno.EPERM, errno.EBUSY)  # the kernel says EPERM for a group that another socket has

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
        """What the journal's note says."""
        packet = self.packet
        ends = f"{_end(self.source_pod, packet.source)} -> {_end(self.destination_pod, packet.destination)}"
        port = f" {packet.port}" if packet.port is not None else ""
        why = f"isolated by {', '.join(self.policies)}" if self.policies else "no policy isolates it now"
        return f"denied {packet.direction} {ends} {packet.protocol}{port}; {why}"

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
        self._tokens, self._filled_at = float(TOLD_A_MINUTE), time.monotonic()

    def since(self, number: int) -> list[Drop]:
        """Return the drops after this number, as far as they are kept."""
        return [drop for drop in self._kept if drop.number > number]

    def answer(self, question: Mapping[str, object]) -> dict[str, object]:
        """Answer ``kr drops``: those after ``question["after"]``; a number beyond the last asks for all (a restart)."""
        after = question.get("after", 0)
        after = after if isinstance(after, int) and after <= self._count else 0
        drops = [drop.document() for drop in self.since(after)]
        return {"state": self.state, "lost": self.lost, "last": self._count, "drops": drops}

    async def run(self) -> None:
        """Read until cancelled. Never raises for what the kernel or somebody else does."""
        while True:
            try:
                with _bound() as reader:
                    self._say("reading NFLOG group 100")
                    await self._read(reader)
            except OSError as error:
                if error.errno in TAKEN:
                    self._say("somebody else reads NFLOG group 100 (tcpdump or ulogd?)")
                else:
                    self._say(f"NFLOG group 100 cannot be read: {error.strerror or error}")
            await anyio.sleep(AGAIN_S)

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
                for kind, _, _, body in nlmsg.split(memoryview(data)):
                    if kind == nflog.NFULNL_MSG_PACKET and (packet := nflog.parse(body)) is not None:
                        self.take(packet)

    def take(self, packet: Packet) -> Drop:
        """Keep a denied packet, and tell of it unless too many are told already."""
        self._count += 1
        own = packet.source if packet.direction == "egress" else packet.destination
        drop = Drop(
            self._count,
            time.time_ns() // 1_000_000,
            packet,
            self._describe(packet.source),
            self._describe(packet.destination),
            tuple(self._policies_of(own, packet.direction)),
        )
        self._kept.append(drop)
        if self._may_tell():
            logger.info("packet_denied what=%r", drop.text.removeprefix("denied "))
            self._note(drop.text)
        else:
            self.untold += 1
        return drop

    def _may_tell(self) -> bool:
        now = time.monotonic()
        self._tokens = min(TOLD_A_MINUTE, self._tokens + (now - self._filled_at) * TOLD_A_MINUTE / 60)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _say(self, state: str) -> None:
        if state != self.state:
            logger.info("drops state=%r", state)
        self.state = state


def _bound() -> socket.socket:
    """Return a socket that has the group, in the network namespace of this thread. OSError where it cannot be had."""
    reader = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    try:
        reader.bind((0, 0))
        reader.settimeout(ANSWER_S)
        for message in nflog.bind():
            reader.send(message)
            _acknowledged(reader)
        reader.setblocking(False)
    except BaseException:
        reader.close()
        raise
    return reader


def _acknowledged(reader: socket.socket) -> None:
    """Wait for the answer to one request; packets that come before it are lost. OSError for a refusal."""
    while True:
        for kind, _, _, body in nlmsg.split(memoryview(reader.recv(DATAGRAM_MAX))):
            if kind == nlmsg.NLMSG_ERROR:
                code = -int.from_bytes(body[:4], sys.byteorder, signed=True)
                if code:
                    raise OSError(code, os.strerror(code))
                return
