"""Socket options of BGP connections: TCP MD5 (RFC 2385), GTSM (RFC 5082), TTL, class of traffic, time-outs.

The struct of TCP_MD5SIG is packed by hand: Python has no call for it. A key belongs to one address of one socket; a
listener has those of all its neighbours, and a connection that it accepts keeps its own.
"""

import errno
import os
import socket
import struct
from ipaddress import ip_address

from kube_router.events.errors import KernelError

TCP_MD5SIG = 14
TCP_USER_TIMEOUT = 18
TCP_SAVE_SYN, TCP_SAVED_SYN = 27, 28
HEADERS_MAX = 512  # octets of a SYN with all its options; the kernel does not give less than all
IP_MINTTL = 21
IPV6_MINHOPCOUNT = 73
DSCP_CS6 = 48 << 2  # network control (RFC 4594)
TTL_MAX = 255
KEY_MAX = 80  # octets: TCP_MD5SIG_MAXKEYLEN

_MD5SIG = struct.Struct("=128sBBHi80s")  # address, flags, prefix length, key length, interface, key
_SOCKADDR_IN = struct.Struct("=H2s4s")
_SOCKADDR_IN6 = struct.Struct("=H2sI16sI")


def family_of(address: str) -> socket.AddressFamily:
    """Return the socket family of an address in text."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def endpoint(address: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """Return what ``bind`` and ``connect`` take, without asking a name server. KernelError for an unknown interface."""
    if ":" not in address:
        return (address, port)
    host, _, scope = address.partition("%")
    try:
        return (host, port, 0, socket.if_nametoindex(scope) if scope else 0)
    except OSError as error:
        raise KernelError(f"{address}: this node has no interface {scope}", error.errno or 0) from error


def set_key(sock: socket.socket, address: str, password: str) -> None:
    """Demand and send signatures with this password between a socket and an address, "" ends that."""
    key = password.encode()
    if len(key) > KEY_MAX:
        raise KernelError(f"the password of {address} has {len(key)} octets, the kernel takes {KEY_MAX}", errno.EINVAL)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, _MD5SIG.pack(_sockaddr(address), 0, 0, len(key), 0, key))
    except OSError as error:
        if not key and error.errno == errno.ENOENT:  # there was none
            return
        raise KernelError(f"TCP MD5 for {address}: {os.strerror(error.errno or 0)}", error.errno or 0) from error


def _sockaddr(address: str) -> bytes:
    packed = ip_address(address.partition("%")[0]).packed
    if len(packed) == 4:
        return _SOCKADDR_IN.pack(socket.AF_INET, b"", packed)
    return _SOCKADDR_IN6.pack(socket.AF_INET6, b"", 0, packed, int(endpoint(address, 0)[-1]))


def set_ttl(sock: socket.socket, ttl: int) -> None:
    """Send with this TTL or hop limit."""
    if sock.family is socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)


def set_minimum_ttl(sock: socket.socket, ttl: int) -> None:
    """Have the kernel drop what comes with a lower TTL or hop limit."""
    if sock.family is socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MINHOPCOUNT, ttl)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_MINTTL, ttl)


def set_user_timeout(sock: socket.socket, seconds: float) -> None:
    """Have the kernel end the connection when what we sent is not acknowledged, or not taken, for so long."""
    sock.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, int(seconds * 1000))


def set_common(sock: socket.socket) -> None:
    """Make a socket one of BGP's: not blocking, without delay, of the class of network control."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sock.family is socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, DSCP_CS6)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, DSCP_CS6)


def save_syn(sock: socket.socket) -> None:
    """Have a listening socket keep the SYN of each connection for ``syn_ttl``."""
    sock.setsockopt(socket.IPPROTO_TCP, TCP_SAVE_SYN, 1)


def syn_ttl(sock: socket.socket) -> int | None:
    """Return the TTL with which an accepted connection's SYN came, None where the kernel has not kept it (SYN cookie).

    It is kept once: a second call finds none.
    """
    header = sock.getsockopt(socket.IPPROTO_TCP, TCP_SAVED_SYN, HEADERS_MAX)
    if len(header) < 20:
        return None
    return header[7] if header[0] >> 4 == 6 else header[8]


def minimum_ttl(ttl: int) -> int:
    """Return the least TTL of what comes from a neighbour with TTL security that is ``ttl`` hops away, 0 for one."""
    return TTL_MAX - (ttl if 1 <= ttl < TTL_MAX else 1) + 1


def set_hops(sock: socket.socket, *, internal: bool, ttl: int, ttl_security: bool) -> None:
    """Set how far the neighbour may be away; with ``ttl_security`` ``ttl`` is the number of hops, 0 for one."""
    if ttl_security:
        set_ttl(sock, TTL_MAX)
        set_minimum_ttl(sock, minimum_ttl(ttl))
    elif ttl or not internal:
        set_ttl(sock, ttl or 1)
