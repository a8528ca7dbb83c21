"""Tables are told apart by their family."""

from kube_router.core import nfnl, nlmsg


def test_tables_are_told_by_family_and_name() -> None:
    bodies = [memoryview(bytes([family, 0, 0, 0]) + nlmsg.text(1, name)) for family, name in ((2, "nat"), (1, "nat"))]
    assert nfnl.parse_tables(bodies) == {(2, "nat"), (1, "nat")}
