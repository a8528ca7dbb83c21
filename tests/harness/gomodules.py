"""Programs of others that the tests run, built from Go modules which this repository pins: tests/go/NAME/go.mod.

    python -m harness.gomodules [kubernetes [kubelet]]      (from tests/) build now what is missing, and say where it is

Each is looked for in our cache ($KR_CACHE or ~/.cache/kube-router, below NAME/VERSION) and built there if it is
missing, with progress on stderr. That needs Go 1.26, or 1.21 with GOTOOLCHAIN=auto, which fetches a newer one itself.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

MODULES = Path(__file__).parents[1] / "go"
# Where Go is when it is not on the path: its own place, then Debian's golang-1.N-go, the newest first.
GO_PLACES = ["/usr/local/go/bin", *sorted(map(str, Path("/usr/lib").glob("go-*/bin")), reverse=True)]
GO_ENOUGH, GO_WITH_TOOLCHAINS = (1, 26), (1, 21)
BUILD_S_MAX = 1800
PROGRESS_S = 5.0
Say = Callable[[str], object]


class Unavailable(Exception):
    """There is no program and none can be built; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Module:
    """One Go module of ours and what is built of it.

    ``packages`` is the package of each program by the name that ``go install`` gives it; a name that ends in ``.test``
    is built of the package's tests. ``version_of`` is the required module whose version the builds are stored under,
    ``stamp`` the variables that the linker sets: VERSION, MAJOR and MINOR in them are replaced.
    """

    name: str
    version_of: str
    packages: Mapping[str, str]
    tags: str = ""
    stamp: Mapping[str, str] = field(default_factory=dict)
    hint: str = "some minutes"

    @property
    def folder(self) -> Path:
        """The folder with go.mod."""
        return MODULES / self.name

    @property
    def version(self) -> str:
        """The version that go.mod pins, such as ``v1.36.3``."""
        text = (self.folder / "go.mod").read_text()
        found = re.search(rf"^\s*(?:require )?{re.escape(self.version_of)} (v\S+)", text, re.MULTILINE)
        assert found, f"tests/go/{self.name}/go.mod names no {self.version_of}"
        return found[1]

    @property
    def cache(self) -> Path:
        """The folder our own builds live in."""
        root = os.environ.get("KR_CACHE")
        return (Path(root) if root else Path.home() / ".cache" / "kube-router") / self.name / self.version

    def program(self, name: str, say: Say | None = None) -> Path:
        """Return a program, built first if need be. Raises Unavailable."""
        self.build([name], say)
        return self.cache / name

    def missing(self, names: Sequence[str]) -> list[str]:
        """Return those that are not built."""
        return [name for name in names if not os.access(self.cache / name, os.X_OK)]

    def why_none(self, names: Sequence[str]) -> str:
        """Return why these cannot be had here, "" if they can (now, or after a build)."""
        if self.missing(names):
            try:
                _go()
            except Unavailable as error:
                return str(error)
        return ""

    def build(self, names: Sequence[str], say: Say | None = None) -> None:
        """Build what is missing, into the cache. Two builders wait for each other; the second finds the work done."""
        if not self.missing(names):
            return
        say = say or _say_on_stderr
        target = self.cache
        target.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(target.parent / f"{target.name}.lock", say):
            if missing := self.missing(names):
                go, env = _go()
                with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                    for argv in self._commands(go, missing, Path(folder)):
                        self._run(argv, env=env | {"GOBIN": folder}, say=say)
                    target.mkdir(exist_ok=True)
                    for built in Path(folder).iterdir():
                        built.rename(target / built.name)
        if still := self.missing(names):
            raise Unavailable(f"the build left no {', '.join(still)} in {target}")

    def _commands(self, go: str, names: Sequence[str], target: Path) -> Iterator[list[str]]:
        major, minor, _ = self.version.removeprefix("v").split(".", 2)
        values = {"VERSION": self.version, "MAJOR": major, "MINOR": minor}
        stamp = [f"-X {variable}={values.get(value, value)}" for variable, value in self.stamp.items()]
        flags = ["-trimpath", f"-ldflags={' '.join(['-s -w', *stamp])}", *([f"-tags={self.tags}"] if self.tags else [])]
        if programs := [self.packages[name] for name in names if not name.endswith(".test")]:
            yield [go, "install", "-v", *flags, *programs]
        for name in names:
            if name.endswith(".test"):
                yield [go, "test", "-c", "-v", *flags, "-o", str(target / name), self.packages[name]]

    def _run(self, argv: Sequence[str], *, env: Mapping[str, str], say: Say) -> None:
        log = self.cache.parent / "build.log"
        say(f"{self.name}: building {self.version} once, {self.hint}; log {log}")
        started = time.monotonic()
        with (
            log.open("w+") as output,
            subprocess.Popen(argv, cwd=self.folder, env=env, stdout=output, stderr=output) as process,
        ):
            while process.poll() is None:
                elapsed_s = time.monotonic() - started
                if elapsed_s > BUILD_S_MAX:
                    process.kill()
                    raise Unavailable(f"go {argv[1]} took more than {BUILD_S_MAX} s; see {log}")
                try:
                    process.wait(PROGRESS_S)
                except subprocess.TimeoutExpired:
                    packages = log.read_text(errors="replace").count("\n")
                    say(f"{self.name}: {packages} packages, {elapsed_s:.0f} s")
            if process.returncode:
                words = log.read_text(errors="replace")[-2000:]
                raise Unavailable(f"go {argv[1]} failed ({process.returncode}): {words}")
        say(f"{self.name}: built in {time.monotonic() - started:.0f} s")


KUBERNETES = Module(
    "kubernetes",
    version_of="k8s.io/kubernetes",
    packages={
        "server": "go.etcd.io/etcd/server/v3",
        **{
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-proxy",
                "kube-scheduler",
                "kubectl",
                "kubelet",
            )
        },
        "agnhost": "k8s.io/kubernetes/test/images/agnhost",
        "e2e.test": "k8s.io/kubernetes/test/e2e",
        "ginkgo": "github.com/onsi/ginkgo/v2/ginkgo",
        "regression-issue-74839": "k8s.io/kubernetes/test/images/regression-issue-74839",
    },
    stamp={
        f"k8s.io/component-base/version.{key}": value
        for key, value in {
            "gitVersion": "VERSION",
            "gitMajor": "MAJOR",
            "gitMinor": "MINOR",
            "gitTreeState": "clean",
        }.items()
    },
    hint="4-5 minutes on two cores",
)
CONTAINERD = Module(
    "containerd",
    version_of="github.com/containerd/containerd/v2",
    packages={
        name: f"github.com/containerd/containerd/v2/cmd/{name}"
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
    tags="no_btrfs,no_zfs,no_devmapper",
    stamp={"github.com/containerd/containerd/v2/version.Version": "VERSION"},
    hint="one minute on two cores",
)
COREDNS = Module(
    "coredns",
    version_of="github.com/coredns/coredns",
    packages={"coredns": "."},
    hint="three minutes on two cores",
)
# Its own version of a netlink library is not on the module proxy; go.mod replaces it by the release before.
KUBE_ROUTER = Module(
    "kube-router",
    version_of="github.com/cloudnativelabs/kube-router/v2",
    packages={"kube-router": "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"},
    hint="two minutes on two cores",
)
HELM = Module(
    "helm",
    version_of="helm.sh/helm/v3",
    packages={"helm": "helm.sh/helm/v3/cmd/helm"},
    stamp={"helm.sh/helm/v3/internal/version.version": "VERSION"},
    hint="two minutes on two cores",
)
ALL = {module.name: module for module in (KUBERNETES, CONTAINERD, COREDNS, HELM, KUBE_ROUTER)}


def _go() -> tuple[str, dict[str, str]]:
    """Return the go command and its environment. Raises Unavailable."""
    go = shutil.which("go") or shutil.which("go", path=os.pathsep.join(GO_PLACES))
    advice = "install Go 1.26, or any from 1.21 on with GOTOOLCHAIN=auto (Debian 12: golang-go from bookworm-backports)"
    if go is None:
        raise Unavailable(f"it is not built and there is no go: {advice}")
    env = os.environ | {"GOTOOLCHAIN": os.environ.get("GOTOOLCHAIN", "auto"), "CGO_ENABLED": "0", "GOFLAGS": ""}
    # Asked with its own toolchain: outside a module no other is fetched.
    shown = subprocess.run([go, "env", "GOVERSION"], cwd="/", env=env, capture_output=True, text=True, timeout=60)
    found = re.match(r"go(\d+)\.(\d+)", shown.stdout)
    number = (int(found[1]), int(found[2])) if found else (0, 0)
    if number < (GO_ENOUGH if env["GOTOOLCHAIN"] == "local" else GO_WITH_TOOLCHAINS):
        toolchain = env["GOTOOLCHAIN"]
        raise Unavailable(f"{go} is {shown.stdout.strip() or 'broken'}, with GOTOOLCHAIN={toolchain}: {advice}")
    return go, env


@contextmanager
def _only_one(path: Path, say: Say) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{path.parent.name}: another process is building it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say_on_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(argv: Sequence[str]) -> None:
    """Build programs of a module: its name, then theirs (none: all); without a module all of all."""
    modules = [ALL[argv[0]]] if argv else list(ALL.values())
    for module in modules:
        names = list(argv[1:]) or list(module.packages)
        try:
            module.build(names)
        except Unavailable as error:
            sys.exit(f"{module.name}: {error}")
        print(*(module.cache / name for name in names), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
