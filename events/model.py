"""The Kubernetes objects as a node agent needs them: frozen, slim, canonical.

Every type is what ``normalize`` makes of the API's JSON and what the journal holds. Fields nobody plans from are left
out, so that their changes are no events. Addresses are canonical text, ``""`` never stands for one;
ports are numbers 1-65535; tuples keep the API's order unless said otherwise. Where the API tells absent from empty
(a policy peer's selectors), ``None`` is absent.

These types are the journal's schema: a field may be added with a default; anything else is a new schema number
(events/event.py).
"""

from collections.abc import Mapping

from msgspec import Struct


class Object(Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What every object has. ``created`` is RFC 3339 text as the API gives it, ``""`` where it gives none."""

    namespace: str = ""
    name: str
    uid: str = ""

    @property
    def key(self) -> str:
        """``namespace/name``, or ``name`` for what has no namespace. Neither part can hold a slash."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Part(Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Base of what objects are made of."""


# -- Service ---------------------------------------------------------------------------------------------------------


class ServicePort(Part, frozen=True, kw_only=True):
    name: str = ""
    protocol: str = "TCP"  # TCP | UDP | SCTP
    port: int
    node_port: int = 0  # 0: none


class Service(Object, frozen=True, kw_only=True):
    """core/v1 Service."""

    created: str = ""
    type: str = "ClusterIP"
    cluster_ips: tuple[str, ...] = ()  # empty for headless and ExternalName
    external_ips: tuple[str, ...] = ()
    load_balancer_ips: tuple[str, ...] = ()  # status.loadBalancer.ingress[].ip with ipMode absent or VIP
    load_balancer_source_ranges: tuple[str, ...] = ()
    load_balancer_class: str = ""
    ports: tuple[ServicePort, ...] = ()
    session_affinity_timeout_s: int = 0  # 0: sessionAffinity None
    internal_traffic_policy: str = "Cluster"
    external_traffic_policy: str = "Cluster"
    ip_families: tuple[str, ...] = ()
    health_check_node_port: int = 0
    publish_not_ready_addresses: bool = False
    traffic_distribution: str = ""
    proxy_name: str | None = None  # label service.kubernetes.io/service-proxy-name; "" is a value
    headless: bool = False  # label service.kubernetes.io/headless
    annotations: Mapping[str, str] = {}  # only kube-router.io/*


# -- EndpointSlice ---------------------------------------------------------------------------------------------------


class EndpointPort(Part, frozen=True, kw_only=True):
    name: str = ""
    protocol: str = "TCP"
    port: int


class Endpoint(Part, frozen=True, kw_only=True):
    """One endpoint. The conditions are as the API means them when absent: ready and serving true, terminating false."""

    addresses: tuple[str, ...]
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node_name: str = ""
    zone: str = ""
    hints_zones: tuple[str, ...] = ()
    pod: str = ""  # namespace/name where targetRef is a Pod


class EndpointSlice(Object, frozen=True, kw_only=True):
    """discovery.k8s.io/v1 EndpointSlice. ``service`` is the key of the Service it belongs to, ``""`` for none."""

    service: str = ""
    address_type: str = "IPv4"  # IPv4 | IPv6 | FQDN
    ports: tuple[EndpointPort, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()


# -- Node, Namespace, Pod --------------------------------------------------------------------------------------------


class NodeAddress(Part, frozen=True, kw_only=True):
    type: str  # InternalIP | ExternalIP; host names are left out
    address: str


class Node(Object, frozen=True, kw_only=True):
    """core/v1 Node. Passwords in kube-router.io annotations are keyed digests (events/redact.py)."""

    addresses: tuple[NodeAddress, ...] = ()
    pod_cidrs: tuple[str, ...] = ()
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}  # only kube-router.io/*


class Namespace(Object, frozen=True, kw_only=True):
    """core/v1 Namespace."""

    labels: Mapping[str, str] = {}


class ContainerPort(Part, frozen=True, kw_only=True):
    """A named container port: only these can be referred to by a NetworkPolicy."""

    name: str
    protocol: str = "TCP"
    port: int


class Pod(Object, frozen=True, kw_only=True):
    """core/v1 Pod."""

    labels: Mapping[str, str] = {}
    node_name: str = ""
    ips: tuple[str, ...] = ()
    phase: str = ""
    host_network: bool = False
    terminating: bool = False  # has a deletionTimestamp
    ports: tuple[ContainerPort, ...] = ()  # of containers and restartable init containers


# -- NetworkPolicy ---------------------------------------------------------------------------------------------------


class Requirement(Part, frozen=True, kw_only=True):
    key: str
    operator: str  # In | NotIn | Exists | DoesNotExist; others are kept for the compiler to refuse
    values: tuple[str, ...] = ()


class Selector(Part, frozen=True, kw_only=True):
    """A label selector; without any condition it selects everything."""

    match_labels: Mapping[str, str] = {}
    match_expressions: tuple[Requirement, ...] = ()


class IPBlock(Part, frozen=True, kw_only=True):
    """``cidr`` and ``excepts`` are as written: the policy compiler judges them and fails closed."""

    cidr: str
    excepts: tuple[str, ...] = ()


class PolicyPeer(Part, frozen=True, kw_only=True):
    """``None`` is absent: ``pod_selector=Selector()`` selects every pod, ``None`` does not select by pod at all."""

    pod_selector: Selector | None = None
    namespace_selector: Selector | None = None
    ip_block: IPBlock | None = None


class PolicyPort(Part, frozen=True, kw_only=True):
    """``port`` is a number, a name, or ``None`` for all ports of the protocol."""

    protocol: str = "TCP"
    port: int | str | None = None
    end_port: int | None = None


class PolicyRule(Part, frozen=True, kw_only=True):
    """One ingress or egress rule; no peers means all peers, no ports all ports."""

    peers: tuple[PolicyPeer, ...] = ()
    ports: tuple[PolicyPort, ...] = ()


class NetworkPolicy(Object, frozen=True, kw_only=True):
    """networking.k8s.io/v1 NetworkPolicy, ``policyTypes`` resolved as the API does when they are absent."""

    pod_selector: Selector = Selector()
    policy_types: tuple[str, ...] = ("Ingress",)
    ingress: tuple[PolicyRule, ...] = ()
    egress: tuple[PolicyRule, ...] = ()
