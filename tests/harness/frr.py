"""FRR as a peer in tests: zebra, bgpd and, where a session wants it, bfdd; asked through ``vtysh`` in JSON.

They change to the user ``frr``, as which the package has them run; that user owns the folder with their sockets.
Nothing of an FRR that runs on this machine is touched. A change of user makes the kernel forget to end them with us: a
test that is killed leaves them.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.bgpd import Announcement, Bgpd, Neighbour, Seen, family_of

from kube_router.plugins.routing.bgp.model import Family

FOLDER = "/usr/lib/frr"
ADDRESS_FAMILY = {Family.IPV4: "ipv4 unicast", Family.IPV6: "ipv6 unicast"}


class Frr(Bgpd):
    """A route-map sets the attributes of a prefix that has any."""

    programs = ("vtysh", f"{FOLDER}/zebra", f"{FOLDER}/bgpd", f"{FOLDER}/bfdd")
    package = "frr"

    def configure(self) -> None:
        self.folder.parent.chmod(0o755)
        shutil.chown(self.folder, "frr", "frr")
        (self.folder / "zebra.conf").write_text("hostname zebra\n")
        (self.folder / "bfdd.conf").write_text("hostname bfdd\n")
        (self.folder / "bgpd.conf").write_text("\n".join(self._lines()) + "\n")
        (self.folder / "vtysh.conf").write_text("no service integrated-vtysh-config\n")

    def argvs(self, *, restarted: bool) -> Mapping[str, Sequence[str]]:
        wants_bfd = any(each.bfd_ms for each in self.settings.neighbours)
        names = ("zebra", *(["bfdd"] if wants_bfd else []), "bgpd")
        more = {
            "zebra": [],
            "bfdd": ["--bfdctl", str(self.folder / "bfdd.sock")],
            "bgpd": [] if self.settings.kernel else ["-n"],
        }
        return {name: [f"{FOLDER}/{name}", *self._common(name), *more[name]] for name in names}

    def down(self) -> None:
        try:
            if self.pid("bgpd"):  # or it would leave silently, as to a graceful restart
                ends = (f"neighbor {each.address} shutdown" for each in self.settings.neighbours)
                self.change(f"router bgp {self.settings.asn}", *ends)
        finally:
            super().down()

    def has_started(self, name: str) -> bool:
        return name != "zebra" or (self.folder / "zserv.api").exists()

    def is_ready(self) -> bool:
        try:
            return bool(self.ask("show bgp vrfs json")["vrfs"])
        except AssertionError:
            return False

    def neighbours(self) -> Mapping[str, str]:
        return {name: one["bgpState"] for name, one in self.ask("show bgp neighbors json").items() if "bgpState" in one}

    def routes(self, prefix: str = "") -> list[Seen]:
        families = [family_of(prefix)] if prefix else list(Family)
        found: list[Seen] = []
        for family in families:
            table = f"show bgp {ADDRESS_FAMILY[family]}"
            prefixes = [prefix] if prefix else self.ask(f"{table} json").get("routes", {})
            for each in prefixes:
                found += map(_seen, [each] * 99, self.ask(f"{table} {each} json").get("paths", []))
        return found

    def prefixes(self, neighbour: str) -> set[str]:
        tables = [self.ask(f"show bgp {name} json").get("routes", {}) for name in ADDRESS_FAMILY.values()]
        return {
            prefix
            for table in tables
            for prefix, paths in table.items()
            if any(path.get("peerId") == neighbour for path in paths)
        }

    def announce(self, *announcements: Announcement) -> None:
        self.announced |= {each.prefix: each for each in announcements}
        for each in announcements:
            self.change(*self._route_map(each), f"router bgp {self.settings.asn}", *self._network(each))

    def withdraw(self, *prefixes: str) -> None:
        for prefix in prefixes:
            gone = self.announced.pop(prefix)
            first, second = self._network(gone)
            self.change(f"router bgp {self.settings.asn}", first, f"no {second}")

    def refresh(self, neighbour: str) -> None:
        self.run(self._vtysh(f"clear bgp {neighbour} soft in"))

    def reset(self, neighbour: str) -> None:
        self.run(self._vtysh(f"clear bgp {neighbour}"))

    def stop_gracefully(self) -> None:
        self._daemons["bgpd"].stop(kill=True)  # zebra keeps its routes in the kernel

    def ask(self, question: str) -> dict[str, Any]:
        """Return what vtysh answers to a question that ends in ``json``."""
        answer = json.loads(self.run(self._vtysh(question)) or "{}")
        assert isinstance(answer, dict), f"{question}: {answer!r}"
        return answer

    def change(self, *lines: str) -> None:
        """Enter lines of configuration."""
        self.run(self._vtysh("configure terminal", *lines))

    def _vtysh(self, *commands: str) -> list[str]:
        words = [word for command in commands for word in ("-c", command)]
        folder = str(self.folder)
        return ["vtysh", "--vty_socket", folder, "--config_dir", folder, *words]

    def _common(self, name: str) -> list[str]:
        folder = self.folder
        paths = ["-f", folder / f"{name}.conf", "-i", folder / f"{name}.pid", "-z", folder / "zserv.api"]
        return [*map(str, paths), "--vty_socket", str(folder), "-P", "0", "--log", "stdout"]

    def _lines(self) -> Iterator[str]:
        settings = self.settings
        yield "hostname bgpd"
        yield "log stdout debugging"
        yield "debug bgp neighbor-events"
        for each in self.announced.values():
            yield from self._route_map(each)
        yield f"router bgp {settings.asn}"
        yield f" bgp router-id {settings.router_id}"
        yield " no bgp ebgp-requires-policy"
        yield " no bgp network import-check"
        yield " no bgp default ipv4-unicast"
        yield " bgp graceful-restart"
        yield " bgp graceful-restart preserve-fw-state"
        yield f" bgp graceful-restart restart-time {settings.restart_time_s}"
        yield " bgp graceful-restart select-defer-time 5"
        yield " coalesce-time 0"
        if settings.cluster_id:
            yield f" bgp cluster-id {settings.cluster_id}"
        for neighbour in settings.neighbours:
            yield from (f" neighbor {neighbour.address} {line}" for line in _session(neighbour))
        for family, name in ADDRESS_FAMILY.items():
            yield f" address-family {name}"
            for neighbour in settings.neighbours:
                yield from (f"  neighbor {neighbour.address} {line}" for line in _activation(neighbour, family))
            for each in self.announced.values():
                if each.family is family:
                    yield f"  {self._network(each)[1]}"
            yield " exit-address-family"
        yield "exit"

    def _network(self, announcement: Announcement) -> tuple[str, str]:
        family = ADDRESS_FAMILY[announcement.family]
        sets = f" route-map {_map_name(announcement.prefix)}" if _is_special(announcement) else ""
        return f"address-family {family}", f"network {announcement.prefix}{sets}"

    def _route_map(self, announcement: Announcement) -> Iterator[str]:
        if not _is_special(announcement):
            return
        yield f"no route-map {_map_name(announcement.prefix)}"
        yield f"route-map {_map_name(announcement.prefix)} permit 10"
        if announcement.communities:
            yield f" set community {' '.join(announcement.communities)}"
        if announcement.large_communities:
            yield f" set large-community {' '.join(announcement.large_communities)}"
        if announcement.med is not None:
            yield f" set metric {announcement.med}"
        if announcement.prepend:
            yield f" set as-path prepend {' '.join([str(self.settings.asn)] * announcement.prepend)}"
        yield "exit"


def _session(neighbour: Neighbour) -> Iterator[str]:
    yield f"remote-as {neighbour.asn}"
    yield f"port {neighbour.port}"
    yield f"timers {max(1, neighbour.hold_time_s // 3)} {neighbour.hold_time_s}"
    yield "timers connect 1"
    yield "advertisement-interval 0"
    if neighbour.local_address:
        yield f"update-source {neighbour.local_address}"
    if neighbour.password:
        yield f"password {neighbour.password}"
    if neighbour.multihop:
        yield f"ebgp-multihop {neighbour.multihop}"
    if neighbour.ttl_security:
        yield "ttl-security hops 1"
    if neighbour.passive:
        yield "passive"
    if neighbour.extended_next_hop:
        yield "capability extended-nexthop"
    if not neighbour.four_octet_as:
        yield "dont-capability-negotiate"
    if neighbour.bfd_ms:
        yield f"bfd 3 {neighbour.bfd_ms} {neighbour.bfd_ms}"


def _activation(neighbour: Neighbour, family: Family) -> Iterator[str]:
    if family not in neighbour.families:
        return
    yield "activate"
    if neighbour.reflector_client:
        yield "route-reflector-client"
    if neighbour.next_hop_self:
        yield "next-hop-self"
    if neighbour.add_path:
        yield "addpath-tx-all-paths"


def _is_special(announcement: Announcement) -> bool:
    return announcement != Announcement(prefix=announcement.prefix)


def _map_name(prefix: str) -> str:
    return f"to-{prefix.replace('/', '-')}"


def _seen(prefix: str, path: Mapping[str, Any]) -> Seen:
    peer = path.get("peer", {}).get("peerId", "")
    hops = path.get("nexthops", [])
    used = next((hop["ip"] for hop in hops if hop.get("used")), hops[0]["ip"] if hops else "")
    return Seen(
        prefix,
        "" if peer in ("0.0.0.0", "::") else peer,
        next((hop["ip"] for hop in hops if hop.get("scope") == "global"), used),
        as_path=tuple(_asns(path.get("aspath", {}).get("segments", []))),
        best=bool(path.get("bestpath", {}).get("overall")),
        stale=bool(path.get("stale")),
        local_pref=path.get("locPrf", path.get("localPref")),
        med=path.get("metric"),
        communities=tuple(path.get("community", {}).get("list", [])),
        large_communities=tuple(path.get("largeCommunity", {}).get("list", [])),
        originator_id=path.get("originatorId", ""),
        cluster_list=tuple(path.get("clusterList", {}).get("list", [])),
        path_id=path.get("addPath", {}).get("rxId", 0) or path.get("addpathRxId", 0),
    )


def _asns(segments: Iterable[Mapping[str, Any]]) -> Iterator[int]:
    for segment in segments:
        yield from map(int, segment["list"])
