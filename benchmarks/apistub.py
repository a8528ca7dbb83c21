"""A stub of an API server for clusters too large to be created in a real one each time: a process of its own.

    python -m benchmarks.apistub SERVICES PODS     prints its URL, then reads lines from stdin: the number of a Service

It answers what the agent asks for: the cluster's identity, and for each resource a watch that begins with the whole
list (WatchList) and then tells changes. An object is made when it is sent, so that the stub stays small. A number on
stdin gives that Service's EndpointSlice another endpoint; printed is the Unix time at which that was sent.

Pods are as large as real ones (managedFields and all: 9 KB); a Service has three endpoints.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from benchmarks.list_decode import pod

FIRST_RV = 1_000_000
BOOKMARK_S = 30
NODES = 100
NODE = "node-1"
Json = dict[str, Any]


def metadata(name: str, namespace: str = "", **more: Any) -> Json:
    """Return an object's metadata as the API server gives it."""
    place = {"namespace": namespace} if namespace else {}
    return {"name": name, **place, "uid": f"uid-{name}", "resourceVersion": str(FIRST_RV), **more}


def team(number: int) -> str:
    return f"team-{number % 50}"


def service(number: int) -> Json:
    """Return Service web-N: one port, one address."""
    address = f"10.{96 + number // 65536}.{number // 256 % 256}.{number % 256}"
    created = metadata(f"web-{number}", team(number), creationTimestamp="2026-01-02T03:04:05Z")
    spec = {
        "type": "ClusterIP",
        "clusterIP": address,
        "clusterIPs": [address],
        "ipFamilies": ["IPv4"],
        "selector": {"app": f"web-{number}"},
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
    }
    return {"metadata": created, "spec": spec}


def endpoint_slice(number: int, *, version: int = 0) -> Json:
    """Return the slice of Service web-N; each version has another third endpoint."""
    hosts = [number * 3, number * 3 + 1, number * 3 + 2 if not version else 200_000 + version]
    labels = {"kubernetes.io/service-name": f"web-{number}"}
    endpoints = [
        {
            "addresses": [f"10.{128 + host // 65536}.{host // 256 % 256}.{host % 256}"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": f"node-{host % NODES}",
            "targetRef": {"kind": "Pod", "namespace": team(number), "name": f"web-{number}-x{host}", "uid": f"u{host}"},
        }
        for host in hosts
    ]
    return {
        "metadata": metadata(f"web-{number}-x7", team(number), labels=labels)
        | {"resourceVersion": str(FIRST_RV + version)},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    }


def node(number: int) -> Json:
    addresses = [{"type": "InternalIP", "address": f"192.0.2.{number}"}]
    spec = {"podCIDR": f"10.{128 + number}.0.0/24", "podCIDRs": [f"10.{128 + number}.0.0/24"]}
    return {"metadata": metadata(f"node-{number}"), "spec": spec, "status": {"addresses": addresses}}


def policy(number: int) -> Json:
    peer = {"podSelector": {"matchLabels": {"tier": "front"}}}
    spec = {
        "podSelector": {"matchLabels": {"app": f"web-{number}"}},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [peer], "ports": [{"port": 8080, "protocol": "TCP"}]}],
    }
    return {"metadata": metadata(f"allow-{number}", team(number)), "spec": spec}


class Cluster:
    """What is served, and the watches that are told of changes."""

    def __init__(self, services: int, pods: int) -> None:
        made: dict[str, tuple[int, Callable[[int], Json]]] = {
            "services": (services, service),
            "endpointslices": (services, lambda number: endpoint_slice(number, version=self.versions.get(number, 0))),
            "pods": (pods, pod),
            "nodes": (NODES, node),
            "namespaces": (50, lambda number: {"metadata": metadata(team(number))}),
            "networkpolicies": (50 if pods else 0, policy),
        }
        self._made = made
        self.versions: dict[int, int] = {}
        self.rv = FIRST_RV
        self.watches: set[asyncio.StreamWriter] = set()

    def objects(self, resource: str) -> Iterator[Json]:
        count, make = self._made[resource]
        return map(make, range(count))

    def change(self, number: int) -> float:
        """Give a slice another endpoint; return the Unix time at which that was sent."""
        self.rv += 1
        self.versions[number] = self.rv - FIRST_RV
        line = event("MODIFIED", endpoint_slice(number, version=self.versions[number]))
        sent = time.time()
        for writer in self.watches:
            chunk(writer, line)
        return sent

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            parts = urlsplit(head.split(" ")[1])
            resource = parts.path.rpartition("/")[2]
            query = parse_qs(parts.query)
            if resource == "kube-system":
                await answer(writer, {"metadata": {"name": resource, "uid": "stub"}})
            elif "watch" in query:
                await self._watch(resource, query, writer)
            else:  # how far the history has come, asked before a watch is resumed
                await answer(writer, {"metadata": {"resourceVersion": str(self.rv)}, "items": []})
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            self.watches.discard(writer)
            writer.close()

    async def _watch(self, resource: str, query: dict[str, list[str]], writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        writer.write(b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        if query.get("sendInitialEvents") == ["true"]:
            for obj in self.objects(resource):
                chunk(writer, event("ADDED", obj))
                await writer.drain()
            chunk(writer, self._bookmark(is_end=True))
        if resource == "endpointslices":
            self.watches.add(writer)
        while True:
            await asyncio.sleep(BOOKMARK_S)
            chunk(writer, self._bookmark())
            await writer.drain()

    def _bookmark(self, *, is_end: bool = False) -> bytes:
        meta: Json = {"resourceVersion": str(self.rv)}
        if is_end:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        return event("BOOKMARK", {"metadata": meta})


async def answer(writer: asyncio.StreamWriter, document: Json) -> None:
    body = json.dumps(document).encode()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n")
    writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    await writer.drain()


def event(kind: str, obj: Json) -> bytes:
    return json.dumps({"type": kind, "object": obj}, separators=(",", ":")).encode() + b"\n"


def chunk(writer: asyncio.StreamWriter, body: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(body), body))


async def serve(services: int, pods: int) -> None:
    cluster = Cluster(services, pods)
    server = await asyncio.start_server(cluster.serve, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        print(cluster.change(int(line)), flush=True)


class Stub:
    """The process, as a context: ``url``, and ``change`` of a Service's endpoint."""

    def __init__(self, *, services: int, pods: int = 0) -> None:
        argv = [sys.executable, "-m", "benchmarks.apistub", str(services), str(pods)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def change(self, number: int) -> float:
        """Give Service web-N another endpoint; return the Unix time at which the watches were told."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{number}\n")
        self._process.stdin.flush()
        return float(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "the stub has ended"
        return line


if __name__ == "__main__":
    asyncio.run(serve(*map(int, sys.argv[1:3])))
