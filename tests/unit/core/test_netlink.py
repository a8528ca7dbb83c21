"""The netlink socket against this machine's kernel: requests that any process may make, and refusals."""

import errno
import socket
from itertools import count

import pytest

from kube_router.core import nlmsg
from kube_router.core.netlink import BATCH_MAX, NETLINK_GENERIC, NETLINK_ROUTE, Failure, Netlink
from kube_router.events.errors import KernelError

RTM_GETLINK, RTM_NEWLINK, RTM_DELLINK = 18, 16, 17
IFINFO = b"\0" * 16
NOSUCH = nlmsg.message(RTM_DELLINK, 0, b"\0\0\0\0" + (2**31 - 1).to_bytes(4, "little") + b"\0" * 8)


def test_the_controller_family_knows_itself() -> None:
    with Netlink(NETLINK_GENERIC) as link:
        assert link.family("nlctrl") == 16


def test_an_unknown_family_is_refused_with_enoent() -> None:
    with Netlink(NETLINK_GENERIC) as link, pytest.raises(KernelError, match="ENOENT") as caught:
        link.family("kr-none")
    assert caught.value.errno == errno.ENOENT


def test_a_dump_lists_the_loopback_interface() -> None:
    with Netlink(NETLINK_ROUTE) as link:
        bodies = link.dump(nlmsg.message(RTM_GETLINK, 0, IFINFO))
    names = [nlmsg.string(nlmsg.attributes(body, 16)[3]) for body in bodies]
    assert "lo" in names


def test_each_refused_message_of_a_batch_is_reported_with_its_place() -> None:
    with Netlink(NETLINK_ROUTE) as link:
        failures = link.write([NOSUCH] * (2 * BATCH_MAX + 50))
        assert [failure.at for failure in failures] == list(range(2 * BATCH_MAX + 50))
        assert {failure.errno for failure in failures} <= {errno.ENODEV, errno.EPERM}
        assert link.write([]) == []


def test_from_the_fence_on_nothing_is_sent() -> None:
    answers = iter([False, True])
    with Netlink(NETLINK_ROUTE) as link:
        failures = link.write([NOSUCH] * (BATCH_MAX + 50), fenced=lambda: next(answers))
    assert [failure.errno == errno.ECANCELED for failure in failures] == [False] * BATCH_MAX + [True] * 50


def test_a_batch_is_no_larger_than_a_send_buffer() -> None:
    large = nlmsg.message(RTM_GETLINK, 0, IFINFO, nlmsg.attr(3, b"x" * 20_000))
    asked = count(1)
    with Netlink(NETLINK_ROUTE) as link:
        failures = link.write([large] * 10, fenced=lambda: next(asked) == 0)
    assert [failure.at for failure in failures] == list(range(10))
    assert next(asked) == 5  # it was asked before each of four batches: three of them fit


def test_a_kernel_that_does_not_answer_costs_the_deadline_and_not_more() -> None:
    with Netlink(NETLINK_ROUTE, timeout_s=0.05) as link:
        silent, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        silent.settimeout(None)
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, b"\0" * 8 + (50000).to_bytes(8, "little"))
        link._socket, real = silent, link._socket
        real.close()
        with pytest.raises(KernelError, match=r"did not answer within 0\.05 s") as caught:
            link.dump(nlmsg.message(RTM_GETLINK, 0, IFINFO))
        assert caught.value.errno == errno.ETIMEDOUT
        far.close()


def test_a_failure_tells_its_errno_by_name_and_the_kernel_s_own_words_where_it_has_some() -> None:
    assert str(Failure(3, errno.EEXIST)) == "EEXIST, File exists"
    assert str(Failure(3, errno.EINVAL, "Invalid prefix")) == "EINVAL, Invalid prefix"
