"""OPENs and UPDATEs of every kind, good and bad: what they say, and the verdict of RFC 4271 and RFC 7606 on each.

``vectors.json`` holds the octets, the verdict and why. Where RFC 7606 leaves a choice, ours is written there; what is
treated as withdraw or loses an attribute still has to say exactly what is written.
"""

import json
from ipaddress import ip_address
from pathlib import Path
from typing import TypedDict

import pytest

from kube_router.plugins.routing.bgp.model import Attributes, Family, Negotiated, Prefix
from kube_router.plugins.routing.bgp.update import Update, UpdateParser
from kube_router.plugins.routing.bgp.wire import Fault, Open, parse_open


class Vector(TypedDict, total=False):
    name: str
    kind: str
    hex: str
    add_path: list[int]
    verdict: str
    says: list[str]
    faults: list[str]
    notification: list[int]
    because: str


VECTORS: list[Vector] = json.loads((Path(__file__).parent / "bgp" / "vectors.json").read_text())


def read(vector: Vector) -> Open | Update:
    body = bytes.fromhex(vector["hex"])
    if vector["kind"] == "open":
        return parse_open(body)
    negotiated = Negotiated(
        asn=65001,
        router_id=1,
        internal=True,
        hold_time_s=90,
        families=frozenset(Family),
        add_path_receive=frozenset(Family(afi) for afi in vector.get("add_path", [])),
        extended_next_hop=frozenset({Family.IPV4}),
    )
    return UpdateParser(negotiated).parse(body)


def says_open(it: Open) -> list[str]:
    families = " ".join(family.name for family in sorted(it.capabilities.families))
    router_id = ip_address(it.router_id)
    return [f"AS {it.asn}, hold time {it.hold_time_s} s, router ID {router_id}, families {families}"]


def named(prefixes: list[Prefix], path_ids: list[int] | None) -> str:
    if path_ids is None:
        return " ".join(map(str, prefixes))
    return " ".join(f"{prefix} path {path_id}" for prefix, path_id in zip(prefixes, path_ids, strict=True))


def says_update(it: Update) -> list[str]:
    says = [f"withdrawn {named(*withdrawn)}" for withdrawn in it.withdrawn]
    for next_hop, prefixes, path_ids in it.reaches:
        addresses = " ".join(str(ip_address(one)) for one in next_hop if one)
        says.append(f"{named(prefixes, path_ids)} via {addresses}")
    if it.attributes is not None:
        says += says_attributes(it.attributes)
    if it.end_of_rib is not None:
        says.append(f"End-of-RIB {it.end_of_rib.name}")
    return says


def says_attributes(its: Attributes) -> list[str]:
    says = [f"AS path {' '.join(map(str, its.as_path[0].asns))}, local preference {its.local_pref}"]
    if its.communities:
        says.append(f"communities {its.communities} {its.extended_communities[0].hex()} {its.large_communities}")
    if its.originator_id is not None:
        clusters = [str(ip_address(cluster)) for cluster in its.cluster_list]
        says.append(f"originator {ip_address(its.originator_id)}, clusters {clusters}")
    return says + [f"attribute {other.type} {other.value.hex()}" for other in its.others]


def verdict(it: Update) -> str:
    """Return RFC 7606's verdict as the parser's answer shows it."""
    if any(fault.startswith("treated as withdraw") for fault in it.faults):
        assert not it.reaches
        assert it.attributes is None
        return "treat-as-withdraw"
    return "attribute-discard" if it.faults else "accepted"


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_a_message_gets_the_verdict_of_the_rfcs(vector: Vector) -> None:
    if vector["verdict"] == "session-reset":
        with pytest.raises(Fault) as raised:
            read(vector)
        assert [raised.value.code, raised.value.subcode] == vector["notification"]
        return
    it = read(vector)
    if isinstance(it, Open):
        assert says_open(it) == vector["says"]
        return
    assert verdict(it) == vector["verdict"]
    assert says_update(it) == vector["says"]
    assert list(it.faults) == vector.get("faults", [])


def test_there_are_sixty_two_and_each_verdict_but_the_good_ones_has_its_reason() -> None:
    assert len(VECTORS) == 62
    assert [vector["name"] for vector in VECTORS if vector["verdict"] != "accepted" and "because" not in vector] == []
