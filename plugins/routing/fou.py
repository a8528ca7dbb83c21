"""UDP ports on which the kernel takes packets apart (foo over UDP) as generic netlink bytes and back (pure).

Of its two formats this is GUE, generic UDP encapsulation, as kube-router uses it. A port belongs to a family, and to
the whole network namespace; nothing tells who opened it.
"""

from collections.abc import Iterable

from kube_router.core import nlmsg
from kube_router.core.nlmsg import AF_INET, AF_INET6
from kube_router.plugins.routing.model import FouPort

FAMILY, VERSION = "fou", 1
FOU_CMD_ADD, FOU_CMD_DEL, FOU_CMD_GET = 1, 2, 3
FOU_ATTR_PORT, FOU_ATTR_AF, FOU_ATTR_TYPE, FOU_ENCAP_GUE = 1, 2, 4, 2


def add_port(genl_family: int, port: FouPort) -> bytes:
    return _port(genl_family, FOU_CMD_ADD, port)


def delete_port(genl_family: int, port: FouPort) -> bytes:
    return _port(genl_family, FOU_CMD_DEL, port)


def _port(genl_family: int, command: int, port: FouPort) -> bytes:
    family = nlmsg.attr(FOU_ATTR_AF, bytes([AF_INET6 if port.family == 6 else AF_INET]))
    gue = nlmsg.attr(FOU_ATTR_TYPE, bytes([FOU_ENCAP_GUE]))
    header = nlmsg.GENL.pack(command, VERSION, 0)
    return nlmsg.message(genl_family, 0, header, nlmsg.be16(FOU_ATTR_PORT, port.port), family, gue)


def get_ports(genl_family: int) -> bytes:
    return nlmsg.message(genl_family, 0, nlmsg.GENL.pack(FOU_CMD_GET, VERSION, 0))


def parse_ports(bodies: Iterable[memoryview]) -> set[FouPort]:
    """Return the ports of a dump that take GUE packets."""
    found = set()
    for body in bodies:
        data = nlmsg.attributes(body, nlmsg.GENL.size)
        if nlmsg.number(data[FOU_ATTR_TYPE]) == FOU_ENCAP_GUE:
            family = 6 if nlmsg.number(data[FOU_ATTR_AF]) == AF_INET6 else 4
            found.add(FouPort(int.from_bytes(data[FOU_ATTR_PORT], "big"), family))
    return found
