"""A test cluster whose nodes are in the lab's VM, for what this machine's kernel has not: IPVS (I/O).

    with GuestCluster(archives=[…]) as cluster:
        cluster.kubectl("get", "nodes")
        cluster.run_on("node-1", "ipvsadm", "-Sn")

The control plane is on this machine, as that of any test cluster: emulated it would take minutes to start. The bridge
between the nodes and that in the VM are one network, so addresses and routes are as if all were here.
"""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from cluster import imagestore
from cluster.cluster import Cluster
from cluster.layout import BRIDGE, FABRIC, inside
from harness.machine import GUEST_SLOWNESS

from kube_router.lab import netns, vm

TAP = "krcluster-vm"
MEMORY_MIB, CPUS = 4096, 2
ANSWER_S = 60 * GUEST_SLOWNESS
STOP_S = 10
TESTS = Path(__file__).parents[1]


class GuestCluster(Cluster):
    """As Cluster, but for its nodes: images are theirs from the beginning, and ``run_on`` commands them."""

    slowness = GUEST_SLOWNESS

    def __init__(self, *, nodes: int = 2, archives: Sequence[Path], memory_mib: int = MEMORY_MIB) -> None:
        super().__init__(nodes=nodes)
        self._archives, self._memory_mib = archives, memory_mib
        self._guest: subprocess.Popen[str] | None = None
        self._answers: Queue[Any] = Queue()

    def _start_nodes(self) -> None:
        card = [f"tuntap add dev {TAP} mode tap", f"link set {TAP} master {BRIDGE} up"]
        netns.ip_batch(card, namespace=FABRIC)
        tokens = {seat.number: self.plane.node_tokens[seat.name] for seat in self.seats}
        (self.folder / "seats.json").write_text(json.dumps(tokens))
        shutil.copy(self.plane.access.ca_file, self.folder / "ca.crt")
        imagestore.pack(self._archives, self.folder / "store.tar")
        self._boot()
        self._answer()

    def close(self) -> None:
        """Stop everything, remove all of it."""
        if self._guest is not None:
            self._guest.terminate()
            try:
                self._guest.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._guest.kill()
            self._reader.join()
            self._guest.communicate()
        super().close()

    def load(self, archives: Sequence[Path]) -> None:
        """Raise TypeError: a node here has its images from the beginning."""
        raise TypeError(f"give {', '.join(map(str, archives))} to GuestCluster itself")

    def run_on(self, name: str, *argv: str) -> str:
        """Return what a command prints on a node, as its root. CalledProcessError with its words."""
        assert self._guest is not None
        assert self._guest.stdin is not None
        self._guest.stdin.write(json.dumps([name, argv]) + "\n")
        self._guest.stdin.flush()
        done = self._answer()
        if done["status"]:
            error = subprocess.CalledProcessError(done["status"], argv, done["stdout"], done["stderr"])
            error.add_note(done["stdout"] + done["stderr"])
            raise error
        return str(done["stdout"])

    def _boot(self) -> None:
        machine = vm.Machine(memory_mib=self._memory_mib, cpus=CPUS, writable=(str(self.folder),), tap=TAP)
        command = [
            *inside(FABRIC),
            *vm.argv([sys.executable, "-m", "cluster.guestnodes", str(self.folder)], vm=machine),
        ]
        with (self.folder / "vm.log").open("w") as log:
            self._guest = subprocess.Popen(
                command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self._reader = threading.Thread(target=self._read, args=[self._guest], daemon=True)
        self._reader.start()

    def _read(self, guest: subprocess.Popen[str]) -> None:
        assert guest.stdout is not None
        for line in guest.stdout:
            self._answers.put(json.loads(line))
        self._answers.put(None)

    def _answer(self) -> Any:
        try:
            answer = self._answers.get(timeout=ANSWER_S)
        except Empty:
            answer = None
        if answer is None:
            raise RuntimeError(f"the VM has ended or is silent:\n{(self.folder / 'vm.log').read_text()[-3000:]}")
        return answer
