"""What the VM boots: an initramfs of busybox, a few modules and two shell scripts (pure but for reading those files).

``/init`` loads the drivers, mounts the host's root by virtio-fs below a tmpfs overlay, binds the writable folders
through and moves all that over its own root, so that who enters this mount namespace (nsenter) is there too. It stays
PID 1, so that the kernel's own modprobe finds ``/lib/modules``. The second script, ``guest``, makes the machine a
machine (mounts, loopback, the network card without a default route: nothing but the host at 10.0.2.2 can be reached),
joins the three virtio serial ports to the command's stdin, stdout and stderr, writes its exit status and powers off.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

BOOT_MODULES = ("virtio_pci", "virtio_console", "virtiofs", "overlay", "virtio_net")
BUSYBOX = Path("/bin/busybox")

_INIT = """\
#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t devtmpfs dev /dev
for module in $($B cat /order); do $B insmod /$module; done
$B mount -t virtiofs root /lower &&
$B mount -t tmpfs -o mode=755,size=90% scratch /scratch &&
$B mkdir /scratch/upper /scratch/work &&
$B mount -t overlay -o lowerdir=/lower,upperdir=/scratch/upper,workdir=/scratch/work root /new || $B poweroff -f
. /binds
$B mount --move /dev /new/dev
$B mount --move /proc /new/proc
cd /new
$B mount --move . /
exec $B chroot . $B sh @DIR@/guest
"""

# The ports can be opened once only, hence the FIFOs; the numbers of their devices are known only when they appear.
# A process the command left behind may hold stdout open: the readers get two more seconds, then the machine ends.
_GUEST = """\
B=/bin/busybox
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
$B mount -t sysfs sys /sys
$B mount -t cgroup2 cgroup /sys/fs/cgroup
$B mount -t tmpfs -o mode=755 run /run
$B mkdir -p /dev/pts /dev/shm /run/lock /run/netns
$B mount -t devpts -o ptmxmode=666 pts /dev/pts
$B mount -t tmpfs shm /dev/shm
$B ln -s /proc/self/fd /dev/fd
$B ln -s /proc/self/fd/0 /dev/stdin
$B ln -s /proc/self/fd/1 /dev/stdout
$B ln -s /proc/self/fd/2 /dev/stderr
$B hostname kr-vm
$B ip link set lo up
$B ip link set eth0 up
$B ip addr add 10.0.2.15/24 dev eth0
until [ -e /dev/vport*p3 ]; do $B sleep 0.05; done
port=$(echo /dev/vport*p3)
port=${port%3}
$B mkfifo -m 600 /run/.out /run/.err
$B cat /run/.out >${port}2 & out=$!
$B cat /run/.err >${port}3 & err=$!
$B setsid /bin/sh @DIR@/command <${port}1 >/run/.out 2>/run/.err
status=$?
($B sleep 2; $B kill $out $err) 2>/dev/null &
wait $out $err
echo $status >@DIR@/status
$B poweroff -f
"""


def guest_script(shared: Path) -> str:
    """Return the script that prepares the machine and runs ``shared/command``."""
    return _GUEST.replace("@DIR@", shlex.quote(str(shared)))


def command_script(command: Sequence[str], *, cwd: str, env: Mapping[str, str]) -> str:
    """Return the script that runs the command where, and with the environment in which, it would run here."""
    settings = [f"{name}={value}" for name, value in env.items() if name.isidentifier()]
    return f"cd {shlex.quote(cwd)}; exec env -i {shlex.join([*settings, *command])}\n"


def initramfs(modules: Path, *, shared: Path, writable: Sequence[str]) -> bytes:
    """Return the boot archive for a kernel's modules; ``shared`` and ``writable`` are bound through from the host."""
    files = _boot_modules(modules)
    order = " ".join(files)
    # A mount, not a link: a container that is given /lib/modules has nothing else of this root.
    there = f"/lib/modules/{modules.name}"
    pairs = [(str(modules), there), *((path, path) for path in [str(shared), *writable])]
    binds = ["$B mkdir -p " + shlex.quote(f"/new{there}")]
    binds += ["$B mount --bind " + shlex.join((f"/lower{source}", f"/new{target}")) for source, target in pairs]
    files["init"] = _INIT.replace("@DIR@", shlex.quote(str(shared))).encode()
    files["binds"] = ("\n".join(binds) + "\n").encode()
    files["order"] = order.encode()
    files["bin/busybox"] = BUSYBOX.read_bytes()
    return newc(("bin", "proc", "dev", "lower", "scratch", "new"), files)


def _boot_modules(modules: Path) -> dict[str, bytes]:
    """Return the drivers the boot needs, in loading order. What the kernel has built in is not among them."""
    needs: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    by_name = {Path(path).stem.replace("-", "_"): path for path in needs}
    order: dict[str, None] = {}
    for name in BOOT_MODULES:
        if name in by_name:
            order |= dict.fromkeys([*reversed(needs[by_name[name]]), by_name[name]])
    return {Path(path).name: (modules / path).read_bytes() for path in order}


def newc(folders: Sequence[str], files: Mapping[str, bytes]) -> bytes:
    """Return a cpio archive in the format the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format).

    All files are executable and root's.
    """
    members = [(name, 0o40755, b"") for name in folders]
    members += [(name, 0o100755, data) for name, data in files.items()]
    members.append(("TRAILER!!!", 0o100755, b""))
    return b"".join(_member(name, mode, data) for name, mode, data in members)


def _member(name: str, mode: int, data: bytes) -> bytes:
    raw = name.encode() + b"\0"
    # inode, mode, uid, gid, links, mtime, size, device and rdevice as major and minor, length of the name, checksum
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
    head = b"070701" + b"".join(b"%08x" % number for number in fields) + raw
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)
