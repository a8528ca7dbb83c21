"""What this node itself finds out and plans from: its links, the routes it learned, its BGP sessions (pure).

They are objects of local kinds: nobody watches them at the API server; the plugin publishes them into the journal, and
from there they come back into its plans as any other object does. So what the kernel holds stays a function of the
journal, also in a replay on another machine.
"""

from kube_router.events.model import Object, Part
from kube_router.events.resource import local_kind

GATEWAYS_MAX = 256


class Link(Part, frozen=True, kw_only=True):
    """An interface. ``addresses`` are global ones with their prefix length (``10.0.0.1/24``), in order."""

    name: str
    mtu: int
    addresses: tuple[str, ...] = ()
    up: bool = True


class Gateway(Part, frozen=True, kw_only=True):
    """A route of the main table that is none of ours and leads through a gateway; ``0.0.0.0/0`` is the default one."""

    destination: str
    via: str
    device: str


class Host(Object, frozen=True, kw_only=True):
    """The node's own interfaces that have a global address and are none of ours. ``name`` is the node's.

    ``gateways``: how addresses off these links are reached, the most specific first: the next hop of an external peer
    may be behind one. Where there are more than GATEWAYS_MAX, the most specific and the default ones.
    """

    links: tuple[Link, ...] = ()
    gateways: tuple[Gateway, ...] = ()


class Route(Object, frozen=True, kw_only=True):
    """The best paths to a prefix that was learned. ``name`` is the prefix (``10.244.2.0/24``).

    ``next_hops`` are addresses, several where paths are equally good; ``peers`` says of each whom it is from. The rest
    describes the best path: ``as_path`` as it is usually written (``64513 {64514,64515}``), ``why`` it won in words.
    """

    next_hops: tuple[str, ...]
    peers: tuple[str, ...]
    internal: bool = True  # from a peer of our own AS
    as_path: str = ""
    local_pref: int | None = None
    med: int | None = None
    communities: tuple[str, ...] = ()
    why: str = ""


class Session(Object, frozen=True, kw_only=True):
    """A BGP neighbour. ``name`` is its address; ``error`` says in words why it is down."""

    asn: int = 0
    state: str = "down"  # established | down
    error: str = ""


class RouteDigest(Object, frozen=True, kw_only=True):
    """Stands for routes that are too many to be journaled: how many they are, and a hash of prefixes and next hops."""

    count: int
    sha256: str


RESOURCES = (
    local_kind("hosts", Host),
    local_kind("routes", Route),
    local_kind("sessions", Session),
    local_kind("routedigests", RouteDigest),
)
