"""Debian's cloud kernel for the VM, downloaded with apt and unpacked into a cache; nothing of it is installed.

The cloud flavour has ip_vs, dummy, ipip, fou, nftables, sctp and wireguard, and boots from virtio-fs. A suite is
``host`` (what this machine's own apt sources offer) or a Debian suite (``trixie``, ``bookworm-backports``), for which
apt runs with sources, lists and cache of its own, so that the machine's stay as they are. Layout of the cache, one
folder per suite: ``boot/vmlinuz-*`` or ``lib/modules/*/vmlinuz``, and ``lib/modules/VERSION`` with its modules already
uncompressed, for an emulated CPU would spend seconds on xz.
"""

import fcntl
import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kube_router.events.errors import ConfigError

META_PACKAGE = "linux-image-cloud-amd64"
ALIASES = {"6.1": "bookworm", "6.12": "trixie"}
APT_TIMEOUT_S = 600
_PARTS = re.compile(r"Depends: (linux-(?:image|base|binary|modules)-\d\S+)")


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel: its image, and the folder ``lib/modules/VERSION`` of its modules."""

    vmlinuz: Path
    modules: Path


def cache_dir() -> Path:
    """Return where kernels are kept: $KR_VM_CACHE, else ~/.cache/kube-router/vm."""
    return Path(os.environ.get("KR_VM_CACHE") or Path.home() / ".cache/kube-router/vm")


def kernel(suite: str) -> Kernel:
    """Return a suite's kernel, downloaded on first use. ConfigError if apt cannot get it."""
    suite = ALIASES.get(suite, suite)
    if not re.fullmatch(r"[a-z][a-z0-9.-]*", suite):
        raise ConfigError(f"--kernel {suite}: not the name of a Debian suite; try host, bookworm or trixie")
    top = cache_dir() / suite
    if not top.is_dir():
        _fetch_once(suite, top)
    modules = next(iter(sorted((top / "lib/modules").glob("*"))), None)
    images = [*top.glob("boot/vmlinuz-*"), *top.glob("lib/modules/*/vmlinuz")]
    if modules is None or not images:
        raise ConfigError(f"{top} holds no complete kernel: remove that folder and try again")
    return Kernel(images[0], modules)


def _fetch_once(suite: str, top: Path) -> None:
    top.parent.mkdir(parents=True, exist_ok=True)
    with _locked(top.with_suffix(".lock")):
        if top.is_dir():  # another process was faster
            return
        print(f"vm: fetching Debian's cloud kernel ({suite}) into {top}, once", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=top.parent, prefix=".fetch-") as scratch:
            unpacked = Path(scratch) / "kernel"
            _fetch(suite, unpacked)
            unpacked.rename(top)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(suite: str, top: Path) -> None:
    (top / "lists/partial").mkdir(parents=True)
    options = ["-qq", "-o", "APT::Sandbox::User=root"]
    if suite != "host":
        options += _private_apt(suite, top)
        _run(["apt-get", *options, "update"], what=f"apt-get update for {suite}")
    packages = _packages(options, suite)
    _run(["apt-get", *options, "download", *packages], cwd=top, what="apt-get download of the kernel")
    for deb in top.glob("*.deb"):
        _run(["dpkg-deb", "-x", str(deb), str(top)], what=f"unpacking {deb.name}")
        deb.unlink()
    if not (top / "lib/modules").is_dir():  # from trixie on packages no longer go through the link /lib
        (top / "lib").symlink_to("usr/lib")
    _uncompress_modules(top)
    for version in (top / "lib/modules").iterdir():
        _run(["depmod", "-b", str(top), version.name], what="depmod")


def _private_apt(suite: str, top: Path) -> list[str]:
    """Return apt options that make it see one suite of the machine's own Debian mirror and nothing else."""
    listing = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"], what="apt-get")
    mirror = next((uri for uri in listing.split() if re.search(r"/debian/?$", uri)), "http://deb.debian.org/debian")
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (top / "sources").write_text(f"deb [signed-by={keyring}] {mirror} {suite} main\n")
    options = [f"Etc::sourcelist={top}/sources", "Etc::sourceparts=/dev/null", f"State::lists={top}/lists"]
    return [word for option in [*options, f"Cache={top}"] for word in ("-o", f"Dir::{option}")]


def _packages(options: Sequence[str], suite: str) -> list[str]:
    """Return the packages that the meta package stands for: newer suites split the kernel into several."""
    found: dict[str, None] = {}
    todo = [META_PACKAGE]
    while todo:
        text = _run(["apt-cache", *options, "depends", "--important", todo.pop()], what=f"apt-cache ({suite})")
        new = [name for name in _PARTS.findall(text) if name not in found]
        found |= dict.fromkeys(new)
        todo += new
    if not found:
        raise ConfigError(f"apt knows no {META_PACKAGE} in {suite}: run apt-get update, or name a Debian suite")
    return list(found)


def _uncompress_modules(top: Path) -> None:
    for path in (top / "lib/modules").glob("*/kernel/**/*.ko.xz"):
        with lzma.open(path) as packed, path.with_suffix("").open("wb") as plain:
            shutil.copyfileobj(packed, plain)
        path.unlink()


def _run(argv: list[str], *, what: str, cwd: Path | None = None) -> str:
    """Return what the command printed. ConfigError with its last words if it failed."""
    try:
        done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=APT_TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise ConfigError(f"{argv[0]} is missing: the VM's kernel is fetched with Debian's tools") from None
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{what} took longer than {APT_TIMEOUT_S} s and was given up") from None
    if done.returncode:
        raise ConfigError(f"{what} failed with status {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout
