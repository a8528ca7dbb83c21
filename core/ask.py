"""Asks the running agent over its control socket: one JSON line out, one JSON document back."""

import json
import socket
from typing import Any

from kube_router.events.errors import PeerError

REQUEST_MAX = 65536  # bytes of a question, the command and the line's end included
ANSWER_S = 10.0
ANSWER_BYTES_MAX = 64 << 20
CHUNK = 1 << 16


def ask(path: str, command: str, **details: object) -> Any:
    """Return the agent's answer. PeerError where none comes, or what it says is wrong."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(ANSWER_S)
            client.connect(path)
            client.sendall(json.dumps({"cmd": command, **details}).encode() + b"\n")
            answer = json.loads(_all(client))
    except (FileNotFoundError, ConnectionRefusedError):
        raise PeerError(f"no agent listens at {path}: start it with kr run, or name its --control-socket") from None
    except PermissionError:
        raise PeerError(f"{path}: permission denied; the socket is its owner's (root)") from None
    except OSError as error:
        raise PeerError(f"the agent at {path} does not answer: {error.strerror or error}") from None
    except ValueError:
        raise PeerError(f"the agent at {path} broke off its answer") from None
    if isinstance(answer, dict) and isinstance(answer.get("error"), str):
        raise PeerError(f"the agent at {path}: {answer['error']}")
    return answer


def _all(client: socket.socket) -> bytes:
    """Return what comes until the agent closes. ``ANSWER_S`` is the longest silence."""
    received = bytearray()
    while chunk := client.recv(CHUNK):
        received += chunk
        if len(received) > ANSWER_BYTES_MAX:
            raise ValueError("more than an answer can be")
    return bytes(received)
