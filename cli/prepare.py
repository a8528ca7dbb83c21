"""``kr prepare``: what a node needs before the agent may run without privileges on it (I/O).

Loading a kernel module takes CAP_SYS_MODULE, which an agent that runs for months should not have; so an init container
does it. What is built in or not there at all is nothing to fail for: the plugins say what they lack. The CNI plugins
are put where the node's container runtime looks for them, each whole or not at all, and none over what is there.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from kube_router.core import modules
from kube_router.core.capabilities import effective
from kube_router.events.errors import ConfigError

# What the built-in plugins use of a kernel that has it as modules; docs/install.md says which is for what.
MODULES = (
    "br_netfilter",
    "nf_conntrack_netlink",
    "nfnetlink_log",
    "nft_chain_nat",
    "nft_ct",
    "nft_fib_inet",
    "nft_limit",
    "nft_log",
    "nft_masq",
    "nft_nat",
    "nft_reject_inet",
    "ip_vs",
    "ip_vs_rr",
    "dummy",
    "ipip",
    "ip6_tunnel",
    "fou",
    "fou6",
    "vxlan",
)
MODPROBE_S = 60
CNI_SOURCE = Path("/usr/lib/cni")
CNI_PLUGINS = ("bridge", "host-local", "loopback", "portmap")
MODE = 0o755


@click.command()
@click.option("--modules", "load_modules", is_flag=True, help="Load the kernel modules that the built-in plugins use.")
@click.option(
    "--cni-bin",
    type=click.Path(file_okay=False, path_type=Path),
    help="Put the CNI plugins that are missing into this folder, such as /opt/cni/bin.",
)
@click.option(
    "--cni-source",
    type=click.Path(file_okay=False, path_type=Path),
    default=CNI_SOURCE,
    show_default=True,
    help="Take them from here.",
)
def prepare(*, load_modules: bool, cni_bin: Path | None, cni_source: Path) -> None:
    """Prepare this node for an agent without privileges. For the DaemonSet's init containers."""
    if not load_modules and cni_bin is None:
        raise ConfigError("kr prepare: nothing to do; give --modules, --cni-bin or both")
    if load_modules:
        for line in load(MODULES):
            click.echo(line)
    if cni_bin is not None:
        for name in install(CNI_PLUGINS, source=cni_source, target=cni_bin):
            click.echo(f"{cni_bin / name}: installed")


def load(names: Sequence[str]) -> list[str]:
    """Load modules; return a line for each reason why some could not be. Raises ConfigError where none can be."""
    if "SYS_MODULE" not in effective():
        raise ConfigError(
            "kr prepare: loading modules takes the capability SYS_MODULE: add it to the init container's "
            "securityContext.capabilities, or load the modules on the host and leave --modules out"
        )
    refused: dict[str, list[str]] = {}
    for name in names:
        try:
            trouble = modules.modprobe(name, timeout_s=MODPROBE_S)
        except FileNotFoundError as error:
            raise ConfigError("kr prepare: there is no modprobe; install kmod") from error
        if trouble:
            refused.setdefault(_reason(trouble, name), []).append(name)
    return [f"not loaded: {', '.join(each)}: {reason}" for reason, each in refused.items()]


def _reason(words: str, module: str) -> str:
    """Return modprobe's words without the module's name, so that modules refused for one reason go together."""
    words = " ".join(words.split()).removeprefix("modprobe: ")
    return words.replace(f" {module} ", " ").replace(f" '{module}'", "")


def install(names: Iterable[str], *, source: Path, target: Path) -> list[str]:
    """Copy programs that are not there; return which. Raises ConfigError, naming the file."""
    installed = []
    for name in names:
        if (target / name).exists():
            continue
        written = target / f".{name}.kube-router"
        try:
            shutil.copyfile(source / name, written)
            written.chmod(MODE)
            written.rename(target / name)
        except OSError as error:
            written.unlink(missing_ok=True)
            what = error.filename or os.fspath(target / name)
            raise ConfigError(f"kr prepare: {what}: {error.strerror}; mount the node's folder, writable") from error
        installed.append(name)
    return installed
