"""``kr explain --route``: where this node sends what is for an address, and by whose word (for people)."""

from collections.abc import Iterator, Mapping
from typing import Any

Answer = Mapping[str, Any]

_WAYS = {
    "learned": "learned by BGP from {peers}, next hop {next_hops} ({why})",
    "pods": "this node's own pods",
    "local": "this node's own address",
    "link": "a network this node is on",
    "gateway": "by the node's own routes",
}


def lines(answer: Answer) -> Iterator[str]:
    """Return an answer as lines: where it goes, why, and what is announced of the address."""
    address, way = answer["address"], answer["way"]
    if way == "none":
        prefix = f" (the route to {answer['prefix']} is not installed)" if "prefix" in answer else ""
        yield f"{address}  nowhere{prefix}"
        yield f"  {answer['why']}"
    else:
        yield f"{address}  by {answer['prefix']} through {answer['through']}"
        words = {name: ", ".join(answer.get(name, ())) for name in ("peers", "next_hops")}
        yield f"  {_WAYS[way].format(**words, why=answer.get('why', ''))}"
        if answer.get("as_path"):
            yield f"  AS path {answer['as_path']}"
        yield from (f"  {cause['object']} (seq {cause['seq']})" for cause in answer["because"])
    for claim in answer["announced"]:
        word = "announced" if claim["announced"] else "not announced"
        yield f"  {word}: {claim['prefix']}, {claim['why']}"
