"""The sockets on which neighbours connect to us."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from kube_router.plugins.routing.bgp.peer import Peer


class Listener:
    """Listens on each address with a socket of its own. ``find`` returns the Peer of an address, None for a stranger."""

    strangers: int  # connections from addresses of no peer, closed at once

    def __init__(
        self,
        addresses: Sequence[str],
        port: int,
        *,
        find: Callable[[str], Peer | None],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None: ...

    def open(self) -> None:
        """Open the sockets that are not open yet. KernelError names the first that cannot be: call again later."""

    def set_keys(self, keys: Mapping[str, str]) -> None:
        """Have exactly these passwords by peer address (TCP MD5), now and on sockets opened later. Call before open."""

    def close(self) -> None:
        """Stop listening."""
