"""Whose a change of the table was: told by the generations of commits."""

import struct

import pytest

from kube_router.core import nlmsg
from kube_router.core.monitor import OVERRUN, Notification
from kube_router.plugins.firewall import nfgen
from kube_router.plugins.firewall.model import TABLE
from kube_router.plugins.firewall.watch import Watch

NEWRULE = 10 << 8 | 6


class Told:
    """A monitor that tells what it is given."""

    def __init__(self) -> None:
        self.waiting: list[Notification] = []

    def pending(self) -> list[Notification]:
        told, self.waiting = self.waiting, []
        return told


def change(table: str) -> Notification:
    return Notification(NEWRULE, memoryview(bytes([1, 0, 0, 0]) + nlmsg.text(1, table)))


def commit(generation: int, *tables: str) -> list[Notification]:
    """Return what is told of a commit that has changed these tables."""
    number = nlmsg.attr(nfgen.NFTA_GEN_ID, struct.pack("!I", generation))
    return [*map(change, tables), Notification(nfgen.NFT_MSG_NEWGEN, memoryview(bytes(4) + number))]


@pytest.fixture(name="watch")
def _watch() -> Watch:
    watch = Watch()
    watch.monitor = Told()
    return watch


def tell(watch: Watch, *notifications: Notification) -> None:
    assert isinstance(watch.monitor, Told)
    watch.monitor.waiting += notifications


def test_our_own_commit_is_ours(watch: Watch) -> None:
    watch.begin()
    watch.committed(7, 7)
    tell(watch, *commit(7, TABLE))
    assert watch.end() == ""


def test_somebody_else_s_commit_to_our_table_is_foreign(watch: Watch) -> None:
    watch.begin()
    tell(watch, *commit(7, TABLE))
    assert watch.end() == "foreign"


def test_a_commit_to_another_table_is_nothing_to_us(watch: Watch) -> None:
    watch.begin()
    tell(watch, *commit(7, "docker", "kube-router-proxy"))
    assert not watch.end()


def test_commits_to_other_tables_may_cross_ours(watch: Watch) -> None:
    watch.begin()
    watch.committed(7, 9)
    tell(watch, *commit(7, "docker"), *commit(8, TABLE), *commit(9, "docker"))
    assert not watch.end()


def test_of_two_commits_to_our_table_one_was_not_ours(watch: Watch) -> None:
    watch.begin()
    watch.committed(7, 8)
    tell(watch, *commit(7, TABLE), *commit(8, TABLE))
    assert watch.end()


def test_several_commits_of_ours_are_all_ours(watch: Watch) -> None:
    watch.begin()
    watch.committed(7, 7)
    watch.committed(8, 9)
    tell(watch, *commit(7, TABLE), *commit(8, "docker"), *commit(9, TABLE))
    assert not watch.end()


def test_lost_notifications_may_have_been_about_our_table(watch: Watch) -> None:
    watch.begin()
    watch.committed(7, 7)
    tell(watch, OVERRUN)
    assert watch.end() == "lost"


def test_what_was_told_beside_what_was_lost_still_counts(watch: Watch) -> None:
    watch.begin()
    tell(watch, OVERRUN, *commit(8, TABLE))
    assert watch.end() == "foreign"


def test_what_was_judged_is_not_judged_again(watch: Watch) -> None:
    watch.begin()
    tell(watch, *commit(7, TABLE))
    assert watch.end()
    watch.begin()
    assert not watch.end()
