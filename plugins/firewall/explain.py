"""Questions in people's words, answered by the evaluator: may this one reach that one, and who says so (pure).

A question is a mapping: ``src`` (``ns/pod``, ``pod`` for one in the namespace default, or an address), ``dst`` (the
same, or a Service as ``svc/ns/name`` or by an address of its own or a node's), ``port`` (a number or a port's name) and
``protocol`` (TCP where it is missing; ICMP has no port). An answer says ``allowed`` and what each end decided, by which
rule of which policy in which version. Behind a Service every endpoint is asked, and the answer is yes if all say yes.

A pod of two families is judged in all that both ends have, and allowed if it is in all of them. A pod on the host's
network is its node's address.
"""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from kube_router.core.view import ClusterView
from kube_router.events.model import IPBlock, NetworkPolicy, Pod, PolicyPeer, PolicyPort, Selector, Service
from kube_router.plugins.firewall.evaluate import Decision, Match, Settings, Verdict, evaluate
from kube_router.plugins.firewall.services import Frontend, Services
from kube_router.plugins.firewall.world import Party, Side, World

PROTOCOLS = ("TCP", "UDP", "SCTP", "ICMP")
PORT_MAX = 65535
QUOTED_MAX = 100
SERVICES_NAMED = 3
NO_COMMON_FAMILY = "the two ends have no address family in common"
Answer = dict[str, object]


class Unanswerable(ValueError):
    """A question that makes no sense, or about something that is not there; its message says what."""


class Explainer:
    """Answers questions about one state."""

    def __init__(self, view: ClusterView, settings: Settings) -> None:
        self._view, self._settings = view, settings
        self._world, self._services = World(view), Services(view)

    def answer(self, question: Mapping[str, object]) -> Answer:
        """Return the answer; ``{"error": words}`` for a question that has none."""
        try:
            return self._answer(question)
        except Unanswerable as error:
            return {"error": str(error)}

    def _answer(self, question: Mapping[str, object]) -> Answer:
        protocol = _protocol(question.get("protocol"))
        source, destination = _text(question, "src"), _text(question, "dst")
        port = _port(question.get("port"), protocol)
        sources = self._parties(source)
        if frontend := self._frontend(destination, port, protocol):
            return self._through(sources, frontend, destination, protocol)
        ends = self._parties(destination)
        number = self._number(port, destination, protocol) if isinstance(port, str) else port
        return self._direct(sources, ends, number, protocol)

    # -- names ---------------------------------------------------------------------------------------------------------

    def _parties(self, name: str) -> list[Party]:
        """Return the ends that a name stands for, one for each of its addresses."""
        if _is_address(name):
            return [self._world.party(str(ip_address(name)))]
        pod = self._pod(name)
        if pod.host_network:
            return [Party(address) for address in pod.ips or self._addresses_of_node(pod)]
        if pod.phase in ("Succeeded", "Failed"):
            raise Unanswerable(f"Pod {pod.key} has finished ({pod.phase}): its address may be another's by now")
        if not pod.ips:
            raise Unanswerable(f"Pod {pod.key} has no address yet")
        return [self._party(pod, ip) for ip in dict.fromkeys(pod.ips)]

    def _pod(self, name: str) -> Pod:
        key = name if "/" in name else f"default/{name}"
        pod = self._world.pod(key)
        if pod is None:
            hint = "; a Service is asked for as DST, svc/NAMESPACE/NAME" if name.startswith("svc/") else ""
            raise Unanswerable(f"there is no Pod {_quoted(key)}, and it is no address{hint}")
        return pod

    def _party(self, pod: Pod, ip: str) -> Party:
        """Return a pod at its address. Of several on its node that claim it the node knows only the first."""
        pods = self._world.party(ip).pods
        first = next(each for each in pods if each.node_name == pod.node_name)
        if first.key != pod.key:
            raise Unanswerable(f"Pod {pod.key} has lost its address {ip} to Pod {first.key}")
        return Party(ip, (pod, *(each for each in pods if each.key != pod.key)))

    def _addresses_of_node(self, pod: Pod) -> list[str]:
        node = self._world.node(pod.node_name)
        addresses = [each.address for each in node.addresses] if node is not None else []
        if not addresses:
            raise Unanswerable(f"Pod {pod.key} is on the host's network, and its node's addresses are not known")
        return addresses

    def _number(self, port: str, name: str, protocol: str) -> int:
        """Return a port's number: a name is the destination pod's own."""
        pod = self._world.party(str(ip_address(name))).pod if _is_address(name) else self._pod(name)
        if pod is None:
            raise Unanswerable(f"port {_quoted(port)} is a name, and {name} is no pod that could have it")
        for each in pod.ports:
            if (each.name, each.protocol) == (port, protocol):
                return each.port
        raise Unanswerable(f"Pod {pod.key} has no port named {_quoted(port)} for {protocol}")

    def _frontend(self, name: str, port: int | str | None, protocol: str) -> Frontend | None:
        """Return the Service port that is meant, None where no Service is: ICMP is never sent on to endpoints."""
        if name.startswith("svc/") and name.count("/") == 2:
            service = self._view.get(Service, name.removeprefix("svc/"))
            if service is None:
                raise Unanswerable(f"there is no Service {_quoted(name.removeprefix('svc/'))}")
            if found := self._services.port_of([service], port, protocol):
                return found
            raise Unanswerable(f"Service {service.key} has no port {_port_text(port)}{protocol}")
        if port is None or not _is_address(name):
            return None
        address = str(ip_address(name))
        services = self._services.at(address)
        found = self._services.port_of(services, port, protocol) or self._services.at_node(address, port, protocol)
        if found is None and services and not self._world.node_of(address):
            keys = ", ".join(service.key for service in services[:SERVICES_NAMED])
            raise Unanswerable(
                f"{address} is the address of Service {keys}, which has no port {_port_text(port)}{protocol}"
            )
        return found

    # -- verdicts ------------------------------------------------------------------------------------------------------

    def _through(self, sources: list[Party], frontend: Frontend, name: str, protocol: str) -> Answer:
        """Return the answer for a Service: that of all its endpoints."""
        families = (_family(name),) if _is_address(name) else ("IPv4", "IPv6")
        common = [source for source in sources if _family(source.address) in families]
        backends = [backend for family in families for backend in self._services.backends(frontend, family)]
        reached = [each for each in backends if any(_family(each.address) == _family(end.address) for end in common)]
        if not common or (backends and not reached):
            raise Unanswerable(NO_COMMON_FAMILY)
        answers = [
            self._direct(common, [self._world.party(backend.address)], backend.port, protocol) for backend in reached
        ]
        answer: Answer = {
            "allowed": bool(answers) and all(bool(each["allowed"]) for each in answers),
            "source": answers[0]["source"] if answers else str(common[0]),
            "service": frontend.service.key,
            "port": frontend.port.port,
            "protocol": protocol,
            "endpoints": answers,
        }
        if not answers:
            answer["why"] = "the Service has no endpoint that is ready: nobody answers"
        return answer

    def _direct(
        self, sources: Iterable[Party], destinations: Iterable[Party], port: int | None, protocol: str
    ) -> Answer:
        pairs = [
            (source, destination)
            for destination in destinations
            for source in sources
            if _family(source.address) == _family(destination.address)
        ]
        if not pairs:
            raise Unanswerable(NO_COMMON_FAMILY)
        judged = []
        for source, destination in pairs:
            verdict = evaluate(self._world, source, destination, port, protocol, self._settings)
            judged.append((source, destination, verdict))
        source, destination, verdict = min(judged, key=lambda each: each[2].allowed)
        return self._document(source, destination, port, protocol, verdict)

    def _document(self, source: Party, destination: Party, port: int | None, protocol: str, verdict: Verdict) -> Answer:
        return {
            "allowed": verdict.allowed,
            "source": str(source),
            "destination": str(destination),
            "port": port,
            "protocol": protocol,
            "egress": self._decision("egress", verdict.egress, source),
            "ingress": self._decision("ingress", verdict.ingress, destination),
        }

    def _decision(self, side: Side, decision: Decision, end: Party) -> Answer:
        document: Answer = {"allowed": decision.allowed, "why": decision.why, "of": end.pod.key if end.pod else ""}
        if decision.match is not None:
            document |= self._rule(side, decision.match)
        document["isolated_by"] = [self._version(key) for key in decision.policies]
        return document

    def _rule(self, side: Side, match: Match) -> Answer:
        """Return which rule decided: counted from 1, as people count, and in words."""
        policy = self._view.get(NetworkPolicy, match.policy)
        assert policy is not None
        rule = (policy.ingress if side == "ingress" else policy.egress)[match.rule]
        peer = peer_words(rule.peers[match.peer]) if match.peer is not None else "everybody"
        port = port_words(rule.ports[match.port]) if match.port is not None else "all ports"
        ends = "from" if side == "ingress" else "to"
        return {**self._version(match.policy), "rule": match.rule + 1, "matched": f"{ends} {peer}, {port}"}

    def _version(self, key: str) -> Answer:
        stored = self._view.stored(NetworkPolicy, key)
        if stored is None:
            return {"policy": key}
        faults = self._world.faults(stored.obj)
        wrong = {"fault": faults[0]} if faults else {}
        return {"policy": key, "seq": stored.seq, "resource_version": stored.rv, "t": stored.t, **wrong}


def explain(view: ClusterView, question: Mapping[str, object], settings: Settings) -> Answer:
    """Return the answer to a question, or to all those in its ``probes`` as ``{"answers": [...]}``."""
    explainer = Explainer(view, settings)
    probes = question.get("probes")
    if isinstance(probes, list):
        return {"answers": [_probed(explainer, probe) for probe in probes]}
    return explainer.answer(question)


def _probed(explainer: Explainer, probe: object) -> Answer:
    if not isinstance(probe, Mapping):
        return {"error": f"{_quoted(probe)} is no question"}
    return explainer.answer(probe)


# -- words -------------------------------------------------------------------------------------------------------------


def peer_words(peer: PolicyPeer) -> str:
    """Return a peer as people would say it."""
    if peer.ip_block is not None:
        return _block_words(peer.ip_block)
    pods = f"pods {_selector_words(peer.pod_selector)}" if peer.pod_selector is not None else "all pods"
    if peer.namespace_selector is None:
        return pods
    return f"{pods} of namespaces {_selector_words(peer.namespace_selector)}"


def _block_words(block: IPBlock) -> str:
    more = f" and {len(block.excepts) - 3} more" if len(block.excepts) > 3 else ""
    return f"{block.cidr} except {', '.join(block.excepts[:3])}{more}" if block.excepts else block.cidr


def _selector_words(selector: Selector) -> str:
    words = [f"{key}={value}" for key, value in sorted(selector.match_labels.items())]
    for each in selector.match_expressions:
        values = f" ({', '.join(each.values)})" if each.values else ""
        words.append(f"{each.key} {each.operator}{values}")
    return f"with {', '.join(words)}" if words else "with any labels"


def port_words(port: PolicyPort) -> str:
    """Return a port as people would say it."""
    if port.port is None:
        return f"all ports of {port.protocol}"
    last = f"-{port.end_port}" if port.end_port is not None else ""
    return f"port {port.port}{last}/{port.protocol}"


# -- what a question says ----------------------------------------------------------------------------------------------


def _text(question: Mapping[str, object], name: str) -> str:
    value = question.get(name)
    if not isinstance(value, str) or not value.strip():
        raise Unanswerable(f"{name} is missing: a pod as namespace/name, or an address")
    return value.strip()


def _protocol(value: object) -> str:
    if value is None or value == "":
        return "TCP"
    if isinstance(value, str) and value.upper() in PROTOCOLS:
        return value.upper()
    raise Unanswerable(f"protocol {_quoted(value)} is none of {', '.join(PROTOCOLS)}")


def _port(value: object, protocol: str) -> int | str | None:
    if protocol == "ICMP":
        return None
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 5:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= PORT_MAX:
        return value
    if isinstance(value, str) and value:
        return value
    raise Unanswerable(f"port {_quoted(value)} is neither a number from 1 to {PORT_MAX} nor a name")


def _port_text(port: int | str | None) -> str:
    return "" if port is None else f"{port if isinstance(port, int) else _quoted(port)}/"


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= QUOTED_MAX else f"{text[:QUOTED_MAX]}…"
