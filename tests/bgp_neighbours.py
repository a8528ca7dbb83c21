"""What a BGP neighbour makes of the messages it is sent: the other end of an Adj-RIB-Out, for tests."""

from collections.abc import Iterable

from kube_router.plugins.routing.bgp.model import Attributes, Family, Negotiated, NextHop, Prefix
from kube_router.plugins.routing.bgp.update import UpdateParser
from kube_router.plugins.routing.bgp.wire import HEADER_LENGTH, MessageType, parse_route_refresh

OUR_ASN = 64512


class Hearer:
    """A neighbour that only listens. It insists on being told nothing needless: no withdrawal of what it never had."""

    def __init__(self, negotiated: Negotiated) -> None:
        self.routes: dict[Prefix, tuple[Attributes, NextHop]] = {}
        self.ends: list[Family] = []  # End-of-RIB
        self.marks: list[tuple[int, int]] = []  # family and subtype of ROUTE-REFRESH
        self._negotiated = negotiated
        self._parser = UpdateParser(negotiated)

    def hear(self, messages: Iterable[bytes]) -> int:
        """Take messages in; return how many these were."""
        heard = list(messages)
        for message in heard:
            assert len(message) <= self._negotiated.message_max
            body = message[HEADER_LENGTH:]
            if message[HEADER_LENGTH - 1] == MessageType.ROUTE_REFRESH:
                refresh = parse_route_refresh(body)
                self.marks.append((refresh.afi, refresh.subtype))
            else:
                self._update(body)
        return len(heard)

    def _update(self, body: bytes) -> None:
        update = self._parser.parse(body)
        assert update.faults == ()
        for withdrawn in update.withdrawn:
            for prefix in withdrawn.prefixes:
                assert prefix in self.routes, f"{prefix} is withdrawn and was never announced"
                del self.routes[prefix]
        for reach in update.reaches:
            assert update.attributes is not None
            for prefix in reach.prefixes:
                self.routes[prefix] = update.attributes, reach.next_hop
        if update.end_of_rib is not None:
            self.ends.append(update.end_of_rib)
