"""Keeps a file of all Services' names in the form of /etc/hosts, for programs on the node that ask no cluster DNS."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from kube_router.core import api
from kube_router.events.model import Object, Service

FILE = api.Option("names-file", "text", "/var/lib/kube-router/names", "file of Service names in the form of /etc/hosts")


@api.hookimpl
def kube_router_options() -> Sequence[api.Option]:
    return [FILE]


@api.hookimpl
def kube_router_plugin(context: api.Context) -> api.Plugin:
    return Names(context)


class Names:
    name = "names"
    needs: frozenset[type[Object]] = frozenset({Service})

    def __init__(self, context: api.Context) -> None:
        self._context, self._file = context, Path(context.options.text(FILE.name))

    async def reconcile(self, view: api.ClusterView, dirty: api.Dirty) -> api.Receipt:
        wanted = [line.text for line in self.render(view)]
        return api.Receipt(await self._context.run(self._write, wanted, view.in_sync))

    async def cleanup(self) -> None:
        await self._context.run(self._file.unlink, True)

    def render(self, view: api.ClusterView) -> Iterable[api.Line]:
        for service in sorted(view.each(Service), key=lambda service: service.key):
            stored = view.stored(Service, service.key)
            because = (api.Cause(stored.seq, f"Service {service.key}"),) if stored else ()
            for address in service.cluster_ips:
                yield api.Line(f"{address} {service.name}.{service.namespace}.svc", because)

    def _write(self, wanted: list[str], in_sync: bool) -> dict[str, int]:
        """Make the file hold the lines. Until in sync they are a presumption, so that none is taken away."""
        try:
            actual = self._file.read_text().splitlines() if self._file.exists() else []
            lines = wanted if in_sync else wanted + [line for line in actual if line not in wanted]
            if lines == actual:
                return {}
            new = self._file.with_name(f"{self._file.name}.new")
            new.write_text("".join(f"{line}\n" for line in lines))
            os.replace(new, self._file)  # whoever reads sees the old file or the new one, never half of one
        except OSError as error:
            raise api.KernelError(f"--names-file {self._file}: {error.strerror}", error.errno or 0) from error
        changes = {"name added": len(set(lines) - set(actual)), "name removed": len(set(actual) - set(lines))}
        return {what: count for what, count in changes.items() if count} or {"order changed": 1}
