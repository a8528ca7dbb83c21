"""Everything that is wrong now, by where it was found: logged when it appears and when it ends."""

import logging
from collections.abc import Iterator

from kube_router.events.errors import Problem

logger = logging.getLogger(__name__)

SHOWN_MAX = 1000  # more than this in one place is one cause, not a thousand


class Problems:
    """Problems by place: an object's ``resource/key``, a file, a plugin."""

    def __init__(self) -> None:
        self._by_place: dict[str, tuple[Problem, ...]] = {}

    def set(self, where: str, problems: tuple[Problem, ...]) -> None:
        """Replace the problems of one place; an empty tuple ends them."""
        old = self._by_place.get(where, ())
        if problems == old:
            return
        for problem in problems[:SHOWN_MAX]:
            if problem not in old:
                logger.warning("problem kind=%s key=%s text=%r", problem.kind, problem.key, problem.text)
        for problem in old[:SHOWN_MAX]:
            if problem not in problems:
                logger.info("problem_ended kind=%s key=%s text=%r", problem.kind, problem.key, problem.text)
        if problems:
            self._by_place[where] = problems
        else:
            self._by_place.pop(where, None)

    def at(self, where: str) -> tuple[Problem, ...]:
        """Return the problems of one place."""
        return self._by_place.get(where, ())

    def __iter__(self) -> Iterator[Problem]:
        for where in sorted(self._by_place):
            yield from self._by_place[where]

    def __len__(self) -> int:
        return sum(map(len, self._by_place.values()))
