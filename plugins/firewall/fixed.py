"""What the table holds whatever the policies: hooks, exemptions, denial, and the sets and maps they look into (pure).

Egress and ingress are two base chains in each hook, so that a packet which its sender's policies let out is still
judged by its receiver's: ``accept`` ends only one base chain. What a packet meets, in its order:

    forward   egress, ingress   between pods, and between pods and the outside
    output    egress, ingress   what IPVS sends on to a pod (a pod's packet to a Service never passes forward); the
                                node's own packets are exempt
    input     egress            from a pod to its own node, behind IPVS, which takes its packets out at 98 and 99
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kube_router.plugins.firewall.model import (
    DIRECTIONS,
    FAMILIES,
    IPV6,
    JUDGED_END,
    Chain,
    Direction,
    Family,
    Ruleset,
    SetType,
    deny_chain,
    map_name,
)

NFLOG_GROUP = 100
SNAPLEN = 128
LOG_PREFIX = {direction: f"netpol-{direction} " for direction in DIRECTIONS}
_ESTABLISHED = "ct state vmap {{ invalid : goto invalid_{direction}, established : accept, related : accept }}"
_PRIORITY = {"egress": "filter - 2", "ingress": "filter - 1"}
_ICMP = ("destination-unreachable", "echo-request", "time-exceeded", "parameter-problem")
_ICMPV6 = (
    *("destination-unreachable", "packet-too-big", "time-exceeded", "parameter-problem", "echo-request"),
    *("mld-listener-query", "mld-listener-report", "nd-router-solicit", "nd-router-advert", "nd-neighbor-solicit"),
    *("nd-neighbor-advert", "nd-redirect", "mld2-listener-report"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What of the node and its options the fixed part depends on. ``families`` are those in play."""

    families: tuple[Family, ...] = ()
    pod_cidrs: tuple[str, ...] = ()  # of this node
    default_deny: bool = False
    judge_icmp: bool = False
    strict: bool = False


def fixed_ruleset(settings: Settings) -> Ruleset:
    """Return a table without any pod or policy."""
    ruleset = Ruleset()
    for family in FAMILIES:  # also where a family is not in play: so few that it costs nothing
        for direction in DIRECTIONS:
            ruleset.add_map(map_name(direction, family))
        ruleset.add_set(f"self{family}", SetType(f"{family.type} . {family.type}"))
        ruleset.add_set(f"known{family}", SetType(family.type))
        if settings.default_deny:
            own = [cidr for cidr in settings.pod_cidrs if (":" in cidr) == (family is IPV6)]
            ruleset.add_set(f"podcidr{family}", SetType(family.type, interval=True), own)
    for name, chain in _chains(settings):
        ruleset.add_chain(name, chain)
    return ruleset


def _chains(settings: Settings) -> Iterator[tuple[str, Chain]]:
    yield "exempt", Chain(tuple(_exemptions(judge_icmp=settings.judge_icmp)))
    for direction in DIRECTIONS:
        yield deny_chain(direction), Chain(tuple(_denial(direction)))
        drops = (f"{family.word} {JUDGED_END[direction]} @known{family} drop" for family in FAMILIES)
        yield f"invalid_{direction}", Chain(tuple(drops))
    for direction in DIRECTIONS:
        yield direction, Chain(tuple(_dispatch(direction, settings)))
    for direction in DIRECTIONS:
        established, judged = _ESTABLISHED.format(direction=direction), f"goto {direction}"
        yield f"forward-{direction}", _base("forward", _PRIORITY[direction], (established, judged))
        output = (established, "fib saddr type local accept", judged)
        yield f"output-{direction}", _base("output", _PRIORITY[direction], output)
    input = ('iifname "lo" accept', _ESTABLISHED.format(direction="egress"), "goto egress")
    yield "input-egress", _base("input", "101", input)


def _base(hook: str, priority: str, rules: Iterable[str]) -> Chain:
    return Chain(tuple(rules), hook=f"type filter hook {hook} priority {priority}; policy accept;")


def _denial(direction: Direction) -> Iterator[str]:
    yield "jump exempt"  # last, since what a policy admits needs no exemption, and that is nearly every packet
    yield f'counter name "denied_{direction}"'
    log = f'log prefix "{LOG_PREFIX[direction]}" group {NFLOG_GROUP} snaplen {SNAPLEN}'
    yield f"limit rate 10/minute burst 10 packets {log}"
    # In output, where there is no iif, the kernel would send the reset to a bridged pod past IPVS, so that it came from
    # the endpoint instead of the Service and ended nothing; the ICMP error goes through IPVS.
    yield "iif != 0 meta l4proto tcp reject with tcp reset"
    yield "reject"


def _exemptions(*, judge_icmp: bool) -> Iterator[str]:
    """Errors must arrive whatever the policies say, and neighbours must be found; a pod always reaches itself."""
    for word, types in (("icmp", _ICMP), ("icmpv6", _ICMPV6)):
        kept = [type for type in types if not (judge_icmp and type == "echo-request")]
        yield f"{word} type {{ {', '.join(kept)} }} accept"
    for family in FAMILIES:
        yield f"{family.word} saddr . {family.word} daddr @self{family} accept"


def _dispatch(direction: Direction, settings: Settings) -> Iterator[str]:
    ends = {family: f"{family.word} {JUDGED_END[direction]}" for family in FAMILIES}
    # A connection that --netpol-strict has ended must not go on as a new one, begun by whatever packet comes next.
    for family in FAMILIES if settings.strict else ():
        begins_nothing = "tcp flags != syn / fin,syn,rst,ack"
        yield f"{ends[family]} @known{family} {begins_nothing} goto {deny_chain(direction)}"
    for family in FAMILIES:
        yield f"{ends[family]} vmap @{map_name(direction, family)}"
    for family in FAMILIES if settings.default_deny else ():
        yield f"{ends[family]} @podcidr{family} {ends[family]} != @known{family} goto {deny_chain(direction)}"
