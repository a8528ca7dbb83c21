"""What kube-router (Go) left of its network policy controller in this node's kernel, recognised and removed (I/O).

It removes nothing on exit, so that its policies stay in force, with the pods they were for. For when our table is in
place and in sync: until then its rules are all there is, and from then on they deny what has been allowed since.

Recognised is only what carries its names: its three chains of the filter table and what they lead to, whose names end
in a hash, with the jumps to them; its ipsets; and the two tables of its nftables mode. How rules and ipsets are found
and removed is core/leftovers.py. Its KUBE-ROUTER-SERVICES chain, its NAT rules and the FORWARD rules for pods are the
proxy's and the router's to take over.
"""

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable

from kube_router.core import leftovers, nlmsg
from kube_router.core.leftovers import Rules
from kube_router.core.nft import Nft
from kube_router.events.errors import KernelError

logger = logging.getLogger(__name__)

TABLE = "filter"
NFT_TABLES = {
    (nlmsg.AF_INET, "kube-router-filter-ipv4"): "ip kube-router-filter-ipv4",
    (nlmsg.AF_INET6, "kube-router-filter-ipv6"): "ip6 kube-router-filter-ipv6",
}
_HASH = "[A-Z2-7]{16}"  # 80 bits in base32
_CHAIN = re.compile(rf"KUBE-(?:ROUTER-(?:INPUT|FORWARD|OUTPUT)|NWPLCY-(?:DEFAULT|COMMON|TAIL|{_HASH})|POD-FW-{_HASH})")
_IPSET = re.compile(rf"(?:inet6:)?(?:KUBE-(?:SRC|DST)-{_HASH}|kube-router-local-pods)")
_TEMPORARY = re.compile(rf"(?:inet6:)?TMP-{_HASH}")  # there while it fills an ipset, and after it died doing so


def remove() -> tuple[Counter[str], list[str]]:
    """Remove its rules, chains, ipsets and tables; return what was removed, and in words what could not be."""
    try:
        present = leftovers.nft_tables()
    except KernelError as e:
        return Counter(), [str(e)]
    rules, unread = leftovers.find_rules((TABLE,), present, recognise)
    removed, refused = leftovers.remove(rules, its_ipsets(leftovers.ipset_names()))
    troubles = [*unread, *refused]
    for key in NFT_TABLES.keys() & present:
        try:
            Nft().run(f"delete table {NFT_TABLES[key]}")
        except KernelError as e:
            troubles.append(f"table {NFT_TABLES[key]}: {e}")
            continue
        removed["leftover table removed"] += 1
        logger.info(f"leftover_removed nft_table={NFT_TABLES[key]!r}")
    return removed, troubles


def recognise(program: str, table: str, text: str) -> list[Rules]:
    """Return what of its is in a table, given iptables-save's text of it; nothing, or one."""
    lines = text.splitlines()
    chains = tuple(name for name in map(_declared, lines) if _CHAIN.fullmatch(name))
    rules = tuple(line for line in lines if line.startswith("-A ") and _leads_to_its(line))
    return [Rules(program, table, rules, chains)] if rules or chains else []


def _declared(line: str) -> str:
    """Return the chain that a line declares, "" for another line."""
    return line[1:].partition(" ")[0] if line.startswith(":") else ""


def _leads_to_its(line: str) -> bool:
    """Whether a rule of somebody else's chain jumps to one of its chains; its own rules go with their chain."""
    if "KUBE-" not in line or _CHAIN.fullmatch(line.split(" ", 2)[1]):
        return False
    words = leftovers.words_of(line)
    return len(words) > 3 and words[-2] in ("-j", "-g") and _CHAIN.fullmatch(words[-1]) is not None


def its_ipsets(names: Iterable[str]) -> list[str]:
    """Return which ipsets are its; temporary ones only beside others, since its proxy's have such names too."""
    present: Collection[str] = list(names)
    its = [name for name in present if _IPSET.fullmatch(name)]
    return its + [name for name in present if its and _TEMPORARY.fullmatch(name)]
