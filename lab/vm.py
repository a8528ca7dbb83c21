"""Run a command in a throw-away QEMU VM: Debian's kernel on top of this machine's own root filesystem.

    python -m kube_router.lab.vm [--kernel SUITE] [--timeout S] [--memory MiB] [--cpus N] [--tap NAME] [--rw DIR]...
        -- COMMAND...

For what this machine's kernel has not (ip_vs, dummy, ipip, sctp, wireguard). The guest sees the host's root by
virtio-fs under a tmpfs overlay: all of it is writable and nothing is kept, except below the --rw folders (default: the
git work tree, else the current folder). Current folder, environment, stdin, stdout, stderr and exit status pass
through; modules load on demand; the host's loopback is 10.0.2.2, and nothing else can be reached, but for a tap device
of this network namespace: what is sent there the guest has at its eth1, which is down at first. There is no terminal
inside. $KR_IN_VM is 1 there. The CPU is emulated: boot takes 5 s and Python is about 15 times slower;
$KR_VM_ACCEL=kvm uses the hardware where that works (a /dev/kvm that is there may still hang the guest, so it is not
guessed).

Exit status: the command's, or 124 (timeout) or 125 (the VM itself failed; why is on stderr).
SUITE is host (default) or a Debian suite; see vmkernel.py.
"""

import argparse
import ctypes
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kube_router.events.errors import ConfigError
from kube_router.lab import machine, vminit, vmkernel

TIMED_OUT, VM_FAILED = 124, 125
LOG_TAIL = 3000
PR_SET_PDEATHSIG = 1

# QEMU 7.2's emulated cmpxchg16b corrupts the flags register (kernel 6.12 panics with it), hence -cx16.
_EMULATED = "-accel tcg -cpu Nehalem,+rdrand,-cx16"
_HARDWARE = "-accel kvm -cpu host"
_QEMU = """qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot -M q35,memory-backend=mem {cpu}
 -smp {cpus} -m {memory_mib} -object memory-backend-memfd,id=mem,share=on,size={memory_mib}M
 -kernel {vmlinuz} -initrd {shared}/initrd -serial file:{shared}/console
 -chardev socket,id=fs,path={shared}/fs -device vhost-user-fs-pci,chardev=fs,tag=root
 -netdev user,id=net -device virtio-net-pci,netdev=net,romfile= -device virtio-serial-pci
 -append 'console=ttyS0 panic=-1 mitigations=off nokaslr random.trust_cpu=on no_timer_check tsc=reliable
 cryptomgr.notests quiet'"""
_TAP = " -netdev tap,id=tap,ifname={tap},script=no,downscript=no -device virtio-net-pci,netdev=tap,romfile="


@dataclass(frozen=True, slots=True)
class Machine:
    """What the VM is like. ``writable`` folders keep what is written below them; ``tap`` is where its eth1 ends."""

    kernel: str = "host"
    timeout_s: float | None = None
    memory_mib: int = 1024
    cpus: int = 1
    writable: tuple[str, ...] = ()
    tap: str = ""


def argv(command: Sequence[str], *, vm: Machine) -> list[str]:
    """Return the command line that runs ``command`` in such a VM, for subprocess and os.exec."""
    options = ["--kernel", vm.kernel, "--memory", str(vm.memory_mib), "--cpus", str(vm.cpus)]
    options += ["--timeout", str(vm.timeout_s)] if vm.timeout_s is not None else []
    options += ["--tap", vm.tap] if vm.tap else []
    options += [word for folder in vm.writable for word in ("--rw", folder)]
    return [sys.executable, "-m", "kube_router.lab.vm", *options, "--", *command]


def run(command: Sequence[str], *, vm: Machine) -> int:
    """Run the command in a VM with our stdin, stdout and stderr. Return its status, 124 or 125.

    ConfigError if something is missing that the operator can get. To be called from the main thread: the VM ends
    with the thread that started it.
    """
    check(vm)
    kernel = vmkernel.kernel(vm.kernel)
    writable = [os.path.realpath(path) for path in vm.writable]
    with tempfile.TemporaryDirectory(prefix="kr-vm-") as folder:
        shared = Path(folder)
        (shared / "initrd").write_bytes(vminit.initramfs(kernel.modules, shared=shared, writable=writable))
        (shared / "guest").write_text(vminit.guest_script(shared))
        env = os.environ | {machine.IN_VM: "1"}
        (shared / "command").write_text(vminit.command_script(command, cwd=os.getcwd(), env=env))
        timed_out = _boot(shared, vmlinuz=kernel.vmlinuz, vm=vm)
        if timed_out:
            print(f"vm: the command did not end within {vm.timeout_s:g} s", file=sys.stderr)
            return TIMED_OUT
        return _status(shared)


def check(vm: Machine) -> None:
    """Raise ConfigError, in words and with what to do, if this machine cannot run such a VM."""
    if os.uname().machine != "x86_64":
        raise ConfigError(f"the VM needs an x86-64 machine, this one is {os.uname().machine}")
    if os.geteuid() != 0:
        raise ConfigError("the VM shares this machine's root filesystem and needs root: run it through sudo")
    if missing := machine.missing_for_vm():
        raise ConfigError(f"the VM needs {', '.join(missing)}: {machine.install_line(missing)}")
    for path in vm.writable:
        if not os.path.isdir(path):
            raise ConfigError(f"--rw {path}: no such folder")


def _status(shared: Path) -> int:
    try:
        return int((shared / "status").read_text())
    except (FileNotFoundError, ValueError):
        for name in ("log", "console"):
            text = (shared / name).read_text(errors="replace") if (shared / name).exists() else ""
            sys.stderr.write(text[-LOG_TAIL:])
        print("vm: the VM ended without a status; above are the last words of QEMU and of its kernel", file=sys.stderr)
        return VM_FAILED


def _boot(shared: Path, *, vmlinuz: Path, vm: Machine) -> bool:
    """Run the VM to its end; tell whether it was cut off by the timeout. Nothing of it is left afterwards."""
    cpu = _HARDWARE if os.environ.get("KR_VM_ACCEL") == "kvm" else _EMULATED
    qemu = shlex.split(_QEMU.format(cpu=cpu, cpus=vm.cpus, memory_mib=vm.memory_mib, vmlinuz=vmlinuz, shared=shared))
    qemu += shlex.split(_TAP.format(tap=vm.tap)) if vm.tap else []
    ports = [socket.socketpair() for _ in range(3)]
    for number, (_, theirs) in enumerate(ports, 1):
        qemu += ["-chardev", f"socket,id=c{number},fd={theirs.fileno()}"]
        qemu += ["-device", f"virtserialport,nr={number},chardev=c{number}"]
    with (shared / "log").open("wb") as log, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{shared}/fs")
        listener.listen()
        with (
            _child(_virtiofsd(listener.fileno()), fds=[listener.fileno()], log=log),
            _child(qemu, fds=[theirs.fileno() for _, theirs in ports], log=log) as process,
        ):
            for _, theirs in ports:
                theirs.close()
            readers = _pumps([ours for ours, _ in ports])
            try:
                process.wait(vm.timeout_s)
            except subprocess.TimeoutExpired:
                return True
            for thread in readers:
                thread.join()
    return False


def _virtiofsd(fd: int) -> list[str]:
    modern, debian_12 = machine.VIRTIOFSD
    if modern.exists():
        options = ["--shared-dir=/", "--cache=always", "--sandbox=chroot", "--no-announce-submounts"]
        return [str(modern), *options, f"--fd={fd}"]
    return [str(debian_12), "-f", "-o", "source=/,cache=always,sandbox=chroot", f"--fd={fd}"]


@contextmanager
def _child(argv: list[str], *, fds: list[int], log: BinaryIO) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that ends with this block, or with us if we are killed."""
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=fds,
        start_new_session=True,
        preexec_fn=_die_with_parent,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _pumps(ports: list[socket.socket]) -> list[threading.Thread]:
    """Join our standard streams to the VM's ports; return the threads that end when all output is through."""
    stdin, *outputs = ports
    threading.Thread(target=_pump, args=(_read_stdin, stdin.sendall, stdin), daemon=True).start()
    readers = []
    for fd, port in enumerate(outputs, 1):
        receive = _receiver(port)
        reader = threading.Thread(target=_pump, args=(receive, _writer(fd), None), daemon=True)
        reader.start()
        readers.append(reader)
    return readers


def _read_stdin() -> bytes:
    try:
        return os.read(0, 65536)
    except OSError:  # a closed stdin is an empty one
        return b""


def _receiver(port: socket.socket) -> Callable[[], bytes]:
    def receive() -> bytes:
        try:
            return port.recv(65536)
        except ConnectionResetError:  # QEMU was killed
            return b""

    return receive


def _writer(fd: int) -> Callable[[bytes], object]:
    def write(chunk: bytes) -> None:
        while chunk:
            chunk = chunk[os.write(fd, chunk) :]

    return write


def _pump(read: Callable[[], bytes], write: Callable[[bytes], object], shut: socket.socket | None) -> None:
    """Copy until the end. Where the other side no longer takes anything, the rest is read and dropped."""
    taking = True
    while chunk := read():
        if taking:
            try:
                write(chunk)
            except (BrokenPipeError, ConnectionResetError):
                taking = False
    if shut is not None and taking:
        shut.shutdown(socket.SHUT_WR)


def parse(words: Sequence[str] | None) -> tuple[Machine, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m kube_router.lab.vm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kernel", default="host", metavar="SUITE")
    parser.add_argument("--timeout", type=float, metavar="S")
    parser.add_argument("--memory", type=int, default=1024, metavar="MiB")
    parser.add_argument("--cpus", type=int, default=1, metavar="N")
    parser.add_argument("--tap", default="", metavar="NAME")
    parser.add_argument("--rw", action="append", default=[], metavar="DIR")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND...")
    given = parser.parse_args(words)
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    if not command:
        parser.error("no COMMAND")
    writable = tuple(given.rw) or (_work_tree(),)
    machine_given = Machine(given.kernel, given.timeout, given.memory, given.cpus, writable, given.tap)
    return machine_given, command


def _work_tree() -> str:
    try:
        done = subprocess.run(["git", "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return os.getcwd()
    return done.stdout.strip() or os.getcwd()


def _terminated(signum: int, _frame: object) -> None:
    sys.exit(128 + signum)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    vm, command = parse(words)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return run(command, vm=vm)
    except ConfigError as error:
        print(f"vm: {error}", file=sys.stderr)
        return VM_FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
