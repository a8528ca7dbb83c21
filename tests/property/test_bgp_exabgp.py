"""What exabgp and our codec make of the same valid message is the same.

exabgp is an oracle for values, not for verdicts: it does not look at all that RFC 7606 wants looked at. So whatever
either of them finds fault with is left out here. It keeps a prefix's bits beyond its length and sorts communities;
both are put right before comparing.
"""

import random
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from bgp_bytes import BOTH, session
from bgp_mutants import attributes_of, mutate, seeds, split
from bgp_strategies import announcements, attributes, prefixes
from hypothesis import given
from hypothesis import strategies as st

from kube_router.plugins.routing.bgp.fault import Fault
from kube_router.plugins.routing.bgp.model import Attributes, Family, Negotiated, NextHop, Prefix
from kube_router.plugins.routing.bgp.update import Update, UpdateParser, encode_reach, encode_withdraw, end_of_rib

WHY = "exabgp is not installed: pip install 'kube-router[test]'"
exa = pytest.importorskip("exabgp.bgp.message.update", reason=WHY)
exa_direction = pytest.importorskip("exabgp.bgp.message.direction", reason=WHY)
exa_negotiated = pytest.importorskip("exabgp.bgp.message.open.capability.negotiated", reason=WHY)
exa_notify = pytest.importorskip("exabgp.bgp.message.notification", reason=WHY)
exa_family = pytest.importorskip("exabgp.protocol.family", reason=WHY)
pytest.importorskip("exabgp.logger", reason=WHY).log.disable()  # else there has to be a logger before anything is read

TREAT_AS_WITHDRAW, DISCARD = 0xFFFF, 0xFFFE
ITS_OWN = {22, 25, 26, 29, 40}  # attributes that it knows and we do not: PMSI, IPv6 communities, AIGP, BGP-LS, SIDs
MUTANTS = 3000
SESSIONS = (session(), session(four_octet_as=False), session(add_path=BOTH))


def theirs(negotiated: Negotiated) -> Any:
    """Return the same session in exabgp's words."""
    families = [(exa_family.AFI.ipv4, exa_family.SAFI.unicast), (exa_family.AFI.ipv6, exa_family.SAFI.unicast)]
    its = exa_negotiated.Negotiated({"capability": {"aigp": False}})
    its.asn4 = negotiated.four_octet_as
    its.families = families
    its.nexthop = [(*families[0], exa_family.AFI.ipv6)]
    its.addpath._receive = dict.fromkeys(families, True) if negotiated.add_path_receive else {}
    return its


Values = dict[str, object]


# -- both in the same words --------------------------------------------------------------------------------------------


def ours_says(update: Update) -> Values:
    if update.end_of_rib is not None:
        return {"end of rib": int(update.end_of_rib)}
    gone = [routes(*withdrawn) for withdrawn in update.withdrawn]
    reached = [routes(reach.prefixes, reach.path_ids, reach.next_hop) for reach in update.reaches]
    says: Values = {
        "withdrawn": sorted(route for routes in gone for route in routes),
        "announced": sorted(route for routes in reached for route in routes),
    }
    return says | (dict(ours_attributes(update.attributes)) if update.attributes is not None else {})


def routes(prefixes: list[Prefix], path_ids: list[int] | None, next_hop: NextHop | None = None) -> Iterator[str]:
    hops = [""] if next_hop is None else [f" via {ip_address(one)}" for one in next_hop if one]
    for at, prefix in enumerate(prefixes):
        path = "" if path_ids is None else f" path {path_ids[at]}"
        yield from (f"{prefix}{path}{hop}" for hop in hops)


def ours_attributes(its: Attributes) -> Iterator[tuple[str, object]]:
    yield "origin", int(its.origin)
    yield "path", [(int(segment.type), list(segment.asns)) for segment in its.as_path]
    yield "med", its.med
    yield "preference", its.local_pref
    yield "atomic", its.atomic_aggregate
    yield "aggregator", None if its.aggregator is None else (its.aggregator[0], str(ip_address(its.aggregator[1])))
    yield "communities", sorted(community.to_bytes(4) for community in its.communities)
    yield "extended", sorted(its.extended_communities)
    yield "large", sorted(b"".join(part.to_bytes(4) for part in community) for community in its.large_communities)
    yield "originator", None if its.originator_id is None else str(ip_address(its.originator_id))
    yield "clusters", [str(ip_address(cluster)) for cluster in its.cluster_list]
    yield "others", sorted((other.type, other.value) for other in its.others)


def theirs_says(update: Any) -> Values | None:
    """Return what exabgp understood, None where it found fault."""
    codes = {int(code): value for code, value in getattr(update, "attributes", {}).items()}
    if {TREAT_AS_WITHDRAW, DISCARD} & codes.keys():
        return None
    if isinstance(update, exa.EOR):
        return {"end of rib": int(update.nlris[0].afi)}
    gone = [nlri for nlri in update.nlris if nlri.action == exa.Action.WITHDRAW]
    reached = [nlri for nlri in update.nlris if nlri.action == exa.Action.ANNOUNCE]
    says: Values = {
        "withdrawn": sorted(map(route, gone)),
        "announced": sorted(f"{route(nlri)} via {ip_address(str(nlri.nexthop))}" for nlri in reached),
    }
    return says | (dict(theirs_attributes(codes)) if reached else {})


def route(nlri: Any) -> str:
    network = ip_network((nlri.cidr.ton(), nlri.cidr.mask), strict=False)
    path = nlri.path_info.path_info
    return f"{network} path {int.from_bytes(path)}" if path else str(network)


def theirs_attributes(codes: dict[int, Any]) -> Iterator[tuple[str, object]]:
    def value(code: int, read: Any, absent: object = None) -> object:
        return read(codes[code]) if code in codes else absent

    yield "origin", value(1, lambda it: it.origin)
    yield "path", value(2, lambda it: [(segment.ID, [int(asn) for asn in segment]) for segment in it.aspath], [])
    yield "med", value(4, lambda it: it.med)
    yield "preference", value(5, lambda it: it.localpref)
    yield "atomic", 6 in codes
    # It leaves the wide number of a narrow neighbour where it came.
    yield "aggregator", value(7 if 7 in codes else 18, lambda it: (int(it.asn), str(it.speaker)))
    yield "communities", value(8, lambda it: sorted(one.community for one in it.communities), [])
    yield "extended", value(16, lambda it: sorted(one.community for one in it.communities), [])
    yield "large", value(32, lambda it: sorted(one.large_community for one in it.communities), [])
    yield "originator", value(9, str)
    yield "clusters", value(10, lambda it: [str(one) for one in it.clusters], [])
    generic = [it for code, it in codes.items() if type(it).__name__ == "GenericAttribute"]
    yield "others", sorted((int(it.ID), it.data) for it in generic if it.FLAG & 0x40)


def undecided(found: list[bytes]) -> bool:
    """Say whether there are attributes of which the two may think differently, neither being wrong."""
    kinds = {attribute[1] for attribute in found}
    # RFC 6793 does not say what AS4_AGGREGATOR means alone, RFC 7606 not what Partial does on a well-known attribute.
    partial = any(attribute[0] & 0xA0 == 0x20 for attribute in found)
    return bool(kinds & ITS_OWN) or (18 in kinds and 7 not in kinds) or partial


def both(message: bytes, negotiated: Negotiated) -> tuple[Values, Values] | None:
    """Return what both understood, None where one found fault."""
    body = message[19:]
    try:
        ours = UpdateParser(negotiated).parse(body)
    except Fault:
        return None
    if ours.faults:
        return None
    if undecided(attributes_of(split(body)[1])):
        return None
    try:
        its = theirs_says(exa.Update.unpack_message(body, exa_direction.Direction.IN, theirs(negotiated)))
    except exa_notify.Notify:
        return None
    return None if its is None else (ours_says(ours), its)


# -- the tests ---------------------------------------------------------------------------------------------------------


@given(attributes, announcements, st.booleans(), st.integers(0, 255))
def test_announcements(its: Attributes, announced: tuple[list[Prefix], NextHop], wide: bool, spill: int) -> None:
    wanted, next_hop = announced
    negotiated = session(four_octet_as=wide)
    for message in encode_reach(its, next_hop, wanted, negotiated):
        spilt = message[:-1] + bytes((message[-1] | spill,)) if wanted[-1].length % 8 == 1 else message
        understood = both(spilt, negotiated)
        if understood is not None:
            assert understood[0] == understood[1]


@given(st.lists(prefixes, max_size=40))
def test_withdrawals(wanted: list[Prefix]) -> None:
    for message in encode_withdraw(wanted, session()):
        understood = both(message, session())
        assert understood is not None
        assert understood[0] == understood[1]


@pytest.mark.parametrize("family", Family)
def test_ends_of_rib(family: Family) -> None:
    assert both(end_of_rib(family), session()) == ({"end of rib": family}, {"end of rib": family})


def test_mutants_that_both_take_for_good() -> None:
    rng = random.Random(5015)
    messages = [message for message in seeds() if message[18] == 2]
    compared = 0
    for _ in range(MUTANTS):
        message, negotiated = mutate(rng, rng.choice(messages)), rng.choice(SESSIONS)
        understood = both(message, negotiated)
        # Whatever holds no prefix is an End-of-RIB to exabgp.
        if understood is not None and (understood[0].get("announced") or understood[0].get("withdrawn")):
            compared += 1
            assert understood[0] == understood[1], message.hex()
    assert compared > MUTANTS // 20
