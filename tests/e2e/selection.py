"""Which specs of Kubernetes' end-to-end suite are run, and for each of the others why not (pure).

The family is everything that the suite has of the network. A spec of it is run unless a reason is found for it here,
so that none is left out without a word.
"""

import re
from collections.abc import Mapping

FAMILY = "[sig-network]"
NO_SCTP = "needs SCTP in the kernel, which the machine of the run has not"
SINGLE_STACK = "needs a dual-stack cluster; this one has IPv4 only"
NO_INTERNET = "needs the internet; the cluster has no way out"
NO_CLOUD = "needs a cloud's load balancer"
NO_SSH = "needs SSH to the nodes, of one of the suite's cloud providers"
THREE_ZONES = "needs nodes in three zones"
KUBE_PROXY = "is about kube-proxy itself, not about Services"

# What the suite calls its containers, for the page. The first that fits counts.
GROUPS = (
    "Netpol API",
    "Netpol",
    "Networking Granular Checks: Pods",
    "Networking",
    "NoSNAT",
    "HostPort",
    "Connectivity Pod Lifecycle",
    "DNS",
    "EndpointSliceMirroring",
    "EndpointSlice",
    "EndpointsController",
    "Endpoints",
    "IngressClass",
    "Ingress",
    "API Server",
    "Proxy",
    "Networking Granular Checks: Services",
    "Services",
    "Service",
    "Conntrack",
)
# Of these, those that say as much about who serves Services as about the network.
OF_SERVICES = ("Networking Granular Checks: Services", "Services", "Service", "Conntrack")
# The first that fits counts. Regular expressions that Go understands as well.
REASONS: Mapping[str, str] = {
    r"\[Feature:SCTPConnectivity\]": NO_SCTP,
    r"\[Feature:IPv6DualStack\]": SINGLE_STACK,
    r"\[Feature:Networking-IPv[46]\]": NO_INTERNET,
    r"\[Feature:Networking-DNS\]": NO_INTERNET,
    r"\[Provider:GCE\]": NO_INTERNET,
    r"DNS configMap nameserver Forward PTR lookup": NO_INTERNET,
    r"\[Feature:LoadBalancer\]": NO_CLOUD,
    r"\[Feature:KubeProxyDaemonSetMigration\]": KUBE_PROXY,
    r"\] KubeProxy ": KUBE_PROXY,
    r"Networking should check kube-proxy urls": KUBE_PROXY,
    r"Networking should recreate its iptables rules": NO_SSH,
    r"Services should work after restarting (kube-proxy|apiserver)": NO_SSH,
    r"\[Feature:Networking-Performance\]": "reads what another version of iperf than Debian's says",
    r"Services should be rejected for evicted pods": "needs nodes that limit containers' storage; these do not",
    r"Services should implement NodePort and HealthCheckNodePort correctly": "needs three nodes",
    r"\] Traffic Distribution ": THREE_ZONES,
    r"\] Topology Hints ": THREE_ZONES,
    r"\[Feature:PerformanceDNS\]": "makes ten thousand Services: more than a control plane on two cores takes",
}
# What is known of specs that fail, by who serves Services, for the page.
OUR_PROXY = "our proxy"
KNOWN: Mapping[str, Mapping[str, str]] = {
    OUR_PROXY: {
        r"should have session affinity work": "session affinity is not served yet",
        r"should allow pods to hairpin back": "a pod is not led back to itself yet",
        r"internalTrafficPolicy=Local": "internalTrafficPolicy is not served yet",
        r"connect to a service via ExternalIP": "external IPs are not served yet",
    }
}


def reason(spec: str) -> str:
    """Return why a spec of the family is not run, "" if it is."""
    return _first(REASONS, spec)


def known(spec: str, services_by: str) -> str:
    """Return what is known of a spec that fails where Services are served so, "" if nothing is."""
    return _first(KNOWN.get(services_by, {}), spec)


def in_family(spec: str) -> bool:
    """Tell whether a spec is of the network."""
    return spec.startswith(FAMILY)


def focus() -> str:
    """Return the suite's regular expression for the family; its own name comes before a spec's."""
    return re.escape(FAMILY)


def skip() -> str:
    """Return the suite's regular expression for what is not run."""
    return "|".join(REASONS)


def _first(table: Mapping[str, str], spec: str) -> str:
    return next((text for pattern, text in table.items() if re.search(pattern, spec)), "")
