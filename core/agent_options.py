"""The agent's own options, and the whole table of options there are on this node.

Every plugin gets a switch ``--run-<name>``; for the built-in ones kube-router's name of it is an alias. A plugin that
defines an option which another has defined otherwise does not get its own: the first definition stands and a warning
says so, for a misbehaving third party must not keep the node from starting.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from kube_router.core.kube_router_flags import UNSERVED
from kube_router.core.options import Group, Option, Options, Value, positive
from kube_router.events.errors import ConfigError

MIB = 1 << 20
JOURNAL_BYTES_MIN = 1 * MIB

RUN_ALIASES: Mapping[str, tuple[str, ...]] = {
    "proxy": ("run-service-proxy",),
    "firewall": ("run-firewall",),
    "routing": ("run-router",),
    "loadbalancer": ("run-loadbalancer",),
}
OFF_BY_DEFAULT = frozenset({"loadbalancer"})


def _port(value: Value) -> None:
    assert isinstance(value, int)
    if not 0 <= value <= 65535:
        raise ValueError(f"{value} is not a port (0-65535)")


def _journal_size(value: Value) -> None:
    assert isinstance(value, int)
    if value < JOURNAL_BYTES_MIN:
        raise ValueError("has to be at least 1MiB")


def _no_credentials(value: Value) -> None:
    """Refuse ``https://user:password@host``: options are written to the journal."""
    if "@" in urlsplit(str(value)).netloc:
        raise ValueError("must not hold credentials; put them into a kubeconfig")


def _path_of_url(value: Value) -> None:
    if not str(value).startswith("/"):
        raise ValueError("has to begin with /")


AGENT = (
    Option("config", "text", "", "read options from this YAML file (a mapping of flag names to values)"),
    Option("kubeconfig", "text", "", "reach the API server as this kubeconfig file says; empty: in-cluster"),
    Option(
        "master",
        "text",
        "",
        "URL of the API server, asked before the in-cluster one, and instead of the kubeconfig's",
        check=_no_credentials,
    ),
    Option("manifests", "text", "", "take the objects from this folder of YAML manifests instead of an API server"),
    Option("hostname-override", "text", "", "name of this node; empty: NODE_NAME, else the host's name"),
    Option("journal-dir", "text", "/var/lib/kube-router/journal", "folder of the journal"),
    Option(
        "journal-size",
        "size",
        128 * MIB,
        "how much history the journal may keep (bytes, or for example 128MiB)",
        check=_journal_size,
    ),
    Option(
        "cache-sync-timeout",
        "duration",
        60.0,
        "accepted for compatibility: the node works from its journal while the API server is away",
        check=positive,
    ),
    Option("health-addr", "text", "", "address of the health endpoint; empty: all"),
    Option("health-port", "int", 20244, "port of the health endpoint; 0: none", check=_port),
    Option("metrics-addr", "text", "", "address of the metrics endpoint; empty: all"),
    Option("metrics-path", "text", "/metrics", "path of the metrics endpoint", check=_path_of_url),
    Option("metrics-port", "int", 0, "port of the metrics endpoint; 0: none", check=_port),
    Option("control-socket", "text", "/run/kube-router/kr.sock", "unix socket for kr status; empty: none"),
    Option("cleanup-config", "bool", False, "remove from this node's kernel all that is ours, then exit"),
    Option("v", "int", 0, "log level: 0 changes and problems, 1 and more debugging", short="v"),
    Option("version", "bool", False, "print the version and exit", short="V"),
    Option("help", "bool", False, "print this text and exit", short="h"),
)


def run_option(plugin: str) -> Option:
    """Return the switch that enables a plugin."""
    return Option(
        f"run-{plugin}",
        "bool",
        plugin not in OFF_BY_DEFAULT,
        f"run the plugin {plugin}",
        aliases=tuple(alias for alias in RUN_ALIASES.get(plugin, ()) if alias != f"run-{plugin}"),
    )


def option_groups(plugins: Mapping[str, Sequence[Option]]) -> tuple[tuple[Group, ...], tuple[str, ...]]:
    """Return all options there are, grouped, and a warning for each that could not be taken.

    ``plugins`` maps the name of each plugin's entry point to the options it brings.
    """
    taken: dict[str, Option] = {}
    groups = [_take("agent", AGENT, taken, [])]
    warnings: list[str] = []
    for name, options in plugins.items():
        groups.append(_take(name, (run_option(name), *options), taken, warnings))
    left = tuple(option for option in UNSERVED if option.name not in taken)
    groups.append(Group("accepted from kube-router without effect, not served yet", left, served=False))
    return tuple(groups), tuple(warnings)


def _take(title: str, options: Sequence[Option], taken: dict[str, Option], warnings: list[str]) -> Group:
    """Return the group of those options whose names are free, and mark the names as taken."""
    group: list[Option] = []
    for option in options:
        others = [taken[name] for name in _names(option) if name in taken]
        if not others:
            taken.update(dict.fromkeys(_names(option), option))
            group.append(option)
        elif any(other != option for other in others):
            warnings.append(
                f"plugin {title}: option --{option.name} is defined otherwise already; the first one stands"
            )
    return Group(title, tuple(group))


def _names(option: Option) -> tuple[str, ...]:
    """Return all that names an option; a dash before the short one keeps ``-v`` and ``--v`` apart."""
    return (option.name, *option.aliases, *([f"-{option.short}"] if option.short else []))


def node_name(options: Options, environ: Mapping[str, str] = os.environ) -> str:
    """Return this node's name: ``--hostname-override``, else NODE_NAME, else the host's name as the kubelet has it."""
    name = options.text("hostname-override") or environ.get("NODE_NAME", "") or socket.gethostname().strip().lower()
    if not name or "/" in name or any(character.isspace() for character in name):
        raise ConfigError(f"the node's name {name[:100]!r} cannot be one; set --hostname-override")
    return name
