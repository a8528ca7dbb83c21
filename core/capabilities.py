"""Capabilities (capabilities(7)): which this process has, and which the plugins need (I/O: reads /proc).

An agent that lacks one would serve in part: policies that are not there, routes that do not go. So it does not start.
What the kernel holds from an earlier run stays as it is.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from kube_router.core.sysctl import ROOT
from kube_router.events.errors import ConfigError

STATUS = Path("/proc/self/status")
PORT_START = "net/ipv4/ip_unprivileged_port_start"  # of IPv6 too
PORT_START_DEFAULT = 1024
# By their numbers (linux/capability.h). Later ones are not known by name here, and nobody's need.
_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
NAMES = tuple(_NAMES.split())
NOW = (
    "in a pod add them to securityContext.capabilities.add; under systemd to AmbientCapabilities= and, if that is set, "
    "CapabilityBoundingSet=; nothing was changed on this node"
)

Needs = Mapping[str, Mapping[str, str]]  # by plugin: name of the capability → why


def effective(status: Path = STATUS) -> frozenset[str]:
    """Return the names of the capabilities that this process has and may use now."""
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    mask = int(fields["CapEff"], 16)
    return frozenset(name for bit, name in enumerate(NAMES) if mask >> bit & 1)


def check(needs: Needs, have: Collection[str]) -> None:
    """Raises ``ConfigError`` that names what is missing, which plugin needs it and why, and where to add it."""
    by_name: dict[str, list[str]] = {}
    for plugin, stated in needs.items():
        for name, why in stated.items():
            if name not in NAMES:
                raise ConfigError(f"plugin {plugin} needs the capability {name!r}, and there is none of this name")
            if name not in have:
                by_name.setdefault(name, []).append(f"{plugin}: {why}")
    if by_name:
        missing = ", ".join(f"{name} ({'; '.join(whose)})" for name, whose in sorted(by_name.items()))
        raise ConfigError(f"missing capabilities: {missing}; {NOW}")


def to_listen(ports: Mapping[str, int], *, root: Path = ROOT) -> dict[str, str]:
    """Return NET_BIND_SERVICE and why, where one of these ports, by who listens, takes it; nothing else."""
    try:
        start = int((root / PORT_START).read_text())
    except (OSError, ValueError):
        start = PORT_START_DEFAULT
    low = [f"{who} listens on port {port}" for who, port in ports.items() if port < start]
    return {"NET_BIND_SERVICE": f"{' and '.join(low)}, ports below {start} are privileged"} if low else {}
