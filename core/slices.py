"""Whose each EndpointSlice is, remembered for when it is gone: a deletion names the slice alone (pure)."""

from kube_router.core.view import ClusterView, Dirty
from kube_router.events.model import EndpointSlice


class SliceOwners:
    """The keys of the Services by those of their slices, as of the last call."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}

    def reset(self, view: ClusterView) -> None:
        """Take all from the view: everything is dirty."""
        self._of = {piece.key: piece.service for piece in view.each(EndpointSlice)}

    def dirty_services(self, view: ClusterView, dirty: Dirty) -> set[str]:
        """Return the keys of the Services that are dirty by themselves or by a slice they have, or had."""
        keys = set()
        for resource, key in dirty.refs:
            if resource == "services":
                keys.add(key)
            elif resource == "endpointslices":
                piece = view.get(EndpointSlice, key)
                keys |= {self._of.pop(key, ""), piece.service if piece else ""} - {""}
                if piece:
                    self._of[key] = piece.service
        return keys
