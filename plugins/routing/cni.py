"""A CNI configuration made to give pods this node's addresses and MTU: JSON text in, JSON text out (pure).

What the operator wrote stays: only ``ipam.ranges`` and ``mtu`` of the bridge plugin are ours to set, every other field,
at every level, is kept, and so is the order of keys. A text in which nothing has to change comes back as it is.

host-local gives a pod one address out of each range set, and refuses ranges that overlap. So a pod CIDR becomes a range
set of its own unless a range overlaps it already, and the older form, ``ipam.subnet`` with its bounds and gateway, is
made the first range set, as host-local reads it. Ranges that are no pod CIDR of this node stay: they are somebody's
choice, or hold the addresses of pods that still run. Another IPAM plugin has its own ways, and only the MTU is set.

Format: https://www.cni.dev/docs/spec/ and https://www.cni.dev/plugins/current/ipam/host-local/.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, NoReturn

from kube_router.events.errors import ConfigError

BRIDGE_PLUGIN, HOST_LOCAL = "bridge", "host-local"
LEGACY_RANGE = ("subnet", "rangeStart", "rangeEnd", "gateway")
_BRIDGE = {
    "name": "kubernetes",
    "type": BRIDGE_PLUGIN,
    "bridge": "kube-bridge",
    "isDefaultGateway": True,
    "hairpinMode": True,
    "ipam": {"type": HOST_LOCAL},
}
_PORTMAP = {"type": "portmap", "capabilities": {"snat": True, "portMappings": True}}

Cidr = IPv4Network | IPv6Network


def configure(text: str, pod_cidrs: Sequence[str], mtu: int = 0) -> str:
    """Return the configuration with these pod CIDRs, in this order, and this MTU; 0 leaves the MTU as it is.

    Raises ConfigError for a text that is no CNI configuration, or a list without a bridge plugin.
    """
    conf = _read(text)
    plugin = _plugin(conf)
    changed = _set_ranges(plugin, pod_cidrs)
    if mtu and not (type(plugin.get("mtu")) is int and plugin["mtu"] == mtu):
        plugin["mtu"] = mtu
        changed = True
    return _write(conf, like=text) if changed else text


def pod_cidrs_of(text: str) -> tuple[str, ...]:
    """Return the CIDRs that the configuration gives pods addresses of, in order. Raises ConfigError."""
    ipam = _plugin(_read(text)).get("ipam")
    if not isinstance(ipam, dict):
        return ()
    legacy = [cidr] if (cidr := _cidr(ipam.get("subnet"))) else []
    return tuple(dict.fromkeys(map(str, [*legacy, *_subnets(ipam.get("ranges"))])))


def reference(*, as_list: bool = True) -> str:
    """Return the configuration for a node that has none, without ranges: pods on kube-bridge, with host ports.

    Host ports need a list; the older form is the bridge alone.
    """
    if not as_list:
        return _write({"cniVersion": "0.3.0", **_BRIDGE, "name": "mynet"}, like="\n")
    return _write({"cniVersion": "0.3.0", "name": "mynet", "plugins": [_BRIDGE, _PORTMAP]}, like="\n")


# -- ranges ------------------------------------------------------------------------------------------------------------


def _set_ranges(plugin: dict[str, Any], pod_cidrs: Iterable[str]) -> bool:
    """Give the plugin these CIDRs; return whether that changed anything."""
    ipam = plugin.get("ipam", {})
    if not isinstance(ipam, dict):
        raise ConfigError("ipam is no object")
    if ipam.get("type", HOST_LOCAL) != HOST_LOCAL:
        return False
    ranges = ipam.get("ranges")
    if ranges is not None and not (isinstance(ranges, list) and all(isinstance(each, list) for each in ranges)):
        raise ConfigError("ipam.ranges is no list of lists")
    wanted = [*(ranges or ())]
    if _cidr(ipam.get("subnet")):
        legacy = {key: ipam[key] for key in LEGACY_RANGE if key in ipam}
        if not _overlaps(legacy["subnet"], wanted):
            wanted.insert(0, [legacy])
        ipam = {key: value for key, value in ipam.items() if key not in LEGACY_RANGE}
    for cidr in pod_cidrs:
        if not _overlaps(cidr, wanted):
            wanted.append([{"subnet": cidr}])
    if wanted == (ranges or []) and ipam == plugin.get("ipam", {}):
        return False
    plugin["ipam"] = (
        {"type": HOST_LOCAL, **ipam, "ranges": wanted} if "type" not in ipam else {**ipam, "ranges": wanted}
    )
    return True


def _overlaps(cidr: str, ranges: Any) -> bool:
    network = ip_network(cidr, strict=False)
    return any(network.version == each.version and network.overlaps(each) for each in _subnets(ranges))


def _subnets(ranges: Any) -> Iterator[Cidr]:
    """Return the subnets of all ranges; one that is none is the CNI plugin's to refuse."""
    for range_set in ranges if isinstance(ranges, list) else ():
        for each in range_set if isinstance(range_set, list) else ():
            if isinstance(each, dict) and (cidr := _cidr(each.get("subnet"))):
                yield cidr


def _cidr(value: Any) -> Cidr | None:
    try:
        return ip_network(value, strict=False) if isinstance(value, str) else None
    except ValueError:
        return None


# -- text --------------------------------------------------------------------------------------------------------------


def _read(text: str) -> dict[str, Any]:
    try:
        conf = json.loads(text, parse_constant=_no_json, parse_float=_float)
    except RecursionError:
        raise ConfigError("nested too deeply to be read") from None
    except ValueError as error:
        raise ConfigError(f"no JSON: {error}") from None
    if not isinstance(conf, dict):
        raise ConfigError("no JSON object")
    return conf


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is out of range")
    return value


def _plugin(conf: dict[str, Any]) -> dict[str, Any]:
    """Return the plugin that connects pods: the list's first bridge, or what is no list as a whole."""
    if "plugins" not in conf:
        if not isinstance(conf.get("type"), str):
            raise ConfigError("names neither plugins nor a type")
        return conf
    plugins = conf["plugins"]
    for plugin in plugins if isinstance(plugins, list) else ():
        if isinstance(plugin, dict) and plugin.get("type") == BRIDGE_PLUGIN:
            return plugin
    raise ConfigError("none of its plugins is of type bridge")


def _write(conf: dict[str, Any], *, like: str) -> str:
    """Return the text, on lines where the text it replaces was."""
    on_lines = "\n" in like.strip() or like.isspace()
    layout: dict[str, Any] = {"indent": 2} if on_lines else {"separators": (",", ":")}
    text = json.dumps(conf, ensure_ascii=False, **layout)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON has no other way to write
        text = json.dumps(conf, **layout)
    return text + ("\n" if like.endswith("\n") else "")
