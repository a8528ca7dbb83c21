"""Rules that let pods' packets pass iptables' FORWARD chain where somebody drops what is forwarded (I/O).

Docker, and many an administrator, sets the chain's policy to DROP, or ends it with a REJECT. Then pods reach nothing
beyond their node unless rules accept them: what comes from kube-bridge, what goes to it, and the replies of a Service
whose server runs on another node, which cross the node from one of its links to the other. (The requests do not: IPVS
sends them, they are not forwarded.) Our rules carry the comment "kube-router".

They come first, but behind jumps to chains by which somebody means to deny: network policies of kube-router (Go) or
k3s, kube-proxy's source ranges, Docker's chain for the user. Nothing is made where there is nothing to overcome: the
table is not created, and a chain without rules whose policy is ACCEPT needs none of ours. An nftables chain of others
is out of reach: there, who drops wins.

Both back ends of iptables are looked at, since which of them is used depends on the host. All that changes in one table
changes at once. Blocking, for the plugin's worker thread.
"""

import logging
import shutil
from collections import Counter
from typing import NamedTuple

from kube_router.core import leftovers
from kube_router.core.leftovers import words_of
from kube_router.events.errors import KernelError
from kube_router.plugins.routing.model import BRIDGE

logger = logging.getLogger(__name__)

TABLE, CHAIN, COMMENT = "filter", "FORWARD", "kube-router"
MARK = ("-m", "comment", "--comment", COMMENT)
RULES = (
    f"-i {BRIDGE} {' '.join(MARK)} -j ACCEPT",
    f"-o {BRIDGE} {' '.join(MARK)} -j ACCEPT",
    f"{' '.join(MARK)} -m conntrack --ctstate RELATED,ESTABLISHED --ctdir REPLY -j ACCEPT",
)
BEHIND = frozenset({"KUBE-ROUTER-FORWARD", "KUBE-PROXY-FIREWALL", "DOCKER-USER"})


class Chain(NamedTuple):
    """FORWARD as iptables-save prints it: others' rules and ours."""

    policy: str
    rules: tuple[str, ...]
    ours: tuple[str, ...]
    place: int  # of our first rule, 1 being the chain's first; 0 where they are not one behind the other

    @property
    def is_needed(self) -> bool:
        return self.policy != "ACCEPT" or bool(self.rules)

    @property
    def wanted_place(self) -> int:
        """Where ours belong: behind the last jump to what denies."""
        jumps = [at for at, rule in enumerate(self.rules, 1) if BEHIND.intersection(words_of(rule)[-1:])]
        return max(jumps, default=0) + 1

    @property
    def is_right(self) -> bool:
        wanted = [sorted(words_of(rule)) for rule in RULES]
        ours = [sorted(words_of(rule)[2:]) for rule in self.ours]
        return ours == wanted and self.place == self.wanted_place


def bring() -> tuple[Counter[str], list[str]]:
    """Make our rules be where they are needed, and nowhere else; return writes, and in words what failed."""
    return _edit_all(everywhere=False)


def cleanup() -> tuple[Counter[str], list[str]]:
    """Remove our rules; return writes, and in words what failed."""
    return _edit_all(everywhere=True)


def _edit_all(*, everywhere: bool) -> tuple[Counter[str], list[str]]:
    changes: Counter[str] = Counter()
    troubles: list[str] = []
    try:
        programs = leftovers.iptables_tables((TABLE,), leftovers.nft_tables())
    except KernelError as error:
        return changes, [f"iptables FORWARD: {error}"]
    for program in programs:
        if shutil.which(f"{program}-save") is None:
            troubles.append(f"{program}-save is not installed: whether FORWARD drops what pods send is not known")
            continue
        try:
            chain = parse(leftovers.run([f"{program}-save", "-t", TABLE]))
            edit = None if chain is None else edit_text(chain, remove=everywhere)
            if edit is None:
                continue
            leftovers.run([f"{program}-restore", "--noflush", "-w", "5"], edit.text)
        except KernelError as error:
            troubles.append(str(error))
            continue
        changes += edit.changes
        logger.info("forward_changed program=%s what=%r", program, dict(edit.changes))
    return changes, troubles


class Edit(NamedTuple):
    """What iptables-restore is given, and what it changes."""

    text: str
    changes: Counter[str]


def parse(text: str) -> Chain | None:
    """Return the chain in iptables-save's text of the table, ``None`` where there is none."""
    lines = text.splitlines()
    policy = next((line.split()[1] for line in lines if line.startswith(f":{CHAIN} ")), "")
    every = [line for line in lines if f"{line} ".startswith(f"-A {CHAIN} ")]  # a rule may say nothing
    at = [number for number, line in enumerate(every, 1) if _is_ours(line)]
    is_one_run = bool(at) and at[-1] - at[0] == len(at) - 1
    rules = tuple(line for line in every if not _is_ours(line))
    ours = tuple(line for line in every if _is_ours(line))
    return Chain(policy, rules, ours, at[0] if is_one_run else 0) if policy else None


def _is_ours(line: str) -> bool:
    """Whether a rule carries our comment, and accepts."""
    words = words_of(line)
    marked = any(tuple(words[at : at + len(MARK)]) == MARK for at in range(len(words)))
    return marked and words[-2:] == ["-j", "ACCEPT"]


def edit_text(chain: Chain, *, remove: bool = False) -> Edit | None:
    """Return the edit that makes the chain right, or rid of ours; ``None`` where it is."""
    wanted = () if remove or not chain.is_needed else RULES
    if chain.is_right if wanted else not chain.ours:
        return None
    lines = [f"-D{rule[2:]}" for rule in chain.ours]
    lines += [f"-I {CHAIN} {at} {rule}" for at, rule in enumerate(wanted, chain.wanted_place)]
    changes = +Counter({"forward rule added": len(wanted), "forward rule removed": len(chain.ours)})
    return Edit("\n".join([f"*{TABLE}", *lines, "COMMIT", ""]), changes)
