"""What a source says becomes records: which, in what order, and what a restart makes of them."""

from collections.abc import Iterable
from typing import Any

import pytest

from kube_router.core.intake import Intake
from kube_router.core.log import Log
from kube_router.core.problems import Problems
from kube_router.core.state import State, View
from kube_router.core.view import Ref
from kube_router.events.errors import Problem
from kube_router.events.event import Advance, Change, Delete, Put, Segment, Sync
from kube_router.events.model import EndpointSlice, Namespace, Object, Service
from kube_router.events.normalize import BUILTIN
from kube_router.events.resource import Catalogue, Normalized, local_kind


class Journal:
    def __init__(self) -> None:
        self.records: list[Change] = []

    def append(self, records: Iterable[Change]) -> None:
        self.records += records


class Rig:
    def __init__(self) -> None:
        self.journal, self.state, self.log, self.problems = Journal(), State(Catalogue(BUILTIN)), Log(), Problems()
        self.intake = Intake(
            state=self.state,
            journal=self.journal,
            log=self.log,
            problems=self.problems,
            now_ms=lambda: 1000,
            new_cluster=self._new_cluster,
        )

    def _new_cluster(self, cluster: str) -> None:
        self.state.apply(Segment(seq=self.state.seq + 1, t=1000, v=1, cluster=cluster))

    def ops(self) -> list[tuple[str, ...]]:
        """The records so far, in short; forgets them."""
        short: list[tuple[str, ...]] = []
        for record in self.journal.records:
            if isinstance(record, Put | Delete):
                short.append(("put" if isinstance(record, Put) else "del", record.key, record.rv))
            elif isinstance(record, Advance | Sync):
                short.append(("rv" if isinstance(record, Advance) else "sync", record.r, record.rv))
        self.journal.records.clear()
        return short


def service(name: str, rv: str = "1", **fields: Any) -> Normalized:
    return Normalized(Service(namespace="prod", name=name, **fields), rv)


@pytest.fixture(name="rig")
def _rig() -> Rig:
    rig = Rig()
    rig.intake.replace("services", [service("web"), service("dns")], "10", "initial")
    rig.ops()
    return rig


def test_a_full_list_becomes_its_difference_and_one_sync() -> None:
    rig = Rig()
    rig.intake.replace("services", [service("web", "7"), service("dns", "9")], "10", "initial")
    assert rig.ops() == [
        ("rv", "services", ""),
        ("put", "prod/web", "7"),
        ("put", "prod/dns", "9"),
        ("sync", "services", "10"),
    ]
    rig.intake.replace("services", [service("web", "7", health_check_node_port=1)], "20", "expired")
    assert rig.ops() == [
        ("rv", "services", ""),
        ("put", "prod/web", "7"),
        ("del", "prod/dns", ""),
        ("sync", "services", "20"),
    ]


def test_a_full_list_without_a_difference_is_only_a_sync(rig: Rig) -> None:
    rig.intake.replace("services", [service("dns"), service("web")], "20", "periodic")
    assert rig.ops() == [("sync", "services", "20")]


def test_sequence_numbers_have_no_gap(rig: Rig) -> None:
    rig.intake.put("services", service("api", "11"))
    rig.intake.replace("services", [service("web")], "20", "expired")
    rig.intake.confirm("services", "20")
    assert [record.seq for record in rig.journal.records] == list(range(5, 5 + len(rig.journal.records)))


def test_an_update_that_changes_nothing_for_us_only_moves_the_position_at_the_next_checkpoint(rig: Rig) -> None:
    rig.intake.put("services", service("web", "11"))
    rig.intake.advance("services", "12")
    assert rig.ops() == []
    assert rig.intake.rv("services") == "12"
    rig.intake.checkpoint()
    assert rig.ops() == [("rv", "services", "12")]
    rig.intake.checkpoint()
    assert rig.ops() == []


def test_deleting_what_is_not_known_is_no_event(rig: Rig) -> None:
    rig.intake.delete("services", "prod/nobody", "11")
    assert rig.ops() == []


def test_a_crash_in_the_middle_of_a_full_list_leaves_no_position_to_resume_from(rig: Rig) -> None:
    rig.intake.replace("services", [service("web", "19", health_check_node_port=1)], "20", "expired")
    for cut, expected in ((1, ""), (2, ""), (3, ""), (4, "20")):
        state = State(Catalogue(BUILTIN))
        state.apply(Sync(seq=1, t=0, r="services", rv="10"))
        for record in rig.journal.records[:cut]:
            state.apply(record)
        assert state.rvs["services"] == expected


def test_another_cluster_drops_what_was_recovered_and_all_readers_start_anew(rig: Rig) -> None:
    rig.intake.identify("cluster-a")
    assert set(rig.state.known("services")) == {"prod/web", "prod/dns"}, "a fresh journal learns its cluster"
    position = rig.log.head
    rig.intake.identify("cluster-b")
    assert rig.state.known("services") == {}
    assert rig.state.synced == set()
    assert rig.intake.live == set()
    assert rig.log.since(position) is None


def test_problems_of_an_object_end_with_it_or_with_its_next_good_version(rig: Rig) -> None:
    problem = Problem("Service", "prod/web", "spec.ports[0].port: 70000")
    rig.intake.put("services", Normalized(Service(namespace="prod", name="web", uid="2"), "11", problems=(problem,)))
    assert list(rig.problems) == [problem]
    rig.intake.put("services", service("web", "12"))
    assert list(rig.problems) == []
    rig.intake.put("services", Normalized(Service(namespace="prod", name="web", uid="3"), "13", problems=(problem,)))
    rig.intake.delete("services", "prod/web", "14")
    assert list(rig.problems) == []


def test_a_kind_is_live_only_once_the_source_has_confirmed_it(rig: Rig) -> None:
    view = View(rig.state, (Service, Namespace), rig.intake.live)
    assert not view.in_sync
    assert not view.recovered
    rig.intake.confirm("namespaces", "5")
    assert view.in_sync


def test_slices_are_found_by_their_service_also_after_they_changed_hands() -> None:
    rig = Rig()
    for name, owner in (("s2", "prod/web"), ("s1", "prod/web"), ("s1", "prod/dns")):
        piece = EndpointSlice(namespace="prod", name=name, service=owner)
        rig.intake.put("endpointslices", Normalized(piece, "1"))
    assert [piece.key for piece in rig.state.slices_of("prod/web")] == ["prod/s2"]
    assert [piece.key for piece in rig.state.slices_of("prod/dns")] == ["prod/s1"]
    rig.intake.delete("endpointslices", "prod/s1")
    assert rig.state.slices_of("prod/dns") == ()


def test_the_log_carries_references_with_the_time_the_cluster_learned_of_the_change(rig: Rig) -> None:
    position = rig.log.head
    rig.intake.put("services", Normalized(Service(namespace="prod", name="new"), "11", trigger_ms=400))
    rig.intake.delete("services", "prod/web", "12")
    assert rig.log.since(position) == [
        (Ref("services", "prod/new"), 400),
        (Ref("services", "prod/web"), 1000),
    ]


def test_a_snapshot_leaves_the_position_where_its_head_says() -> None:
    state = State(Catalogue(BUILTIN))
    state.apply(Segment(seq=10, t=9, v=1, rv={"services": "900"}, synced=("services",)))
    state.apply(Put(seq=2, t=2, r="services", key="prod/web", rv="105", obj=Service(namespace="prod", name="web")))
    assert state.rvs == {"services": "900"}
    state.apply(Put(seq=10, t=10, r="services", key="prod/dns", rv="901", obj=Service(namespace="prod", name="dns")))
    assert state.rvs == {"services": "901"}
    assert (state.seq, state.t) == (10, 10)


# -- what the node itself finds out ------------------------------------------------------------------------------------


class Link(Object, frozen=True, kw_only=True):
    mtu: int = 0


@pytest.fixture(name="local")
def _local() -> Rig:
    rig = Rig()
    rig.state.catalogue.add(local_kind("links", Link))
    return rig


def test_what_a_plugin_publishes_is_journaled_folded_and_makes_dirty(local: Rig) -> None:
    local.intake.publish(Link, [Link(name="eth0", mtu=1500), Link(name="eth1", mtu=9000)])
    local.intake.publish(Link, [Link(name="eth0", mtu=1500)], ["eth1", "eth2"])  # nothing new of eth0, no eth2
    assert local.ops() == [("put", "eth0", ""), ("put", "eth1", ""), ("del", "eth1", "")]
    assert [entry.ref for entry in local.log.since(0) or ()] == [
        Ref("links", "eth0"),
        Ref("links", "eth1"),
        Ref("links", "eth1"),
    ]
    assert [put.seq for put in local.state.puts()] == [1]
    assert local.state.seq == 3


def test_a_view_is_in_sync_once_the_plugin_has_said_so_of_its_own_kinds(local: Rig) -> None:
    view = View(local.state, (Service, Link), local.intake.live)
    local.intake.replace("services", [], "7", "initial")
    assert (view.confirmed, view.recovered, view.in_sync) == (True, True, False)
    local.intake.settle(Link)
    local.intake.settle(Link)
    assert view.in_sync
    assert local.ops() == [("sync", "services", "7"), ("sync", "links", "")]


def test_what_is_too_much_for_a_journal_is_in_the_state_alone(local: Rig) -> None:
    local.intake.publish(Link, [Link(name="eth0")])
    local.intake.publish(Link, [Link(name="eth1")], journaled=False)
    assert local.ops() == [("put", "eth0", "")]
    assert (sorted(local.state.known("links")), local.state.seq) == (["eth0", "eth1"], 1)
    assert list(local.state.puts()) == []  # nor in a snapshot: it would be half of the truth
    local.intake.publish(Link, [Link(name="eth2")])  # a plugin that was built anew knows nothing of it
    assert local.ops() == []
    assert sorted(local.state.known("links")) == ["eth0", "eth1", "eth2"]


def test_what_comes_from_the_source_is_not_for_plugins_to_publish(local: Rig) -> None:
    with pytest.raises(ValueError, match="services come from the source"):
        local.intake.publish(Service, [Service(name="web")])
