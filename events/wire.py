"""The API's JSON shapes, only as far as a node agent reads them.

Each Struct names the fields that ``normalize`` uses; msgspec skips all others without building anything, which is what
makes a LIST of 10k pods cheap. Every field is optional and every one may be ``null``: Go writes empty lists as null,
bookmarks have an empty spec, and manifests are written by people. Whether something that is missing is an error is
decided in events/normalize.py, not here.
"""

from msgspec import Struct, field


class Wire(Struct, gc=False, rename="camel"):
    """Base: camelCase names, not tracked by the garbage collector (wire objects hold no cycles)."""


class TypeMeta(Wire):
    """What a document says it is."""

    api_version: str | None = None
    kind: str | None = None


class OwnerReference(Wire):
    kind: str | None = None
    name: str | None = None


class Meta(Wire):
    """What is read of ObjectMeta for kinds whose labels and annotations mean nothing to us."""

    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None


class LabelledMeta(Meta):
    labels: dict[str, str | None] | None = None


class PodMeta(LabelledMeta):
    deletion_timestamp: str | None = None


class AnnotatedMeta(LabelledMeta):
    annotations: dict[str, str | None] | None = None
    creation_timestamp: str | None = None


class SliceMeta(AnnotatedMeta):
    owner_references: list[OwnerReference] | None = None


class Name(Wire):
    name: str | None = None
    namespace: str | None = None


class Named(Wire):
    """An object of which only the name is needed, to say which one is bad."""

    metadata: Name | None = None


# -- Service ---------------------------------------------------------------------------------------------------------


class ServicePort(Wire):
    name: str | None = None
    protocol: str | None = None
    port: int | None = None
    node_port: int | None = None


class ClientIPConfig(Wire):
    timeout_seconds: int | None = None


class SessionAffinityConfig(Wire):
    client_ip: ClientIPConfig | None = field(default=None, name="clientIP")


class ServiceSpec(Wire):
    type: str | None = None
    cluster_ip: str | None = field(default=None, name="clusterIP")
    cluster_ips: list[str] | None = field(default=None, name="clusterIPs")
    external_ips: list[str] | None = field(default=None, name="externalIPs")
    load_balancer_source_ranges: list[str] | None = None
    load_balancer_class: str | None = None
    ports: list[ServicePort] | None = None
    session_affinity: str | None = None
    session_affinity_config: SessionAffinityConfig | None = None
    internal_traffic_policy: str | None = None
    external_traffic_policy: str | None = None
    ip_families: list[str] | None = None
    health_check_node_port: int | None = None
    publish_not_ready_addresses: bool | None = None
    traffic_distribution: str | None = None


class LoadBalancerIngress(Wire):
    ip: str | None = None
    ip_mode: str | None = None


class LoadBalancerStatus(Wire):
    ingress: list[LoadBalancerIngress] | None = None


class ServiceStatus(Wire):
    load_balancer: LoadBalancerStatus | None = None


class Service(Wire):
    metadata: AnnotatedMeta | None = None
    spec: ServiceSpec | None = None
    status: ServiceStatus | None = None


# -- EndpointSlice ---------------------------------------------------------------------------------------------------


class EndpointPort(Wire):
    name: str | None = None
    protocol: str | None = None
    port: int | None = None


class Conditions(Wire):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ForZone(Wire):
    name: str | None = None


class Hints(Wire):
    for_zones: list[ForZone] | None = None


class TargetRef(Wire):
    kind: str | None = None
    namespace: str | None = None
    name: str | None = None


class Endpoint(Wire):
    addresses: list[str] | None = None
    conditions: Conditions | None = None
    node_name: str | None = None
    zone: str | None = None
    hints: Hints | None = None
    target_ref: TargetRef | None = None


class EndpointSlice(Wire):
    metadata: SliceMeta | None = None
    address_type: str | None = None
    ports: list[EndpointPort] | None = None
    endpoints: list[Endpoint] | None = None


# -- Node, Namespace, Pod --------------------------------------------------------------------------------------------


class NodeSpec(Wire):
    pod_cidr: str | None = field(default=None, name="podCIDR")
    pod_cidrs: list[str] | None = field(default=None, name="podCIDRs")


class NodeAddress(Wire):
    type: str | None = None
    address: str | None = None


class NodeStatus(Wire):
    addresses: list[NodeAddress] | None = None


class Node(Wire):
    metadata: AnnotatedMeta | None = None
    spec: NodeSpec | None = None
    status: NodeStatus | None = None


class Namespace(Wire):
    metadata: LabelledMeta | None = None


class ContainerPort(Wire):
    name: str | None = None
    protocol: str | None = None
    container_port: int | None = None


class Container(Wire):
    ports: list[ContainerPort] | None = None
    restart_policy: str | None = None


class PodSpec(Wire):
    node_name: str | None = None
    host_network: bool | None = None
    containers: list[Container] | None = None
    init_containers: list[Container] | None = None


class PodIP(Wire):
    ip: str | None = None


class PodStatus(Wire):
    phase: str | None = None
    pod_ip: str | None = field(default=None, name="podIP")
    pod_ips: list[PodIP] | None = field(default=None, name="podIPs")


class Pod(Wire):
    metadata: PodMeta | None = None
    spec: PodSpec | None = None
    status: PodStatus | None = None


# -- NetworkPolicy ---------------------------------------------------------------------------------------------------


class Requirement(Wire):
    key: str | None = None
    operator: str | None = None
    values: list[str] | None = None


class Selector(Wire):
    match_labels: dict[str, str | None] | None = None
    match_expressions: list[Requirement] | None = None


class IPBlock(Wire):
    cidr: str | None = None
    excepts: list[str] | None = field(default=None, name="except")


class PolicyPeer(Wire):
    pod_selector: Selector | None = None
    namespace_selector: Selector | None = None
    ip_block: IPBlock | None = None


class PolicyPort(Wire):
    protocol: str | None = None
    port: int | str | None = None
    end_port: int | None = None


class IngressRule(Wire):
    peers: list[PolicyPeer] | None = field(default=None, name="from")
    ports: list[PolicyPort] | None = None


class EgressRule(Wire):
    peers: list[PolicyPeer] | None = field(default=None, name="to")
    ports: list[PolicyPort] | None = None


class PolicySpec(Wire):
    pod_selector: Selector | None = None
    policy_types: list[str] | None = None
    ingress: list[IngressRule] | None = None
    egress: list[EgressRule] | None = None


class NetworkPolicy(Wire):
    metadata: Meta | None = None
    spec: PolicySpec | None = None


class PolicyTarget(Wire):
    """The part of a policy's spec that says for whom it is."""

    pod_selector: Selector | None = None


class TargetedPolicy(Wire):
    """A policy whose rules cannot be read."""

    metadata: Meta | None = None
    spec: PolicyTarget | None = None
