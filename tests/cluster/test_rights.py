"""What the installed agent may do: read the API, and with its node no more than its manifest says, or it ends."""

import json
import subprocess

import pytest
from cluster import agents
from cluster.cluster import Cluster
from harness.machine import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

ACCOUNT = f"--as=system:serviceaccount:{agents.NAMESPACE}:{agents.NAME}"
STATED = {"NET_ADMIN", "NET_BIND_SERVICE", "NET_RAW"}
BITS = {"NET_BIND_SERVICE": 10, "NET_ADMIN": 12, "NET_RAW": 13}  # linux/capability.h


def test_the_account_may_only_read(cluster: Cluster) -> None:
    listed = cluster.kubectl("auth", "can-i", "--list", "--namespace", agents.NAMESPACE, ACCOUNT).splitlines()[1:]
    verbs = {line.split()[0]: line[line.rindex("[") + 1 : line.rindex("]")].split() for line in listed}
    asking = {name for name in verbs if name.startswith("selfsubject")}  # of every account: to ask what it may
    assert {verb for name in verbs.keys() - asking for verb in verbs[name]} <= {"get", "list", "watch"}
    assert "pods" in verbs


def test_the_process_has_the_stated_capabilities_and_no_other(cluster: Cluster) -> None:
    (first, *_) = cluster.nodes
    (agent,) = agents.pods(cluster)[first]["spec"]["containers"]
    assert set(agent["securityContext"]["capabilities"]["add"]) == STATED
    pid = cluster.nodes[first].run("pgrep", "--full", "/usr/local/bin/kube-router").stdout.split()[0]
    status = cluster.nodes[first].path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    mask = sum(1 << BITS[name] for name in STATED)
    assert {name: int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == dict.fromkeys(
        ("CapEff", "CapPrm", "CapBnd"), mask
    )
    assert fields["NoNewPrivs"].strip() == "1"
    assert fields["Seccomp"].strip() == "2"


def test_its_root_cannot_be_written(cluster: Cluster) -> None:
    (first, *_) = cluster.nodes
    name = agents.pods(cluster)[first]["metadata"]["name"]
    write = ["python3", "-c", "open('/usr/written', 'w')"]
    with pytest.raises(subprocess.CalledProcessError) as refused:
        cluster.kubectl("exec", "--namespace", agents.NAMESPACE, name, "--container", agents.NAME, "--", *write)
    assert "Read-only file system" in "".join(refused.value.__notes__)


def test_without_a_capability_it_ends_loudly_and_the_rules_stay(cluster: Cluster) -> None:
    rules = {name: agents.policies(cluster, name) for name in cluster.nodes}
    assert all(rules.values())
    path = "/spec/template/spec/containers/0/securityContext/capabilities/add"
    without = [{"op": "replace", "path": path, "value": sorted(STATED - {"NET_ADMIN"})}]
    cluster.kubectl("patch", *agents.DAEMONSET, "--type=json", f"--patch={json.dumps(without)}")
    try:
        broken = agents.wait_broken(cluster)
        said = until(lambda: agents.logs(cluster, broken), what="the agent to say why")
        assert "missing capabilities: NET_ADMIN" in said
        assert "securityContext.capabilities.add" in said
        assert agents.policies(cluster, broken) == rules[broken]
    finally:
        agents.undo(cluster)
