"""What kube-router (Go) left is recognised by its names, and nothing else is."""

from kube_router.core import leftovers
from kube_router.core.leftovers import Rules
from kube_router.plugins.proxy import takeover
from kube_router.plugins.proxy.model import ServiceId

NAT = """\
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-ROUTER-HAIRPIN - [0:0]
-A POSTROUTING ! -s 10.244.1.0/24 ! -d 10.244.1.0/24 -m ipvs --vdir ORIGINAL --vmethod MASQ -m comment --comment "" \
-j SNAT --to-source 192.0.2.1 --random-fully
-A POSTROUTING -m ipvs --vdir ORIGINAL -j KUBE-ROUTER-HAIRPIN
-A POSTROUTING -m ipvs --ipvs --vdir ORIGINAL --vmethod MASQ -m comment --comment "the admin's" \
-j SNAT --to-source 192.0.2.9
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A KUBE-ROUTER-HAIRPIN -s 10.244.1.2/32 -d 10.244.1.2/32 -m ipvs --vaddr 10.96.0.10 --vport 80 \
-j SNAT --to-source 10.96.0.10
COMMIT
"""
FILTER = """\
*filter
:INPUT ACCEPT [0:0]
:KUBE-ROUTER-INPUT - [0:0]
:KUBE-ROUTER-SERVICES - [0:0]
-A INPUT -m comment --comment "kube-router netpol - X" -j KUBE-ROUTER-INPUT
-A INPUT -m comment --comment "handle traffic to IPVS service IPs in custom chain" \
-m set --match-set kube-router-svip dst -j KUBE-ROUTER-SERVICES
-A KUBE-ROUTER-SERVICES -p icmp -m icmp --icmp-type 8 -j ACCEPT
COMMIT
"""


def test_snat_rule_hairpin_jump_and_chain_are_recognised_and_others_rules_are_not() -> None:
    (found,) = takeover.recognise("iptables-nft", "nat", NAT)
    assert found.chains == ("KUBE-ROUTER-HAIRPIN",)
    assert found.rules == tuple(NAT.splitlines()[4:6])


def test_the_removal_is_one_transaction() -> None:
    (found,) = takeover.recognise("iptables-legacy", "filter", FILTER)
    assert leftovers.restore_text(found) == (
        "*filter\n"
        '-D INPUT -m comment --comment "handle traffic to IPVS service IPs in custom chain" '
        "-m set --match-set kube-router-svip dst -j KUBE-ROUTER-SERVICES\n"
        "-F KUBE-ROUTER-SERVICES\n"
        "-X KUBE-ROUTER-SERVICES\n"
        "COMMIT\n"
    )


def test_an_odd_quote_in_somebody_s_comment_is_not_ours() -> None:
    odd = '-A POSTROUTING -m comment --comment "it -j SNAT'
    assert takeover.recognise("x", "nat", NAT.replace("COMMIT", odd + "\nCOMMIT")) == takeover.recognise(
        "x", "nat", NAT
    )


def test_a_table_without_its_names_has_nothing_to_remove() -> None:
    foreign = "\n".join(line for line in NAT.splitlines() if "KUBE" not in line and '""' not in line)
    assert takeover.recognise("iptables-nft", "nat", foreign) == []
    assert takeover.recognise("iptables-nft", "nat", "") == []
    only_chain = "*nat\n:KUBE-ROUTER-HAIRPIN - [0:0]\nCOMMIT\n"
    assert takeover.recognise("x", "nat", only_chain) == [Rules("x", "nat", (), ("KUBE-ROUTER-HAIRPIN",))]


def test_services_are_read_from_the_ipset_of_either_family() -> None:
    text = (
        "create kube-router-svip-prt hash:ip,port family inet hashsize 1024 maxelem 65536 timeout 0\n"
        "add kube-router-svip-prt 10.96.0.10,tcp:80 timeout 0\n"
        "add inet6:kube-router-svip-prt fd00:96::10,udp:53 timeout 0\n"
        "add kube-router-svip-prt 10.96.0.11,icmp:8/0 timeout 0\n"
        "add kube-router-svip-prt 10.96.0.12,sctp:9\n"
    )
    assert takeover.parse_ipset(text) == {
        ServiceId("TCP", "10.96.0.10", 80),
        ServiceId("UDP", "fd00:96::10", 53),
        ServiceId("SCTP", "10.96.0.12", 9),
    }


def test_where_everything_is_ours_nobody_is_asked() -> None:
    assert takeover.leftover_services(set(), addresses={"10.96.0.10"}, first_time=True) == frozenset()
