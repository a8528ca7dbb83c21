"""Load the key under which secrets are digested, or make it on first use.

The key must outlive restarts, so that an unchanged password stays an unchanged digest, and must not travel with the
journal: it lives outside the journal's folder and only root can read it.
"""

import os
import secrets
from pathlib import Path

from kube_router.events.errors import ConfigError

KEY_BYTES = 32


def load_key(path: Path) -> bytes:
    """Return the key in the file, making it (0600) where there is none.

    A file of another size is replaced: a half-written key is of no use to anybody. ConfigError where it can be
    neither read nor made.
    """
    try:
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            key = b""
        return key if len(key) == KEY_BYTES else _make_key(path)
    except OSError as error:
        raise ConfigError(f"cannot read or make the redaction key {path}: {error.strerror}") from error


def _make_key(path: Path) -> bytes:
    key = secrets.token_bytes(KEY_BYTES)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    return key
