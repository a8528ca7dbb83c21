"""The proxy's own options, by kube-router's names (pure).

``--run-service-proxy`` is not here: every plugin's switch comes from core/agent_options.py.
"""

import ipaddress

from kube_router.core.options import Option, Value, positive


def _cidrs(value: Value) -> None:
    assert isinstance(value, tuple)
    for text in value:
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"holds {text[:100]!r}, which is no CIDR such as 10.0.0.0/8") from None


OPTIONS = (
    Option(
        "ipvs-sync-period",
        "duration",
        300.0,
        "how often everything is compared with the kernel, though nothing has changed",
        check=positive,
    ),
    Option("masquerade-all", "bool", False, "masquerade all service traffic, also that of pods"),
    Option(
        "excluded-cidrs",
        "texts",
        (),
        "leave alone IPVS services whose address is inside one of these CIDRs",
        check=_cidrs,
    ),
)
