"""What kube-router (Go) left of its router in this node's kernel, recognised and removed (I/O).

It removes nothing on exit, so that packets find their way. For when our own is in place and in sync: until then its
routes are all there is; from then on they lead to nodes that may be gone, and since they have the better metric, past
ours. A tunnel between the same two ends can exist but once: the plan adopts those that it wants, with our alias.

Recognised is what carries its names or its form: rtnetlink's share of it is in inherited.py. Of iptables it is the
masquerade rule that matches its ipset of pods, the three FORWARD rules by their comments, and of ipsets that one and
its nodes'. The names it wrote into rt_tables stay.

Blocking, for the plugin's worker thread. What cannot be removed is told in words, and no reason to stop: somebody's
rule may use its ipset for ever.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial

from kube_router.core import leftovers, nlmsg
from kube_router.core.leftovers import Rules
from kube_router.core.netlink import NETLINK_ROUTE, Netlink
from kube_router.events.errors import KernelError
from kube_router.plugins.routing import inherited, rtlink, rtnetlink
from kube_router.plugins.routing.bgp.model import Family
from kube_router.plugins.routing.model import BRIDGE

logger = logging.getLogger(__name__)

PODS, NODES = "kube-router-pod-subnets", "kube-router-node-ips"
IPSETS = (PODS, NODES, f"inet6:{PODS}", f"inet6:{NODES}")
COMMENTS = {
    "allow inbound traffic to pods": ("-o", BRIDGE),
    "allow outbound traffic from pods": ("-i", BRIDGE),
    "allow outbound node port traffic on node interface with which node ip is associated": ("-o", ""),
}
FAMILIES = {Family.IPV4: nlmsg.AF_INET, Family.IPV6: nlmsg.AF_INET6}


def forwarding() -> frozenset[Family]:
    """Return the families whose packets its routes lead. Raises ``KernelError``."""
    with Netlink(NETLINK_ROUTE) as link:
        return frozenset(
            family
            for family, number in FAMILIES.items()
            if inherited.has_its_routes(link.dump_known(rtnetlink.get_routes(number, inherited.ITS_PROTOCOL)))
        )


def remove(cidrs: Collection[str]) -> tuple[Counter[str], list[str]]:
    """Remove it, routes first; return what was removed, and in words what could not be.

    ``cidrs`` are the destinations that are pods' or that we have a route to. Nothing is created by looking.
    """
    changes: Counter[str] = Counter()
    troubles: list[str] = []
    parts: tuple[Callable[[], tuple[Counter[str], list[str]]], ...] = (partial(_remove_routes, cidrs), _remove_rules)
    for part in parts:
        try:
            removed, refused = part()
        except KernelError as error:
            removed, refused = Counter(), [str(error)]
        changes += removed
        troubles += refused
    return changes, troubles


def _remove_rules() -> tuple[Counter[str], list[str]]:
    rules, unread = leftovers.find_rules(("nat", "filter"), leftovers.nft_tables(), recognise)
    present = set(leftovers.ipset_names())
    removed, troubles = leftovers.remove(rules, [name for name in IPSETS if name in present])
    return removed, [*unread, *troubles]


def recognise(program: str, table: str, text: str) -> list[Rules]:
    """Return what of its router is in a table, given iptables-save's text of it; nothing, or one."""
    is_its = _is_its_masquerade if table == "nat" else _is_its_accept
    rules = tuple(line for line in text.splitlines() if line.startswith("-A ") and is_its(leftovers.words_of(line)))
    return [Rules(program, table, rules)] if rules else []


def _is_its_masquerade(words: list[str]) -> bool:
    matches = {words[at + 1] for at, word in enumerate(words[:-1]) if word == "--match-set"}
    return words[1:2] == ["POSTROUTING"] and "MASQUERADE" in words and bool(matches & {PODS, f"inet6:{PODS}"})


def _is_its_accept(words: list[str]) -> bool:
    if words[1:2] != ["FORWARD"] or words[-2:] != ["-j", "ACCEPT"] or "--comment" not in words:
        return False
    comment = words[words.index("--comment") + 1]
    option, interface = COMMENTS.get(comment, ("", ""))
    return bool(option) and option in words and words[words.index(option) + 1] in (interface or words)


def _remove_routes(cidrs: Collection[str]) -> tuple[Counter[str], list[str]]:
    changes: Counter[str] = Counter()
    troubles: list[str] = []
    with Netlink(NETLINK_ROUTE) as link:
        links = [rtlink.parse_link(body) for body in link.dump(rtlink.get_links())]
        tunnels = {each.ifindex for each in links if inherited.is_tunnel(each)}
        wanted: list[tuple[str, bytes]] = []
        for family in FAMILIES.values():
            every = rtnetlink.get_routes(family, rtnetlink.EVERY_PROTOCOL)
            routes = inherited.its_routes(link.dump(every), cidrs, tunnels)
            rules = inherited.its_rules(link.dump(rtnetlink.get_rules(family)))
            wanted += [("leftover route removed", each) for each in routes]
            wanted += [("leftover ip rule removed", each) for each in rules]
        unadopted = [each.name for each in links if inherited.is_its_tunnel(each)]
        wanted += [("leftover tunnel removed", rtlink.delete_device(name)) for name in unadopted]
        failures = {failure.at: failure for failure in link.write([request for _, request in wanted])}
    changes.update(what for at, (what, _) in enumerate(wanted) if at not in failures)
    troubles += [f"{wanted[at][0].replace('removed', 'not removed')}: {failure}" for at, failure in failures.items()]
    if changes:
        logger.info("leftover_removed %s", " ".join(f"{what.replace(' ', '_')}={n}" for what, n in changes.items()))
    return changes, troubles
