"""What is handed out: sdist and wheel hold real files and all of them, and an installed wheel works on its own."""

import configparser
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("events", "core", "plugins", "cli", "lab")
BUILD_S, INSTALL_S, COMMAND_S = 240, 300, 60


def declared() -> list[str]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return setup["options"]["packages"].split()


def test_the_list_of_packages_is_that_of_the_folders() -> None:
    folders = {path.parent for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    found = [".".join(("kube_router", *folder.relative_to(ROOT).parts)) for folder in folders]
    assert sorted(declared()) == sorted(["kube_router", *found])


def test_every_package_says_what_it_is() -> None:
    folders = {path.parent for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_every_room_at_the_top_is_linked_into_the_package() -> None:
    package = ROOT / "src" / "kube_router"
    links = {path.name: os.readlink(path) for path in package.iterdir() if path.is_symlink()}
    assert links == {room: f"../../{room}" for room in ROOMS}


def sources() -> set[str]:
    """Return the modules as git knows them, by their names in the package."""
    listed = subprocess.run(
        ["git", "ls-files", *(f"{room}/*.py" for room in ROOMS)], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    return {f"kube_router/{name}" for name in listed} | {"kube_router/__init__.py", "kube_router/py.typed"}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clone of what is committed: a build writes into its tree, and must need nothing that lies about."""
    folder = tmp_path_factory.mktemp("dist") / "clone"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(ROOT), str(folder)], check=True, timeout=COMMAND_S)
    return folder


@pytest.fixture(scope="module")
def built(clone: Path) -> Path:
    """Return the folder with sdist and wheel, the wheel made from the sdist."""
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(clone / "dist"), str(clone)],
        capture_output=True,
        text=True,
        timeout=BUILD_S,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return clone / "dist"


@pytest.fixture(scope="module")
def programs(built: Path) -> Path:
    """Return the programs of an environment that has the wheel alone; what it needs comes from the tests' own."""
    environment = built.parent / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=COMMAND_S)
    (wheel,) = built.glob("*.whl")
    program = ["-m", "pip", "--python", str(environment / "bin" / "python"), "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([sys.executable, *program, str(wheel)], check=True, timeout=INSTALL_S)
    return environment / "bin"


def dependencies(folder: Path) -> Path:
    """Return a folder with links to all that is installed here, but not to ourselves."""
    folder.mkdir(exist_ok=True)
    for path in (Path(item) for item in sys.path if item.endswith("site-packages")):
        for each in path.iterdir():
            if "kube_router" not in each.name and each.suffix != ".pth" and not (folder / each.name).exists():
                (folder / each.name).symlink_to(each)
    return folder


def run(programs: Path, tmp_path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(dependencies(tmp_path / "needed")),
    }
    return subprocess.run(
        [str(programs / command[0]), *command[1:]],
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        env=environ,
        cwd=tmp_path,
    )


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_wheel_holds_every_source_as_a_real_file_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = [info for info in archive.infolist() if ".dist-info/" not in info.filename]
        licences = [name for name in archive.namelist() if name.endswith("LICENSE")]
        links = [info.filename for info in inside if info.external_attr >> 28 == 0o12]
    assert {info.filename for info in inside} == sources()
    assert links == []
    assert len(licences) == 1


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_sdist_holds_every_source_as_a_real_file(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    files = {member.name.partition("/src/")[2] for member in members if "/src/kube_router/" in member.name}
    assert [member.name for member in members if member.issym() or member.islnk()] == []
    assert sources() <= files


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_installed_wheel_runs_on_its_own(programs: Path, tmp_path: Path) -> None:
    told = run(programs, tmp_path, "kube-router", "--version")
    assert (told.returncode, told.stdout.split()[0], told.stderr) == (0, "kube-router", "")
    helped = run(programs, tmp_path, "kr", "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "replay" in helped.stdout
    listed = run(programs, tmp_path, "kr", "plugins")
    names = [line.split()[:2] for line in listed.stdout.splitlines()]
    assert (listed.returncode, names, listed.stderr) == (
        0,
        [["firewall", "kube-router"], ["proxy", "kube-router"], ["routing", "kube-router"]],
        "",
    )
    flags = run(programs, tmp_path, "kube-router", "--help")
    assert "--ipvs-sync-period" in flags.stdout, flags.stderr
    where = run(programs, tmp_path, "python", "-c", "import kube_router; print(kube_router.__file__)")
    assert str(programs.parent) in where.stdout
