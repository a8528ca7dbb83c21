"""A handful of specs of Kubernetes' own suite. ``make e2e`` runs all of the network's, see docs/conformance.md."""

import re
from pathlib import Path

import pytest
from cluster.cluster import Cluster
from e2e import images, suite
from e2e.results import PASSED

# The first time the suite is built.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

SPECS = (
    "Netpol NetworkPolicy between server and client should support a 'default-deny-all' policy",
    "Netpol NetworkPolicy between server and client should enforce except clause while egress access to server in CIDR",
    "Netpol NetworkPolicy between server and client should allow ingress access from updated namespace",
    "Networking Granular Checks: Pods should function for node-pod communication: http",
)


def test_specs_of_policies_and_of_the_network_between_nodes_pass(cluster: Cluster, tmp_path: Path) -> None:
    cluster.load([images.suite(tmp_path)])
    focus = "|".join(map(re.escape, SPECS))
    results = suite.run(cluster, tmp_path, focus=focus, at_once=len(SPECS))
    assert len(results) == len(SPECS)
    assert [result for result in results if result.outcome != PASSED] == []
