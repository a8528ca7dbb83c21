"""BGP messages built octet by octet, apart from the codec that is to read them."""

from kube_router.plugins.routing.bgp.model import Family, Negotiated

ORIGIN = "40 01 01 00"
AS_PATH = "40 02 06 02 01 0000fde9"
NEXT_HOP = "40 03 04 0a000001"
LOCAL_PREF = "40 05 04 00000064"
MANDATORY = f"{ORIGIN} {AS_PATH} {NEXT_HOP} {LOCAL_PREF}"
PREFIX = "18 0a0102"  # 10.1.2.0/24
BOTH = frozenset(Family)


def session(
    *,
    internal: bool = True,
    four_octet_as: bool = True,
    families: frozenset[Family] = BOTH,
    add_path: frozenset[Family] = frozenset(),
    message_max: int = 4096,
) -> Negotiated:
    """Return what a session agreed on."""
    return Negotiated(
        asn=65001,
        router_id=1,
        internal=internal,
        hold_time_s=90,
        families=families,
        four_octet_as=four_octet_as,
        add_path_receive=add_path,
        extended_next_hop=frozenset({Family.IPV4}),
        message_max=message_max,
    )


def attribute(flags: int, kind: int, value: str) -> str:
    """Return an attribute in hexadecimal, its length computed."""
    octets = bytes.fromhex(value)
    if flags & 0x10:
        return f"{flags:02x}{kind:02x}{len(octets):04x}{octets.hex()}"
    return f"{flags:02x}{kind:02x}{len(octets):02x}{octets.hex()}"


def body(attributes: str = "", nlri: str = "", withdrawn: str = "") -> bytes:
    """Return an UPDATE's body of hexadecimal parts, its lengths computed."""
    gone, run = bytes.fromhex(withdrawn), bytes.fromhex(attributes)
    return len(gone).to_bytes(2) + gone + len(run).to_bytes(2) + run + bytes.fromhex(nlri)
