"""What the process may do is read from /proc, and what is missing is named with who needs it, why, and what now."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube_router.core import capabilities
from kube_router.core.capabilities import NAMES, NOW, check, effective, to_listen
from kube_router.events.errors import ConfigError


def plant(root: Path, text: str) -> Path:
    (root / capabilities.PORT_START).parent.mkdir(parents=True, exist_ok=True)
    (root / capabilities.PORT_START).write_text(text)
    return root


def test_the_kernel_s_mask_is_read_by_name(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tkr: run\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000001400\nSeccomp:\t0\n")
    assert effective(status) == {"NET_BIND_SERVICE", "NET_ADMIN"}
    status.write_text("CapEff:\t0000000000000000\n")
    assert effective(status) == set()
    status.write_text("CapEff:\tffffffffffffffff\n")
    assert effective(status) == set(NAMES)


def test_this_process_has_a_status_to_read() -> None:
    assert effective() <= set(NAMES)


def test_the_names_stand_where_the_kernel_s_header_has_them() -> None:
    numbers = {"CHOWN": 0, "NET_BIND_SERVICE": 10, "NET_ADMIN": 12, "NET_RAW": 13, "SYS_MODULE": 16, "SYS_ADMIN": 21}
    assert {name: NAMES.index(name) for name in numbers} == numbers
    assert (len(NAMES), NAMES[-1]) == (41, "CHECKPOINT_RESTORE")


def test_what_is_missing_is_told_with_who_needs_it_and_where_to_add_it() -> None:
    needs = {
        "firewall": {"NET_ADMIN": "writes policies"},
        "proxy": {},
        "routing": {"NET_ADMIN": "writes routes", "NET_BIND_SERVICE": "BGP listens"},
    }
    with pytest.raises(ConfigError) as told:
        check(needs, {"CHOWN"})
    assert str(told.value) == (
        "missing capabilities: NET_ADMIN (firewall: writes policies; routing: writes routes), "
        f"NET_BIND_SERVICE (routing: BGP listens); {NOW}"
    )
    assert "securityContext.capabilities.add" in NOW
    assert "AmbientCapabilities=" in NOW


@given(
    needed=st.dictionaries(st.sampled_from(["one", "two"]), st.dictionaries(st.sampled_from(NAMES), st.just("why"))),
    have=st.sets(st.sampled_from(NAMES)),
)
def test_it_is_enough_to_have_all_and_never_less(needed: dict[str, dict[str, str]], have: set[str]) -> None:
    missing = {name for stated in needed.values() for name in stated} - have
    if not missing:
        check(needed, have)
        return
    with pytest.raises(ConfigError) as told:
        check(needed, have)
    assert all(f"{name} (" in str(told.value) for name in missing)


def test_a_name_that_is_none_is_the_plugin_s_fault_even_if_nothing_is_missing() -> None:
    with pytest.raises(ConfigError, match=r"plugin lamps needs the capability 'CAP_GLOW', and there is none"):
        check({"lamps": {"CAP_GLOW": "light"}}, NAMES)


@pytest.mark.parametrize(
    ("start", "low"), [("1024", "BGP"), ("180", "BGP"), ("179", ""), ("0", ""), ("nonsense", "BGP")]
)
def test_a_port_takes_a_capability_where_the_node_says_so(tmp_path: Path, start: str, low: str) -> None:
    found = to_listen({"BGP": 179, "BFD": 3784}, root=plant(tmp_path, f"{start}\n"))
    assert list(found) == (["NET_BIND_SERVICE"] if low else [])
    assert all("BGP listens on port 179, ports below" in why and "BFD" not in why for why in found.values())


def test_a_kernel_without_the_sysctl_guards_the_usual_ports(tmp_path: Path) -> None:
    assert to_listen({"BGP": 1024}, root=tmp_path) == {}
    assert to_listen({"BGP": 1023}, root=tmp_path) == {
        "NET_BIND_SERVICE": "BGP listens on port 1023, ports below 1024 are privileged"
    }
