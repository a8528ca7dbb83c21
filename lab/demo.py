"""The demo: a cluster on this machine, shown to people in under three minutes.

    python -m kube_router.lab.demo [--no-install]

Installs what is missing (and says what; as root, or through sudo), plays the scenario where the kernel has ip_vs, in a
VM if this one has not, and shows each thing that was looked at. At the end ``kr replay`` tells, from the journal of
one node, what happened there. Exit status 1 if anything was not as expected.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from kube_router.events.errors import ConfigError, KubeRouterError
from kube_router.lab import machine, vm

SCENARIO_TIMEOUT_S = 400
INSTALL_TIMEOUT_S = 900
REPLAY_TIMEOUT_S = 60
REPLAY_LINES = 25
WIDTH_IN_A_FILE = 120
VM_MEMORY_MIB = 1536


@dataclass(slots=True)
class Story:
    """What the scenario has told so far."""

    checks: list[dict[str, str]] = field(default_factory=list)
    failed: int = 0
    ended: bool = False


def install(console: Console, *, allowed: bool) -> None:
    """Install the packages the demo needs and this machine has not. ConfigError if they are not to be installed."""
    missing = sorted({*machine.missing_tools(machine.LAB_TOOLS), *_missing_for_vm()})
    if not missing:
        return
    line = machine.install_line(missing)
    if not allowed:
        raise ConfigError(f"the demo needs {', '.join(missing)}: {line}")
    console.print(f"installing what is missing: [bold]{' '.join(missing)}[/]")
    for command in ("apt-get update -qq", f"DEBIAN_FRONTEND=noninteractive {line} -qq"):
        done = subprocess.run(
            ["sh", "-c", command], capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
        )
        if done.returncode:
            raise ConfigError(f"{command} failed: {done.stderr.strip()[-500:]}")


def _missing_for_vm() -> Sequence[str]:
    return () if machine.have_ip_vs() else machine.missing_for_vm()


def scenario(folder: Path, console: Console) -> list[str]:
    """Return the command that plays the scenario, in a VM where this kernel has no ip_vs."""
    command = [sys.executable, "-m", "kube_router.lab.scenario", str(folder)]
    if machine.have_ip_vs():
        return command
    console.print(
        "this machine's kernel has no ip_vs: a VM with Debian's kernel has (its CPU is emulated, so all is slow)"
    )
    wanted = vm.Machine(timeout_s=SCENARIO_TIMEOUT_S, memory_mib=VM_MEMORY_MIB, cpus=2, writable=(str(folder),))
    return vm.argv(command, vm=wanted)


def show(lines: Iterator[str], console: Console) -> Story:
    """Show the story as it is told."""
    story = Story()
    start = time.monotonic()
    with console.status("booting") as status:
        for line in lines:
            try:
                told = json.loads(line)
            except ValueError:
                console.print(line.rstrip(), markup=False, highlight=False)
                continue
            at = f"[dim]{time.monotonic() - start:6.1f} s[/]"
            if "step" in told:
                console.print(f"{at}  {told['step']}")
                status.update(told["step"])
            elif "check" in told:
                story.checks.append(told)
                story.failed += not told["ok"]
                mark = "[green]✓[/]" if told["ok"] else "[red]✗[/]"
                console.print(f"{at}    {mark} {told['check']}: [bold]{told['seen']}[/]")
            story.ended |= bool(told.get("end"))
    return story


def table(story: Story) -> Table:
    """Return what was seen, beside what was expected."""
    shown = Table("what", "expected", "seen", "")
    for check in story.checks:
        shown.add_row(check["check"], check["expected"], check["seen"], "[green]✓[/]" if check["ok"] else "[red]✗[/]")
    return shown


def replay(journal: Path, console: Console) -> bool:
    """Show the end of what ``kr replay`` tells of a node's journal, and what its kernel should hold."""
    base = [sys.executable, "-m", "kube_router.cli", "replay", str(journal)]
    for arguments, lines in (([], REPLAY_LINES), (["--plan", "proxy", "--node", "node-1"], REPLAY_LINES)):
        console.rule(f"kr replay {journal.name} {' '.join(arguments)}")
        done = subprocess.run(
            [*base, *arguments], capture_output=True, text=True, timeout=REPLAY_TIMEOUT_S, check=False
        )
        told = done.stdout.splitlines()
        if len(told) > lines:
            console.print(f"[dim]… {len(told) - lines} lines before[/]")
        for line in told[-lines:]:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if done.returncode or not told:
            console.print(done.stderr.strip() or "nothing", markup=False, style="red")
            return False
    return True


def play(console: Console, *, may_install: bool) -> int:
    """Play the demo; return 0 if all was as expected."""
    start = time.monotonic()
    install(console, allowed=may_install)
    with tempfile.TemporaryDirectory(prefix="kr-demo-") as name:
        folder = Path(name)
        with subprocess.Popen(
            scenario(folder, console), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as running:
            assert running.stdout is not None
            try:
                story = show(iter(running.stdout.readline, ""), console)
            finally:
                running.terminate()
            running.wait()
        replayed = story.ended and replay(folder / "node-1", console)
    console.rule("what was seen")
    console.print(table(story))
    good = story.ended and replayed and not story.failed
    words = (
        "all as expected"
        if good
        else f"NOT as expected: {story.failed} checks failed" + ("" if story.ended else ", and it ended early")
    )
    console.print(f"{words}; {time.monotonic() - start:.0f} s in all", style="green" if good else "red")
    return 0 if good else 1


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m kube_router.lab.demo", description="A cluster on this machine.")
    parser.add_argument("--no-install", action="store_true", help="do not install what is missing, but say it")
    given = parser.parse_args(words)
    if os.geteuid() != 0:
        print("the demo makes network namespaces (or a VM) and installs packages: going on through sudo", flush=True)
        os.execvp("sudo", ["sudo", "-E", sys.executable, "-m", "kube_router.lab.demo", *(words or sys.argv[1:])])
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_IN_A_FILE
    try:
        return play(console, may_install=not given.no_install)
    except KubeRouterError as error:
        console.print(f"demo: {error}", style="red", markup=False)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
