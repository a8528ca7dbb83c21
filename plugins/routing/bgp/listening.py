"""Keep listening where the configuration says, also on addresses that the node has only later."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import anyio

from kube_router.events.errors import KernelError
from kube_router.plugins.routing.bgp.listener import Listener
from kube_router.plugins.routing.bgp.model import SpeakerConfig
from kube_router.plugins.routing.bgp.offer import keys
from kube_router.plugins.routing.bgp.peer import Peer

logger = logging.getLogger(__name__)

RETRY_S = 5.0


class Listening:
    """``find`` returns the peer of an address, None for a stranger. ``trouble``: why it does not listen, in words."""

    def __init__(self, find: Callable[[str], Peer | None]) -> None:
        self.trouble = ""
        self._find = find
        self._listener: Listener | None = None
        self._again = anyio.Event()

    @property
    def strangers(self) -> int:
        """How many connections from addresses of no neighbour were closed."""
        return self._listener.strangers if self._listener is not None else 0

    def configure(self, before: SpeakerConfig | None, config: SpeakerConfig) -> None:
        """Listen where this configuration says, and know its passwords."""
        if before is not None and (before.listen, before.port) == (config.listen, config.port):
            assert self._listener is not None
            self._try(partial(self._listener.set_keys, keys(config)))
            self._again.set()  # what failed is tried again
            return
        self.close()
        self._listener = Listener(config.listen, config.port, find=self._find, loop=asyncio.get_running_loop())
        self._listener.set_keys(keys(config))
        self._again.set()

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def run(self) -> None:
        """Open what is configured, again after a while where an address cannot be had yet, until cancelled."""
        while True:
            await self._again.wait()
            self._again = anyio.Event()
            while not self._again.is_set() and self._listener is not None and not self._try(self._listener.open):
                with anyio.move_on_after(RETRY_S):
                    await self._again.wait()

    def _try(self, attempt: Callable[[], None]) -> bool:
        """Return whether an attempt succeeds; ``trouble`` says why not."""
        try:
            attempt()
        except KernelError as error:
            if str(error) != self.trouble:
                logger.warning("bgp_not_listening error=%r again_in=%gs", str(error), RETRY_S)
            self.trouble = str(error)
            return False
        self.trouble = ""
        return True
