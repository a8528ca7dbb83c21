"""The routing plugin's own flags, by kube-router's names where it has them (pure).

What one value alone can be wrong in is checked here, when it is read, so that the message names the flag, the
environment or the file it came from. What several mean together is in options.py.

``--run-router`` is not here: every plugin's switch comes from core/agent_options.py.
"""

from collections.abc import Callable

from kube_router.core.options import Option, Value, positive
from kube_router.plugins.routing import values
from kube_router.plugins.routing.bgp.model import BGP_PORT, Family

OVERLAY_ENCAP_PORT_MIN = 1024
ENCAPSULATIONS = ("ipip", "fou", "vxlan")
OVERLAY_TYPES = ("subnet", "full")


def _within(low: int, high: int) -> Callable[[Value], None]:
    def check(value: Value) -> None:
        if not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"{value} is not within {low}-{high}")

    return check


def _one_of(*words: str) -> Callable[[Value], None]:
    def check(value: Value) -> None:
        if value not in words:
            raise ValueError(f"{value!r:.100} is none of {', '.join(words)}")

    return check


def _each(parse: Callable[[str], object], *, blank: bool = False) -> Callable[[Value], None]:
    def check(value: Value) -> None:
        assert isinstance(value, tuple)
        for text in value:
            if text.strip() or not blank:
                _try(parse, text)

    return check


def _try(parse: Callable[[str], object], text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        raise ValueError(f"{text!r:.100} {error}") from None


def _passwords(value: Value) -> None:
    assert isinstance(value, tuple)
    for i, text in enumerate(value):
        if text.strip():
            try:
                values.password(text)
            except ValueError as error:
                raise ValueError(f"is wrong in item {i + 1}: {error}") from None


def _cluster_asn(value: Value) -> None:
    if value != 0:
        _try(lambda text: values.asn(text, values.CLUSTER_ASNS), str(value))


def _router_id(value: Value) -> None:
    if value in ("", "generate"):
        return
    try:
        address = values.unicast(value)
    except ValueError:
        address = ""
    if not address or values.family(address) is not Family.IPV4:
        raise ValueError(f"{value!r:.100} is no router id (an IPv4 address or generate)")


def _service_ranges(value: Value) -> None:
    assert isinstance(value, tuple)
    if not 1 <= len(value) <= 2:
        raise ValueError(f"holds {len(value)} CIDRs; it takes one or two")
    _each(values.prefix)(value)


OPTIONS = (
    Option("advertise-cluster-ip", "bool", False, "announce cluster IPs to external BGP peers"),
    Option("advertise-external-ip", "bool", False, "announce external IPs to external BGP peers"),
    Option("advertise-loadbalancer-ip", "bool", False, "announce load-balancer IPs to external BGP peers"),
    Option("advertise-pod-cidr", "bool", True, "announce the node's pod CIDRs also to external BGP peers"),
    Option(
        "advertise-service-cluster-ip-range",
        "bool",
        False,
        "announce the ranges of --service-cluster-ip-range instead of each cluster IP in them",
    ),
    Option("auto-mtu", "bool", True, "set the MTU of kube-bridge and of the CNI configuration"),
    Option(
        "bfd-desired-min-tx-interval",
        "int",
        1000,
        "BFD transmit interval in milliseconds",
        check=_within(1, values.BFD_INTERVAL_MAX_MS),
    ),
    Option(
        "bfd-detection-multiplier", "int", 3, "missed BFD packets until a peer counts as down", check=_within(1, 255)
    ),
    Option("bfd-port", "int", 3784, "UDP port of BFD", check=_within(1, values.PORT_MAX)),
    Option(
        "bfd-required-min-rx-interval",
        "int",
        1000,
        "BFD receive interval in milliseconds",
        check=_within(1, values.BFD_INTERVAL_MAX_MS),
    ),
    Option("bgp-graceful-restart", "bool", False, "offer BGP graceful restart to all peers"),
    Option(
        "bgp-graceful-restart-deferral-time",
        "duration",
        360.0,
        "how long to wait for the peers' routes after a start before old routes are removed, at most 18h",
    ),
    Option(
        "bgp-graceful-restart-time", "duration", 90.0, "how long peers keep our routes over a restart, at most 4095s"
    ),
    Option("bgp-holdtime", "duration", 90.0, "BGP hold time towards external peers, 3s to 65535s"),
    Option("bgp-port", "int", BGP_PORT, "port of BGP here and on the other nodes", check=_within(1, values.PORT_MAX)),
    Option("cluster-asn", "int", 0, "AS number of the nodes; 0: 64512", check=_cluster_asn),
    Option("enable-bfd", "bool", False, "BFD with the other nodes and with the peers given by flags"),
    Option("enable-cni", "bool", True, "manage the CNI configuration file"),
    Option("enable-ibgp", "bool", True, "peer with the other nodes"),
    Option("enable-overlay", "bool", True, "tunnels to nodes outside the local subnets"),
    Option("enable-pod-egress", "bool", True, "masquerade what pods send outside the cluster"),
    Option(
        "injected-routes-sync-period",
        "duration",
        60.0,
        "how often learned routes are compared with the kernel, though nothing has changed",
        check=positive,
    ),
    Option("loadbalancer-ip-range", "texts", (), "CIDRs of load-balancer IPs", check=_each(values.prefix)),
    Option("nodes-full-mesh", "bool", True, "BGP full mesh between all nodes; false: between those of one AS number"),
    Option(
        "overlay-encap", "text", "ipip", "encapsulation of tunnels: ipip, fou or vxlan", check=_one_of(*ENCAPSULATIONS)
    ),
    Option(
        "overlay-encap-port", "int", 5555, "UDP port of FoU", check=_within(OVERLAY_ENCAP_PORT_MIN, values.PORT_MAX)
    ),
    Option(
        "overlay-type",
        "text",
        "subnet",
        "tunnel between subnets (subnet) or always (full)",
        check=_one_of(*OVERLAY_TYPES),
    ),
    Option("override-nexthop", "bool", False, "next-hop-self towards external peers"),
    Option("peer-router-asns", "texts", (), "AS numbers of external BGP peers", check=_each(values.asn)),
    Option("peer-router-ips", "texts", (), "addresses of external BGP peers", check=_each(values.unicast)),
    Option("peer-router-multihop-ttl", "int", 0, "TTL of eBGP multihop", check=_within(0, 255)),
    Option(
        "peer-router-passwords",
        "texts",
        (),
        "passwords of external BGP peers, base64; blank: none",
        secret=True,
        check=_passwords,
    ),
    Option("peer-router-passwords-file", "text", "", "file with the passwords of external BGP peers"),
    Option(
        "peer-router-ports",
        "texts",
        (),
        "ports of external BGP peers; blank: 179",
        check=_each(values.port, blank=True),
    ),
    Option("router-id", "text", "", "BGP router id; generate: made from the node's address", check=_router_id),
    Option(
        "routes-sync-period",
        "duration",
        300.0,
        "how often everything is compared with the kernel, though nothing has changed",
        check=positive,
    ),
    Option("service-cluster-ip-range", "texts", ("10.96.0.0/12",), "CIDRs of cluster IPs", check=_service_ranges),
    Option("service-external-ip-range", "texts", (), "CIDRs of external IPs", check=_each(values.prefix)),
    Option(
        "strict-external-ip-validation",
        "bool",
        True,
        "announce external and load-balancer IPs only inside their configured ranges",
    ),
)
