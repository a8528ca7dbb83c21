"""The firewall's own options, by kube-router's names where it has them (pure).

``--run-firewall`` is not here: every plugin's switch comes from core/agent_options.py.
"""

from kube_router.core.options import Option, positive

OPTIONS = (
    Option(
        "iptables-sync-period",
        "duration",
        300.0,
        "how often the policies' table is compared with the kernel, though nothing has changed",
        check=positive,
    ),
    Option(
        "netpol-default-deny",
        "bool",
        False,
        "deny traffic of addresses in this node's pod CIDRs until their pods are known",
    ),
    Option("netpol-strict", "bool", False, "end established connections that a changed policy no longer allows"),
    Option("netpol-judge-icmp", "bool", False, "judge ICMP echo requests by policy instead of letting them pass"),
    Option(
        "netpol-read-drops",
        "bool",
        True,
        "read the denied packets from NFLOG group 100 for kr drops; false leaves the group to tcpdump or ulogd",
    ),
    Option("use-nftables-for-netpol", "bool", True, "kube-router's switch; policies are always enforced by nftables"),
)
