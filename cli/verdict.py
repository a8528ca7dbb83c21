"""Whether a node is well, in one line (pure): what ``kr status`` says first.

``in sync`` is what ``/readyz`` means, and that nothing has failed since. What is wrong besides is counted behind it.
"""

from collections.abc import Mapping
from typing import Any

from kube_router.core.pflag import duration_text

IN_SYNC = "in sync"
FROM_THE_JOURNAL = " from the journal"
PRESUMED = "presumed" + FROM_THE_JOURNAL


def verdict(document: Mapping[str, Any]) -> str:
    """Return the verdict on an agent's status."""
    states: dict[str, list[str]] = {}
    for plugin in document.get("plugins") or ():
        states.setdefault(_state(plugin), []).append(str(plugin.get("name", "?")))
    well = states.pop(IN_SYNC, [])
    if not states:
        return ", ".join([IN_SYNC if well else "no plugin runs", *_besides(document)])
    if set(states) == {PRESUMED} and not well:
        return f"{PRESUMED} for {duration_text(round(document.get('uptime_s') or 0))}"
    why = (f"{', '.join(names)} {state.removesuffix(FROM_THE_JOURNAL)}" for state, names in states.items())
    return f"not in sync: {', '.join(why)}"


def _state(plugin: Mapping[str, Any]) -> str:
    """Return a plugin's state; one that is at work again is in sync if it was."""
    state = str(plugin.get("state", "?"))
    return IN_SYNC if state == "reconciling" and plugin.get("ready") and not plugin.get("last_error") else state


def _besides(document: Mapping[str, Any]) -> list[str]:
    """Return what an operator has to know although the plugins do their work."""
    journal = document.get("journal")
    problems = len(document.get("problems") or ())
    said = ["journal STOPPED"] if isinstance(journal, Mapping) and journal.get("stopped") else []
    return [*said, f"{problems or 'no'} problem{'' if problems == 1 else 's'}"]
