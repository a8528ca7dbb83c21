"""Kernel modules that the kernel does not load by itself when they are used (I/O).

Loading one takes the capability SYS_MODULE, which the agent need not have: then somebody else loads it before.
"""

import subprocess
from pathlib import Path

LOADED = Path("/sys/module")
MODPROBE_S = 30


def load(name: str) -> str:
    """Load a module unless it is there; return in words why that failed, "" else. Blocks."""
    if (LOADED / name).exists():
        return ""
    try:
        trouble = modprobe(name)
    except OSError as e:
        trouble = str(e)
    return f"modprobe {name}: {trouble}; {remedy(name)}" if trouble else ""


def modprobe(name: str, *, timeout_s: float = MODPROBE_S) -> str:
    """Load a module with what it depends on; return in words why that failed, "" else. OSError without modprobe."""
    try:
        done = subprocess.run(["modprobe", name], capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return f"not done within {timeout_s:g} s"
    return done.stderr.strip() or f"status {done.returncode}" if done.returncode else ""


def remedy(name: str) -> str:
    """Return in words what to do about a module that the kernel lacks."""
    return (
        f"load it on the host (`modprobe {name}`, and a line in /etc/modules-load.d to have it after a reboot) "
        "or in an init container of the DaemonSet that has SYS_MODULE and the host's /lib/modules; "
        "a kernel that was built without it has to be replaced"
    )
