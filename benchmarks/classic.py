"""The classic layout of NetworkPolicy, as kube-router builds it with iptables and ipset (pure).

A chain for each pod, which INPUT, FORWARD and OUTPUT reach by one rule per pod and direction, one after the other; a
chain for each policy with two rules per peer set and port, the first of which marks and the second returns; a set of
the selected pods, and one of the peers of each rule. Rules, their order, marks and comments are those of kube-router
2.11, as far as the policies of benchmarks/policed_node.py need them. At each change kube-router makes all of it anew:
all sets are filled and swapped, all chains of pods and policies get new names (``version``), the filter table is
restored.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kube_router.events.model import NetworkPolicy, PolicyPeer, PolicyPort, PolicyRule
from kube_router.plugins.firewall.compile import PeerKey
from kube_router.plugins.firewall.members import Population
from kube_router.plugins.firewall.terms import terms_of

MATCHED, OK = "0x10000/0x10000", "0x20000/0x20000"
_TOP = ("KUBE-ROUTER-INPUT", "KUBE-ROUTER-FORWARD", "KUBE-ROUTER-OUTPUT")
_FIXED = (*_TOP, "KUBE-NWPLCY-COMMON", "KUBE-NWPLCY-DEFAULT", "KUBE-NWPLCY-TAIL")
_CREATE = "family inet hashsize 1024 maxelem 65536 timeout 0"
_COMMON = """\
-A KUBE-NWPLCY-COMMON -m comment --comment "rule to drop invalid state for pod" -m conntrack --ctstate INVALID -j DROP
-A KUBE-NWPLCY-COMMON -m comment --comment "rule for stateful firewall for pod" \
-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-NWPLCY-COMMON -p icmp -m comment --comment "allow icmp echo requests" -m icmp --icmp-type 8 -j ACCEPT
-A KUBE-NWPLCY-COMMON -p icmp -m comment --comment "allow icmp destination unreachable messages" \
-m icmp --icmp-type 3 -j ACCEPT
-A KUBE-NWPLCY-COMMON -p icmp -m comment --comment "allow icmp time exceeded messages" -m icmp --icmp-type 11 -j ACCEPT
-A KUBE-NWPLCY-DEFAULT -m comment --comment "rule to mark traffic matching a network policy" \
-j MARK --set-xmark 0x10000/0x10000
-A KUBE-NWPLCY-TAIL -m comment --comment "accept netpol-ok" -m mark --mark 0x20000/0x20000 -j ACCEPT"""


@dataclass(frozen=True, slots=True)
class Layout:
    """What ``iptables-restore`` and ``ipset restore`` read."""

    rules: str
    sets: str


def layout(population: Population, policies: Sequence[NetworkPolicy], *, version: int = 0) -> Layout:
    """Return the layout of all local pods of a population. Policies stand in a pod's chain in the order given."""
    sets: dict[str, list[str]] = {}
    chains: dict[str, list[str]] = {}
    policies_of: dict[str, list[str]] = {}
    for policy in policies:
        chain = _name("KUBE-NWPLCY-", policy.key, version)
        selected = list(population.in_namespace(policy.namespace, terms_of(policy.pod_selector)))
        chains[chain] = list(_policy(chain, policy, population, selected, sets))
        for pod in selected:
            policies_of.setdefault(pod, []).append(f'-m comment --comment "{policy.key} policy" -j {chain}')
    top: dict[str, list[str]] = {name: [] for name in _TOP}
    for key, facts in population.pods.items():
        if facts.local:
            chain = _name("KUBE-POD-FW-", key, version)
            chains[chain] = list(_pod(chain, key, facts.ips[0], policies_of.get(key, [])))
            _jumps(top, chain, key, facts.ips[0])
    return Layout("\n".join(_filter(chains, top)) + "\n", "\n".join(_restore(sets)) + "\n")


def _filter(chains: Mapping[str, list[str]], top: Mapping[str, list[str]]) -> Iterator[str]:
    """Return the filter table: chains, hooks, dispatch, pods, policies."""
    yield "*filter"
    yield from (f":{hook} ACCEPT [0:0]" for hook in ("INPUT", "FORWARD", "OUTPUT"))
    yield from (f":{chain} - [0:0]" for chain in (*_FIXED, *chains))
    yield from (f"-A {name.rpartition('-')[2]} -j {name}" for name in _TOP)
    yield _COMMON
    for name in _TOP:
        yield from top[name]
        yield f'-A {name} -m comment --comment "rule to explicitly handle traffic" -j KUBE-NWPLCY-TAIL'
        yield f'-A {name} -m comment --comment "rule to explicitly ACCEPT traffic" -m mark --mark {OK} -j ACCEPT'
    for rules in chains.values():
        yield from rules
    yield "COMMIT"


def _jumps(top: Mapping[str, list[str]], chain: str, key: str, ip: str) -> None:
    """Add what sends a pod's packets to its chain."""
    into = f'-d {ip}/32 {{}}-m comment --comment "{key} in" -j {chain}'
    out = f'-s {ip}/32 {{}}-m comment --comment "{key} out" -j {chain}'
    bridged = "-m physdev --physdev-is-bridged "
    top["KUBE-ROUTER-INPUT"].append(f"-A KUBE-ROUTER-INPUT {out.format('')}")
    for direction in (into, out):
        top["KUBE-ROUTER-FORWARD"].append(f"-A KUBE-ROUTER-FORWARD {direction.format('')}")
        top["KUBE-ROUTER-FORWARD"].append(f"-A KUBE-ROUTER-FORWARD {direction.format(bridged)}")
        top["KUBE-ROUTER-OUTPUT"].append(f"-A KUBE-ROUTER-OUTPUT {direction.format('')}")


def _pod(chain: str, key: str, ip: str, policies: list[str]) -> Iterator[str]:
    """Return a pod's chain."""
    yield f'-A {chain} -m comment --comment "common netpol rules" -j KUBE-NWPLCY-COMMON'
    yield f'-A {chain} -d {ip}/32 -m comment --comment "from local node" -m addrtype --src-type LOCAL -j ACCEPT'
    yield from (f"-A {chain} {jump}" for jump in policies)
    unmatched = f"-m mark ! --mark {MATCHED}"
    yield (
        f'-A {chain} -m comment --comment "{key} log-drop" {unmatched} -m limit --limit 10/min --limit-burst 10 '
        "-j NFLOG --nflog-group 100"
    )
    yield f'-A {chain} -m comment --comment "{key} reject" {unmatched} -j REJECT --reject-with icmp-port-unreachable'
    yield f"-A {chain} -j MARK --set-xmark 0x0/0x10000"
    yield f'-A {chain} -m comment --comment "set netpol-ok mark" -j MARK --set-xmark {OK}'


def _policy(
    chain: str, policy: NetworkPolicy, population: Population, selected: Iterable[str], sets: dict[str, list[str]]
) -> Iterator[str]:
    """Return a policy's chain, and add its sets."""
    ips = [population.pods[pod].ips[0] for pod in selected]
    for direction, rules in (("ingress", policy.ingress), ("egress", policy.egress)):
        own = _name("KUBE-DST-" if direction == "ingress" else "KUBE-SRC-", policy.key)
        sets[own] = ips
        for number, rule in enumerate(rules):
            for kind, elements in (("pods", _pods(policy, rule, population)), ("cidr", _blocks(rule.peers))):
                if not elements:
                    continue
                prefix = "KUBE-SRC-" if direction == "ingress" else "KUBE-DST-"
                peers = _name(prefix, policy.key, direction, number, kind)
                sets[peers] = elements
                source, destination = (peers, own) if direction == "ingress" else (own, peers)
                comment = f'-m comment --comment "{policy.key} {direction} {kind}"'
                ends = f"-m set --match-set {source} src -m set --match-set {destination} dst"
                for port in rule.ports:
                    protocol, match = _port(port)
                    match = f"-A {chain} -p {protocol} {comment} {ends} {match}"
                    yield f"{match} -j MARK --set-xmark {MATCHED}"
                    yield f"{match} -m mark --mark {MATCHED} -j RETURN"


def _port(port: PolicyPort) -> tuple[str, str]:
    """Return the protocol of a port by number, and what matches it."""
    protocol = port.protocol.lower()
    ports = f"{port.port}:{port.end_port}" if port.end_port else str(port.port)
    return protocol, f"-m {protocol} --dport {ports}"


def _pods(policy: NetworkPolicy, rule: PolicyRule, population: Population) -> list[str]:
    """Return the addresses of all pods that a rule's peers select."""
    found: dict[str, None] = {}
    for peer in rule.peers:
        if peer.ip_block is None:
            pods = terms_of(peer.pod_selector) if peer.pod_selector is not None else ()
            if peer.namespace_selector is None:
                key = PeerKey(policy.namespace, (), pods)
            else:
                key = PeerKey(None, terms_of(peer.namespace_selector), pods)
            found.update(dict.fromkeys(population.pods[pod].ips[0] for pod in population.selected(key)))
    return list(found)


def _blocks(peers: Iterable[PolicyPeer]) -> list[str]:
    """Return the elements for the ipBlocks among peers."""
    found = []
    for block in (peer.ip_block for peer in peers if peer.ip_block is not None):
        found += [block.cidr, *(f"{each} nomatch" for each in block.excepts)]
    return found


def _restore(sets: Mapping[str, list[str]]) -> Iterator[str]:
    """Return how kube-router fills its sets: another one of the kind is filled, and swapped with the one in use."""
    others: dict[str, str] = {}
    for name, elements in sets.items():
        kind = "hash:net" if any("/" in each for each in elements) else "hash:ip"
        if kind not in others:
            others[kind] = f"TMP-{kind.replace(':', '-')}"
            yield f"create {others[kind]} {kind} {_CREATE}"
        other = others[kind]
        yield f"create {name} {kind} {_CREATE} -exist"
        yield f"flush {other}"
        yield from (f"add {other} {each} timeout 0" for each in elements)
        yield f"swap {other} {name}"
    yield from (f"destroy {other}" for other in others.values())


def _name(prefix: str, *of: object) -> str:
    digest = hashlib.sha256(repr(of).encode()).digest()
    return prefix + base64.b32encode(digest).decode()[:16]
