"""Ways in which an API server misbehaves, for FakeApiServer.moods."""

from collections.abc import Awaitable, Callable

from doubles.apiserver import Mood, Request, Wire

Matches = Callable[[Request], bool]
HTML = b"<html><body><h1>503 Service Unavailable</h1>No server is available.</body></html>"
TOO_MANY = b"Too many requests, please try again later.\n"


def watching(request: Request) -> bool:
    return request.is_watch


def anything(request: Request) -> bool:
    return True


def answering(code: int, body: bytes, content_type: str, *, to: Matches, times: int, **headers: str) -> Mood:
    """Answer the first ``times`` matching requests with this; -1 is always."""
    left = times

    async def mood(request: Request, wire: Wire) -> bool:
        nonlocal left
        if not left or not to(request):
            return False
        left -= 1
        await wire.answer(code, body, content_type, **headers)
        return True

    return mood


def streaming(play: Callable[[Wire], Awaitable[None]], *, times: int, to: Matches = watching) -> Mood:
    """Accept the first ``times`` matching watches and play something over them."""
    left = times

    async def mood(request: Request, wire: Wire) -> bool:
        nonlocal left
        if not left or not to(request):
            return False
        left -= 1
        await wire.open_stream()
        await play(wire)
        return True

    return mood
