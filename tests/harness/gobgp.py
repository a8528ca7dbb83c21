"""GoBGP as a peer in tests: its configuration, and what ``gobgp -j`` prints as values.

GoBGP puts no routes into a kernel by itself; ``install`` does it in its place.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.bgpd import Announcement, Bgpd, Neighbour, Seen, family_of

from kube_router.lab import netns
from kube_router.plugins.routing.bgp.model import Family

NAME = {Family.IPV4: "ipv4", Family.IPV6: "ipv6"}
STATES = {0: "Unknown", 1: "Idle", 2: "Connect", 3: "Active", 4: "OpenSent", 5: "OpenConfirm", 6: "Established"}
ORIGIN, AS_PATH, NEXT_HOP, MED, LOCAL_PREF, COMMUNITIES = 1, 2, 3, 4, 5, 8
ORIGINATOR_ID, CLUSTER_LIST, MP_REACH_NLRI, LARGE_COMMUNITIES = 9, 10, 14, 32


class Gobgp(Bgpd):
    """What it announces is added once it runs; after a restart again."""

    programs = ("gobgpd", "gobgp")
    package = "gobgpd"

    def configure(self) -> None:
        (self.folder / "gobgpd.toml").write_text("\n".join(self._lines()) + "\n")

    def argvs(self, *, restarted: bool) -> Mapping[str, Sequence[str]]:
        argv = ["gobgpd", "-f", str(self.folder / "gobgpd.toml"), "-p", "--pprof-disable"]
        argv += ["-l", "warn" if self.settings.quiet else "debug"]
        return {"gobgpd": [*argv, "--api-hosts", "127.0.0.1:50051", *(["-r"] if restarted else [])]}

    def up(self, *, restarted: bool = False) -> None:
        super().up(restarted=restarted)
        self.announce(*self.announced.values())

    def down(self) -> None:
        try:
            for each in self.settings.neighbours if self.pid() else ():
                # Or it would leave silently, as to a graceful restart.
                self.run(["gobgp", "neighbor", each.address, "shutdown"])
        finally:
            super().down()

    def is_ready(self) -> bool:
        try:
            return f"AS:        {self.settings.asn}" in self.run(["gobgp", "global"])
        except AssertionError:
            return False

    def neighbours(self) -> Mapping[str, str]:
        found = {}
        for each in self._ask("neighbor"):
            state = each["state"]
            number = state.get("session_state", 0)
            found[each["conf"]["neighbor_address"]] = STATES[number] if isinstance(number, int) else str(number)
        return found

    def routes(self, prefix: str = "") -> list[Seen]:
        families = [family_of(prefix)] if prefix else list(Family)
        found: list[Seen] = []
        for family in families:
            answer = self._ask(
                "global", "rib", *([prefix] if prefix else []), "-a", NAME[family], none=["not in table"]
            )
            for destination, paths in (answer or {}).items():
                found += (_seen(destination, path) for path in paths)
        return found

    def announce(self, *announcements: Announcement) -> None:
        self.announced |= {each.prefix: each for each in announcements}
        for each in announcements:
            words = ["gobgp", "global", "rib", "add", each.prefix, "-a", NAME[each.family]]
            if each.family is Family.IPV6 and self.settings.address6:
                words += ["nexthop", self.settings.address6]
            if each.communities:
                words += ["community", ",".join(each.communities)]
            if each.large_communities:
                words += ["large-community", ",".join(each.large_communities)]
            if each.med is not None:
                words += ["med", str(each.med)]
            if each.prepend:
                words += ["aspath", " ".join([str(self.settings.asn)] * each.prepend)]
            self.run(words)

    def withdraw(self, *prefixes: str) -> None:
        for prefix in prefixes:
            gone = self.announced.pop(prefix)
            self.run(["gobgp", "global", "rib", "del", prefix, "-a", NAME[gone.family]])

    def refresh(self, neighbour: str) -> None:
        raise AssertionError("GoBGP answers such requests, and makes none: it keeps all that it was told")

    def reset(self, neighbour: str) -> None:
        self.run(["gobgp", "neighbor", neighbour, "reset"])

    def install(self) -> None:
        """Put the best paths that it has learned into the kernel, and nothing else."""
        ways: dict[tuple[str, Family], str] = {}
        wanted = []
        for each in self.routes():
            if not each.best or not each.peer:
                continue
            family = family_of(each.prefix)
            way = ways.get((each.next_hop, family)) or ways.setdefault(
                (each.next_hop, family), self._way(each.next_hop, family)
            )
            wanted.append(f"route replace {each.prefix} {way} proto bgp")
        there = {
            words.split()[0]
            for option in ("-4", "-6")
            for words in self.run(["ip", option, "route", "show", "proto", "bgp"]).splitlines()
        }
        gone = there - {line.split()[2] for line in wanted}
        netns.ip_batch([*wanted, *(f"route del {each} proto bgp" for each in gone)], namespace=self.namespace)

    def _way(self, next_hop: str, family: Family) -> str:
        """Return in the words of ip(8) how a next hop is reached."""
        found = self.run(["ip", "route", "get", next_hop]).split()
        via = found[found.index("via") + 1] if "via" in found else next_hop
        return f"via inet6 {via}" if ":" in via and family is Family.IPV4 else f"via {via}"

    def _ask(self, *words: str, none: Sequence[str] = ()) -> Any:
        try:
            return json.loads(self.run(["gobgp", "-j", *words]))
        except AssertionError as error:
            if any(text in str(error) for text in none):
                return None
            raise

    def _lines(self) -> Iterator[str]:
        yield "[global.config]"
        yield f"as = {self.settings.asn}"
        yield f'router-id = "{self.settings.router_id}"'
        for neighbour in self.settings.neighbours:
            yield from self._session(neighbour)

    def _session(self, neighbour: Neighbour) -> Iterator[str]:
        yield "[[neighbors]]"
        yield "[neighbors.config]"
        yield f'neighbor-address = "{neighbour.address}"'
        yield f"peer-as = {neighbour.asn}"
        if neighbour.password:
            yield f'auth-password = "{neighbour.password}"'
        yield "[neighbors.timers.config]"
        yield f"hold-time = {neighbour.hold_time_s}"
        yield f"keepalive-interval = {max(1, neighbour.hold_time_s // 3)}"
        yield "connect-retry = 1"
        yield "idle-hold-time-after-reset = 1"
        yield "[neighbors.transport.config]"
        yield f"passive-mode = {_switch(neighbour.passive)}"
        yield f"remote-port = {neighbour.port}"
        if neighbour.local_address:
            yield f'local-address = "{neighbour.local_address}"'
        if neighbour.multihop:
            yield f"[neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = {neighbour.multihop}"
        if neighbour.ttl_security:
            yield "[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255"
        if neighbour.reflector_client:
            cluster = self.settings.cluster_id or self.settings.router_id
            yield "[neighbors.route-reflector.config]"
            yield f'route-reflector-client = true\nroute-reflector-cluster-id = "{cluster}"'
        if neighbour.graceful_restart:
            yield "[neighbors.graceful-restart.config]"
            yield f"enabled = true\nrestart-time = {self.settings.restart_time_s}"
        for family in neighbour.families:
            yield "[[neighbors.afi-safis]]"
            yield f'[neighbors.afi-safis.config]\nafi-safi-name = "{NAME[family]}-unicast"'
            if neighbour.graceful_restart:
                yield "[neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true"
            if neighbour.add_path:
                yield "[neighbors.afi-safis.add-paths.config]\nreceive = true\nsend-max = 8"


def _seen(prefix: str, path: Mapping[str, Any]) -> Seen:
    attributes = {each["type"]: each for each in path["attrs"]}
    reach = attributes.get(MP_REACH_NLRI, {})
    segments = attributes.get(AS_PATH, {}).get("as_paths", [])
    large = attributes.get(LARGE_COMMUNITIES, {}).get("value", [])
    return Seen(
        prefix,
        path.get("neighbor-ip", "").replace("<nil>", ""),
        attributes.get(NEXT_HOP, {}).get("nexthop", "") or reach.get("nexthop", ""),
        as_path=tuple(asn for segment in segments for asn in segment["asns"]),
        best=bool(path.get("best")),
        stale=bool(path.get("stale")),
        local_pref=attributes.get(LOCAL_PREF, {}).get("value"),
        med=attributes.get(MED, {}).get("metric"),
        communities=tuple(map(_community, attributes.get(COMMUNITIES, {}).get("communities", []))),
        large_communities=tuple(f"{each['ASN']}:{each['LocalData1']}:{each['LocalData2']}" for each in large),
        originator_id=attributes.get(ORIGINATOR_ID, {}).get("value", ""),
        cluster_list=tuple(attributes.get(CLUSTER_LIST, {}).get("value", [])),
        path_id=path.get("nlri", {}).get("path-identifier", 0) or path.get("nlri", {}).get("id", 0),
    )


def _community(value: int) -> str:
    return f"{value >> 16}:{value & 0xFFFF}"


def _switch(value: bool) -> str:
    return "true" if value else "false"
