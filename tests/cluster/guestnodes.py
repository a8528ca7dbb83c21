"""The nodes of a test cluster whose control plane is outside of this VM: started here, told what to run (I/O).

    python -m cluster.guestnodes FOLDER

FOLDER is shared with the host and holds ``seats.json``, ``ca.crt`` and, with the images, ``store.tar``. The bridge
between the nodes goes on over eth1 into the host's. Each line of stdin is a request in JSON: the name of a node and the
words of a command to be run there. Each line of stdout is the answer to one, but the first, which says that the nodes
run. The end of stdin is ours.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster import imagestore
from cluster.fabric import plug
from cluster.layout import BRIDGE, FABRIC, Seat
from cluster.node import Node
from harness.machine import slowness

from kube_router.lab import netns

DISKS = Path("/dev/shm")  # the VM's root is a layered disk, on which an image's layers cannot lie
UPLINK = "eth1"
COMMAND_S = 60


def main(folder: Path) -> None:
    """Start the nodes, answer requests until there are no more."""
    tokens = json.loads((folder / "seats.json").read_text())
    _lay_bridge()
    nodes = {}
    for number, token in tokens.items():
        seat = Seat(int(number))
        nodes[seat.name] = Node(seat, DISKS / seat.name, token=token, ca_file=folder / "ca.crt")
    for node in nodes.values():
        plug(node.seat)
        node.install()
        imagestore.unpack(folder / "store.tar", DISKS / node.seat.name / "disk/containerd")
        try:
            node.start()
        except BaseException:
            print(*(node.log(name) for name in ("containerd", "kubelet")), sep="\n", file=sys.stderr)
            raise
    _say(sorted(nodes))
    for line in sys.stdin:
        name, argv = json.loads(line)
        _say(_run(nodes[name], argv))


def _lay_bridge() -> None:
    netns.add([FABRIC])
    netns.ip_batch([f"link set {UPLINK} netns {FABRIC}"])
    netns.ip_batch(
        [
            "link set lo up",
            f"link add {BRIDGE} type bridge",
            f"link set {UPLINK} master {BRIDGE} up",
            f"link set {BRIDGE} up",
        ],
        namespace=FABRIC,
    )


def _run(node: Node, argv: Sequence[str]) -> dict[str, Any]:
    try:
        done = node.run(*argv, check=False, timeout_s=COMMAND_S * slowness())
    except subprocess.TimeoutExpired as error:
        return {"status": 124, "stdout": "", "stderr": str(error)}
    return {"status": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def _say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
