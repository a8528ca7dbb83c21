"""Which of two connections with one neighbour stays (RFC 4271 section 6.8, RFC 6286, RFC 4724 section 5) (pure).

Both ends have to keep the same one without asking each other. So the question is put wherever an OPEN comes while
another connection has sent ours, not only when that one is in OpenConfirm; and a connection on which we have sent
nothing gives way without being asked. Then, if one end reaches Established on a connection, the other end has compared
the same two already, or never sent an OPEN on the second.

A neighbour that restarted opens a new connection while we take the old one for established. With graceful restart it
replaces the old one; but not on its OPEN, as that may have been sent before a collision was resolved: on its KEEPALIVE,
which says that the neighbour, too, wants this one.
"""

from enum import IntEnum
from typing import NamedTuple

from kube_router.plugins.routing.bgp.fsm_words import State


class Line(NamedTuple):
    """A connection. ``ours``: we opened it; ``graceful``: its loss would lose no route."""

    state: State
    ours: bool
    graceful: bool = False


class Verdict(IntEnum):
    NEW = 1  # the one on which the OPEN came stays
    OLD = 2  # the other one stays
    LATER = 3  # both stay until a KEEPALIVE comes on the new one, which then replaces the other


def ours_prevails(our_id: int, their_id: int, our_asn: int, their_asn: int) -> bool:
    """Return whether the connection that we opened stays: the higher identifier's, of equal ones the higher AS's."""
    return (our_id, our_asn) > (their_id, their_asn)


def resolve(new: Line, other: Line, *, prevails: bool) -> Verdict:
    """Return what stays when a valid OPEN has come on ``new``; ``prevails`` is ``ours_prevails``."""
    if other.state < State.OPENSENT:
        return Verdict.NEW
    if other.state is State.ESTABLISHED:
        return Verdict.LATER if other.graceful else Verdict.OLD
    if new.ours == other.ours:  # one end opened both, so it has given the first one up
        return Verdict.NEW
    return Verdict.NEW if new.ours == prevails else Verdict.OLD
