"""Which of two connections with one neighbour stays (RFC 4271 section 6.8, RFC 6286, RFC 4724 section 5) (pure).

Both ends have to keep the same one without asking each other, in whatever order they learn of things. So the question
is put on each OPEN, and answered by who can be sure:
- A connection on which we have sent nothing gives way: the neighbour has no OPEN of ours on it, so compares nothing.
- Where ours has sent an OPEN, the neighbour compares the same two, or will; identifiers decide.
- Of one that the neighbour opened and on which nothing came yet, it may have thought better in the same way. If it
  would prevail, both stay until something comes on it.
Waiting for OpenConfirm, as the RFC's text allows, is not enough: one end may be in Established by then. A test goes
through all orders.

A neighbour that restarted opens a new connection while we take the old one for established. With graceful restart it
replaces the old one; but only one that was opened after the session was established, which no other collision can be,
and not on its OPEN but on its KEEPALIVE, which says that the neighbour wants this one.
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
    LATER = 3  # both stay for now; the first KEEPALIVE decides, should nothing else


def ours_prevails(our_id: int, their_id: int, our_asn: int, their_asn: int) -> bool:
    """Return whether the connection that we opened stays: the higher identifier's, of equal ones the higher AS's."""
    return (our_id, our_asn) > (their_id, their_asn)


def resolve(new: Line, other: Line, *, prevails: bool, restarted: bool = True) -> Verdict:
    """Return what stays when a valid OPEN has come on ``new``.

    ``prevails`` is ``ours_prevails``; ``restarted``: an established ``other`` was established before ``new`` was there.
    """
    if other.state < State.OPENSENT:
        return Verdict.NEW
    if other.state is State.ESTABLISHED:
        return Verdict.LATER if other.graceful and restarted else Verdict.OLD
    if new.ours == other.ours:  # one end opened both, so it has given the first one up
        return Verdict.NEW
    if new.ours and not prevails and other.state is State.OPENSENT:
        return Verdict.LATER
    return Verdict.NEW if new.ours == prevails else Verdict.OLD
