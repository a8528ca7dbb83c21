"""Run all benchmarks and print one table of what they found, in Markdown: ``make bench``, about twenty minutes.

    python -m benchmarks.run [NAME...] [--list] [--output FILE]

Each runs by itself, as a process of its own: natively, or, where it needs IPVS and this kernel has none, inside the
lab's VM. Their figures are shown as they come. Nothing here is a test: a bar that is missed is shown, and is no
failure; a benchmark that breaks is one, and the others still run. What cannot run here says why and is left out.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness import binaries
from harness.bird import Bird
from harness.gobgp import Gobgp
from harness.machine import why_no_image, why_no_namespaces, why_no_vm

from benchmarks import figures
from kube_router import __version__
from kube_router.lab import machine, vm

ROOT = Path(__file__).parents[1]
S_MAX = 1800
CLASSIC = ("iptables-legacy-restore", "iptables-nft-restore", "ipset", "nft")


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A module of this folder.

    ``needs``: "" nothing, "peers" root, BIRD and GoBGP, "classic" root, and what kube-router's classic layout is made
    with, "image" root and what builds the image, "api" root and a control plane, "ip_vs" a kernel with it, "plane" the
    VM and a control plane.
    """

    name: str
    needs: str = ""
    arguments: tuple[str, ...] = ()


ALL = (
    Benchmark("journal_rates"),
    Benchmark("list_decode"),
    Benchmark("bgp_codec"),
    Benchmark("bgp_fuzz"),
    Benchmark("agent_memory"),
    Benchmark("latency"),
    Benchmark("image_start", needs="image"),
    Benchmark("bgp_convergence", needs="peers"),
    Benchmark("bgp_mesh", needs="peers"),
    Benchmark("firewall_packets", needs="classic"),
    Benchmark("firewall_programming", needs="classic"),
    Benchmark("firewall_latency", needs="api"),
    Benchmark("ipvs_table", needs="ip_vs"),
    Benchmark("agent_vm", needs="plane"),
)


def why_not(benchmark: Benchmark) -> str:
    """Return why a benchmark cannot run here, "" if it can."""
    if benchmark.needs == "plane":
        return why_no_vm() or binaries.why_none()
    if benchmark.needs == "image":
        return why_no_namespaces() or why_no_image()
    if benchmark.needs == "api":
        return why_no_namespaces() or binaries.why_none()
    if benchmark.needs == "peers":
        return why_no_namespaces() or Bird.why_none() or Gobgp.why_none()
    if benchmark.needs == "classic":
        return why_no_namespaces() or why_no_classic()
    return "" if benchmark.needs == "" or machine.have_ip_vs() else why_no_vm()


def why_no_classic() -> str:
    """Return which programs are missing that kube-router uses, "" if none is."""
    missing = [program for program in CLASSIC if not shutil.which(program)]
    return f"there is no {', '.join(missing)}: apt-get install iptables ipset nftables" if missing else ""


def run(benchmark: Benchmark, file: Path) -> bool:
    """Run one benchmark, which appends its figures to the file; return whether it went well."""
    command = [sys.executable, "-m", f"benchmarks.{benchmark.name}", *benchmark.arguments]
    if benchmark.needs == "ip_vs" and not machine.have_ip_vs():
        command = vm.argv(command, vm=vm.Machine(timeout_s=S_MAX, writable=(str(file.parent),)))
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    env = os.environ | {figures.FILE: str(file), "PYTHONPATH": path}
    return subprocess.run(command, env=env, cwd=ROOT, check=False, timeout=S_MAX).returncode == 0


def conditions() -> str:
    """Return on what and when, in words."""
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"kube-router {__version__}, {now}, Python {platform.python_version()}, Linux {platform.release()}, "
        f"{os.cpu_count()} CPUs, load before {load}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--list", action="store_true", help="say what there is, and what cannot run here")
    parser.add_argument("--output", type=Path, help="write the table to this file too")
    options = parser.parse_args()
    if unknown := set(options.names) - {it.name for it in ALL}:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(it.name for it in ALL)}")
    chosen = [it for it in ALL if not options.names or it.name in options.names]
    if options.list:
        for benchmark in chosen:
            print(f"{benchmark.name:<21} {why_not(benchmark) or 'can run here'}")
        return 0
    parts, broken = [conditions()], []
    with tempfile.TemporaryDirectory(prefix="kr-figures-") as folder:
        for benchmark in chosen:
            if reason := why_not(benchmark):
                parts.append(f"{benchmark.name} was not run: {reason}")
                continue
            print(f"\n== {benchmark.name}", flush=True)
            file, began = Path(folder, f"{benchmark.name}.jsonl"), time.monotonic()
            if not run(benchmark, file):
                broken.append(benchmark.name)
            print(f"   ({time.monotonic() - began:.0f} s)", flush=True)
            parts.append(f"### {benchmark.name}\n\n{figures.markdown(figures.read(file))}")
    if any("\\*" in part for part in parts):
        parts.append("\\* recorded in an earlier run of the same content on another day, not measured in this run")
    table = "\n\n".join(parts) + "\n"
    print(f"\n{table}")
    if options.output:
        options.output.write_text(table)
    if broken:
        print(f"broken: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
