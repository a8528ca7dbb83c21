"""Replace secrets by keyed digests, so that a change of a secret is seen and the secret is not.

The digest is HMAC-SHA-256 under a key that never enters the journal's folder: without it, a journal that was handed
over does not even allow guessing. The plaintext stays in this process's memory for those who must speak it (TCP-MD5).
After a restart without an API server only digests are known, and ``plaintext`` says so with None.
"""

import hashlib
import hmac

PREFIX = "redacted:"

# 128 bits: no two secrets meet by chance.
DIGEST_HEX_LENGTH = 32

# Passwords of peers number in the tens; a flood of new ones must not grow without end.
REMEMBERED_MAX = 4096


class Redactor:
    """Digests of secrets under one key, and the way back for those seen in this process."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._plaintexts: dict[str, str] = {}

    def digest(self, secret: str) -> str:
        """Return ``redacted:<hex>``, the same for the same secret and key, and remember the secret."""
        # A lone surrogate is no text, but it must not keep the rest of the object from being read.
        mac = hmac.new(self._key, secret.encode("utf-8", "surrogatepass"), hashlib.sha256)
        digest = PREFIX + mac.hexdigest()[:DIGEST_HEX_LENGTH]
        if digest not in self._plaintexts and len(self._plaintexts) >= REMEMBERED_MAX:
            del self._plaintexts[next(iter(self._plaintexts))]
        self._plaintexts[digest] = secret
        return digest

    def plaintext(self, digest: str) -> str | None:
        """Return the secret behind a digest, None where this process has not seen it."""
        return self._plaintexts.get(digest)

    def __repr__(self) -> str:
        """Return the type's name only: tracebacks and debuggers print what they hold."""
        return "Redactor()"
