"""Keeps the table in the kernel what is wanted: whether to look, to edit, to replace, or to leave it (I/O).

While we know exactly what the kernel holds (``_actual``) a change is an edit. After a start or an error it is not
known: then the stamp is looked at, and the table read where the stamp does not say it all. What is ours to the last
rule is adopted, and edited where it is not what is wanted; anything else is replaced, and so is what somebody else has
changed or taken the stamp from: an edit of it might be refused for ever. What somebody may have changed is read.

An edit is preferred since a replacement, though one transaction, is not seen by a packet as one: one that entered the
old table's chains before the commit finds the old table's sets empty after it, and is denied.

Before the cluster is in sync a table that an earlier run left stays as it is, for it may know of policies that the
journal does not; one that is missing (a reboot, a flush) is written from what the journal knows.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from kube_router.events.errors import KernelError
from kube_router.plugins.firewall.kernel import Kernel, Seen
from kube_router.plugins.firewall.model import Ruleset, Touched
from kube_router.plugins.firewall.plan import Edit, carry_out, everything, plan

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was written. ``left``: an earlier run's table stays until the cluster is in sync."""

    changes: Mapping[str, int] = field(default_factory=dict)
    left: bool = False


class Table:
    """The table, as far as we know it. Used by one thread at a time."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._actual: Ruleset | None = None  # None: not known exactly
        self._written = False  # whether it was written, or found to be as wanted, in this run
        self._distrusted = self._doubted = False

    @property
    def is_known(self) -> bool:
        """Whether what the kernel holds is known exactly, so that a change can be an edit."""
        return self._actual is not None and not (self._distrusted or self._doubted)

    def distrust(self) -> None:
        """Note that somebody else has changed the table: it will be replaced without looking."""
        self._distrusted = True

    def doubt(self) -> None:
        """Note that somebody else may have changed the table: it will be read, whatever its stamp says."""
        self._doubted = True

    def bring(self, wanted: Ruleset, touched: Touched | None, *, in_sync: bool) -> Outcome:
        """Make the table hold what is wanted; ``touched`` is where it may differ, None to look at all of it.

        Raises KernelError; the table then holds what it held.
        """
        try:
            return self._bring(wanted, touched, in_sync=in_sync)
        except KernelError:
            self._actual = None
            raise

    def _bring(self, wanted: Ruleset, touched: Touched | None, *, in_sync: bool) -> Outcome:
        if touched is None or not self.is_known:
            seen = self._kernel.observe()
            actual = None if self._distrusted else self._recognised(seen, wanted)
            is_wanted = actual is not None and actual.digest == wanted.digest
            if seen.there and not is_wanted and not in_sync and not self._written:
                return Outcome(left=True)
            if actual is None:
                return self._replace(wanted)
            self._actual, self._written, self._doubted = actual, True, False
            touched = everything(wanted, actual) if not is_wanted else Touched()
        assert self._actual is not None
        edit = plan(wanted, self._actual, touched)
        if edit is None:
            return self._replace(wanted)
        new, changed, gone = edit.parts()
        self._edit(new)
        self._edit(changed)
        if gone:
            self._kernel.wait_for_packets()
            self._edit(gone)
        assert self._actual.digest == wanted.digest, "an edit that does not lead to what is wanted"
        return Outcome(edit.changes)

    def _edit(self, edit: Edit) -> None:
        assert self._actual is not None
        if edit:
            carry_out(edit, self._actual)
            self._kernel.edit(edit, self._actual.digest)

    def _recognised(self, seen: Seen, wanted: Ruleset) -> Ruleset | None:
        """Return what the kernel holds, None where there is no table or not only what we write."""
        if not seen.there:
            return None
        expected = self._actual or wanted
        if seen.is_untouched(expected.digest) and not self._doubted:
            return self._actual or wanted.copy()
        found = self._kernel.read()
        if found is None or seen.stamp is None or found.digest != seen.stamp.digest:
            logger.warning("table_differs now='written anew'")
            return None
        return found

    def _replace(self, wanted: Ruleset) -> Outcome:
        self._kernel.replace(wanted)
        self._actual, self._written = wanted.copy(), True
        self._distrusted = self._doubted = False
        elements = sum(map(len, wanted.elements.values())) + sum(map(len, wanted.verdicts.values()))
        return Outcome({"table written": 1, "chain added": len(wanted.chains), "element added": elements})
