"""Turn YAML or JSON text into plain JSON values, each mapping knowing its line.

Text that begins with ``{`` is JSON first, for that is faster and names the right line when it is broken; what is no
JSON may still be YAML's flow style. Everything else is YAML (yaml_text.py, json_text.py).
"""

from collections.abc import Iterator

from kube_router.events.block import Document, Fault
from kube_router.events.json_text import json_documents
from kube_router.events.yaml_text import yaml_documents


def documents(text: bytes) -> Iterator[Document]:
    """Return the documents up to the first that cannot be read; there, raise Fault. Empty ones are left out."""
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Fault(text.count(b"\n", 0, error.start) + 1, "not UTF-8 text") from None
    if decoded.lstrip()[:1] == "{":
        yield from _json_or_flow(decoded)
    else:
        yield from yaml_documents(decoded)


def _json_or_flow(text: str) -> list[Document]:
    try:
        return list(json_documents(text))
    except Fault as fault:
        try:
            return list(yaml_documents(text))
        except Fault:
            raise fault from None
