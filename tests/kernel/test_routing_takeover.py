"""From kube-router's (Go) router to ours: what it left goes, and what is others' stays, in the real kernel.

Planted is what kube-router 2.11 leaves on a node, as recorded, and besides it the routes, rules and tunnels that it
makes where nodes are not on one subnet. The ``guest`` tests need a kernel with ipip.
"""

from collections import Counter
from pathlib import Path

import pytest
from harness.netns import run_in_new, sh

from kube_router.core import nlmsg
from kube_router.plugins.routing import inherited, rtnetlink, takeover
from kube_router.plugins.routing.model import Device, Tunnel
from kube_router.plugins.routing.rtlink import Link

root = pytest.mark.root
guest = pytest.mark.guest
pytestmark = pytest.mark.timeout(120)

RECORDED = Path(__file__).parents[1] / "golden" / "firewall" / "kube-router-2.11"
FAMILIES = {"iptables": "", "ip6tables": "inet6:"}
ITS_NAT = """\
*nat
:KUBE-ROUTER-HAIRPIN - [0:0]
-A POSTROUTING -m set --match-set {prefix}kube-router-pod-subnets src -m set ! --match-set \
{prefix}kube-router-pod-subnets dst -m set ! --match-set {prefix}kube-router-node-ips dst -j MASQUERADE --random-fully
-A POSTROUTING -m set --match-set {prefix}others src -m comment --comment kube-router-pod-subnets -j MASQUERADE
-A POSTROUTING -j KUBE-ROUTER-HAIRPIN
COMMIT
"""
OTHERS_FILTER = """\
*filter
-A FORWARD -o kube-bridge -m comment --comment "allow inbound traffic to pods" -j DROP
-A FORWARD -o kube-bridge -m comment --comment "allow outbound traffic from pods" -j ACCEPT
-A FORWARD -i eth0 -m comment --comment "allow outbound traffic to pods" -j ACCEPT
-A FORWARD -i kube-bridge -j ACCEPT
COMMIT
"""
OTHERS_FORWARD = [f"-A{line[2:]}" for line in OTHERS_FILTER.splitlines() if line.startswith("-A")]
CIDRS = ("10.244.2.0/24", "10.244.3.0/24", "fd00:244:2::/64")


def plant_rules(backend: str) -> None:
    for prefix in FAMILIES.values():
        family = "inet6" if prefix else "inet"
        sh(f"ipset create {prefix}others hash:net family {family}")
        sh(f"ipset create {prefix}kube-router-pod-subnets hash:net family {family} timeout 0")
        sh(f"ipset create {prefix}kube-router-node-ips hash:ip family {family} timeout 0")
        sh(f"ipset create {prefix}kube-router-svip hash:ip family {family} timeout 0")
    for program, prefix in FAMILIES.items():
        recorded = (RECORDED / program).read_text().splitlines()
        accepts = [line for line in recorded if line.startswith("-A FORWARD") and line.endswith("-j ACCEPT")]
        assert len(accepts) == 3
        sh(f"{program}-{backend}-restore --noflush", stdin="\n".join(["*filter", *accepts, "COMMIT", ""]))
        sh(f"{program}-{backend}-restore --noflush", stdin=OTHERS_FILTER)
        sh(f"{program}-{backend}-restore --noflush", stdin=ITS_NAT.format(prefix=prefix))


def rules(program: str, table: str, chain: str) -> list[str]:
    return [line for line in sh(f"{program}-save -t {table}").splitlines() if line.startswith(f"-A {chain}")]


@root
@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_its_masquerade_its_accepts_and_its_ipsets_go_and_all_others_stay(backend: str) -> None:
    def inside() -> None:
        plant_rules(backend)
        changes, troubles = takeover.remove(CIDRS)
        assert (changes, troubles) == ({"leftover rule removed": 8, "leftover ipset removed": 4}, [])
        for program, prefix in FAMILIES.items():
            others = (
                f"-A POSTROUTING -m set --match-set {prefix}others src -m comment --comment kube-router-pod-subnets"
            )
            assert rules(f"{program}-{backend}", "nat", "POSTROUTING") == [
                f"{others} -j MASQUERADE",
                "-A POSTROUTING -j KUBE-ROUTER-HAIRPIN",
            ]
            assert rules(f"{program}-{backend}", "filter", "FORWARD") == OTHERS_FORWARD
        assert sorted(sh("ipset list -name").split()) == [
            "inet6:kube-router-svip",
            "inet6:others",
            "kube-router-svip",
            "others",
        ]
        assert takeover.remove(CIDRS) == ({}, [])

    run_in_new(inside)


@root
def test_an_ipset_that_a_rule_of_others_uses_is_told_and_all_else_goes() -> None:
    def inside() -> None:
        plant_rules("nft")
        sh("iptables-nft -A INPUT -m set --match-set kube-router-node-ips src -j ACCEPT")
        changes, troubles = takeover.remove(CIDRS)
        assert changes == {"leftover rule removed": 8, "leftover ipset removed": 3}
        assert troubles == [
            "ipset kube-router-node-ips could not be destroyed: a rule that is not kube-router's uses it"
        ]
        sh("iptables-nft -F INPUT")
        assert takeover.remove(CIDRS) == ({"leftover ipset removed": 1}, [])

    run_in_new(inside)


@root
def test_looking_for_what_is_not_there_makes_nothing() -> None:
    def inside() -> None:
        look = "nft list ruleset; ip route show table all; cat /proc/net/ip_tables_names 2>/dev/null || true"
        before = sh(look)
        assert takeover.remove(CIDRS) == ({}, [])
        assert sh(look) == before

    run_in_new(inside)


# -- routes and rules --------------------------------------------------------------------------------------------------

LINKS = """
    ip link add eth0 type veth peer name peer0
    ip link set eth0 up; ip link set peer0 up
    ip addr add 192.0.2.1/24 dev eth0; ip addr add fd00:2::1/64 dev eth0 nodad
"""
OTHERS_ROUTES = """
    ip route add 10.244.2.0/24 via 192.0.2.16 proto 75 metric 75
    ip route add 10.244.3.0/24 via 192.0.2.17 proto static metric 5
    ip route add 172.16.0.0/16 via 192.0.2.16 proto 17
    ip route add 10.244.3.0/24 proto 17 metric 9 nexthop via 192.0.2.16 nexthop via 192.0.2.17
    ip route add blackhole 10.244.2.0/24 proto 17 metric 10
    ip route add 10.244.2.0/24 via 192.0.2.16 proto 17 table 99
    ip route add 10.244.3.0/24 via 192.0.2.16 proto 75 metric 75 table 77
    ip route add 10.9.0.0/24 via 192.0.2.16 table 77
    ip -6 route add fd00:244:2::/64 via fd00:2::16 proto 75 metric 75
    ip -6 route add fd00:9::/64 via fd00:2::16 proto 17
    ip rule add from 10.244.1.0/24 lookup 77 priority 32700 protocol 75
    ip rule add from 10.244.1.0/24 lookup 78
    ip rule add from 10.244.1.0/24 fwmark 7 lookup 77
    ip rule add from 10.244.1.0/24 to 192.0.2.0/24 lookup 77
    ip rule add from 10.244.1.0/24 iif eth0 lookup 77
    ip rule add from 10.244.1.0/24 lookup 77 suppress_prefixlength 0
    ip rule add not from 10.244.1.0/24 lookup 77
    ip rule add from all lookup 77
    ip -6 rule add from fd00:244:1::/64 lookup 77 priority 32700 protocol 75
"""
ITS_ROUTES = """
    ip route add 10.244.2.0/24 via 192.0.2.16 proto 17
    ip -6 route add fd00:244:2::/64 via fd00:2::16 proto 17
    ip rule add from 10.244.1.0/24 lookup 77
    ip -6 rule add from fd00:244:1::/64 lookup 77
"""
SHOW = "ip -N route show table all; ip -N -6 route show table all; ip -N rule; ip -N -6 rule; ip -o link"


def shown() -> list[str]:
    """Return routes, rules and interfaces, without what the kernel itself makes for tunnels and links."""
    lines = [line.split("link/")[0].strip() for line in sh(SHOW).splitlines()]
    return sorted(line for line in lines if not any(own in line for own in ("tunl0", "ip6tnl0", "fe80::", "ff00::")))


@root
def test_its_routes_and_rules_go_and_none_that_is_like_them() -> None:
    def inside() -> None:
        sh(LINKS + OTHERS_ROUTES)
        before = shown()
        sh(ITS_ROUTES)
        assert takeover.remove(CIDRS) == ({"leftover route removed": 2, "leftover ip rule removed": 2}, [])
        assert shown() == before
        assert takeover.remove(CIDRS) == ({}, [])

    run_in_new(inside)


@root
def test_its_rules_with_a_priority_of_any_value_go() -> None:
    def inside() -> None:
        before = shown()
        sh("ip rule add from 10.244.1.0/24 lookup 77 priority 7; ip rule add from 10.244.1.0/24 lookup 77 protocol 3")
        assert takeover.remove(CIDRS) == ({"leftover ip rule removed": 2}, [])
        assert shown() == before

    run_in_new(inside)


# -- tunnels -----------------------------------------------------------------------------------------------------------


@guest
def test_its_tunnels_go_with_what_leads_through_them_and_ours_and_others_stay() -> None:
    def inside() -> None:
        sh(LINKS)
        sh("""
            ip link add tun-0123456789a type ipip local 192.0.2.1 remote 192.0.2.30
            ip link set tun-0123456789a alias kube-router up  # as one of its is after it was adopted
            ip link add tun-mine type ipip local 192.0.2.1 remote 192.0.2.31
            ip link add tun-abcdef01234 type dummy
            ip link set tun-mine up; ip link set tun-abcdef01234 up
            ip route add 10.244.2.0/24 dev tun-0123456789a proto 75 metric 75
            ip route add 10.244.2.0/24 dev tun-mine metric 80
            ip route add 192.0.2.40 dev tun-abcdef01234 table 77
            ip route add 192.0.2.41 dev tun-mine table 77
        """)
        before = shown()
        sh("""
            ip link add tun-00aabbccdde type ipip local 192.0.2.1 remote 192.0.2.16
            ip link add tun-00aabbccddf type ip6tnl mode ip6ip6 local fd00:2::1 remote fd00:2::16
            ip link set tun-00aabbccdde up; ip link set tun-00aabbccddf up
            ip route add 10.244.2.0/24 dev tun-00aabbccdde src 192.0.2.1 proto 17
            ip route add 10.77.0.0/24 dev tun-00aabbccdde src 192.0.2.1 proto 17
            ip route add 192.0.2.16 dev tun-00aabbccdde table 77
            ip -6 route add fd00:244:2::/64 dev tun-00aabbccddf proto 17
            ip -6 route add fd00:2::16 dev tun-00aabbccddf table 77
            ip route add 192.0.2.30 dev tun-0123456789a table 77
            ip route add 10.78.0.0/24 dev tun-0123456789a proto 17
            ip rule add from 10.244.1.0/24 lookup 77
        """)
        expected = Counter({"leftover route removed": 7, "leftover ip rule removed": 1, "leftover tunnel removed": 2})
        assert takeover.remove(CIDRS) == (expected, [])
        assert shown() == before
        assert takeover.remove(CIDRS) == ({}, [])

    run_in_new(inside)


# -- the codec ---------------------------------------------------------------------------------------------------------


def test_a_tunnel_is_its_by_name_and_kind_and_the_lack_of_our_alias() -> None:
    tunnel = Tunnel("ipip", "192.0.2.1", "192.0.2.16")
    its = Link(7, "tun-0123456789a", 1480, up=True, device=Device(tunnel, marked=False))
    assert inherited.is_its_tunnel(its)
    assert inherited.is_its_tunnel(its._replace(device=Device(tunnel._replace(kind="fou6"), marked=False)))
    for other in (
        its._replace(device=None),
        its._replace(name="tun-0123456789"),
        its._replace(name="kube-vxlan", device=Device(Tunnel("vxlan", "192.0.2.1"), marked=False)),
    ):
        assert not inherited.is_tunnel(other)
        assert not inherited.is_its_tunnel(other)
    ours = its._replace(device=Device(tunnel, marked=True))
    assert inherited.is_tunnel(ours)
    assert not inherited.is_its_tunnel(ours)


def test_a_request_to_delete_carries_the_dumped_octets() -> None:
    body = memoryview(
        bytes([nlmsg.AF_INET, 24, 0, 0, 254, 17, 0, 1, 0, 0, 0, 0])
        + nlmsg.attr(rtnetlink.RTA_DST, bytes([10, 244, 2, 0]))
        + nlmsg.u32(rtnetlink.RTA_TABLE, 254)
        + nlmsg.u32(rtnetlink.RTA_OIF, 3)
    )
    assert inherited.its_routes([body], CIDRS, ()) == [nlmsg.message(rtnetlink.RTM_DELROUTE, 0, bytes(body))]
    assert inherited.its_routes([body], (), ()) == []
    assert inherited.its_routes([body], (), (3,)) == [nlmsg.message(rtnetlink.RTM_DELROUTE, 0, bytes(body))]
