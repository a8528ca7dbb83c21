"""The journal's vocabulary: one record per line, in the order in which the node learned of things.

``seg``     head of a segment or snapshot: schema, cluster, node, boot, agent version and its options, rv per resource
``put``     an object is now like this             ``del``   an object is gone
``rv``      the stream of a resource has reached this resourceVersion (bookmark, or changes that mean nothing to us)
``sync``    the source has confirmed the full list of a resource
``note``    a debugging mark                       ``receipt``  what a plugin changed in the kernel, and how long
``end``     last line of a complete snapshot

A ``put`` holds the typed object of its resource; which type, the catalogue says (events/resource.py), so third parties'
kinds are journaled like ours. An object whose resource is not in the catalogue stays raw and is carried along.

Schema: ``SCHEMA`` is written in each segment head. A field may be added with a default; anything else is a new number,
and then older records are upcast here, one by one, as they are read. 1 is the first. A reader stops at a number it does
not know and puts the file aside.
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from kube_router.events.model import Object

SCHEMA = 1


class Record(Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag_field="op"):
    """``seq`` counts from 1 without a gap and is never reused; ``t`` is Unix time in milliseconds."""

    seq: int
    t: int


class Segment(Record, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="seg"):
    """Takes no number of its own: ``seq`` is that of the first record that follows."""

    v: int
    cluster: str = ""
    node: str = ""
    boot: str = ""
    agent: str = ""
    options: Mapping[str, str] = {}
    rv: Mapping[str, str] = {}
    synced: tuple[str, ...] = ()  # resources with a ``sync`` before this point


if TYPE_CHECKING:
    AnyObject = Object | Raw

    class _OfAnyKind:
        """Nothing, to type checkers."""
else:
    # To msgspec a Put is generic: a line is read in one pass once it is known of what kind its object is.
    AnyObject = TypeVar("AnyObject")
    _OfAnyKind = Generic[AnyObject]


class Put(Record, _OfAnyKind, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="put"):
    """``trigger_ms``: a slice's last-change-trigger-time (Unix ms); it is no part of the object's value."""

    r: str
    key: str
    rv: str = ""
    trigger_ms: int = 0
    obj: AnyObject


class Delete(Record, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="del"):
    r: str
    key: str
    rv: str = ""


class Advance(Record, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="rv"):
    r: str
    rv: str


class Sync(Record, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="sync"):
    """``why``: initial | resume | expired | rewind | periodic."""

    r: str
    rv: str = ""
    n: int = 0
    why: str = "initial"


class Note(Record, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="note"):
    """``about`` names who speaks: a plugin, a source, the agent."""

    about: str
    text: str


class ReceiptRecord(Record, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="receipt"):
    """``upto``: the seq of the state that was reconciled; ``changes``: kernel writes by what they were, in words."""

    plugin: str
    upto: int
    took_ms: float
    changes: Mapping[str, int] = {}
    problems: tuple[str, ...] = ()


class End(Record, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="end"):
    n: int


Change = Put | Delete | Advance | Sync | Note | ReceiptRecord
AnyRecord = Segment | Change | End


_encoder = msgspec.json.Encoder()
_put_of = cast("Any", Put)
_decoder = msgspec.json.Decoder(Segment | _put_of[Raw] | Delete | Advance | Sync | Note | ReceiptRecord | End)
# A line as ``encode`` writes it says early of which resource it is; any other order of fields is read as well, slower.
_starts_put = re.compile(rb'\{"op":"put","seq":[0-9]+,"t":[0-9]+,"r":"([a-z0-9.-]+)"', re.ASCII).match

ObjectDecoder = Callable[[bytes], Put]
"""Reads the ``put`` of one resource."""


def object_decoder(model: type[Object]) -> ObjectDecoder:
    """Return the decoder of puts that hold this model."""
    decode_put: ObjectDecoder = msgspec.json.Decoder(_put_of[model]).decode
    return decode_put


def encode(record: AnyRecord) -> bytes:
    """Return the record as one line of JSON, without the LF."""
    return _encoder.encode(record)


def decode(line: bytes, objects: Mapping[str, ObjectDecoder]) -> AnyRecord:
    """Return the record that ``encode`` wrote; ``objects`` decodes by resource.

    Raises msgspec.DecodeError (a ValueError) for what is no record of this schema.
    """
    if (put := _starts_put(line)) is not None and (decode_put := objects.get(put[1].decode())) is not None:
        return decode_put(line)
    record: AnyRecord = _decoder.decode(line)
    if not isinstance(record, Put):
        return record
    if record.r in objects:
        return objects[record.r](line)
    assert isinstance(record.obj, Raw)
    return replace(record, obj=record.obj.copy())  # which else keeps the whole buffer
