"""Wanted objects and steps as the commands of ip(8) and bridge(8) that would do them (pure).

They are what ``kr replay --plan`` prints, and what an error names. Given to a shell on an empty node they make what the
agent makes, but for the options that only netlink has (tests/kernel/test_routing_kernel.py holds them to it).
"""

from collections.abc import Iterator

from kube_router.plugins.routing.model import (
    ALIAS,
    MAIN,
    METRIC,
    PROTOCOL,
    RULE_PRIORITY,
    VNI,
    AddDevice,
    AddFouPort,
    AddRoute,
    AddRule,
    Forward,
    FouPort,
    Hop,
    Neighbour,
    RemoveDevice,
    RemoveForward,
    RemoveFouPort,
    RemoveNeighbour,
    RemoveRoute,
    RemoveRule,
    RenameDevice,
    Route,
    RouteId,
    Rule,
    SetDevice,
    SetForward,
    SetNeighbour,
    SetRoute,
    Step,
    Tunnel,
    Wanted,
)


def lines(wanted: Wanted) -> Iterator[str]:
    """Yield the commands for all that is wanted, in an order in which they can be run."""
    for port in sorted(wanted.fou_ports):
        yield f"ip fou add {fou_port(port)}"
    for name, tunnel in sorted(wanted.devices.items()):
        yield f"ip link add {device(name, tunnel)}"
        yield f"ip link set {name} alias {ALIAS} up"
    for key, remote in sorted(wanted.forwards.items()):
        yield f"bridge fdb replace {forward(key, remote)}"
    for where, mac in sorted(wanted.neighbours.items()):
        yield f"ip neighbour replace {neighbour(where, mac)}"
    for id, its in sorted(wanted.routes.items()):
        yield f"ip route add {route(id, its)}"
    for its_rule in sorted(wanted.rules):
        yield f"{_ip(its_rule)} rule add {rule(its_rule)}"


def route(id: RouteId, its: Route) -> str:
    """Return a route in the words of ``ip route``."""
    words = [id.destination]
    if len(its.hops) == 1:
        words += _hop(id, its.hops[0])
    if id.table != MAIN:
        words += ["table", str(id.table)]
    words += ["proto", str(PROTOCOL), "metric", str(METRIC)]
    if its.source:
        words += ["src", its.source]
    if len(its.hops) > 1:
        words += [word for hop in its.hops for word in ("nexthop", *_hop(id, hop))]
    return " ".join(words)


def _hop(id: RouteId, hop: Hop) -> list[str]:
    words = []
    if hop.via:
        words += ["via", *(["inet6"] if ":" in hop.via and ":" not in id.destination else []), hop.via]
    return [*words, "dev", hop.device, *(["onlink"] if hop.onlink else [])]


def device(name: str, tunnel: Tunnel) -> str:
    """Return a device in the words of ``ip link add``."""
    words = [f"name {name}"]
    if tunnel.mtu:
        words.append(f"mtu {tunnel.mtu}")
    if tunnel.kind == "vxlan":
        words += [f"address {tunnel.mac}", f"type vxlan id {VNI} local {tunnel.local} dstport {tunnel.port} nolearning"]
        return " ".join(words)
    kind = {"fou": "ipip", "fou6": "ip6tnl"}.get(tunnel.kind, tunnel.kind)
    mode = " mode ip6ip6 encaplimit none" if kind == "ip6tnl" else ""
    words.append(f"type {kind}{mode} local {tunnel.local} remote {tunnel.remote} ttl 64")
    if tunnel.kind in ("fou", "fou6"):
        words.append(f"encap gue encap-dport {tunnel.port}")
    return " ".join(words)


def neighbour(where: Neighbour, mac: str) -> str:
    """Return a neighbour entry in the words of ``ip neighbour``."""
    return f"{where.address} lladdr {mac} dev {where.device} nud permanent"


def forward(key: Forward, remote: str) -> str:
    """Return an entry of a vxlan's forwarding table in the words of ``bridge fdb``."""
    return f"{key.mac} dev {key.device} dst {remote} self permanent"


def rule(its: Rule) -> str:
    """Return a rule in the words of ``ip rule``."""
    return f"from {its.source} lookup {its.table} priority {RULE_PRIORITY} protocol {PROTOCOL}"


def _ip(its: Rule) -> str:
    return "ip -6" if ":" in its.source else "ip"  # of routes it sees the family by itself


def fou_port(port: FouPort) -> str:
    """Return a port in the words of ``ip fou``."""
    return f"port {port.port} gue{' -6' if port.family == 6 else ''}"


def command(step: Step) -> str:
    """Return the command that does a step."""
    match step:
        case AddRoute(id, its):
            return f"ip route add {route(id, its)}"
        case SetRoute(id, its):
            return f"ip route replace {route(id, its)}"
        case RemoveRoute(id):
            table = "" if id.table == MAIN else f" table {id.table}"
            return f"ip route del {id.destination}{table} proto {PROTOCOL} metric {METRIC}"
        case AddRule(its_rule):
            return f"{_ip(its_rule)} rule add {rule(its_rule)}"
        case RemoveRule(its_rule):
            return f"{_ip(its_rule)} rule del {rule(its_rule)}"
        case SetNeighbour(where, mac):
            return f"ip neighbour replace {neighbour(where, mac)}"
        case RemoveNeighbour(where):
            return f"ip neighbour del {where.address} dev {where.device}"
        case SetForward(key, remote):
            return f"bridge fdb replace {forward(key, remote)}"
        case RemoveForward(key):
            return f"bridge fdb del {key.mac} dev {key.device} self"
        case AddFouPort(port):
            return f"ip fou add {fou_port(port)}"
        case RemoveFouPort(port):
            return f"ip fou del {fou_port(port)}"
        case _:
            return _device_command(step)


def _device_command(step: RenameDevice | AddDevice | SetDevice | RemoveDevice) -> str:
    match step:
        case RenameDevice(name, wanted):
            return f"ip link set {name} name {wanted}"
        case AddDevice(name, tunnel):
            return f"ip link add {device(name, tunnel)}"
        case SetDevice(name, tunnel):
            return f"ip link change {device(name, tunnel)}"
        case RemoveDevice(name):
            return f"ip link del {name}"
