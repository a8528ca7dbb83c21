"""What another program left in iptables and in ipsets, found without making anything, and removed at once (I/O).

iptables has two back ends with tables of their own; which of them was used depends on the program's image and the host,
so both are looked at. Looking at a table that is not there would make it, and load its modules. So programs are run
only where the kernel has such tables, or ipsets at all: on most nodes, at most starts, there is nothing, and six
programs would cost more than the rest of the start.

Rules go before ipsets, since they use them. All that goes from one table goes in one transaction, which no packet sees
half done. What is left, and whose it is, the caller knows: it is handed iptables-save's text, and names what goes.

iptables' older back end, and in both a rule that matches an ipset, take the capability NET_RAW to be read and written.
The agent does without it otherwise; what could not be read is told.
"""

import logging
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from kube_router.core import capabilities, nfnl, nlmsg
from kube_router.core.netlink import NETLINK_NETFILTER, Netlink
from kube_router.events.errors import KernelError, Problem

logger = logging.getLogger(__name__)

PROGRAM_TIMEOUT_S = 30
LEGACY = {"iptables-legacy": "ip_tables_names", "ip6tables-legacy": "ip6_tables_names"}
NFT = {"iptables-nft": nlmsg.AF_INET, "ip6tables-nft": nlmsg.AF_INET6}
IP_SET_MODULE = Path("/sys/module/ip_set")  # there too where it is built in, for it has a parameter
DESTROY_MAX = 100  # ipsets in one run of the program
TROUBLES_MAX = 5  # told in one problem
NO_RAW = "iptables takes the capability NET_RAW for this: add it to securityContext.capabilities.add"


class Rules(NamedTuple):
    """The rules and the chains to be removed from one table: ``rules`` as iptables-save prints them."""

    program: str
    table: str
    rules: tuple[str, ...]
    chains: tuple[str, ...] = ()


Recognise = Callable[[str, str, str], list[Rules]]  # given program, table, and iptables-save's text of the table


# -- find --------------------------------------------------------------------------------------------------------------


def nft_tables() -> set[tuple[int, str]]:
    """Return the family and the name of each nftables table, iptables-nft's too. Raises ``KernelError``."""
    with Netlink(NETLINK_NETFILTER) as link:
        return nfnl.parse_tables(link.dump(nfnl.get_tables()))


def iptables_tables(tables: Collection[str], present: Collection[tuple[int, str]]) -> dict[str, list[str]]:
    """Return, by program, which of the tables are there; ``present`` are the nftables tables."""
    found = {program: [table for table in tables if (family, table) in present] for program, family in NFT.items()}
    for program, names in LEGACY.items():
        try:
            loaded = Path("/proc/thread-self/net", names).read_text().split()
        except FileNotFoundError:
            continue
        found[program] = [table for table in tables if table in loaded]
    return {program: there for program, there in found.items() if there}


def find_rules(
    tables: Collection[str], present: Collection[tuple[int, str]], recognise: Recognise
) -> tuple[list[Rules], list[str]]:
    """Return what ``recognise`` finds in those of the tables that are there, in both back ends and families.

    And in words which tables could not be read.
    """
    rules: list[Rules] = []
    unread: list[str] = []
    for program, there in iptables_tables(tables, present).items():
        if shutil.which(f"{program}-save") is None:
            continue
        for table in there:
            try:
                rules += recognise(program, table, run([f"{program}-save", "-t", table]))
            except KernelError as e:
                logger.warning(f"leftovers_not_read program={program} table={table} error={str(e)!r}")
                unread.append(f"what may be in {program}'s table {table} could not be read: {e}")
    return rules, unread


def words_of(line: str) -> list[str]:
    """Return the words of a rule, none of one with an odd quote in somebody's comment."""
    try:
        return shlex.split(line)
    except ValueError:
        return []


def ipset_names() -> list[str]:
    """Return the names of the ipsets there are."""
    return (ipset("list", "-name") or "").split()


def ipset(*words: str, text: str = "") -> str | None:
    """Return what ``ipset`` prints, ``None`` where it fails or is not there, or the kernel has no ipsets."""
    if not IP_SET_MODULE.exists() or shutil.which("ipset") is None:
        return None
    try:
        return run(["ipset", *words], text)
    except KernelError as e:
        logger.debug(f"ipset_failed words={words} error={str(e)!r}")
        return None


# -- remove ------------------------------------------------------------------------------------------------------------


def remove(rules: Iterable[Rules], ipsets: Sequence[str]) -> tuple[Counter[str], list[str]]:
    """Remove it all, rules first; return what was removed, and in words what was not."""
    removed: Counter[str] = Counter()
    troubles: list[str] = []
    for its in rules:
        try:
            run([f"{its.program}-restore", "--noflush", "-w", "5"], restore_text(its))
        except KernelError as e:
            troubles.append(str(e))
            continue
        removed["leftover rule removed"] += len(its.rules)
        removed["leftover chain removed"] += len(its.chains)
        logger.info(
            f"leftover_removed program={its.program} table={its.table} rules={len(its.rules)} chains={len(its.chains)}"
        )
    destroyed, refused = _destroy(ipsets)
    removed["leftover ipset removed"] += destroyed
    troubles += refused
    return +removed, troubles


class Takeover:
    """When a plugin is to remove what was left: once what is its own is in place and in sync.

    What could not be removed is a problem of the node, and tried again when everything is compared anyway, not at once
    and no sooner: an ipset that somebody's rule uses may stay so for ever, and must not make the plugin back off.
    """

    def __init__(self, node: str) -> None:
        self._node = node
        self._troubles: Sequence[str] | None = None  # None: not tried yet

    def is_due(self, *, in_sync: bool, everything: bool) -> bool:
        """Return whether to remove now; ``everything`` says that all is compared."""
        return in_sync and (self._troubles is None or (everything and bool(self._troubles)))

    def note(self, removed: Counter[str], troubles: Sequence[str]) -> Counter[str]:
        """Take in what came of removing; return what was removed."""
        self._troubles = troubles
        return removed

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What remains, in one problem or none."""
        return (Problem("Node", self._node, remain(self._troubles)),) if self._troubles else ()


def remain(troubles: Sequence[str]) -> str:
    """Return in words what could not be removed, the first of many."""
    more = f"; and {len(troubles) - TROUBLES_MAX} more" if len(troubles) > TROUBLES_MAX else ""
    return f"kube-router's leftovers remain: {'; '.join(troubles[:TROUBLES_MAX])}{more}"


def restore_text(rules: Rules) -> str:
    """Return what iptables-restore needs to remove it all at once."""
    lines = [f"*{rules.table}", *(f"-D{rule[2:]}" for rule in rules.rules)]
    lines += [f"-F {chain}" for chain in rules.chains]  # all of them first, for they refer to each other
    lines += [f"-X {chain}" for chain in rules.chains]
    return "\n".join([*lines, "COMMIT", ""])


def _destroy(names: Sequence[str]) -> tuple[int, list[str]]:
    """Destroy the ipsets, many by one program; where that stops at one that is used, the rest one by one."""
    troubles: list[str] = []
    for start in range(0, len(names), DESTROY_MAX):
        batch = names[start : start + DESTROY_MAX]
        if ipset("restore", text="".join(f"destroy {name}\n" for name in batch)) is None:
            present = set(ipset_names())
            troubles += [name for name in batch if name in present and ipset("destroy", name) is None]
    destroyed = len(names) - len(troubles)
    if destroyed:
        logger.info(f"leftover_removed ipsets={destroyed} first={next(n for n in names if n not in troubles)}")
    words = "could not be destroyed: a rule that is not kube-router's uses it"
    return destroyed, [f"ipset {name} {words}" for name in troubles]


# -- programs ----------------------------------------------------------------------------------------------------------


def run(command: list[str], text: str = "") -> str:
    """Return what a program prints, given ``text``. Raises ``KernelError`` with its own words, or past its time."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=PROGRAM_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise KernelError(f"{command[0]} failed: {e}") from e
    if done.returncode:
        raise KernelError(f"{' '.join(command)} failed: {done.stderr.strip()[:300]}{_why(command[0])}")
    return done.stdout


def _why(program: str) -> str:
    """Return in words why a program may have failed that its own words do not say."""
    is_iptables = program.startswith(("iptables", "ip6tables"))
    return f"; {NO_RAW}" if is_iptables and "NET_RAW" not in capabilities.effective() else ""
