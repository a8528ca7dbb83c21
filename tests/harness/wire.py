"""A router in a namespace of its own, and wires on which a test puts packets from anybody to anybody.

What the router forwards or sends itself leaves on the far wire, whoever it is for; what is for the router itself is
read by raw sockets, which see it behind the input hook. So one namespace stands for a node with all its pods, and any
ruleset is tried with a few thousand packets in a second.

    test ── near ──▶ router (nftables) ── far ──▶ test
"""

import contextlib
import os
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from doubles.nftables import Packet
from harness import netns, packets

ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD
IPV6_HDRINCL, SO_RCVBUFFORCE, IPPROTO_RAW = 36, 33, 255
BUFFER_BYTES = 32 << 20
BATCH = 400  # packets on the way at once: fewer than a queue of the kernel holds
QUIET_S, DEADLINE_S = 0.05, 10.0
NEAR_MAC, FAR_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
NUMBERS_START, NUMBERS_END = 32768, 65000  # no port that anybody is asked for: a packet is never another's answer
SYSCTLS = {
    **{f"net/ipv4/conf/{name}/rp_filter": "0" for name in ("all", "default", "near", "far")},
    **dict.fromkeys(("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"), "1"),
    # No rejection is left out for there being many.
    **{"net/ipv4/icmp_ratemask": "0", "net/ipv6/icmp/ratemask": "0", "net/ipv6/icmp/ratelimit": "0"},
}


class Router:
    """The router. ``own`` are its addresses."""

    def __init__(self, name: str, own: Sequence[str]) -> None:
        self.name, self._ends, self._own = name, f"{name}-ends", own
        self._sockets: list[socket.socket] = []
        self._next = NUMBERS_START

    def __enter__(self) -> "Router":
        netns.sh(f"ip netns add {self.name}; ip netns add {self._ends}")
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            each.close()
        netns.sh(f"ip netns del {self.name}; ip netns del {self._ends}")

    def _build(self) -> None:
        ends = f"ip -n {self._ends}"
        router = f"ip -n {self.name}"
        netns.sh(
            f"{router} link set lo up\n"
            f"{router} link add near address {NEAR_MAC} type veth peer name near netns {self._ends}\n"
            f"{router} link add far type veth peer name far address {FAR_MAC} netns {self._ends}\n"
        )
        netns.run_in(
            self._ends, lambda: _write({f"net/ipv6/conf/{name}/disable_ipv6": "1" for name in ("near", "far")})
        )
        netns.run_in(self.name, lambda: _write(SYSCTLS))
        netns.sh(
            "".join(f"{router} link set {name} up\n{ends} link set {name} up\n" for name in ("near", "far"))
            + "".join(f"{router} addr add {address} dev lo{' nodad' * (':' in address)}\n" for address in self._own)
            + f"{router} route add default via 169.254.9.9 dev far onlink\n"
            f"{router} neigh replace 169.254.9.9 lladdr {FAR_MAC} dev far nud permanent\n"
            f"{router} -6 route add default via fe80::9:9 dev far onlink\n"
            f"{router} neigh replace fe80::9:9 lladdr {FAR_MAC} dev far nud permanent\n"
        )
        self._near = self._socket(self._ends, lambda: _bound("near", socket.SOCK_RAW))
        self._far = self._socket(self._ends, lambda: _bound("far", socket.SOCK_DGRAM))
        numbers = packets.NUMBERS.values()
        self._raw = [self._socket(self.name, partial(_raw, number)) for number in numbers]
        self._raw6 = {self._socket(self.name, partial(_raw, number, socket.AF_INET6)): number for number in numbers}
        self._out = self._socket(self.name, lambda: _raw(IPPROTO_RAW))
        self._out6 = self._socket(self.name, _raw6_out)

    def _socket(self, namespace: str, make: Callable[[], socket.socket]) -> socket.socket:
        made = netns.run_in(namespace, make)
        made.setblocking(False)
        self._sockets.append(made)
        return made

    # -- nftables ------------------------------------------------------------------------------------------------------

    def nft(self, text: str) -> None:
        """Commit a transaction in the router."""
        self._nft("-f", "-", text=text)

    def listed(self, table: str) -> str:
        """Return what nft lists of a table of the family inet."""
        return self._nft("list", "table", "inet", table)

    def _nft(self, *arguments: str, text: str = "") -> str:
        command = ["ip", "netns", "exec", self.name, "nft", *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{done.stderr[:2000]}"
        return done.stdout

    # -- packets -------------------------------------------------------------------------------------------------------

    def send(self, questions: Sequence[Packet]) -> list[str]:
        """Return what became of each packet: ``accept``, ``reset``, ``reject``, or ``drop`` where nothing is heard.

        Each is of a connection of its own, also when it is sent again.
        """
        fates: list[str] = []
        for start in range(0, len(questions), BATCH):
            batch = questions[start : start + BATCH]
            if self._next + len(batch) > NUMBERS_END:
                self._next = NUMBERS_START
            found = self.exchange(dict(enumerate(batch, self._next)))
            self._next += len(batch)
            fates += found.values()
        return fates

    def exchange(self, numbered: Mapping[int, Packet]) -> dict[int, str]:
        """Send packets under these numbers (their source ports); return what became of each."""
        fates = dict.fromkeys(numbered, "drop")
        for number, packet in numbered.items():
            self._put(packet, number)
        for number, what in self._collected():
            if number in fates and fates[number] != "accept":  # what the router accepts it answers, too
                fates[number] = what
        return fates

    def _put(self, packet: Packet, number: int) -> None:
        data = packets.written(packet, number)
        six = ":" in packet.source
        if packet.hook == "output":
            out = self._out6 if six else self._out
            with contextlib.suppress(PermissionError):  # which is how the kernel tells that it has dropped it
                out.sendto(data, (packet.destination, 0))
        else:
            type = ETH_P_IPV6 if six else ETH_P_IP
            mac = bytes.fromhex(NEAR_MAC.replace(":", ""))
            self._near.send(mac + mac[:5] + b"\x09" + type.to_bytes(2, "big") + data)

    def _collected(self) -> Iterator[tuple[int, str]]:
        """Return what arrives until nothing has for a while."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            ready, _, _ = select.select(self._sockets, [], [], QUIET_S)
            if not ready:
                return
            assert time.monotonic() < deadline, "packets keep coming"
            for each in ready:
                with contextlib.suppress(BlockingIOError):
                    while data := each.recv(2048):
                        if found := self._seen(each, data):
                            yield found.number, found.what

    def _seen(self, where: socket.socket, data: bytes) -> packets.Seen | None:
        if where is self._far:
            return packets.seen(data)
        if where in self._raw6:  # these are without the header
            return packets.carried(self._raw6[where], data)
        return packets.seen(data) if where in self._raw else None


def _write(sysctls: dict[str, str]) -> None:
    for name, value in sysctls.items():
        path = f"/proc/sys/{name}"
        if os.path.exists(path):
            with open(path, "w") as file:
                file.write(value)


def _bound(interface: str, type: int) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, type, socket.htons(ETH_P_ALL))
    made.bind((interface, ETH_P_ALL))
    made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    return made


def _raw(protocol: int, family: int = socket.AF_INET) -> socket.socket:
    made = socket.socket(family, socket.SOCK_RAW, protocol)
    made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    return made


def _raw6_out() -> socket.socket:
    made = _raw(IPPROTO_RAW, socket.AF_INET6)
    made.setsockopt(socket.IPPROTO_IPV6, IPV6_HDRINCL, 1)
    return made
