"""The commands as processes: what they print, where, and their exit status."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from kube_router import __version__
from kube_router.cli import main
from kube_router.events.errors import ConfigError, KernelError, KubeRouterError, PeerError

BIN = os.path.dirname(sys.executable)
COMMAND_S = 30


def run(*argv: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of our commands as an operator does."""
    environment = {"PATH": BIN, "HOME": "/nonexistent", **(environ or {})}
    return subprocess.run(
        [os.path.join(BIN, argv[0]), *argv[1:]], env=environment, capture_output=True, text=True, timeout=COMMAND_S
    )


def test_kr_lists_its_commands() -> None:
    done = run("kr", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"\n  {name} " in done.stdout for name in main.COMMANDS)


@pytest.mark.parametrize("argv", [("kr", "--version"), ("kr", "run", "--version"), ("kube-router", "-V")])
def test_every_way_to_ask_for_the_version_works(argv: tuple[str, ...]) -> None:
    done = run(*argv, environ={"KR_HEALTH_PORT": "not a port"})
    assert (done.returncode, done.stdout) == (0, f"kube-router {__version__}\n")


def test_kube_router_s_help_has_all_flags_by_group() -> None:
    done = run("kube-router", "--help")
    assert done.returncode == 0
    assert "\nagent:\n" in done.stdout
    assert "--run-proxy\n          run the plugin proxy; also --run-service-proxy (default true)" in done.stdout
    assert "\nrouting:\n" in done.stdout
    assert "--gobgp-admin-port, " in done.stdout


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("kube-router", "--run-router", "false"), "kube-router: unexpected argument 'false'"),
        (("kube-router", "--kubeconfg=x"), "kube-router: unknown flag --kubeconfg; did you mean --kubeconfig?"),
        (("kr", "run", "--health-port=x"), "kr: flag --health-port: 'x' is not a whole number"),
        (("kr", "run", "--", "--version"), "kr: unexpected argument '--version'"),
        (("kr", "replay", "/does/not/exist"), "kr: /does/not/exist: "),
        (("kr", "replay", "-", "--at", "soon", "--state"), "'soon' is no moment"),
    ],
)
def test_wrong_use_is_one_line_on_stderr_and_exit_2(argv: tuple[str, ...], words: str) -> None:
    done = run(*argv)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_command_is_wrong_use() -> None:
    done = run("kr", "repaly")
    assert done.returncode == 2
    assert "No such command 'repaly'" in done.stderr


def test_no_agent_to_ask_is_a_failed_check() -> None:
    done = run("kr", "status", "--control-socket", "/does/not/exist")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("kr: no agent listens at /does/not/exist")


def test_looking_at_a_journal_imports_no_library_of_the_kernel_or_the_api_server() -> None:
    code = (
        "import sys, kube_router.cli.replay as r, kube_router.cli.main\n"
        "r.offline_registry()\n"
        "print(*[m for m in ('kubernetes_asyncio', 'pyroute2', 'aiohttp') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=COMMAND_S)
    assert (done.stdout, done.stderr) == ("\n", "")


def raiser(error: BaseException) -> Callable[[], object]:
    def start() -> object:
        raise error

    return start


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("wrong"), 2),
        (KernelError("refused"), 1),
        (PeerError("silent"), 1),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (click.UsageError("wrong"), 2),
        (ExceptionGroup("tasks", [ConfigError("wrong"), ExceptionGroup("more", [KernelError("refused")])]), 2),
        (ExceptionGroup("tasks", [KernelError("refused")]), 1),
        (BaseExceptionGroup("tasks", [KeyboardInterrupt()]), 130),
    ],
)
def test_each_error_has_its_exit_status(error: BaseException, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.guarded("kr", raiser(error)) == status
    said = capsys.readouterr().err
    assert "Traceback" not in said
    if isinstance(error, KubeRouterError):
        assert said == f"kr: {error}\n"


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ExceptionGroup):
        main.guarded("kr", raiser(ExceptionGroup("tasks", [ConfigError("wrong"), ValueError("bug")])))


def test_a_command_whose_library_is_missing_harms_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(main.COMMANDS, "lab", main.Lazy("kube_router.no_such_module:lab", "A cluster."))
    done = CliRunner().invoke(main.kr, ["--help"])
    assert done.exit_code == 0
    assert "A cluster." in done.output
    assert isinstance(CliRunner().invoke(main.kr, ["lab"]).exception, ConfigError)


PLUGIN = """
import click
from kube_router.core.api import hookimpl

@hookimpl
def kube_router_commands():
    @click.command("names")
    def names():
        "Print names."
        print("web")
    return [names]
"""


def test_a_plugin_s_command_is_one_of_kr(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "kr_test_names.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    points = EntryPoints([EntryPoint("names", "kr_test_names", main.PLUGINS)])
    monkeypatch.setattr(main, "entry_points", lambda group: points)
    assert "  names    Print names." in CliRunner().invoke(main.kr, ["--help"]).output
    assert CliRunner().invoke(main.kr, ["names"]).output == "web\n"
