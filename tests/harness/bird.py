"""BIRD 2 as a peer in tests: its configuration, and what ``birdc`` prints as values."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from harness.bgpd import Announcement, Bgpd, Neighbour, Seen

from kube_router.plugins.routing.bgp.model import Family

CHANNEL = {Family.IPV4: "ipv4", Family.IPV6: "ipv6"}
_ROUTE = re.compile(r"^(?P<prefix>[0-9a-f.:]+/\d+)?\s+\w+ \[(?P<protocol>\w+) [^\]]*\] (?P<best>\*)?")
_PAIR = re.compile(r"\(([^)]*)\)")


class Bird(Bgpd):
    """Its sessions are the protocols ``peer0``, ``peer1`` … in the order of the settings.

    Own addresses come from ``protocol direct``: without it, next hops of iBGP would resolve to nothing, and the kernel
    would get unreachable routes. Its own command for a graceful restart takes its routes out of the kernel; killed, it
    leaves them, and finds them when it starts again.
    """

    programs = ("bird", "birdc")
    package = "bird2"

    def configure(self) -> None:
        (self.folder / "bird.conf").write_text("\n".join(self._lines()) + "\n")

    def argvs(self, *, restarted: bool) -> Mapping[str, Sequence[str]]:
        config, control, pid = (str(self.folder / name) for name in ("bird.conf", "control", "pid"))
        return {"bird": ["bird", "-f", "-c", config, "-s", control, "-P", pid, *(["-R"] if restarted else [])]}

    def is_ready(self) -> bool:
        try:
            return "Daemon is up" in self.ask("show status")
        except AssertionError:
            return False

    def neighbours(self) -> Mapping[str, str]:
        found, address = {}, ""
        for line in self.ask("show protocols all").splitlines():
            name, _, value = line.strip().partition(":")
            if name == "BGP state":
                state = value.strip()
            elif name == "Neighbor address":
                address = value.strip()
                found[address] = state
        return found

    def routes(self, prefix: str = "") -> list[Seen]:
        if prefix:
            return self._parsed(self.ask(f"show route {prefix} all", missing_is_none=True))
        return self._parsed(self.ask("show route all", missing_is_none=True))

    def announce(self, *announcements: Announcement) -> None:
        self.announced |= {each.prefix: each for each in announcements}
        self._reconfigure()

    def add(self, neighbour: Neighbour) -> None:
        """Have one more neighbour."""
        self.settings = replace(self.settings, neighbours=(*self.settings.neighbours, neighbour))
        self._reconfigure()

    def withdraw(self, *prefixes: str) -> None:
        for prefix in prefixes:
            del self.announced[prefix]
        self._reconfigure()

    def refresh(self, neighbour: str) -> None:
        self.ask(f"reload in {self._protocol(neighbour)}")

    def reset(self, neighbour: str) -> None:
        self.ask(f"restart {self._protocol(neighbour)}")

    def ask(self, question: str, *, missing_is_none: bool = False) -> str:
        """Return what birdc answers, each line without its code."""
        try:
            return self.run(["birdc", "-s", str(self.folder / "control"), *question.split()])
        except AssertionError as error:
            if missing_is_none and "Network not found" in str(error):
                return ""
            raise

    def _reconfigure(self) -> None:
        self.configure()
        answer = self.ask("configure")
        assert "Reconfigured" in answer or "Reconfiguration in progress" in answer, answer

    def _protocol(self, neighbour: str) -> str:
        number = [each.address for each in self.settings.neighbours].index(neighbour)
        return f"peer{number}"

    def _parsed(self, text: str) -> list[Seen]:
        peers = {f"peer{number}": each.address for number, each in enumerate(self.settings.neighbours)}
        found: list[Seen] = []
        prefix, other = "", False
        for line in text.splitlines():
            if route := _ROUTE.match(line):
                prefix = route["prefix"] or prefix
                other = route["protocol"] not in peers and not route["protocol"].startswith("static")
                if not other:
                    peer = peers.get(route["protocol"], "")
                    found.append(Seen(prefix, peer, "", best=route["best"] == "*"))
            elif found and not other and line.startswith("\t"):
                found[-1] = _with(found[-1], line)
        return found

    def _lines(self) -> Iterator[str]:
        settings = self.settings
        yield "log stderr all;"
        yield f"debug protocols {'off' if settings.quiet else '{ states, events }'};"
        yield f"router id {settings.router_id};"
        yield f"graceful restart wait {settings.restart_time_s};"
        yield "protocol device { scan time 1; }"
        yield 'protocol direct { ipv4; ipv6; interface "-lo", "*"; }'
        if any(each.bfd_ms for each in settings.neighbours):
            interval = next(each.bfd_ms for each in settings.neighbours if each.bfd_ms)
            timers = f"interval {interval} ms; idle tx interval 1000 ms; multiplier 3;"
            yield f'protocol bfd {{ interface "*" {{ {timers} }}; multihop {{ {timers} }}; }}'
        # Next hops of sessions over routers are found among the kernel's routes.
        learn, known = ("learn;", "all") if any(each.multihop for each in settings.neighbours) else ("", "none")
        for family, channel in CHANNEL.items():
            if settings.kernel:
                yield f"protocol kernel kernel{family} {{ merge paths on; graceful restart on; persist on;"
                yield f"  {learn} {channel} {{ import {known}; export where source = RTS_BGP; }}; }}"
            yield f"protocol static static{family} {{ {channel};"
            yield from (
                f"  route {each.prefix} blackhole;" for each in self.announced.values() if each.family is family
            )
            yield "}"
        for number, neighbour in enumerate(settings.neighbours):
            yield f"protocol bgp peer{number} {{"
            yield from (f"  {line}" for line in self._session(neighbour))
            yield "}"

    def _sets(self, announcement: Announcement) -> str:
        """Return what the export filter does to an announcement; what a static route carries, eBGP would lose."""
        sets = [f"bgp_community.add({_tuple(each)});" for each in announcement.communities]
        sets += [f"bgp_large_community.add({_tuple(each)});" for each in announcement.large_communities]
        sets += [f"bgp_path.prepend({self.settings.asn});"] * announcement.prepend
        if announcement.med is not None:
            sets.append(f"bgp_med = {announcement.med};")
        return f"if net = {announcement.prefix} then {{ {' '.join(sets)} }}" if sets else ""

    def _session(self, neighbour: Neighbour) -> Iterator[str]:
        yield f"local {neighbour.local_address} as {self.settings.asn};"
        yield f"neighbor {neighbour.address} port {neighbour.port} as {neighbour.asn};"
        if neighbour.multihop:
            yield f"multihop {neighbour.multihop};"
        if neighbour.password:
            yield f'password "{neighbour.password}";'
        if neighbour.ttl_security:
            yield "direct;"
            yield "ttl security on;"
        if neighbour.reflector_client:
            yield "rr client;"
            yield f"rr cluster id {self.settings.cluster_id or self.settings.router_id};"
        yield f"hold time {neighbour.hold_time_s};"
        yield "connect delay time 1; connect retry time 1; error wait time 1, 2; error forget time 1;"
        yield f"passive {_switch(neighbour.passive)};"
        yield f"enable as4 {_switch(neighbour.four_octet_as)};"
        yield f"enable extended messages {_switch(neighbour.extended_message)};"
        yield f"graceful restart {_switch(neighbour.graceful_restart)};"
        yield f"graceful restart time {self.settings.restart_time_s};"
        if neighbour.bfd_ms:
            yield "bfd on;"
        for family in neighbour.families:
            sets = " ".join(self._sets(each) for each in self.announced.values() if each.family is family)
            options = f"import all; export filter {{ if source = RTS_STATIC then {{ {sets} accept; }}"
            options += " if source = RTS_BGP then accept; reject; };"
            options += " add paths on;" if neighbour.add_path else ""
            options += " next hop self;" if neighbour.next_hop_self else ""
            options += " extended next hop on;" if neighbour.extended_next_hop else ""
            yield f"{CHANNEL[family]} {{ {options} }};"


def _with(seen: Seen, line: str) -> Seen:
    """Return a path with what one line says of it."""
    name, _, value = line.strip().partition(": ")
    match name:
        case "BGP.next_hop":
            return seen._replace(next_hop=value.split()[0])
        case "BGP.as_path":
            return seen._replace(as_path=tuple(int(each) for each in value.split() if each.isdigit()))
        case "BGP.local_pref":
            return seen._replace(local_pref=int(value))
        case "BGP.med":
            return seen._replace(med=int(value))
        case "BGP.community":
            return seen._replace(communities=_texts(value))
        case "BGP.large_community":
            return seen._replace(large_communities=_texts(value))
        case "BGP.originator_id":
            return seen._replace(originator_id=value)
        case "BGP.cluster_list":
            return seen._replace(cluster_list=tuple(value.split()))
        case "BGP.path_id" | "BGP.remote_path_id":
            return seen._replace(path_id=int(value))
        case _:
            return seen


def _texts(value: str) -> tuple[str, ...]:
    return tuple(inner.replace(" ", "").replace(",", ":") for inner in _PAIR.findall(value))


def _tuple(text: str) -> str:
    return f"({text.replace(':', ',')})"


def _switch(value: bool) -> str:
    return "on" if value else "off"
