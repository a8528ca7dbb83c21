"""Tables are told apart by their family, and so is what is removed from one."""

import pytest

from kube_router.core import nfnl, nlmsg


def test_tables_are_told_by_family_and_name() -> None:
    bodies = [memoryview(bytes([family, 0, 0, 0]) + nlmsg.text(1, name)) for family, name in ((2, "nat"), (1, "nat"))]
    assert nfnl.parse_tables(bodies) == {(2, "nat"), (1, "nat")}


@pytest.mark.parametrize(
    ("message", "table", "family", "expected"),
    [
        (2, "kube-router-routing", 1, True),
        (5, "kube-router-routing", 1, True),
        (8, "kube-router-routing", 1, True),
        (11, "kube-router-routing", 1, True),
        (14, "kube-router-routing", 1, True),
        (12, "kube-router-routing", 1, False),
        (2, "kube-router-proxy", 1, False),
        (2, "kube-router-routing", 2, False),
    ],
)
def test_a_removal_from_our_table_is_told_from_others(message: int, table: str, family: int, expected: bool) -> None:
    body = memoryview(nfnl.header(family) + nlmsg.text(1, table))
    assert nfnl.is_removal(10 << 8 | message, body, "kube-router-routing") is expected
    assert not nfnl.is_removal(message, body, "kube-router-routing")


def test_a_notification_that_names_nothing_is_none_of_ours() -> None:
    assert not nfnl.is_removal(10 << 8 | 2, memoryview(nfnl.header(1)), "kube-router-routing")
    assert not nfnl.is_removal(10 << 8 | 2, memoryview(b""), "kube-router-routing")
