"""The proxy's part of a real kernel: what it writes is what ipvsadm, ip and nft then show."""

import errno
from collections.abc import Callable, Iterator

import pytest
from harness.netns import run_in_new, sh

from kube_router.core import netlink
from kube_router.events.errors import KernelError
from kube_router.plugins.proxy import host, ipvs, observe, render
from kube_router.plugins.proxy.kernel import Kernel
from kube_router.plugins.proxy.model import (
    NO_ROUTE,
    AddAddress,
    AddServer,
    AddService,
    Disown,
    Masquerade,
    Own,
    RemoveAddress,
    RemoveServer,
    RemoveService,
    Server,
    ServerId,
    ServiceId,
    SetServer,
    SetService,
    SetSource,
    Settings,
    Step,
    VirtualService,
    WriteTable,
)

pytestmark = [pytest.mark.guest, pytest.mark.timeout(300)]

WEB = ServiceId("TCP", "10.96.0.10", 80)
DNS = ServiceId("UDP", "10.96.0.11", 53)
SIGNAL = ServiceId("SCTP", "10.96.0.12", 3868)
WEB6 = ServiceId("TCP", "fd00:96::10", 80)
A, B = ServerId("10.244.1.2", 8080), ServerId("10.244.2.2", 8080)
A6 = ServerId("fd00:244:1::2", 8080)
STEPS: list[Step] = [
    WriteTable(Masquerade(), (WEB, DNS, SIGNAL, WEB6)),
    AddService(WEB, Settings()),
    AddServer(WEB, A, Server()),
    AddServer(WEB, B, Server(weight=0)),
    AddService(DNS, Settings("wrr")),
    AddServer(DNS, A, Server(method="tunnel")),
    AddService(SIGNAL, Settings("mh", flags=ipvs.SVC_F_SCHED1 | ipvs.SVC_F_SCHED2)),
    AddServer(SIGNAL, B, Server(method="route", weight=7)),
    AddService(WEB6, Settings(flags=ipvs.SVC_F_PERSISTENT, timeout_s=600)),
    AddServer(WEB6, A6, Server()),
]
TABLE = [
    "-A --sctp-service 10.96.0.12:3868 -s mh -b mh-fallback,mh-port",
    "-A -t 10.96.0.10:80 -s rr",
    "-A -t [fd00:96::10]:80 -s rr -p 600",
    "-A -u 10.96.0.11:53 -s wrr",
    "-a --sctp-service 10.96.0.12:3868 -r 10.244.2.2:8080 -g -w 7",
    "-a -t 10.96.0.10:80 -r 10.244.1.2:8080 -m -w 1",
    "-a -t 10.96.0.10:80 -r 10.244.2.2:8080 -m -w 0",
    "-a -t [fd00:96::10]:80 -r [fd00:244:1::2]:8080 -m -w 1",
    "-a -u 10.96.0.11:53 -r 10.244.1.2:8080 -i -w 1 --tun-type ipip",
]

Test = Callable[[], None]


def isolated(test: Test) -> Test:
    """Run a test in a network namespace of its own."""

    def inside() -> None:
        run_in_new(test)

    inside.__name__, inside.__doc__ = test.__name__, test.__doc__
    return inside


def ipvsadm() -> list[str]:
    return sorted(line.rstrip() for line in sh("ipvsadm -Sn").splitlines())


def done(kernel: Kernel, steps: list[Step]) -> dict[str, int]:
    applied = kernel.apply(steps)
    assert applied.failed == []
    return dict(applied.changes)


def prepared() -> Kernel:
    kernel = Kernel()
    kernel.prepare()
    return kernel


@isolated
def test_what_is_added_is_what_ipvsadm_shows_and_what_is_observed() -> None:
    kernel = prepared()
    changes = done(kernel, STEPS)
    assert ipvsadm() == TABLE
    actual = kernel.observe()
    assert render.lines(actual.services) == TABLE
    assert actual.owned == {WEB, DNS, SIGNAL, WEB6}
    assert actual.table == render.stamp(Masquerade())
    assert actual.leftovers == frozenset()
    assert changes == {"table written": 1, "service added": 4, "server added": 5}


@isolated
def test_settings_change_in_place_and_removal_leaves_the_others() -> None:
    kernel = prepared()
    done(kernel, STEPS)
    changes = done(
        kernel,
        [
            SetService(WEB6, Settings("lc")),
            SetService(WEB, Settings("sh", ipvs.SVC_F_PERSISTENT | ipvs.SVC_F_SCHED2, 30, 0xFFFFFF00)),
            SetServer(WEB, B, Server(weight=3)),
            RemoveServer(WEB, A),
            RemoveService(DNS),
            RemoveService(SIGNAL),
            Disown((DNS, SIGNAL)),
        ],
    )
    assert ipvsadm() == [
        "-A -t 10.96.0.10:80 -s sh -p 30 -M 255.255.255.0 -b sh-port",
        "-A -t [fd00:96::10]:80 -s lc",
        "-a -t 10.96.0.10:80 -r 10.244.2.2:8080 -m -w 3",
        "-a -t [fd00:96::10]:80 -r [fd00:244:1::2]:8080 -m -w 1",
    ]
    actual = kernel.observe()
    assert render.lines(actual.services) == ipvsadm()
    assert actual.owned == {WEB, WEB6}
    assert changes == {
        "service set": 2, "server set": 1, "server removed": 1, "service removed": 2, "owned removed": 2,
    }  # fmt: skip


@isolated
def test_every_setting_is_printed_as_ipvsadm_prints_it() -> None:
    kernel = prepared()
    one_packet = ServiceId("UDP", "10.96.0.9", 53)
    persistent6 = ServiceId("TCP", "fd00:96::9", 443)
    flags = ServiceId("TCP", "10.96.0.8", 80)
    local = ServerId("10.96.0.8", 8080)
    done(
        kernel,
        [
            AddService(one_packet, Settings(flags=ipvs.SVC_F_ONEPACKET)),
            AddService(persistent6, Settings(flags=ipvs.SVC_F_PERSISTENT, timeout_s=10, netmask=64)),
            AddService(flags, Settings("rr", flags=ipvs.SVC_F_SCHED1 | ipvs.SVC_F_SCHED3)),
            AddServer(flags, local, Server(method="local")),
        ],
    )
    assert render.lines(observe.services()) == ipvsadm()


@isolated
def test_a_refused_step_harms_only_itself() -> None:
    kernel = prepared()
    applied = kernel.apply(
        [
            AddService(WEB, Settings("nosuch")),
            AddServer(WEB, A, Server()),
            AddService(DNS, Settings()),
            AddServer(DNS, A, Server()),
            SetServer(DNS, B, Server()),
        ]
    )
    assert ipvsadm() == ["-A -u 10.96.0.11:53 -s rr", "-a -u 10.96.0.11:53 -r 10.244.1.2:8080 -m -w 1"]
    assert [(failed.step, str(failed.error)) for failed in applied.failed] == [
        (
            AddService(WEB, Settings("nosuch")),
            "service not added: 10.96.0.10:80/TCP: ENOENT, the kernel has no scheduler nosuch: modprobe ip_vs_nosuch",
        ),
        (
            AddServer(WEB, A, Server()),
            "server not added: 10.244.1.2:8080 of 10.96.0.10:80/TCP: ESRCH, no such virtual service",
        ),
        (
            SetServer(DNS, B, Server()),
            "server not set: 10.244.2.2:8080 of 10.96.0.11:53/UDP: ENOENT, no such real server",
        ),
    ]
    assert dict(applied.changes) == {"service added": 1, "server added": 1}


@isolated
def test_what_is_already_so_is_a_success() -> None:
    kernel = prepared()
    done(kernel, STEPS)
    changes = done(
        kernel,
        [
            Own((WEB,)),
            AddService(WEB, Settings("lc")),
            AddServer(WEB, A, Server(weight=5)),
            RemoveServer(WEB, ServerId("10.9.9.9", 9)),
            RemoveServer(ServiceId("TCP", "10.9.9.9", 9), A),
            RemoveService(ServiceId("TCP", "10.9.9.9", 9)),
            Disown((ServiceId("TCP", "10.9.9.9", 9),)),
        ],
    )
    assert "-A -t 10.96.0.10:80 -s lc" in ipvsadm()
    assert "-a -t 10.96.0.10:80 -r 10.244.1.2:8080 -m -w 5" in ipvsadm()
    assert changes == {"owned added": 1, "service set": 1, "server set": 1, "owned removed": 1}


@isolated
def test_a_batch_larger_than_one_send_keeps_its_order_and_reports_each_failure() -> None:
    kernel = prepared()
    services = [ServiceId("TCP", "10.96.0.10", port) for port in range(1, 251)]
    applied = kernel.apply(
        [
            *(AddService(id, Settings()) for id in services),
            *(AddServer(id, A, Server()) for id in services),
            *(SetServer(id, B, Server()) for id in services),
        ]
    )
    assert dict(applied.changes) == {"service added": 250, "server added": 250}
    assert [failed.step for failed in applied.failed] == [SetServer(id, B, Server()) for id in services]
    assert len(observe.services()) == 250


@isolated
def test_nothing_is_written_once_fenced() -> None:
    kernel = prepared()
    answers: Iterator[bool] = iter([False, False, True])  # before the group, before each of its batches
    steps: list[Step] = [AddService(ServiceId("TCP", "10.96.0.10", port), Settings()) for port in range(1, 151)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(netlink, "BATCH_MAX", 100)
        applied = kernel.apply([*steps, Own((WEB,))], fenced=lambda: next(answers, True))
    assert dict(applied.changes) == {"service added": 100}
    assert len(applied.failed) == 51
    assert {failed.error.errno for failed in applied.failed} == {errno.ECANCELED}
    assert len(observe.services()) == 100


@isolated
def test_a_service_without_a_line_in_proc_is_read_by_netlink() -> None:
    kernel = prepared()
    done(kernel, STEPS)
    patch = pytest.MonkeyPatch()
    lines = host.read_ip_vs()
    cut = [line.replace("Masq", "Oops") for line in lines if not line.startswith("UDP")]
    patch.setattr(host, "read_ip_vs", lambda: cut)
    try:
        assert render.lines(observe.services()) == TABLE
    finally:
        patch.undo()


@isolated
def test_firewall_mark_services_are_not_seen() -> None:
    kernel = prepared()
    sh("ipvsadm -A -f 77 -s rr; ipvsadm -a -f 77 -r 10.244.1.9:80 -g")
    done(kernel, [AddService(WEB, Settings()), AddServer(WEB, A, Server())])
    assert observe.services() == {WEB: VirtualService(Settings(), {A: Server()})}


@isolated
def test_addresses_get_the_node_s_own_as_source_in_both_families() -> None:
    kernel = prepared()
    sh("ip addr add 192.0.2.1/24 dev lo; ip addr add 2001:db8::1/64 dev lo nodad")
    vip, vip6 = "10.96.0.10", "fd00:96::10"
    changes = done(
        kernel, [AddAddress(vip, "192.0.2.1"), AddAddress(vip6, "2001:db8::1"), AddAddress("10.96.0.11", "")]
    )
    assert changes == {"address added": 3}
    assert kernel.observe().addresses == {vip: "192.0.2.1", vip6: "2001:db8::1", "10.96.0.11": ""}
    assert "src 192.0.2.1" in sh(f"ip route get {vip}")
    assert "src 2001:db8::1" in sh(f"ip -6 route get {vip6}")
    assert sh("ip -6 route show table local dev kube-dummy-if fd00:96::10").count("\n") == 1
    sh("ip addr add 192.0.2.2/24 dev lo; ip addr add 2001:db8::2/64 dev lo nodad")
    done(kernel, [SetSource(vip, "192.0.2.2"), SetSource(vip6, "2001:db8::2")])
    assert kernel.observe().addresses == {vip: "192.0.2.2", vip6: "2001:db8::2", "10.96.0.11": ""}
    done(kernel, [SetSource(vip, ""), AddAddress(vip6, "2001:db8::1")])
    assert kernel.observe().addresses == {vip: "", vip6: "2001:db8::1", "10.96.0.11": ""}
    done(kernel, [RemoveAddress(vip), RemoveAddress(vip6), RemoveAddress("10.96.0.11"), RemoveAddress("10.96.0.99")])
    assert kernel.observe().addresses == {}
    assert "10.96." not in sh("ip route show table local")
    assert "fd00:96" not in sh("ip -6 route show table local")


@isolated
def test_a_lost_local_route_is_seen() -> None:
    kernel = prepared()
    sh("ip addr add 192.0.2.1/24 dev lo")
    done(kernel, [AddAddress("10.96.0.10", "192.0.2.1")])
    sh("ip route del local 10.96.0.10 dev kube-dummy-if table local")
    assert kernel.observe().addresses == {"10.96.0.10": NO_ROUTE}
    done(kernel, [SetSource("10.96.0.10", "192.0.2.1")])
    assert kernel.observe().addresses == {"10.96.0.10": "192.0.2.1"}


@isolated
def test_a_source_that_the_node_does_not_have_is_refused_in_words() -> None:
    kernel = prepared()
    applied = kernel.apply([AddAddress("10.96.0.10", "192.0.2.1")])
    assert [failed.error.errno for failed in applied.failed] == [errno.EINVAL]
    assert "address not added: 10.96.0.10: EINVAL, " in str(applied.failed[0].error)


@isolated
def test_preparing_twice_writes_once() -> None:
    kernel = Kernel()
    sh("sysctl -qw net.ipv4.conf.all.rp_filter=1")
    assert kernel.prepare() == {"interface set up": 1, "sysctl set": 7}
    assert kernel.prepare() == {}
    sh("ip link set kube-dummy-if down; sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.vs.conntrack=0")
    assert kernel.prepare() == {"interface set up": 1, "sysctl set": 1}
    assert sh("sysctl -n net.ipv4.conf.all.rp_filter net.ipv4.vs.conntrack").split() == ["0", "1"]


@isolated
def test_cleanup_removes_ours_and_only_ours() -> None:
    kernel = prepared()
    sh("ip addr add 192.0.2.1/24 dev lo; ipvsadm -A -t 192.0.2.200:4444 -s rr")
    routes = "{ ip route show table all; ip -6 route show table all; } | grep -v kube-dummy-if"
    before = sh(routes)
    done(kernel, [*STEPS, AddAddress("10.96.0.10", "192.0.2.1"), AddAddress("fd00:96::10", "")])
    sh("nft add table inet foreign")
    assert kernel.cleanup() == {"service removed": 4, "interface removed": 1}
    assert ipvsadm() == ["-A -t 192.0.2.200:4444 -s rr"]
    assert sh("nft list tables") == "table inet foreign\n"
    assert "kube-dummy-if" not in sh("ip link")
    assert sh("ip route show table all; ip -6 route show table all") == before
    assert kernel.cleanup() == {}


@isolated
def test_timeouts_and_version_are_told() -> None:
    prepared()
    with host.ipvs_link() as (link, packer):
        assert link.write([packer.set_config(ipvs.Timeouts(tcp_s=901, udp_s=42))]) == []
        (config,) = link.request(packer.get_config())
        assert ipvs.parse_config(config) == ipvs.Timeouts(901, 120, 42)
        (info,) = link.request(packer.get_info())
        assert ipvs.parse_info(info) == ipvs.Info("1.2.1", ipvs.parse_info(info).connection_table)


@isolated
def test_without_the_table_nothing_is_owned_and_a_write_to_its_sets_fails_in_words() -> None:
    kernel = prepared()
    actual = kernel.observe()
    assert (actual.table, actual.owned) == ("", set())
    applied = kernel.apply([Own((WEB,))])
    assert [failed.error.errno for failed in applied.failed] == [errno.ENOENT]
    with pytest.raises(KernelError, match=r"nftables refused: .*No such file or directory"):
        raise applied.failed[0].error


@isolated
def test_a_table_that_somebody_changed_is_not_taken_for_ours() -> None:
    kernel = prepared()
    done(kernel, [WriteTable(Masquerade(("10.244.1.0/24",), ("192.0.2.1",)), (WEB,))])
    assert kernel.observe().table == render.stamp(Masquerade(("10.244.1.0/24",), ("192.0.2.1",)))
    sh("nft insert rule inet kube-router-proxy postrouting counter")
    assert kernel.observe().table == ""
    assert kernel.observe().owned == {WEB}
