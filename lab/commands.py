"""``kr lab``: a cluster on this machine, in network namespaces.

    kr lab up examples/web.yaml --nodes 3        kr lab probe outside node-1:30000 -n 30
    kr lab probe web-1 web:80 -n 30              kr lab exec node-1 -- ipvsadm -Ln
    kr lab scale web 2                           kr lab down

Where this machine's kernel has no ip_vs, ``up`` boots a VM that has, builds the lab there and reads further lab
commands from its input (the same as ``kr lab shell``), one a line, until it ends; the lab then ends with the VM.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from kube_router.events.errors import ConfigError, KubeRouterError
from kube_router.lab import cluster, machine, store, vm
from kube_router.lab.manifests import read
from kube_router.lab.objects import Json, items, key, of_kind
from kube_router.lab.servers import spoken_name, spread
from kube_router.lab.topology import IPV4, IPV6

DEFAULT_NAME = "lab"
FAMILIES = {"4": (IPV4,), "6": (IPV6,), "46": (IPV4, IPV6), "64": (IPV6, IPV4)}
VM_MEMORY_MIB = 2048

_name = click.option("--name", default=DEFAULT_NAME, show_default=True, help="Which lab.")
_paths = click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True))


@click.group()
def lab() -> None:
    """A cluster on this machine, in network namespaces."""


@lab.command()
@_paths
@_name
@click.option("--nodes", default=3, show_default=True, help="How many nodes, unless FILES hold Nodes.")
@click.option("--subnets", default=1, show_default=True, help="Over how many subnets they are dealt.")
@click.option("--families", type=click.Choice(list(FAMILIES)), default="4", show_default=True, help="IP families.")
@click.option("--plugins", help="Run only these plugins (a comma list; empty: none).")
@click.option("--agent-arg", multiple=True, help="A flag for every agent; can be repeated.")
@click.option(
    "--routes/--no-routes", default=None, help="Static routes to other nodes' pods; default: without routing."
)
@click.option("--agents/--no-agents", default=True, help="Start the agents (the default).")
@click.option("--api", type=click.Choice(["folder", "real"]), default="folder", show_default=True)
@click.option("--kubeconfig", default="", help="The real API server's, for --api real.")
@click.option("--vm/--no-vm", "in_vm", default=None, help="In a VM; default: where this kernel has no ip_vs.")
@click.pass_context
def up(
    context: click.Context,
    files: tuple[Path, ...],
    name: str,
    nodes: int,
    subnets: int,
    families: str,
    plugins: str | None,
    agent_arg: tuple[str, ...],
    routes: bool | None,
    agents: bool,
    api: str,
    kubeconfig: str,
    in_vm: bool | None,
) -> None:
    """Build a lab from manifests FILES and start its agents.

    Deployments become pods, Services get addresses, EndpointSlices are derived. A pod serves each of its container
    ports over TCP and HTTP, UDP or SCTP, and answers with its name.
    """
    if (api == "real") != bool(kubeconfig):
        raise click.UsageError("--api real and --kubeconfig go together")
    if in_vm is None:
        in_vm = agents and _wants_ip_vs(plugins) and not machine.have_ip_vs()
    if in_vm and not machine.in_vm():
        context.exit(_in_vm(name))
    objects = read(files)
    plan = cluster.new_lab(
        name,
        objects,
        nodes=nodes,
        subnets=subnets,
        families=FAMILIES[families],
        plugins=None if plugins is None else tuple(filter(None, plugins.split(","))),
        agent_args=agent_arg,
        routes=True if routes is None and not agents else routes,
        kubeconfig=kubeconfig,
    )
    if kubeconfig:
        from kube_router.lab import kubelet

        kubelet.up(plan, agents=agents, say=click.echo)
    else:
        cluster.Cluster.up(plan, objects, agents=agents, say=click.echo)
    click.echo(f"lab {name} is up; kr lab status --name {name} shows it")


def _wants_ip_vs(plugins: str | None) -> bool:
    return plugins is None or "proxy" in plugins.split(",")


def _in_vm(name: str) -> int:
    """Run this very command in a VM, and then the commands that are read; return the status."""
    click.echo("this machine's kernel has no ip_vs (or no root): the lab runs in a VM and ends with it", err=True)
    click.echo("lab commands are read here, such as: probe node-1 web:80 -n 30", err=True)
    again = [sys.executable, "-m", "kube_router.cli", *sys.argv[1:], "--vm"]
    script = f"{shlex.join(again)} </dev/null && exec {sys.executable} -m kube_router.cli lab shell --name {name}"
    return vm.run(["sh", "-c", script], vm=vm.Machine(memory_mib=VM_MEMORY_MIB, cpus=2))


@lab.command()
@_name
def down(name: str) -> None:
    """Remove a lab with all its namespaces and processes."""
    count = cluster.down(name)
    click.echo(f"{count} namespaces removed")


@lab.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@_name
def apply(files: tuple[Path, ...], name: str) -> None:
    """Add or replace the objects in FILES."""
    _open(name).apply(read(files))


@lab.command()
@click.argument("kind_")
@click.argument("object_name")
@_name
def delete(kind_: str, object_name: str, name: str) -> None:
    """Remove an object: KIND NAMESPACE/NAME."""
    _open(name).delete(kind_, object_name)


@lab.command()
@click.argument("deployment")
@click.argument("replicas", type=click.IntRange(0, 200))
@_name
def scale(deployment: str, replicas: int, name: str) -> None:
    """Set the number of pods of a DEPLOYMENT."""
    _open(name).scale(deployment, replicas)


@lab.command()
@click.argument("place")
@click.argument("target")
@_name
@click.option("--count", "-n", default=10, show_default=True, help="How many times to ask.")
@click.option("--client", is_flag=True, help="Ask for the client's address as the pod sees it.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
@click.pass_context
def probe(context: click.Context, place: str, target: str, name: str, count: int, client: bool, output: str) -> None:
    """Ask from PLACE (outside, a node, a pod) who answers at TARGET.

    TARGET is HOST:PORT[/PROTOCOL]; HOST is an address or the name of a Service, node or pod; PROTOCOL tcp, udp, sctp
    or http. Status 1 if a question was not answered.
    """
    counts = _open(name).probe(place, target, count=count, question="client" if client else "who")
    if output == "json":
        click.echo(json.dumps({"answers": counts.answers, "errors": counts.errors}, sort_keys=True))
    else:
        click.echo(spread(counts.answers) + (f"; errors: {spread(counts.errors)}" if counts.errors else ""))
    if counts.errors:
        context.exit(1)


@lab.command(context_settings={"ignore_unknown_options": True})
@click.argument("place")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@_name
@click.pass_context
def exec(context: click.Context, place: str, command: tuple[str, ...], name: str) -> None:
    """Run a COMMAND inside of PLACE (outside, a node, a pod)."""
    namespace = _open(name).machines.namespace_of(place)
    context.exit(subprocess.run(["ip", "netns", "exec", namespace, *command], check=False).returncode)


@lab.command()
@click.argument("node")
@_name
@click.option("--follow", "-f", is_flag=True, help="Go on as the log grows.")
@click.pass_context
def logs(context: click.Context, node: str, name: str, follow: bool) -> None:
    """Show the log of a NODE's agent."""
    path = _open(name).agent(node).log
    if not path.exists():
        raise ConfigError(f"{path}: the agent of {node} was never started")
    context.exit(subprocess.run(["tail", "-n", "+1", *(["-f"] if follow else []), str(path)], check=False).returncode)


@lab.command()
@click.argument("node")
@_name
@click.option("--hard", is_flag=True, help="With kill -9.")
def stop(node: str, name: str, hard: bool) -> None:
    """Stop a NODE's agent."""
    running = _open(name)
    running.kill_agent(node) if hard else running.agent(node).stop()


@lab.command()
@click.argument("node")
@_name
def start(node: str, name: str) -> None:
    """Start a NODE's agent again and wait until it has done its first work."""
    running = _open(name)
    running.agent(node).start()
    running.wait_for_agent(node)


@lab.command()
@_name
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def status(name: str, output: str) -> None:
    """Show nodes, pods and Services."""
    running = _open(name)
    services = list(of_kind(running.objects, "Service"))
    if output == "json":
        click.echo(json.dumps(_document(running, services)))
        return
    for node in running.topology.nodes:
        pid = running.agents[node.name].pid()
        click.echo(_row(node.name, *node.addresses, *node.pod_cidrs, f"agent {pid}" if pid else "no agent"))
    for pod in running.machines.pods.values():
        click.echo(_row(spoken_name(pod.key), pod.node, *pod.ips))
    for service in services:
        click.echo(_row(spoken_name(key(service)), *items(service, "spec", "clusterIPs"), *_ports(service)))
    click.echo(f"folder {running.folder.path}")


def _document(running: cluster.Cluster, services: Iterable[Json]) -> dict[str, object]:
    return {
        "folder": str(running.folder.path),
        "nodes": [
            {
                "name": node.name,
                "ips": node.addresses,
                "pod_cidrs": node.pod_cidrs,
                "pid": running.agents[node.name].pid(),
            }
            for node in running.topology.nodes
        ],
        "pods": [{"name": pod.key, "node": pod.node, "ips": pod.ips} for pod in running.machines.pods.values()],
        "services": [
            {"name": key(one), "ips": list(items(one, "spec", "clusterIPs")), "ports": _ports(one)} for one in services
        ],
    }


def _ports(service: Json) -> list[str]:
    return [_port(port) for port in items(service, "spec", "ports")]


def _port(port: dict[str, object]) -> str:
    node_port = f", node port {port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port')}/{port.get('protocol', 'TCP')}{node_port}"


def _row(*cells: str) -> str:
    first, *others = cells
    return f"{first:<20} {'  '.join(others)}"


@lab.command(name="list")
def list_() -> None:
    """List the labs of this machine."""
    for name in store.names():
        click.echo(name)


@lab.command()
@_name
@click.pass_context
def shell(context: click.Context, name: str) -> None:
    """Read lab commands (probe, exec, scale …) from the input, one a line.

    All in this one process: in an emulated VM each new Python would take seconds. A command that fails is told and
    the next one read; the status is 1 if any did.
    """
    context.exit(run_lines(sys.stdin, name))


def run_lines(lines: Iterable[str], name: str) -> int:
    """Run lab commands; return 1 if any failed."""
    worst = 0
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[:1] == ["exit"]:
            break
        if words and _one(words, name):
            worst = 1
        sys.stdout.flush()
    return worst


def _one(words: list[str], name: str) -> int:
    options = [] if "--name" in words or words[0] == "list" else ["--name", name]
    try:
        return int(lab.main([words[0], *options, *words[1:]], prog_name="", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
    except KubeRouterError as error:
        click.echo(f"lab: {error}", err=True)
    return 1


def _open(name: str) -> cluster.Cluster:
    return cluster.Cluster.open(name, say=click.echo)
