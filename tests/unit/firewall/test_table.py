"""When the table is looked at, edited, replaced or left: decided over a kernel in memory."""

import errno

import pytest

from kube_router.events.errors import KernelError
from kube_router.plugins.firewall.kernel import Kernel, Seen
from kube_router.plugins.firewall.model import Chain, Ruleset, SetType, Touched
from kube_router.plugins.firewall.nfgen import Stamp
from kube_router.plugins.firewall.plan import Edit, carry_out
from kube_router.plugins.firewall.table import Outcome, Table


class Memory(Kernel):
    """Holds one table as the kernel does, with stamps and generations, and tells what was asked of it."""

    def __init__(self, held: Ruleset | None = None) -> None:
        self.held = held.copy() if held is not None else None
        self.generation = 5
        self.stamp = Stamp(5, held.digest) if held is not None else None
        self.readable = True
        self.refuses = False
        self.asked: list[str] = []

    def observe(self) -> Seen:
        self.asked.append("observe")
        return Seen(self.generation, there=self.held is not None, stamp=self.stamp)

    def read(self) -> Ruleset | None:
        self.asked.append("read")
        assert self.held is not None
        return self.held.copy() if self.readable else None

    def replace(self, ruleset: Ruleset) -> None:
        self._write("replace", ruleset.digest)
        self.held, self.readable = ruleset.copy(), True

    def edit(self, edit: Edit, digest: int) -> None:
        what = "new" if edit.sets or edit.chains else "gone" if edit.dropped_sets or edit.dropped_chains else "changed"
        self._write(f"edit {what}", digest)
        assert self.held is not None
        carry_out(edit, self.held)

    def wait_for_packets(self) -> None:
        self.asked.append("wait")

    def other_write(self) -> None:
        """Somebody commits to a table of theirs."""
        self.generation += 1

    def taken(self) -> list[str]:
        """Return what was asked since the last call."""
        asked, self.asked = self.asked, []
        return asked

    def _write(self, what: str, digest: int) -> None:
        self.asked.append(what)
        if self.refuses:
            raise KernelError("no", errno.EINVAL)
        self.generation += 1
        self.stamp = Stamp(self.generation, digest)


def table(members: str = "10.0.0.1", policy: str = "a") -> Ruleset:
    """Return a table with one policy, and the peers it admits."""
    ruleset = Ruleset()
    ruleset.add_map("ingress4")
    ruleset.add_set(f"s4_{policy}", SetType("ipv4_addr"), members.split())
    ruleset.add_chain(f"pi_{policy}", Chain((f"ip saddr @s4_{policy} accept",)))
    ruleset.take_touched()
    return ruleset


def anew(kernel: Memory, wanted: Ruleset, *, in_sync: bool = True) -> Outcome:
    """Bring a table about that knows nothing of the kernel yet."""
    return Table(kernel).bring(wanted, None, in_sync=in_sync)


def settled(kernel: Memory, wanted: Ruleset) -> Table:
    """Return a table that knows that the kernel holds what is wanted."""
    known = Table(kernel)
    known.bring(wanted, None, in_sync=True)
    kernel.taken()
    return known


WRITTEN = Outcome({"table written": 1, "chain added": 1, "element added": 1})


# -- after a start -----------------------------------------------------------------------------------------------------


def test_a_table_that_is_missing_is_written() -> None:
    kernel = Memory()
    assert anew(kernel, table()) == WRITTEN
    assert kernel.taken() == ["observe", "replace"]
    assert kernel.held == table()


def test_where_the_stamp_matches_nothing_is_read_and_nothing_written() -> None:
    kernel = Memory(table())
    assert anew(kernel, table()) == Outcome()
    assert kernel.taken() == ["observe"]


def test_where_only_the_generation_moved_on_the_table_is_read_and_nothing_written() -> None:
    kernel = Memory(table())
    kernel.other_write()
    assert anew(kernel, table()) == Outcome()
    assert kernel.taken() == ["observe", "read"]


def test_another_table_of_ours_is_edited() -> None:
    kernel = Memory(table("10.0.0.1 10.0.0.2"))
    assert anew(kernel, table("10.0.0.1 10.0.0.3")) == Outcome({"element added": 1, "element removed": 1})
    assert kernel.taken() == ["observe", "read", "edit changed"]
    assert kernel.held == table("10.0.0.1 10.0.0.3")


def test_a_table_with_something_that_we_never_write_is_replaced() -> None:
    kernel = Memory(table())
    kernel.other_write()
    kernel.readable = False
    assert anew(kernel, table()) == WRITTEN
    assert kernel.taken() == ["observe", "read", "replace"]


def test_a_table_that_is_not_what_its_stamp_says_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    kernel = Memory(table())
    assert kernel.held is not None
    kernel.held.add_element("s4_a", "10.0.0.66")  # somebody did that
    kernel.other_write()
    assert anew(kernel, table()) == WRITTEN
    assert kernel.taken() == ["observe", "read", "replace"]
    assert caplog.messages == ["table_differs now='written anew'"]


def test_a_table_without_a_stamp_is_replaced_whatever_it_holds() -> None:
    kernel = Memory(table())
    kernel.stamp = None
    assert anew(kernel, table()) == WRITTEN
    assert kernel.taken() == ["observe", "read", "replace"]


def test_where_a_name_stands_for_something_else_the_table_is_replaced() -> None:
    other = table()
    other.drop_chain("pi_a")
    other.add_chain("pi_a", Chain(("accept",)))
    kernel = Memory(other)
    assert anew(kernel, table()) == WRITTEN
    assert kernel.taken() == ["observe", "read", "replace"]


# -- before the cluster is in sync -------------------------------------------------------------------------------------


def test_before_in_sync_an_earlier_table_is_left_and_then_edited() -> None:
    kernel = Memory(table("10.0.0.9"))
    waiting = Table(kernel)
    assert waiting.bring(table(), None, in_sync=False) == Outcome(left=True)
    assert kernel.held == table("10.0.0.9")
    assert not waiting.is_known
    assert waiting.bring(table(), Touched(), in_sync=True) == Outcome({"element added": 1, "element removed": 1})
    assert kernel.held == table()


def test_before_in_sync_an_unreadable_table_is_left_too() -> None:
    kernel = Memory(table())
    kernel.other_write()
    kernel.readable = False
    assert anew(kernel, table(), in_sync=False) == Outcome(left=True)
    assert kernel.taken() == ["observe", "read"]


def test_before_in_sync_a_table_that_is_as_wanted_is_adopted_and_edited_from_then_on() -> None:
    kernel = Memory(table())
    adopted = Table(kernel)
    assert adopted.bring(table(), None, in_sync=False) == Outcome()
    wanted = table()
    wanted.add_element("s4_a", "10.0.0.2")
    assert adopted.bring(wanted, wanted.take_touched(), in_sync=False) == Outcome({"element added": 1})


def test_before_in_sync_a_missing_table_is_written_from_what_the_journal_knows() -> None:
    kernel = Memory()
    assert anew(kernel, table(), in_sync=False) == WRITTEN


def test_before_in_sync_what_this_run_has_written_is_changed_without_waiting() -> None:
    kernel = Memory()
    own = Table(kernel)
    own.bring(table(), None, in_sync=False)
    assert own.bring(table("10.0.0.2"), None, in_sync=False) == Outcome({"element added": 1, "element removed": 1})


# -- while it is known -------------------------------------------------------------------------------------------------


def test_a_change_of_what_is_known_looks_at_nothing() -> None:
    kernel, wanted = Memory(), table()
    known = settled(kernel, wanted)
    wanted.add_element("s4_a", "10.0.0.2")
    assert known.bring(wanted, wanted.take_touched(), in_sync=True) == Outcome({"element added": 1})
    assert kernel.taken() == ["edit changed"]


def test_nothing_touched_is_nothing_done() -> None:
    kernel = Memory()
    known = settled(kernel, table())
    assert known.bring(table(), Touched(), in_sync=True) == Outcome()
    assert kernel.taken() == []


def test_what_is_new_comes_first_and_what_goes_last_when_no_packet_is_under_way_there() -> None:
    kernel, wanted = Memory(), table()
    wanted.set_verdict("ingress4", "10.0.0.1", "goto pi_a")
    known = settled(kernel, wanted)
    wanted.add_set("s4_b", SetType("ipv4_addr"), ["10.0.0.1"])
    wanted.add_chain("pi_b", Chain(("ip saddr @s4_b accept",)))
    wanted.set_verdict("ingress4", "10.0.0.1", "goto pi_b")
    wanted.drop_chain("pi_a")
    wanted.drop_set("s4_a")
    known.bring(wanted, wanted.take_touched(), in_sync=True)
    assert kernel.taken() == ["edit new", "edit changed", "wait", "edit gone"]
    assert kernel.held == wanted


def test_at_a_resync_what_is_known_is_compared_by_its_stamp() -> None:
    kernel = Memory()
    known = settled(kernel, table())
    assert known.bring(table(), None, in_sync=True) == Outcome()
    assert kernel.taken() == ["observe"]


def test_at_a_resync_a_change_that_is_not_in_the_kernel_yet_is_an_edit() -> None:
    kernel = Memory()
    known = settled(kernel, table())
    assert known.bring(table("10.0.0.2"), None, in_sync=True) == Outcome({"element added": 1, "element removed": 1})
    assert kernel.taken() == ["observe", "edit changed"]


def test_what_the_table_knows_is_no_other_s_to_change() -> None:
    kernel, wanted = Memory(), table()
    known = settled(kernel, wanted)
    wanted.add_element("s4_a", "10.0.0.2")  # wanted goes on; what the kernel holds does not
    wanted.take_touched()
    assert known.bring(wanted, Touched(elements={("s4_a", "10.0.0.2")}), in_sync=True) == Outcome({"element added": 1})


# -- errors and others -------------------------------------------------------------------------------------------------


def test_after_an_error_the_table_is_looked_at_again() -> None:
    kernel, wanted = Memory(), table()
    known = settled(kernel, wanted)
    wanted.add_element("s4_a", "10.0.0.2")
    kernel.refuses = True
    with pytest.raises(KernelError):
        known.bring(wanted, wanted.take_touched(), in_sync=True)
    assert not known.is_known
    kernel.refuses = False
    kernel.taken()
    assert known.bring(wanted, Touched(), in_sync=True) == Outcome({"element added": 1})
    assert kernel.taken() == ["observe", "read", "edit changed"]
    assert kernel.held == wanted


def test_what_is_distrusted_is_replaced_without_being_read() -> None:
    kernel = Memory()
    known = settled(kernel, table())
    known.distrust()
    assert not known.is_known
    assert known.bring(table(), Touched(), in_sync=True) == WRITTEN
    assert kernel.taken() == ["observe", "replace"]
    assert known.is_known


def test_what_is_distrusted_is_replaced_before_in_sync_too_if_it_was_ours() -> None:
    kernel = Memory()
    known = Table(kernel)
    known.bring(table(), None, in_sync=False)
    known.distrust()
    assert known.bring(table(), Touched(), in_sync=False) == WRITTEN


def test_a_table_that_is_distrusted_stays_so_until_it_has_been_replaced() -> None:
    kernel = Memory()
    known = settled(kernel, table())
    known.distrust()
    kernel.refuses = True
    with pytest.raises(KernelError):
        known.bring(table(), Touched(), in_sync=True)
    kernel.refuses = False
    assert known.bring(table(), Touched(), in_sync=True) == WRITTEN


def test_what_is_doubted_is_read_whatever_its_stamp_says_and_not_written_without_need() -> None:
    kernel = Memory()
    known = settled(kernel, table())
    known.doubt()
    assert not known.is_known
    assert known.bring(table(), Touched(), in_sync=True) == Outcome()
    assert kernel.taken() == ["observe", "read"]
    assert known.is_known


def test_what_is_doubted_and_was_changed_between_two_commits_of_ours_is_replaced() -> None:
    kernel = Memory()
    known = settled(kernel, table())
    assert kernel.held is not None
    kernel.held.cut_element("s4_a", "10.0.0.1")  # under a stamp that says otherwise
    known.doubt()
    assert known.bring(table(), Touched(), in_sync=True) == WRITTEN
    assert kernel.taken() == ["observe", "read", "replace"]
    assert known.is_known


def test_a_table_that_somebody_deleted_is_written_anew_at_the_next_look() -> None:
    kernel = Memory()
    known = settled(kernel, table())
    kernel.held = kernel.stamp = None
    assert known.bring(table(), None, in_sync=True) == WRITTEN
