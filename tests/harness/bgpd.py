"""Other people's BGP daemons as peers in tests: one way to configure, run and ask BIRD 2, FRR and GoBGP.

A daemon runs inside a network namespace, with a folder of its own for its configuration, sockets and log, and is ended
by its pid. What differs between the three stays in harness/bird.py, harness/frr.py and harness/gobgp.py; a test says
what it wants in the words here and reads the answer in them.

Timers are as short as each daemon allows, so that a test waits for a condition and not for a connect-retry.
"""

import shutil
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple, Self

from harness.daemon import Daemon
from harness.machine import until

from kube_router.plugins.routing.bgp.model import BGP_PORT, Family

ANSWER_S_MAX = 20
READY_S_MAX = 15
WAIT_S_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """One session of a daemon. ``multihop`` is the TTL that an eBGP session over routers gets, 0 for a direct one."""

    address: str
    asn: int
    port: int = BGP_PORT
    local_address: str = ""
    families: tuple[Family, ...] = (Family.IPV4,)
    password: str = ""
    multihop: int = 0
    ttl_security: bool = False
    passive: bool = False
    hold_time_s: int = 90
    reflector_client: bool = False
    next_hop_self: bool = False
    add_path: bool = False  # sends all its paths, takes several
    extended_next_hop: bool = False  # RFC 8950
    extended_message: bool = True
    four_octet_as: bool = True
    graceful_restart: bool = True
    bfd_ms: int = 0  # interval of BFD packets, with a multiplier of 3; 0 is no BFD


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """A route that the daemon itself announces, with itself as next hop."""

    prefix: str
    communities: tuple[str, ...] = ()  # "65000:1"
    large_communities: tuple[str, ...] = ()  # "65000:1:2"
    med: int | None = None
    prepend: int = 0  # how often its own AS number is put in front once more

    @property
    def family(self) -> Family:
        return family_of(self.prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that a daemon is. ``kernel``: whether the routes that it learns go into its namespace's kernel.

    ``address6`` is its own IPv6 address, the next hop of its IPv6 routes: GoBGP does not find that by itself.
    """

    asn: int
    router_id: str
    neighbours: tuple[Neighbour, ...] = ()
    announcements: tuple[Announcement, ...] = ()
    cluster_id: str = ""
    address6: str = ""
    restart_time_s: int = 20
    kernel: bool = True
    quiet: bool = False  # logs nothing that happens: for measurements


class Seen(NamedTuple):
    """A path to a prefix, as a daemon shows it. ``peer`` is the neighbour's address, "" for its own."""

    prefix: str
    peer: str
    next_hop: str
    as_path: tuple[int, ...] = ()
    best: bool = False
    stale: bool = False
    local_pref: int | None = None
    med: int | None = None
    communities: tuple[str, ...] = ()
    large_communities: tuple[str, ...] = ()
    originator_id: str = ""
    cluster_list: tuple[str, ...] = ()
    path_id: int = 0


class Bgpd(ABC):
    """A daemon in a namespace; a subclass knows one program. Ended with all its processes at the end of a ``with``."""

    programs: tuple[str, ...] = ()
    package = ""

    def __init__(self, settings: Settings, namespace: str, folder: Path) -> None:
        self.settings, self.namespace, self.folder = settings, namespace, folder
        self.announced = {each.prefix: each for each in settings.announcements}
        self._daemons: dict[str, Daemon] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        try:
            self.up()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    @classmethod
    def why_none(cls) -> str:
        """Return why this daemon cannot run here, "" if it can."""
        missing = [program for program in cls.programs if not shutil.which(program)]
        return f"there is no {', '.join(missing)}: apt-get install {cls.package}" if missing else ""

    # -- what each daemon does in its way

    @abstractmethod
    def configure(self) -> None:
        """Write its configuration from ``settings`` and ``announced``."""

    @abstractmethod
    def argvs(self, *, restarted: bool) -> Mapping[str, Sequence[str]]:
        """Return by name the programs to run, in this order. ``restarted``: it keeps what an earlier run left."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Tell whether it answers questions."""

    @abstractmethod
    def neighbours(self) -> Mapping[str, str]:
        """Return the state of each session by the neighbour's address; ``Established`` is the one that counts."""

    @abstractmethod
    def routes(self, prefix: str = "") -> list[Seen]:
        """Return all paths it has, or all to one prefix."""

    @abstractmethod
    def announce(self, *announcements: Announcement) -> None:
        """Announce some more prefixes, or the same in another way."""

    @abstractmethod
    def withdraw(self, *prefixes: str) -> None:
        """Announce some prefixes no longer."""

    @abstractmethod
    def refresh(self, neighbour: str) -> None:
        """Ask a neighbour to send all its routes again (RFC 2918)."""

    @abstractmethod
    def reset(self, neighbour: str) -> None:
        """End a session with a NOTIFICATION; it comes up again by itself."""

    def has_started(self, name: str) -> bool:
        """Tell whether the next program may be started after this one."""
        return True

    def prefixes(self, neighbour: str) -> set[str]:
        """Return all that a neighbour has told it."""
        return {each.prefix for each in self.routes() if each.peer == neighbour}

    # -- what is the same for all

    def up(self, *, restarted: bool = False) -> None:
        """Start it and wait until it answers; AssertionError with its last words where it does not."""
        self.configure()
        try:
            for name, argv in self.argvs(restarted=restarted).items():
                if not self.pid(name):
                    self._daemons[name] = Daemon(["ip", "netns", "exec", self.namespace, *argv], self.log(name))
                    self._daemons[name].start()
                until(partial(self.has_started, name), what=f"{name} in {self.namespace}", timeout_s=READY_S_MAX)
            until(self._answers, what=f"{self.name} to answer", timeout_s=READY_S_MAX)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.last_words()}") from error

    def down(self) -> None:
        """End it politely: its neighbours are told."""
        for daemon in reversed(self._daemons.values()):
            daemon.stop()

    def kill(self) -> None:
        """End it as a crash would: nobody is told, and what it put into the kernel stays."""
        for daemon in reversed(self._daemons.values()):
            daemon.stop(kill=True)

    def restart(self, *, graceful: bool) -> None:
        """End it and start it again: as its graceful restart has it, or politely with everything withdrawn."""
        if graceful:
            self.stop_gracefully()
        else:
            self.down()
        self.up(restarted=graceful)

    def stop_gracefully(self) -> None:
        """End it so that its neighbours keep its routes (RFC 4724)."""
        self.kill()

    def wait_ended(self) -> None:
        """Wait until its programs have ended by themselves."""
        for daemon in self._daemons.values():
            daemon.wait_ended()

    def freeze(self, *, thaw: bool = False) -> None:
        """Stop its processes without ending them, or let them go on: the neighbours' hold timers run out."""
        for daemon in self._daemons.values():
            daemon.signal(signal.SIGCONT if thaw else signal.SIGSTOP)

    @property
    def name(self) -> str:
        return f"{type(self).__name__} in {self.namespace}"

    def pid(self, name: str = "") -> int:
        """Return a program's pid (the last one's, the BGP daemon's), 0 while it does not run."""
        daemon = self._daemons.get(name) if name else next(reversed(self._daemons.values()), None)
        return daemon.pid if daemon else 0

    def is_established(self, neighbour: str) -> bool:
        """Tell whether a session is up."""
        return self.neighbours().get(neighbour) == "Established"

    def wait_established(self, *neighbours: str, timeout_s: float = WAIT_S_MAX) -> None:
        """Wait until these sessions are up, all of them without any given."""
        wanted = neighbours or tuple(each.address for each in self.settings.neighbours)
        self.wait(lambda: all(map(self.is_established, wanted)), f"sessions with {', '.join(wanted)}", timeout_s)

    def wait_lost(self, neighbour: str, timeout_s: float = WAIT_S_MAX) -> None:
        """Wait until a session is no longer up."""
        self.wait(lambda: not self.is_established(neighbour), f"the end of the session with {neighbour}", timeout_s)

    def wait_route(self, prefix: str, timeout_s: float = WAIT_S_MAX) -> Seen:
        """Wait until it has a best path to a prefix, and return it."""
        return self._wait_path(prefix, "a route", lambda path: path.best, timeout_s)

    def wait_path(self, prefix: str, *, peer: str, timeout_s: float = WAIT_S_MAX) -> Seen:
        """Wait until it has a path to a prefix from this neighbour, and return it."""
        return self._wait_path(prefix, f"a path from {peer}", lambda path: path.peer == peer, timeout_s)

    def _wait_path(self, prefix: str, what: str, wanted: Callable[[Seen], bool], timeout_s: float) -> Seen:
        found: list[Seen] = []

        def there() -> bool:
            found[:] = filter(wanted, self.routes(prefix))
            return bool(found)

        self.wait(there, f"{what} to {prefix}", timeout_s)
        return found[0]

    def wait_no_route(self, prefix: str, timeout_s: float = WAIT_S_MAX) -> None:
        """Wait until it has no path to a prefix."""
        self.wait(lambda: not self.routes(prefix), f"no route to {prefix}", timeout_s)

    def wait(self, condition: Callable[[], object], what: str, timeout_s: float = WAIT_S_MAX) -> None:
        """Wait for a condition; AssertionError with sessions and the log's end where it does not come."""
        try:
            until(condition, what=f"{what} at {self.name}", timeout_s=timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\nsessions: {self.neighbours()}\n{self.last_words()}") from error

    def run(self, argv: Sequence[str]) -> str:
        """Return what a program prints inside the namespace; AssertionError where it fails."""
        inside = ["ip", "netns", "exec", self.namespace, *argv]
        done = subprocess.run(inside, capture_output=True, text=True, timeout=ANSWER_S_MAX, check=False)
        if done.returncode:
            words = f"{' '.join(argv)} ended with {done.returncode}: {done.stderr}{done.stdout}"
            raise AssertionError(f"{self.name}: {words}\n{self.last_words()}")
        return done.stdout

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def last_words(self) -> str:
        """Return the end of the log of each of its programs."""
        return "\n".join(f"-- {name} says:\n{daemon.last_words()}" for name, daemon in self._daemons.items())

    def _answers(self) -> bool:
        for daemon in self._daemons.values():
            daemon.check()
        return self.is_ready()


def family_of(prefix: str) -> Family:
    """Return the family of a CIDR in text."""
    return Family.IPV4 if ip_network(prefix).version == 4 else Family.IPV6
