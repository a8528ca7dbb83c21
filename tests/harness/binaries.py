"""Find the control plane's programs, or build them: etcd, kube-apiserver, kube-controller-manager, kubectl.

    python -m harness.binaries        (from tests/) build now what is missing, and say where it is

Each is looked for in the folder $KUBEBUILDER_ASSETS (the convention of envtest), then in our cache
($KR_CACHE or ~/.cache/kube-router, below controlplane/VERSION). What is missing is built there from the Go module
beside tests/controlplane: 4-5 minutes once, with progress on stderr. That needs Go 1.26, or 1.21 with
GOTOOLCHAIN=auto, which fetches a newer one by itself.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MODULE = Path(__file__).parents[1] / "controlplane"
NAMES = {"etcd": ("etcd", "server"), "kube-apiserver": (), "kube-controller-manager": (), "kubectl": ()}
# Where Go is when it is not on the path: its own place, then Debian's golang-1.N-go, the newest first.
GO_PLACES = ["/usr/local/go/bin", *sorted(map(str, Path("/usr/lib").glob("go-*/bin")), reverse=True)]
GO_ENOUGH, GO_WITH_TOOLCHAINS = (1, 26), (1, 21)
BUILD_S_MAX = 1800
PROGRESS_S = 5.0
Say = Callable[[str], object]


class Unavailable(Exception):
    """There are no binaries and none can be built; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Binaries:
    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    kubectl: Path


def version() -> str:
    """Return the Kubernetes version that the module pins, such as ``v1.36.3``."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)", (MODULE / "go.mod").read_text(), re.MULTILINE)
    assert found, "tests/controlplane/go.mod names no k8s.io/kubernetes"
    return found[1]


def cache() -> Path:
    """Return the folder our own builds live in."""
    root = os.environ.get("KR_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "kube-router") / "controlplane" / version()


def why_none() -> str:
    """Return why no control plane can be had here, "" if one can (now, or after a build)."""
    if _missing() == []:
        return ""
    try:
        _go()
    except Unavailable as error:
        return str(error)
    return ""


def binaries(say: Say | None = None) -> Binaries:
    """Return the programs, built first if need be. Raises Unavailable."""
    if _missing():
        _build(say or _say_on_stderr)
    if missing := _missing():
        raise Unavailable(f"the build left no {', '.join(missing)} in {cache()}")
    return Binaries(*(path for path in map(_find, NAMES) if path is not None))


def _find(name: str) -> Path | None:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    for folder in [*([Path(assets)] if assets else []), cache()]:
        for candidate in NAMES[name] or (name,):
            if os.access(folder / candidate, os.X_OK):
                return folder / candidate
    return None


def _missing() -> list[str]:
    return [name for name in NAMES if _find(name) is None]


def _go() -> tuple[str, dict[str, str]]:
    """Return the go command and its environment. Raises Unavailable."""
    go = shutil.which("go") or shutil.which("go", path=os.pathsep.join(GO_PLACES))
    advice = "install Go 1.26, or any from 1.21 on with GOTOOLCHAIN=auto (Debian 12: golang-go from bookworm-backports)"
    if go is None:
        raise Unavailable(f"the control plane is not built and there is no go: {advice}, or set KUBEBUILDER_ASSETS")
    env = os.environ | {"GOTOOLCHAIN": os.environ.get("GOTOOLCHAIN", "auto"), "CGO_ENABLED": "0", "GOFLAGS": ""}
    # Asked with its own toolchain: outside a module no other is fetched.
    shown = subprocess.run([go, "env", "GOVERSION"], cwd="/", env=env, capture_output=True, text=True, timeout=60)
    found = re.match(r"go(\d+)\.(\d+)", shown.stdout)
    number = (int(found[1]), int(found[2])) if found else (0, 0)
    if number < (GO_ENOUGH if env["GOTOOLCHAIN"] == "local" else GO_WITH_TOOLCHAINS):
        toolchain = env["GOTOOLCHAIN"]
        raise Unavailable(f"{go} is {shown.stdout.strip() or 'broken'}, with GOTOOLCHAIN={toolchain}: {advice}")
    return go, env


def _build(say: Say) -> None:
    """Build all four into the cache. Two builders wait for each other; the second finds the work done."""
    target = cache()
    target.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(target.parent / f"{target.name}.lock", say):
        if not _missing():
            return
        go, env = _go()
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            _go_install(go, env=env | {"GOBIN": folder}, log=target.parent / "build.log", say=say)
            target.mkdir(exist_ok=True)
            for built in Path(folder).iterdir():
                built.rename(target / built.name)


def _go_install(go: str, *, env: dict[str, str], log: Path, say: Say) -> None:
    major, minor, _ = version().removeprefix("v").split(".", 2)
    stamp = {"gitVersion": version(), "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    flags = " ".join(["-s -w", *(f"-X k8s.io/component-base/version.{key}={value}" for key, value in stamp.items())])
    argv = [go, "install", "-v", "-trimpath", f"-ldflags={flags}", "tool"]
    say(f"control plane: building Kubernetes {version()} once, 4-5 minutes on two cores; log {log}")
    started = time.monotonic()
    with log.open("w+") as output, subprocess.Popen(argv, cwd=MODULE, env=env, stdout=output, stderr=output) as process:
        while process.poll() is None:
            elapsed_s = time.monotonic() - started
            if elapsed_s > BUILD_S_MAX:
                process.kill()
                raise Unavailable(f"go install took more than {BUILD_S_MAX} s; see {log}")
            try:
                process.wait(PROGRESS_S)
            except subprocess.TimeoutExpired:
                packages = log.read_text(errors="replace").count("\n")
                say(f"control plane: {packages} packages, {elapsed_s:.0f} s")
        if process.returncode:
            raise Unavailable(f"go install failed ({process.returncode}): {log.read_text(errors='replace')[-2000:]}")
    say(f"control plane: built in {time.monotonic() - started:.0f} s")


@contextmanager
def _only_one(path: Path, say: Say) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("control plane: another process is building it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say_on_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        print(binaries())
    except Unavailable as error:
        sys.exit(f"control plane: {error}")
