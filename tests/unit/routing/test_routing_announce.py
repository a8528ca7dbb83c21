"""Which service addresses a node announces, case by case, with the reason for each."""

from collections.abc import Iterable
from typing import Any

import pytest
from bgp_nodes import endpoint, node, options, piece, service, view
from msgspec.structs import replace

from kube_router.core.view import Dirty, Ref
from kube_router.events.model import Node, Object, Service
from kube_router.plugins.routing.announce import AnnounceTable
from kube_router.plugins.routing.bgp.model import Kind, prefix_of

ME = node("node-1", "192.0.2.1", "2001:db8::1")
CLUSTER, EXTERNAL, BALANCER = "--advertise-cluster-ip", "--advertise-external-ip", "--advertise-loadbalancer-ip"
ALL = (
    CLUSTER,
    EXTERNAL,
    BALANCER,
    "--service-cluster-ip-range=10.96.0.0/12,fd00:96::/108",
    "--service-external-ip-range=203.0.113.0/24,2001:db8:1::/64",
    "--loadbalancer-ip-range=198.51.100.0/24",
)
EVERYTHING = Dirty(everything=True)


def table(*objects: Object, flags: tuple[str, ...] = ALL) -> AnnounceTable:
    made = AnnounceTable(options(*flags), "node-1")
    nodes = () if any(isinstance(obj, Node) for obj in objects) else (ME,)
    made.update(view(*nodes, *objects), EVERYTHING)
    return made


def announced(made: AnnounceTable) -> list[str]:
    return sorted(str(prefix) for prefix in made.announced)


def reasons(made: AnnounceTable) -> dict[str, tuple[bool, str]]:
    """Return each claim by its prefix (one Service only)."""
    return {str(claim.prefix): (claim.announced, claim.why) for claim in made.claims()}


def words(made: AnnounceTable) -> list[str]:
    return [str(problem) for problem in made.problems]


def annotated(**texts: str) -> dict[str, str]:
    return {f"kube-router.io/service.{name.replace('_', '.')}": text for name, text in texts.items()}


FULL = service(
    ips=("10.96.0.10", "fd00:96::10"),
    type="LoadBalancer",
    external_ips=("203.0.113.5",),
    load_balancer_ips=("198.51.100.5",),
)


# -- classes and flags -------------------------------------------------------------------------------------------------


def test_nothing_is_announced_unless_asked_for() -> None:
    made = table(FULL, flags=())
    assert announced(made) == []
    assert reasons(made) == {
        "10.96.0.10/32": (False, "--advertise-cluster-ip is not set"),
        "fd00:96::10/128": (False, "--advertise-cluster-ip is not set"),
        "203.0.113.5/32": (False, "--advertise-external-ip is not set"),
        "198.51.100.5/32": (False, "--advertise-loadbalancer-ip is not set"),
    }
    assert words(made) == []


def test_each_class_has_a_flag_of_its_own() -> None:
    made = table(FULL)
    assert reasons(made) == {
        "10.96.0.10/32": (True, "cluster IP of Service prod/web, --advertise-cluster-ip"),
        "fd00:96::10/128": (True, "cluster IP of Service prod/web, --advertise-cluster-ip"),
        "203.0.113.5/32": (True, "external IP of Service prod/web, --advertise-external-ip"),
        "198.51.100.5/32": (True, "load-balancer IP of Service prod/web, --advertise-loadbalancer-ip"),
    }
    assert set(made.announced.values()) == {Kind.SERVICE}


@pytest.mark.parametrize(
    ("flag", "wanted"),
    [
        (CLUSTER, ["10.96.0.10/32", "fd00:96::10/128"]),
        (EXTERNAL, ["203.0.113.5/32"]),
        (BALANCER, ["198.51.100.5/32"]),
    ],
)
def test_one_flag_announces_one_class(flag: str, wanted: list[str]) -> None:
    assert announced(table(FULL, flags=(flag, *ALL[3:]))) == wanted


@pytest.mark.parametrize("text", ["true", "1", "T", "True"])
def test_an_annotation_announces_what_the_flag_does_not(text: str) -> None:
    made = table(service(annotations=annotated(advertise_clusterip=text)), flags=())
    assert reasons(made) == {
        "10.96.0.10/32": (
            True,
            f"cluster IP of Service prod/web, annotation kube-router.io/service.advertise.clusterip={text}",
        )
    }


@pytest.mark.parametrize("text", ["false", "0", "F", "FALSE"])
def test_an_annotation_withholds_what_the_flag_announces(text: str) -> None:
    made = table(service(annotations=annotated(advertise_clusterip=text)))
    assert reasons(made) == {"10.96.0.10/32": (False, f"annotation kube-router.io/service.advertise.clusterip={text}")}


@pytest.mark.parametrize("text", ["yes", "", "tRUE"])
def test_an_annotation_that_is_no_boolean_is_false_and_named(text: str) -> None:
    made = table(service(external_ips=("203.0.113.5",), annotations=annotated(advertise_externalip=text)))
    assert announced(made) == ["10.96.0.10/32"]
    assert words(made) == [
        "Service prod/web: metadata.annotations[kube-router.io/service.advertise.externalip]: "
        f"{text!r} is neither true nor false; taken as false"
    ]


def test_load_balancer_addresses_have_an_annotation_too() -> None:
    made = table(replace(FULL, annotations=annotated(advertise_loadbalancerip="false")))
    assert "198.51.100.5/32" not in announced(made)


# -- which Services ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (service(type="ExternalName", ips=(), external_ips=("203.0.113.5",)), "the Service is of type ExternalName"),
        (service(type="Whatever", ips=(), external_ips=("203.0.113.5",)), "the Service is of type Whatever"),
        (service(ips=(), external_ips=("203.0.113.5",)), "the Service is headless"),
        (
            service(ips=(), headless=True, external_ips=("203.0.113.5",)),
            "label service.kubernetes.io/headless",
        ),
        (
            service(ips=(), proxy_name="other", external_ips=("203.0.113.5",)),
            "another proxy serves it: label service.kubernetes.io/service-proxy-name=other",
        ),
    ],
)
def test_a_service_this_proxy_does_not_serve_is_not_announced(made: Service, why: str) -> None:
    assert reasons(table(made)) == {"203.0.113.5/32": (False, why)}


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort", "LoadBalancer"])
def test_the_other_types_are_and_so_are_those_that_name_this_proxy(kind: str) -> None:
    assert announced(table(service(type=kind, proxy_name="kube-router"))) == ["10.96.0.10/32"]


def test_load_balancer_addresses_count_only_at_a_load_balancer() -> None:
    made = table(service(type="NodePort", load_balancer_ips=("198.51.100.5",)))
    assert reasons(made)["198.51.100.5/32"] == (False, "the Service is of type NodePort, not LoadBalancer")


def test_the_presence_of_skiplbips_withholds_load_balancer_addresses_whatever_else_says() -> None:
    made = table(
        service(
            type="LoadBalancer",
            load_balancer_ips=("198.51.100.5",),
            annotations=annotated(skiplbips="false", advertise_loadbalancerip="true"),
        )
    )
    assert announced(made) == ["10.96.0.10/32"]
    assert reasons(made)["198.51.100.5/32"] == (False, "annotation kube-router.io/service.skiplbips")


# -- traffic policies --------------------------------------------------------------------------------------------------

LOCAL = service(
    type="LoadBalancer",
    external_ips=("203.0.113.5",),
    load_balancer_ips=("198.51.100.5",),
    external_traffic_policy="Local",
)
INTERNAL = service(internal_traffic_policy="Local")


def test_a_local_external_policy_withholds_external_addresses_where_no_endpoint_is() -> None:
    made = table(LOCAL, piece(endpoint(node_name="node-2")))
    why = "externalTrafficPolicy: Local, and no ready endpoint of it is on this node"
    assert announced(made) == ["10.96.0.10/32"]
    assert reasons(made)["203.0.113.5/32"] == (False, why)
    assert reasons(made)["198.51.100.5/32"] == (False, why)


def test_a_local_external_policy_announces_them_where_one_is() -> None:
    made = table(LOCAL, piece(endpoint(node_name="node-2"), endpoint()))
    assert announced(made) == ["10.96.0.10/32", "198.51.100.5/32", "203.0.113.5/32"]


def test_a_local_internal_policy_is_about_cluster_addresses() -> None:
    assert announced(table(INTERNAL, piece(endpoint(node_name="node-2")))) == []
    assert reasons(table(INTERNAL)) == {
        "10.96.0.10/32": (False, "internalTrafficPolicy: Local, and no ready endpoint of it is on this node")
    }
    assert announced(table(INTERNAL, piece(endpoint()))) == ["10.96.0.10/32"]


@pytest.mark.parametrize(
    ("conditions", "wanted"),
    [
        ({"ready": True}, ["10.96.0.10/32"]),
        ({"ready": False}, []),
        ({"ready": False, "serving": True, "terminating": True}, []),
        ({"ready": True, "terminating": True}, []),
    ],
)
def test_only_an_endpoint_that_is_ready_and_stays_counts(conditions: dict[str, Any], wanted: list[str]) -> None:
    assert announced(table(INTERNAL, piece(endpoint(**conditions)))) == wanted


def test_an_endpoint_without_a_node_is_local_by_its_address() -> None:
    assert announced(table(INTERNAL, piece(endpoint("192.0.2.1", node_name="")))) == ["10.96.0.10/32"]
    assert announced(table(INTERNAL, piece(endpoint("192.0.2.2", node_name="")))) == []


def test_an_endpoint_counts_for_addresses_of_its_own_family() -> None:
    both = service(ips=("10.96.0.10", "fd00:96::10"), internal_traffic_policy="Local")
    assert announced(table(both, piece(endpoint("fd00:1::5"), address_type="IPv6"))) == ["fd00:96::10/128"]
    assert announced(table(both, piece(endpoint()))) == ["10.96.0.10/32"]


def test_service_local_makes_the_external_policy_local_and_the_internal_one_cluster() -> None:
    made = table(
        service(external_ips=("203.0.113.5",), internal_traffic_policy="Local", annotations=annotated(local="true"))
    )
    assert reasons(made) == {
        "10.96.0.10/32": (True, "cluster IP of Service prod/web, --advertise-cluster-ip"),
        "203.0.113.5/32": (
            False,
            "kube-router.io/service.local: Local, and no ready endpoint of it is on this node",
        ),
    }
    other = table(service(external_ips=("203.0.113.5",), annotations=annotated(local="True")))
    assert announced(other) == ["10.96.0.10/32", "203.0.113.5/32"]


def test_a_service_without_slices_is_announced_and_so_are_all_others() -> None:
    made = table(service("a"), service("b", ips=("10.96.0.11",)), replace(LOCAL, name="c"))
    assert announced(made) == ["10.96.0.10/32", "10.96.0.11/32"]


# -- permitted ranges --------------------------------------------------------------------------------------------------


def test_addresses_outside_the_permitted_ranges_are_withheld_one_by_one() -> None:
    made = table(
        service(
            type="LoadBalancer",
            external_ips=("203.0.113.5", "8.8.8.8", "10.97.0.1"),
            load_balancer_ips=("198.51.100.5", "203.0.113.9"),
        )
    )
    assert announced(made) == ["10.96.0.10/32", "198.51.100.5/32", "203.0.113.5/32"]
    assert words(made) == [
        "Service prod/web: spec.externalIPs: 8.8.8.8 is not inside --service-external-ip-range; not announced",
        "Service prod/web: spec.externalIPs: 10.97.0.1 is inside 10.96.0.0/12 of --service-cluster-ip-range; "
        "not announced",
        "Service prod/web: status.loadBalancer.ingress: 203.0.113.9 is not inside --loadbalancer-ip-range; "
        "not announced",
    ]


def test_without_permitted_ranges_none_is_permitted() -> None:
    made = table(service(external_ips=("203.0.113.5",)), flags=(EXTERNAL,))
    assert announced(made) == []
    assert reasons(made)["203.0.113.5/32"] == (
        False,
        "is not permitted: --service-external-ip-range is not set",
    )


def test_what_is_not_wanted_anyway_is_no_problem() -> None:
    assert words(table(service(external_ips=("8.8.8.8",)), flags=(CLUSTER,))) == []


def test_lenient_validation_permits_all_but_cluster_addresses() -> None:
    made = table(
        service(external_ips=("8.8.8.8", "10.97.0.1")), flags=(EXTERNAL, "--strict-external-ip-validation=false")
    )
    assert announced(made) == ["8.8.8.8/32"]


def test_an_address_of_a_family_the_node_has_not_is_withheld() -> None:
    made = table(node("node-1", "192.0.2.1"), FULL)
    assert reasons(made)["fd00:96::10/128"] == (False, "this node has no IPv6 address to be the next hop")


def test_ipv4_addresses_are_announced_over_ipv6_where_the_pods_are_ipv4() -> None:
    assert announced(table(node("node-1", "2001:db8::1", pods=("10.244.1.0/24",)), service())) == ["10.96.0.10/32"]
    assert announced(table(node("node-1", "2001:db8::1"), service())) == []
    made = AnnounceTable(options(CLUSTER), "node-1", cni_cidrs=("10.244.1.0/24",))
    made.update(view(node("node-1", "2001:db8::1"), service()), EVERYTHING)
    assert announced(made) == ["10.96.0.10/32"]


# -- shared addresses --------------------------------------------------------------------------------------------------


def change(made: AnnounceTable, *objects: Object, refs: Iterable[Ref]) -> list[str]:
    """Return what has changed in a table after some objects did."""
    return sorted(str(prefix) for prefix in made.update(view(ME, *objects), Dirty(frozenset(refs))))


def test_a_shared_address_is_announced_until_its_last_owner_leaves() -> None:
    a, b = service("a", external_ips=("203.0.113.5",)), service("b", ips=("10.96.0.11",), external_ips=("203.0.113.5",))
    shared = prefix_of("203.0.113.5/32")
    made = table(a, b)
    assert made.owners(shared) == ("prod/a", "prod/b")
    assert change(made, b, refs=[Ref("services", "prod/a")]) == ["10.96.0.10/32"]
    assert made.owners(shared) == ("prod/b",)
    assert change(made, refs=[Ref("services", "prod/b")]) == ["10.96.0.11/32", "203.0.113.5/32"]
    assert (announced(made), made.owners(shared)) == ([], ())


def test_an_owner_that_does_not_want_it_does_not_take_it_from_one_that_does() -> None:
    a = service("a", external_ips=("203.0.113.5",), annotations=annotated(advertise_externalip="false"))
    b = service("b", ips=("10.96.0.11",), external_ips=("203.0.113.5",))
    made = table(a, b)
    assert made.owners(prefix_of("203.0.113.5/32")) == ("prod/b",)
    assert [claim[1:] for claim in made.explain("203.0.113.5")] == [
        ("prod/b", True, "external IP of Service prod/b, --advertise-external-ip"),
        ("prod/a", False, "annotation kube-router.io/service.advertise.externalip=false"),
    ]


def test_one_address_in_two_classes_is_announced_for_the_one_that_may() -> None:
    made = table(
        service(type="LoadBalancer", external_ips=("198.51.100.5",), load_balancer_ips=("198.51.100.5",)),
    )
    assert reasons(made)["198.51.100.5/32"] == (
        True,
        "load-balancer IP of Service prod/web, --advertise-loadbalancer-ip",
    )


# -- ranges of cluster IPs ---------------------------------------------------------------------------------------------

RANGES = ("--advertise-service-cluster-ip-range", "--service-cluster-ip-range=10.96.0.0/12,fd00:96::/108")


def test_the_ranges_are_announced_instead_of_the_cluster_addresses_in_them() -> None:
    made = table(service(), service("out", ips=("10.0.0.1",)), flags=(*RANGES, CLUSTER))
    assert announced(made) == ["10.0.0.1/32", "10.96.0.0/12", "fd00:96::/108"]
    assert [claim[1:] for claim in made.explain("10.96.0.10")] == [
        ("", True, "range of cluster IPs, --advertise-service-cluster-ip-range"),
        (
            "prod/web",
            False,
            "the range 10.96.0.0/12 is announced instead, --advertise-service-cluster-ip-range",
        ),
    ]
    assert made.owners(prefix_of("10.96.0.0/12")) == ("",)


def test_the_ranges_need_no_service_and_no_other_flag() -> None:
    assert announced(table(flags=RANGES)) == ["10.96.0.0/12", "fd00:96::/108"]
    assert announced(table(node("node-1", "192.0.2.1"), flags=RANGES)) == ["10.96.0.0/12"]


def test_an_address_nobody_claims_has_no_reason() -> None:
    assert table().explain("192.0.2.77") == ()
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 network"):
        table().explain("web")


# -- changes -----------------------------------------------------------------------------------------------------------


def test_a_change_of_an_endpoint_changes_what_is_announced() -> None:
    made = table(INTERNAL, piece(endpoint()))
    refs = [Ref("endpointslices", "prod/web-1")]
    assert change(made, INTERNAL, piece(endpoint(ready=False)), refs=refs) == ["10.96.0.10/32"]
    assert announced(made) == []
    assert change(made, INTERNAL, piece(endpoint()), refs=refs) == ["10.96.0.10/32"]
    assert change(made, INTERNAL, piece(endpoint()), refs=refs) == []
    assert change(made, INTERNAL, refs=refs) == ["10.96.0.10/32"]
    assert announced(made) == []


def test_a_slice_that_moves_to_another_service_changes_both() -> None:
    other = replace(INTERNAL, name="api", cluster_ips=("10.96.0.11",))
    made = table(INTERNAL, other, piece(endpoint()))
    assert announced(made) == ["10.96.0.10/32"]
    moved = piece(endpoint(), service="prod/api")
    refs = [Ref("endpointslices", "prod/web-1")]
    assert change(made, INTERNAL, other, moved, refs=refs) == ["10.96.0.10/32", "10.96.0.11/32"]
    assert announced(made) == ["10.96.0.11/32"]


def test_a_change_of_the_node_s_addresses_changes_what_is_announced() -> None:
    made = AnnounceTable(options(*ALL), "node-1")
    assert made.update(view(FULL), EVERYTHING) == set()
    found = made.update(view(FULL, node("node-1", "2001:db8::1")), Dirty(frozenset({Ref("nodes", "node-1")})))
    assert sorted(map(str, found)) == ["fd00:96::10/128"]


def test_another_node_s_change_is_nothing_to_judge() -> None:
    made = table(FULL)
    assert made.dirty_services(view(ME, FULL), Dirty(frozenset({Ref("nodes", "node-2")}))) == set()


def test_problems_go_with_their_service() -> None:
    bad = service(external_ips=("8.8.8.8",))
    made = table(bad)
    assert len(words(made)) == 1
    change(made, refs=[Ref("services", "prod/web")])
    assert words(made) == []
