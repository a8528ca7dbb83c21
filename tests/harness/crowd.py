"""Two third-party plugins for an agent in a test: one that works, one that does not (installed by ``install``)."""

from pathlib import Path

STEADY = """
import os, time
from kube_router.core.api import Receipt, hookimpl
from kube_router.events.model import Service


class Steady:
    name, needs = "steady", frozenset({Service})

    async def reconcile(self, view, dirty):
        with open(os.environ["SEEN"], "a") as seen:
            for ref in dirty.refs:
                seen.write(f"{ref.key} {time.time()}\\n")
        return Receipt()

    async def cleanup(self):
        pass

    def render(self, view):
        return ()


@hookimpl
def kube_router_plugin(context):
    return Steady()
"""

BAD = """
import os, time
import anyio
from kube_router.core.api import Receipt, hookimpl
from kube_router.events.model import Service


class Bad:
    name, needs, deadline_s = "bad", frozenset({Service}), 0.3

    def __init__(self, context):
        self.context = context

    async def reconcile(self, view, dirty):
        how = os.environ["HOW"]
        if how == "raise":
            raise RuntimeError("I never work")
        if how == "hang":
            await anyio.sleep_forever()
        if how == "hang once in a thread" and not os.path.exists(os.environ["SEEN"] + ".hung"):
            open(os.environ["SEEN"] + ".hung", "w").close()
            await self.context.run(time.sleep, 3600)
        if how == "block" and dirty.refs:
            time.sleep(1.5)
        return Receipt()

    async def cleanup(self):
        pass

    def render(self, view):
        return ()


@hookimpl
def kube_router_plugin(context):
    return Bad(context)
"""


def install(site: Path) -> None:
    """Put both into a folder as a wheel would: with it on PYTHONPATH they are installed."""
    info = site / "crowd-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crowd\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[kube_router.plugins]\nsteady = crowd_steady\nbad = crowd_bad\n")
    (site / "crowd_steady.py").write_text(STEADY)
    (site / "crowd_bad.py").write_text(BAD)
