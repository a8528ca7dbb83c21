"""What kube-router (Go) left of its proxy in this node's kernel, recognised and removed (I/O).

It removes nothing on exit, so that its services go on; with ours in place its rest would get in the way: its SNAT rules
come first, and its KUBE-ROUTER-SERVICES chain rejects what is not in an ipset that nobody fills any more.

Recognised are only things that carry its names, and its SNAT rules by their form (a match on IPVS's masqueraded
packets, and an empty comment). Its IPVS services are those in its ipset of service addresses and ports, or on
kube-dummy-if while that ipset, or no table of ours, is there. They are adopted or removed by the plan, not here.

How it is found and removed is core/leftovers.py. The rest of its rules is the firewall's and the router's to take over.
"""

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from kube_router.core import leftovers as shared
from kube_router.core.leftovers import Rules
from kube_router.plugins.proxy.model import ServiceId

HAIRPIN, SERVICES = "KUBE-ROUTER-HAIRPIN", "KUBE-ROUTER-SERVICES"
IPSETS = tuple(
    f"{family}kube-router-{name}" for family in ("", "inet6:") for name in ("svip-prt", "svip", "local-ips")
)  # fmt: skip
SERVICE_SETS = tuple(name for name in IPSETS if name.endswith("svip-prt"))
CHAINS = {"nat": HAIRPIN, "filter": SERVICES}
_ELEMENT = re.compile(r"add \S+ ([0-9a-fA-F.:]+),(tcp|udp|sctp):(\d+)(?: |$)")


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What there is to remove."""

    rules: tuple[Rules, ...] = ()
    ipsets: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()  # in words: where there may be more


def leftover_services(
    unowned: Collection[ServiceId], *, addresses: Collection[str], first_time: bool
) -> frozenset[ServiceId]:
    """Return those IPVS services that kube-router made, of the ones that are not ours."""
    if not unowned:
        return frozenset()
    listed: set[ServiceId] = set()
    seen = False
    for name in SERVICE_SETS:
        text = shared.ipset("save", name)
        if text is not None:
            seen = True
            listed |= parse_ipset(text)
    on_dummy = {id for id in unowned if id.address in addresses} if seen or first_time else set()
    return frozenset((listed & set(unowned)) | on_dummy)


def parse_ipset(text: str) -> set[ServiceId]:
    """Return the services in what ``ipset save`` prints of a set of addresses and ports."""
    found = map(_ELEMENT.match, text.splitlines())
    return {ServiceId(match[2].upper(), match[1], int(match[3])) for match in found if match}


def leftovers() -> Leftovers:
    """Return the rules, chains and ipsets that are there. Nothing is created by looking. Raises ``KernelError``."""
    rules, unread = shared.find_rules(CHAINS, shared.nft_tables(), recognise)
    present = set(shared.ipset_names())
    return Leftovers(tuple(rules), tuple(name for name in IPSETS if name in present), tuple(unread))


def recognise(program: str, table: str, text: str) -> list[Rules]:
    """Return what of kube-router's proxy is in a table, given iptables-save's text of it; nothing, or one."""
    chain = CHAINS[table]
    lines = text.splitlines()
    rules = tuple(line for line in lines if line.startswith("-A ") and _is_its_to_remove(line, chain))
    chains = (chain,) if any(line.startswith(f":{chain} ") for line in lines) else ()
    return [Rules(program, table, rules, chains)] if rules or chains else []


def _is_its_to_remove(line: str, chain: str) -> bool:
    words = shared.words_of(line)
    if not words or words[1] == chain:
        return False  # it cannot be read, or goes with its chain
    if words[-2:] == ["-j", chain]:
        return True
    masqueraded = "--vmethod" in words and words[words.index("--vmethod") + 1 :][:1] == ["MASQ"]
    unnamed = "--comment" in words and words[words.index("--comment") + 1 :][:1] == [""]
    return chain == HAIRPIN and words[1] == "POSTROUTING" and "SNAT" in words and masqueraded and unnamed


def remove(found: Leftovers) -> tuple[Counter[str], list[str]]:
    """Remove it, rules first, since they use the ipsets; return what was removed, and in words what could not be."""
    removed, troubles = shared.remove(found.rules, found.ipsets)
    return removed, [*found.unread, *troubles]
