"""The control socket: a local client asks one JSON line, gets one JSON document.

``{"cmd": "status"}``. The socket is 0600 and its folder the operator's: whoever may open it may ask everything.
"""

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio
import msgspec
from anyio.abc import SocketStream

from kube_router.core.ask import REQUEST_MAX
from kube_router.events.errors import ConfigError

logger = logging.getLogger(__name__)

REQUEST_S = 5
Command = Callable[[Mapping[str, object]], object]


async def serve(path: Path, commands: Mapping[str, Command]) -> None:
    """Serve the commands until cancelled. ConfigError where the socket cannot be made or another agent has it."""
    await _make_way(path)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        old_mask = os.umask(0o177)
        try:
            listener = await anyio.create_unix_listener(path)
        finally:
            os.umask(old_mask)
    except OSError as error:
        raise ConfigError(f"--control-socket {path}: {error.strerror}; give another path or make its folder") from error

    async def one(stream: SocketStream) -> None:
        async with stream:
            try:
                with anyio.move_on_after(REQUEST_S):
                    await stream.send(answer(await _line(stream), commands) + b"\n")
            except (OSError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
                logger.debug("control_client_gone error=%r", error)

    try:
        async with listener:
            await listener.serve(one)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.Path(path).unlink(missing_ok=True)


def answer(line: bytes, commands: Mapping[str, Command]) -> bytes:
    """Return the JSON answer to one request line: the command's document or ``{"error": words}``."""
    try:
        request = msgspec.json.decode(line, type=dict[str, object])
        command = commands[str(request["cmd"])]
    except (msgspec.DecodeError, KeyError):
        known = ", ".join(sorted(commands))
        return msgspec.json.encode({"error": f'not a request: send {{"cmd": one of {known}}} as one JSON line'})
    try:
        return msgspec.json.encode(command(request))
    except ValueError as error:
        return msgspec.json.encode({"error": str(error)})
    except Exception as error:
        logger.exception("control_command_failed cmd=%s", request["cmd"])
        return msgspec.json.encode({"error": f"{request['cmd']} failed: {error!r}; the agent's log has more"})


async def _make_way(path: Path) -> None:
    """Remove a socket nobody listens on; ConfigError if somebody does."""
    if not await anyio.Path(path).exists():
        return
    try:
        stream = await anyio.connect_unix(path)
    except OSError:
        await anyio.Path(path).unlink(missing_ok=True)
        return
    await stream.aclose()
    raise ConfigError(f"--control-socket {path}: another agent is listening there; stop it or give another path")


async def _line(stream: SocketStream) -> bytes:
    data = b""
    while b"\n" not in data and len(data) < REQUEST_MAX:
        data += await stream.receive(REQUEST_MAX)
    return data.split(b"\n", 1)[0]
