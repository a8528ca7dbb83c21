"""The four families of errors: each says whose fault it is, what, where, and what now.

ConfigError    the operator's: stop at start, exit status 2.
ObjectError    of whoever wrote a Kubernetes object: skip that object, fail closed for it, go on.
KernelError    the kernel's, or of what else changes it: stay dirty, back off, try again.
PeerError      a remote end's (API server, BGP peer): back off, try again.
An ``assert`` is ours.
"""

from dataclasses import dataclass


class KubeRouterError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(KubeRouterError):
    """A flag, a file or the machine is not as the operator said it would be."""


class ObjectError(KubeRouterError):
    """A Kubernetes object that cannot be used. ``where`` is a path inside it, such as ``spec.ports[1].port``."""

    def __init__(self, kind: str, key: str, what: str) -> None:
        super().__init__(f"{kind} {key}: {what}")
        self.kind, self.key, self.what = kind, key, what


class KernelError(KubeRouterError):
    """A kernel call that failed. ``errno`` is the kernel's, 0 where there was none."""

    def __init__(self, what: str, errno: int = 0) -> None:
        super().__init__(what)
        self.errno = errno


class PeerError(KubeRouterError):
    """A remote end that answered wrongly or not at all. ``retry_after_s`` is its own wish, 0 without one."""

    def __init__(self, what: str, retry_after_s: float = 0) -> None:
        super().__init__(what)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong with one object, in words.

    ``Problem("Service", "prod/web", "spec.ports[0].port: 70000 is not 1-65535; port ignored")``
    """

    kind: str
    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind} {self.key}: {self.text}"
