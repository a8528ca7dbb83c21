"""Wait until no packet is on its way through the kernel that set out before now (I/O).

The kernel handles a packet inside an RCU read section. membarrier(2) with MEMBARRIER_CMD_GLOBAL waits for a grace
period: when it returns, every section that had begun has ended. Where that call is not to be had (a kernel without it,
CPUs without a tick, a machine whose number for it we do not know) a pause has to do.
"""

import ctypes
import platform
import time

MEMBARRIER_CMD_GLOBAL = 1
_NUMBERS = {"x86_64": 324, "aarch64": 283, "ppc64le": 365, "s390x": 356, "riscv64": 283}  # __NR_membarrier
PAUSE_S = 0.05

_libc = ctypes.CDLL(None, use_errno=True)


def wait_for_packets() -> None:
    """Return when all packets have passed that are being handled now: after some ten milliseconds."""
    number = _NUMBERS.get(platform.machine())
    if number is None or _libc.syscall(number, MEMBARRIER_CMD_GLOBAL, 0, 0) != 0:
        time.sleep(PAUSE_S)
