"""The CNI configuration file: found, read, and replaced where pods' addresses or MTU have to change (I/O).

The file is ``$KUBE_ROUTER_CNI_CONF_FILE``, else ``10-kuberouter.conflist`` or ``10-kuberouter.conf`` of /etc/cni/net.d.
It is replaced by renaming another over it, with its mode and owner, so that the kubelet never reads half of one. Where
the folder holds no configuration at all, the reference one is written: a node whose init container did not come so far.
Whatever is wrong with the file is told and hinders nothing else, since the pods that run do not need it.

Blocking, for the plugin's worker thread.
"""

import logging
import os
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from kube_router.events.errors import ConfigError
from kube_router.plugins.routing import cni

logger = logging.getLogger(__name__)

VARIABLE = "KUBE_ROUTER_CNI_CONF_FILE"
FOLDER = Path("/etc/cni/net.d")
NAMES = ("10-kuberouter.conflist", "10-kuberouter.conf")
SUFFIXES = (".conf", ".conflist", ".json")  # those that the kubelet's runtimes read
BYTES_MAX = 1 << 20
NEW_MODE = 0o644


def locate(environment: Mapping[str, str], *, folder: Path = FOLDER) -> Path:
    """Return the path of the configuration, there or not."""
    if named := environment.get(VARIABLE):
        return Path(named)
    return next((folder / name for name in NAMES if (folder / name).exists()), folder / NAMES[0])


def read_pod_cidrs(path: Path) -> tuple[str, ...]:
    """Return the CIDRs that the file gives pods addresses of, none where it is not there or cannot be used."""
    try:
        return cni.pod_cidrs_of(_read(path))
    except FileNotFoundError:
        return ()
    except (OSError, ConfigError) as error:
        logger.warning("cni_not_read path=%s error=%r", path, str(error))
        return ()


def bring(path: Path, pod_cidrs: Sequence[str], mtu: int = 0) -> tuple[Counter[str], tuple[str, ...]]:
    """Make the file give pods these CIDRs and this MTU (0: as it is); return writes, and in words what is wrong."""
    try:
        return _bring(path, pod_cidrs, mtu), ()
    except FileNotFoundError:
        return Counter(), (_missing(path),)
    except OSError as error:
        return Counter(), (f"CNI configuration {path}: {error.strerror}; pods get addresses as it is",)
    except ConfigError as error:
        return Counter(), (f"CNI configuration {path}: {error}; it is left as it is",)


def _bring(path: Path, pod_cidrs: Sequence[str], mtu: int) -> Counter[str]:
    # Without ranges it would make the node ready for pods that then get no address.
    if pod_cidrs and not path.exists() and _is_unconfigured(path.parent):
        text = cni.configure(cni.reference(as_list=path.suffix != ".conf"), pod_cidrs, mtu)
        _replace(path, text, mode=NEW_MODE, owner=None)
        logger.info("cni_written path=%s why='there was none'", path)
        return Counter({"CNI configuration written": 1})
    found = _read(path)
    text = cni.configure(found, pod_cidrs, mtu)
    if text == found:
        return Counter()
    there = path.stat()
    _replace(path, text, mode=stat.S_IMODE(there.st_mode), owner=(there.st_uid, there.st_gid))
    logger.info("cni_changed path=%s pod_cidrs=%s mtu=%d", path, ",".join(pod_cidrs), mtu)
    return Counter({"CNI configuration changed": 1})


def _is_unconfigured(folder: Path) -> bool:
    return folder.is_dir() and not any(each.suffix in SUFFIXES for each in folder.iterdir())


def _missing(path: Path) -> str:
    if not path.parent.is_dir():
        return f"CNI configuration {path}: the folder is not there; mount it, or set --enable-cni=false"
    if _is_unconfigured(path.parent):
        return f"CNI configuration {path}: there is none, and no pod CIDR of this node to write one"
    return f"CNI configuration {path}: not there, and the folder has another; name it in ${VARIABLE}, or remove it"


def _read(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(BYTES_MAX + 1)
    if len(data) > BYTES_MAX:
        raise ConfigError(f"larger than {BYTES_MAX} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"no UTF-8: {error.reason} at byte {error.start}") from None


def _replace(path: Path, text: str, *, mode: int, owner: tuple[int, int] | None) -> None:
    """Put the text where the path leads to, all of it or nothing."""
    target = Path(os.path.realpath(path))
    written = target.with_name(f".{target.name}.kube-router")  # not a suffix that anybody reads
    written.unlink(missing_ok=True)  # of a run that ended while it wrote
    try:
        with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(text.encode())
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        written.rename(target)
    except OSError:
        written.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
