"""Read what an API server sends: lines of a watch, its events, pages of a list, refusals (pure).

A watch is a stream of JSON objects, one per line: ``{"type": …, "object": …}``. Types are ADDED, MODIFIED, DELETED,
BOOKMARK (only metadata.resourceVersion is set; the annotation ``k8s.io/initial-events-end`` ends a streamed list) and
ERROR (the object is a Status). Objects stay raw JSON here: the resource's own normalizer decodes them. Refusals are a
Status as JSON, or, from proxies and from the server's own overload protection, plain text or HTML.

Lines have no limit of their own but ``line_bytes_max``: etcd's 1.5 MiB is a default, not a law.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct

from kube_router.events.sources.reflector import Broken, Expired, Refused

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_TEXT_MAX = 200  # characters of a foreign text that are worth repeating


class LineSplitter:
    """Cuts a byte stream into lines, whatever the chunks."""

    def __init__(self, line_bytes_max: int) -> None:
        self._line_bytes_max = line_bytes_max
        self._parts: list[bytes] = []
        self._held = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that this chunk completes, without the LF and without empty ones."""
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines:
            self._parts.append(lines[0])
            lines[0] = b"".join(self._parts)
            self._parts, self._held = [], 0
        if rest:
            self._parts.append(rest)
            self._held += len(rest)
        if self._held > self._line_bytes_max:
            raise Broken(f"a line of a watch exceeds {self._line_bytes_max} bytes")
        return [line for line in lines if line and line != b"\r"]

    def finish(self) -> None:
        """Raises Broken if the stream has ended within a line."""
        if self._held:
            raise Broken(f"the watch ended within a line, after {self._held} bytes of it")


class Meta(Struct, gc=False, rename="camel"):
    """What of an object's metadata is needed without its model. The API's null and absent are both None."""

    namespace: str | None = None
    name: str | None = None
    uid: str | None = None
    resource_version: str | None = None

    @property
    def key(self) -> str:
        name = self.name or ""
        return f"{self.namespace}/{name}" if self.namespace else name

    @property
    def rv(self) -> str:
        return self.resource_version or ""


class _Headed(Struct, gc=False):
    metadata: Meta | None = None


class _BookmarkMeta(Struct, gc=False, rename="camel"):
    resource_version: str | None = None
    annotations: dict[str, str] | None = None


class _Bookmark(Struct, gc=False):
    metadata: _BookmarkMeta | None = None


class Event(Struct, gc=False, frozen=True):
    """One line of a watch."""

    type: str
    object: Raw


class _PageMeta(Struct, gc=False):
    resource_version: str | None = msgspec.field(default=None, name="resourceVersion")
    token: str | None = msgspec.field(default=None, name="continue")


class _Page(Struct, gc=False):
    metadata: _PageMeta | None = None
    items: list[Raw] | None = None


class Page(Struct, frozen=True):
    """One page of a list. ``token`` asks for the next, "" for none."""

    items: Sequence[Raw]
    rv: str
    token: str


class _Details(Struct, gc=False):
    retry_after_s: float | None = msgspec.field(default=None, name="retryAfterSeconds")


class Status(Struct, gc=False, frozen=True):
    """The API's Status object, as far as it explains a refusal."""

    kind: str | None = None
    code: int | None = None
    reason: str | None = None
    message: str | None = None
    details: _Details | None = None


_event = msgspec.json.Decoder(Event)
_headed = msgspec.json.Decoder(_Headed)
_bookmark = msgspec.json.Decoder(_Bookmark)
_page = msgspec.json.Decoder(_Page)
_status = msgspec.json.Decoder(Status)


def decode_event(line: bytes) -> Event:
    """Return the event of a line. Raises Broken for what is none."""
    try:
        return _event.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Broken(f"a line of a watch is no event ({error}): {excerpt(line)}") from error


def decode_meta(raw: bytes | Raw) -> Meta | None:
    """Return an object's metadata; None where it has no usable one."""
    try:
        meta = _headed.decode(raw).metadata
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return meta if meta is not None and meta.name else None


def decode_bookmark(raw: bytes | Raw) -> tuple[str, bool]:
    """Return a bookmark's resourceVersion and whether it ends a streamed list. Raises Broken for what is none."""
    try:
        meta = _bookmark.decode(raw).metadata
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Broken(f"a bookmark is malformed ({error}): {excerpt(bytes(raw))}") from error
    if meta is None or not meta.resource_version:
        raise Broken("a bookmark has no resourceVersion")
    return meta.resource_version, (meta.annotations or {}).get(INITIAL_EVENTS_END) == "true"


def decode_page(body: bytes) -> Page:
    """Return a page of a list. Raises Broken for what is none."""
    try:
        page = _page.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Broken(f"a list is malformed ({error}): {excerpt(body)}") from error
    if page.metadata is None or not page.metadata.resource_version:
        raise Broken("a list has no resourceVersion")
    return Page(items=page.items or (), rv=page.metadata.resource_version, token=page.metadata.token or "")


def decode_uid(body: bytes) -> str:
    """Return the uid of the object. Raises Broken without one."""
    meta = decode_meta(body)
    if meta is None or not meta.uid:
        raise Broken(f"an object has no uid: {excerpt(body)}")
    return meta.uid


def refusal(status: int, body: bytes, retry_after_s: float = 0) -> Refused | Expired:
    """Return the error for an HTTP answer other than 200, or for the Status in an ERROR event (``status`` 0)."""
    told = _decode_status(body)
    code = status or told.code or 500
    reason, text = excerpt((told.reason or "").encode()), excerpt((told.message or "").encode()) or excerpt(body)
    if told.details is not None and told.details.retry_after_s:
        retry_after_s = max(retry_after_s, told.details.retry_after_s)
    what = f"the API server answered {code}{f' {reason}' if reason else ''}: {text}"
    if code == 410 or reason in ("Expired", "Gone"):
        return Expired(what, retry_after_s)
    return Refused(code, what, retry_after_s)


def _decode_status(body: bytes) -> Status:
    try:
        return _status.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Status()


def excerpt(body: bytes) -> str:
    """Return the beginning of a foreign text on one line, without what a terminal would obey."""
    text = " ".join(body[: _TEXT_MAX * 4].decode("utf-8", "replace").split())
    text = "".join(letter if letter.isprintable() else "·" for letter in text)
    return text[:_TEXT_MAX] + ("…" if len(text) > _TEXT_MAX else "")
