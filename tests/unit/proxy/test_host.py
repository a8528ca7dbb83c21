"""Sysctls are written only where they differ."""

from pathlib import Path

from kube_router.plugins.proxy import host


def plant(root: Path, values: dict[str, str]) -> None:
    for name, value in values.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(value + "\n")


def test_only_what_differs_is_written(tmp_path: Path) -> None:
    plant(tmp_path, {**host.SYSCTLS, "net/ipv4/vs/conntrack": "0", "net/ipv4/conf/all/rp_filter": "1"})
    assert host.write_sysctls(["all"], root=tmp_path) == (2, [])
    assert (tmp_path / "net/ipv4/vs/conntrack").read_text() == "1"
    assert (tmp_path / "net/ipv4/conf/all/rp_filter").read_text() == "2"
    assert host.write_sysctls(["all"], root=tmp_path) == (0, [])


def test_a_filter_that_is_off_or_loose_is_left_and_an_interface_that_is_not_there_is_no_trouble(tmp_path: Path) -> None:
    off, loose = "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/eth0/rp_filter"
    plant(tmp_path, {**host.SYSCTLS, off: "0", loose: "2"})
    assert host.write_sysctls(["all", "eth0", "kube-bridge"], root=tmp_path) == (0, [])


def test_a_missing_sysctl_is_told_and_the_others_are_written(tmp_path: Path) -> None:
    plant(tmp_path, {name: "0" for name in host.SYSCTLS if name != "net/ipv4/vs/conntrack"})
    written, troubles = host.write_sysctls([], root=tmp_path)
    assert written == 4
    assert troubles == ["sysctl net.ipv4.vs.conntrack=1: No such file or directory"]
