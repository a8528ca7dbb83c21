"""Steps to what the kernel takes: IPVS and rtnetlink bytes, nftables text (pure).

Our table ``inet kube-router-proxy`` has two sets and one chain. The sets ``owned4`` and ``owned6`` name the IPVS
services that are ours; the chain translates the source of connections that came in for one of them. nftables has no
match for IPVS, but IPVS with ``vs.conntrack=1`` leaves the address the client asked for in the original direction of
the connection's tuple, which is looked up in the same sets: what is ours and what is masqueraded cannot come apart.

Each rule carries a comment: the stamp, a hash of all rules, and its number among them. A table whose comments are as
expected holds the rules we would write, which can be told without comparing nft's own way to print a rule.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Network, collapse_addresses

from kube_router.plugins.proxy import ipvs, rtnetlink
from kube_router.plugins.proxy.model import (
    AddAddress,
    AddressStep,
    AddServer,
    AddService,
    IpvsStep,
    Masquerade,
    RemoveAddress,
    RemoveServer,
    Server,
    ServerId,
    ServiceId,
    SetServer,
    SetService,
    SetSource,
    Settings,
    VirtualService,
)

TABLE = "kube-router-proxy"
CHAIN = "postrouting"
SETS = {"owned4": "inet_proto . ipv4_addr . inet_service", "owned6": "inet_proto . ipv6_addr . inet_service"}
STAMP_LENGTH = 16

# -- nftables ----------------------------------------------------------------------------------------------------------


def _rules(masquerade: Masquerade) -> tuple[str, ...]:
    return tuple(
        _rule(masquerade, keyword=keyword, owned=owned) for keyword, owned in (("ip", "owned4"), ("ip6", "owned6"))
    )


def _rule(masquerade: Masquerade, *, keyword: str, owned: str) -> str:
    is6 = keyword == "ip6"
    # nft refuses intervals that overlap.
    mine = [cidr for cidr in masquerade.pod_cidrs if (":" in cidr) == is6]
    cidrs = collapse_addresses(map(IPv6Network, mine)) if is6 else collapse_addresses(map(IPv4Network, mine))
    both = ", ".join(map(str, cidrs))
    node_ip = next((address for address in masquerade.node_ips if (":" in address) == is6), "")
    # nft knows the type of proto-dst only after a rule has said which protocols there are.
    words = ["meta l4proto { tcp, udp, sctp }"]
    words.append(f"meta l4proto . ct original {keyword} daddr . ct original proto-dst @{owned}")
    if both and not masquerade.everything:
        words.append(f"{keyword} saddr != {{ {both} }} {keyword} daddr != {{ {both} }}")
    words.append(f"snat {keyword} to {node_ip} fully-random" if node_ip else "masquerade fully-random")
    return " ".join(words)


def stamp(masquerade: Masquerade) -> str:
    """Return what tells these rules from others: a hash of their text and of the sets they look into."""
    return sha256("\n".join((*_rules(masquerade), *SETS.values())).encode()).hexdigest()[:STAMP_LENGTH]


def comments(masquerade: Masquerade) -> tuple[str, ...]:
    """Return the rules' comments, in order."""
    name, count = stamp(masquerade), len(_rules(masquerade))
    return tuple(f"{name} {number}/{count}" for number in range(1, count + 1))


def stamp_of(found: Iterable[str]) -> str:
    """Return the stamp of a chain whose rules have these comments, "" unless each rule is in its place."""
    found = tuple(found)
    name = found[0].partition(" ")[0] if found else ""
    expected = tuple(f"{name} {number}/{len(found)}" for number in range(1, len(found) + 1))
    return name if found == expected and len(found) == len(SETS) else ""


def write_table(masquerade: Masquerade, owned: Iterable[ServiceId]) -> str:
    """Return the transaction that replaces our table as a whole."""
    by_set = _by_set(owned)
    lines = [f"add table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    for name, key in SETS.items():
        elements = f" elements = {{ {by_set[name]} }};" if by_set[name] else ""
        lines.append(f"\tset {name} {{ type {key};{elements} }}")
    lines += [f"\tchain {CHAIN} {{", "\t\ttype nat hook postrouting priority srcnat; policy accept;"]
    for rule, comment in zip(_rules(masquerade), comments(masquerade), strict=True):
        lines.append(f'\t\t{rule} comment "{comment}"')
    return "\n".join([*lines, "\t}", "}"])


def delete_table() -> str:
    """Return the transaction that removes our table, there or not."""
    return f"add table inet {TABLE}\ndelete table inet {TABLE}"


def own(ids: Iterable[ServiceId]) -> str:
    """Return the transaction that adds to the sets. Adding what is there is not an error."""
    return "\n".join(f"add element inet {TABLE} {name} {{ {text} }}" for name, text in _by_set(ids).items() if text)


def disown(ids: Iterable[ServiceId]) -> str:
    """Return the transaction that cuts from the sets.

    Deleting what is not there would fail all of it, so each is added first: nft knows ``destroy`` only since 1.0.8.
    """
    return "\n".join(
        f"{verb} element inet {TABLE} {name} {{ {text} }}"
        for name, text in _by_set(ids).items()
        if text
        for verb in ("add", "delete")
    )


def _by_set(ids: Iterable[ServiceId]) -> dict[str, str]:
    elements: dict[str, list[str]] = {name: [] for name in SETS}
    for id in sorted(ids):
        name = "owned6" if ":" in id.address else "owned4"
        elements[name].append(f"{id.protocol.lower()} . {id.address} . {id.port}")
    return {name: ", ".join(texts) for name, texts in elements.items()}


# -- ipvsadm -Sn -------------------------------------------------------------------------------------------------------

_SERVICE_SWITCHES = {"TCP": "-t", "UDP": "-u", "SCTP": "--sctp-service"}
_METHOD_SWITCHES = {"masq": "-m", "tunnel": "-i", "route": "-g", "local": "-g"}
_SCHEDULER_FLAGS = {"sh": ("sh-fallback", "sh-port", "flag-3"), "mh": ("mh-fallback", "mh-port", "flag-3")}
_FLAGS = (ipvs.SVC_F_SCHED1, ipvs.SVC_F_SCHED2, ipvs.SVC_F_SCHED3)


def service_line(id: ServiceId, settings: Settings) -> str:
    """Return the line that ``ipvsadm -Sn`` prints for a virtual service."""
    words = ["-A", _SERVICE_SWITCHES[id.protocol], _endpoint(id.address, id.port), "-s", settings.scheduler]
    if settings.flags & ipvs.SVC_F_PERSISTENT:
        words += ["-p", str(settings.timeout_s)]
        if settings.netmask:
            words += ["-M", str(settings.netmask) if ":" in id.address else str(IPv4Address(settings.netmask))]
    if settings.flags & ipvs.SVC_F_ONEPACKET:
        words.append("-o")
    names = _SCHEDULER_FLAGS.get(settings.scheduler, ("flag-1", "flag-2", "flag-3"))
    flags = [name for name, bit in zip(names, _FLAGS, strict=True) if settings.flags & bit]
    return " ".join([*words, "-b", ",".join(flags)] if flags else words)


def server_line(id: ServiceId, server: ServerId, settings: Server) -> str:
    """Return the line that ``ipvsadm -Sn`` prints for a real server."""
    service = f"{_SERVICE_SWITCHES[id.protocol]} {_endpoint(id.address, id.port)}"
    method = _METHOD_SWITCHES[settings.method]
    tunnel = " --tun-type ipip" if settings.method == "tunnel" else ""
    return f"-a {service} -r {_endpoint(server.address, server.port)} {method} -w {settings.weight}{tunnel}"


def lines(services: Mapping[ServiceId, VirtualService]) -> list[str]:
    """Return all lines of ``ipvsadm -Sn``, sorted: its own order is that of a hash table."""
    found = [service_line(id, service.settings) for id, service in services.items()]
    found += [server_line(id, *item) for id, service in services.items() for item in service.servers.items()]
    return sorted(found)


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


# -- netlink -----------------------------------------------------------------------------------------------------------


def ipvs_message(packer: ipvs.Packer, step: IpvsStep) -> bytes:
    """Return the request of one step."""
    # Not ``match``: taking 20000 steps apart with it costs more than packing them.
    if isinstance(step, AddServer):
        return packer.dest(ipvs.NEW_DEST, step.id, step.server, step.settings)
    if isinstance(step, AddService):
        return packer.service(ipvs.NEW_SERVICE, step.id, step.settings)
    if isinstance(step, SetServer):
        return packer.dest(ipvs.SET_DEST, step.id, step.server, step.settings)
    if isinstance(step, RemoveServer):
        return packer.dest(ipvs.DEL_DEST, step.id, step.server)
    if isinstance(step, SetService):
        return packer.service(ipvs.SET_SERVICE, step.id, step.settings)
    return packer.service(ipvs.DEL_SERVICE, step.id)


def address_messages(step: AddressStep, index: int) -> tuple[bytes, ...]:
    """Return the requests of one step, for the interface with this index; the first is the one that must succeed."""
    match step:
        case AddAddress(address, source):
            route = (rtnetlink.set_source(address, source, index),) if source else ()
            return rtnetlink.add_address(address, index), *route
        case SetSource(address, source):
            return (rtnetlink.set_source(address, source, index),)
        case RemoveAddress(address):
            # The kernel would leave a route whose source it does not know as its own.
            return rtnetlink.delete_address(address, index), rtnetlink.delete_route(address, index)
