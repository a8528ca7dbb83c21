"""What kube-router (Go) left in this node's kernel, recognised and removed (I/O).

It removes nothing on exit, so that its services go on; with ours in place its rest would get in the way: its SNAT rules
come first, and its KUBE-ROUTER-SERVICES chain rejects what is not in an ipset that nobody fills any more.

Recognised are only things that carry its names, and its SNAT rules by their form (a match on IPVS's masqueraded
packets, and an empty comment). Its IPVS services are those in its ipset of service addresses and ports, or on
kube-dummy-if while that ipset, or no table of ours, is there. They are adopted or removed by the plan, not here.

iptables has two back ends with tables of their own; which of them kube-router used depends on its image and the host,
so both are looked at. Programs are run only where the kernel has such tables, or ipsets at all: on most nodes, at most
starts, there is nothing, and six programs would cost more than the rest of the start. The rest of its rules is the
firewall's and the router's to take over.
"""

import logging
import re
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kube_router.core import nlmsg
from kube_router.core.netlink import NETLINK_NETFILTER, Netlink
from kube_router.events.errors import KernelError
from kube_router.plugins.proxy import nfset
from kube_router.plugins.proxy.model import ServiceId

logger = logging.getLogger(__name__)

PROGRAM_TIMEOUT_S = 30
HAIRPIN, SERVICES = "KUBE-ROUTER-HAIRPIN", "KUBE-ROUTER-SERVICES"
IPSETS = tuple(
    f"{family}kube-router-{name}" for family in ("", "inet6:") for name in ("svip-prt", "svip", "local-ips")
)  # fmt: skip
SERVICE_SETS = tuple(name for name in IPSETS if name.endswith("svip-prt"))
CHAINS = {"nat": HAIRPIN, "filter": SERVICES}
LEGACY = {"iptables-legacy": "ip_tables_names", "ip6tables-legacy": "ip6_tables_names"}
NFT = {"iptables-nft": nlmsg.AF_INET, "ip6tables-nft": nlmsg.AF_INET6}
IP_SET_MODULE = Path("/sys/module/ip_set")  # there too where it is built in, for it has a parameter
_ELEMENT = re.compile(r"add \S+ ([0-9a-fA-F.:]+),(tcp|udp|sctp):(\d+)(?: |$)")


class Rules(NamedTuple):
    """The rules and the chain to be removed from one table: ``rules`` as iptables-save prints them."""

    program: str
    table: str
    rules: tuple[str, ...]
    chain: str  # "" without


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What there is to remove."""

    rules: tuple[Rules, ...] = ()
    ipsets: tuple[str, ...] = ()


# -- recognise ---------------------------------------------------------------------------------------------------------


def leftover_services(
    unowned: Collection[ServiceId], *, addresses: Collection[str], first_time: bool
) -> frozenset[ServiceId]:
    """Return those IPVS services that kube-router made, of the ones that are not ours."""
    if not unowned:
        return frozenset()
    listed: set[ServiceId] = set()
    seen = False
    for name in SERVICE_SETS:
        text = _ipset("save", name)
        if text is not None:
            seen = True
            listed |= parse_ipset(text)
    on_dummy = {id for id in unowned if id.address in addresses} if seen or first_time else set()
    return frozenset((listed & set(unowned)) | on_dummy)


def parse_ipset(text: str) -> set[ServiceId]:
    """Return the services in what ``ipset save`` prints of a set of addresses and ports."""
    found = map(_ELEMENT.match, text.splitlines())
    return {ServiceId(match[2].upper(), match[1], int(match[3])) for match in found if match}


def leftovers() -> Leftovers:
    """Return the rules, chains and ipsets that are there. Nothing is created by looking."""
    rules: list[Rules] = []
    for program, tables in _tables().items():
        if not tables or shutil.which(f"{program}-save") is None:
            continue
        for table in tables:
            try:
                rules += recognise(program, table, _run([f"{program}-save", "-t", table]))
            except KernelError as e:
                logger.warning(f"leftovers_not_read program={program} table={table} error={str(e)!r}")
    present = set((_ipset("list", "-name") or "").split())
    return Leftovers(tuple(rules), tuple(name for name in IPSETS if name in present))


def recognise(program: str, table: str, text: str) -> list[Rules]:
    """Return what of kube-router's proxy is in a table, given iptables-save's text of it; nothing, or one."""
    chain = CHAINS[table]
    lines = text.splitlines()
    rules = tuple(line for line in lines if line.startswith("-A ") and _is_ours_to_remove(line, chain))
    there = any(line.startswith(f":{chain} ") for line in lines)
    return [Rules(program, table, rules, chain if there else "")] if rules or there else []


def _is_ours_to_remove(line: str, chain: str) -> bool:
    try:
        words = shlex.split(line)
    except ValueError:
        return False  # an odd quote in somebody's comment
    if words[1] == chain:
        return False  # goes with its chain
    if words[-2:] == ["-j", chain]:
        return True
    masqueraded = "--vmethod" in words and words[words.index("--vmethod") + 1 :][:1] == ["MASQ"]
    unnamed = "--comment" in words and words[words.index("--comment") + 1 :][:1] == [""]
    return chain == HAIRPIN and words[1] == "POSTROUTING" and "SNAT" in words and masqueraded and unnamed


def _tables() -> dict[str, list[str]]:
    """Return, by program, which of the tables in question are there; looking at one that is not would make it."""
    with Netlink(NETLINK_NETFILTER) as link:
        present = nfset.parse_tables(link.dump(nfset.get_tables()))
    found = {program: [table for table in CHAINS if (family, table) in present] for program, family in NFT.items()}
    for program, names in LEGACY.items():
        try:
            loaded = Path("/proc/thread-self/net", names).read_text().split()
        except FileNotFoundError:
            continue
        found[program] = [table for table in CHAINS if table in loaded]
    return found


# -- remove ------------------------------------------------------------------------------------------------------------


def remove(found: Leftovers) -> Counter[str]:
    """Remove it, rules first, since they use the ipsets; return what was removed.

    Raises ``KernelError`` after having tried all of it.
    """
    removed: Counter[str] = Counter()
    troubles: list[str] = []
    for rules in found.rules:
        try:
            _run([f"{rules.program}-restore", "--noflush", "-w", "5"], restore_text(rules))
            removed["leftover rule removed"] += len(rules.rules)
            removed["leftover chain removed"] += bool(rules.chain)
            logger.info(f"leftover_removed program={rules.program} table={rules.table} rules={len(rules.rules)}")
        except KernelError as e:
            troubles.append(str(e))
    for name in found.ipsets:
        if _ipset("destroy", name) is None:
            troubles.append(f"ipset {name} could not be destroyed: a rule that is not kube-router's uses it")
        else:
            removed["leftover ipset removed"] += 1
            logger.info(f"leftover_removed ipset={name}")
    if troubles:
        raise KernelError(f"kube-router's leftovers remain: {'; '.join(troubles)}")
    return +removed


def restore_text(rules: Rules) -> str:
    """Return what iptables-restore needs to remove it all at once."""
    lines = [f"*{rules.table}", *(f"-D{rule[2:]}" for rule in rules.rules)]
    if rules.chain:
        lines += [f"-F {rules.chain}", f"-X {rules.chain}"]
    return "\n".join([*lines, "COMMIT", ""])


# -- programs ----------------------------------------------------------------------------------------------------------


def _ipset(*words: str) -> str | None:
    """Return what ``ipset`` prints, ``None`` where it fails or is not there, or the kernel has no ipsets."""
    if not IP_SET_MODULE.exists() or shutil.which("ipset") is None:
        return None
    try:
        return _run(["ipset", *words])
    except KernelError as e:
        logger.debug(f"ipset_failed words={words} error={str(e)!r}")
        return None


def _run(command: list[str], text: str = "") -> str:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=PROGRAM_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise KernelError(f"{command[0]} failed: {e}") from e
    if done.returncode:
        raise KernelError(f"{' '.join(command)} failed: {done.stderr.strip()[:300]}")
    return done.stdout
