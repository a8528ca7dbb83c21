"""Whatever a CNI configuration says: it is refused in words, or comes out as JSON with all that it had."""

import json
from contextlib import suppress
from ipaddress import ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kube_router.events.errors import ConfigError
from kube_router.plugins.routing import cni

PODS = ["10.244.1.0/24", "fd00:244:1::/64"]
SUBNETS = st.sampled_from(["10.244.1.0/24", "10.244.0.0/16", "10.244.2.0/24", "fd00::/48", "fd00:244:1::/64", "x", ""])
KEYS = st.sampled_from(["type", "mtu", "ipam", "ranges", "subnet", "gateway", "plugins", "name", "é"])
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | SUBNETS
)
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5))
RANGES = st.lists(st.lists(st.fixed_dictionaries({"subnet": SUBNETS}, optional={"gateway": ANYTHING}), max_size=3))
IPAM = st.fixed_dictionaries(
    {"type": st.sampled_from(["host-local", "dhcp"])},
    optional={"ranges": RANGES | ANYTHING, "subnet": SUBNETS | ANYTHING, "rangeStart": ANYTHING, "x": ANYTHING},
)
BRIDGES = st.fixed_dictionaries(
    {"type": st.sampled_from(["bridge", "ptp"])}, optional={"ipam": IPAM | ANYTHING, "mtu": ANYTHING, "x": ANYTHING}
)
LISTS = st.fixed_dictionaries({"plugins": st.lists(BRIDGES | ANYTHING, max_size=4)}, optional={"name": ANYTHING})
CONFS = BRIDGES | LISTS | ANYTHING


def bridge_of(conf: Any) -> Any:
    """Return the plugin that is ours to change, by the words of the specification."""
    if "plugins" not in conf:
        return conf
    return next(each for each in conf["plugins"] if isinstance(each, dict) and each.get("type") == "bridge")


def without_ours(conf: Any) -> Any:
    """Return a copy without what we may set."""
    copy = json.loads(json.dumps(conf))
    plugin = bridge_of(copy)
    plugin.pop("mtu", None)
    ipam = plugin.get("ipam", {})
    if isinstance(ipam, dict):
        for key in ("ranges", *cni.LEGACY_RANGE):
            ipam.pop(key, None)
        ipam.setdefault("type", "host-local")
        plugin["ipam"] = ipam
    return copy


@given(CONFS, st.sampled_from([0, 1500]))
def test_a_configuration_is_refused_in_words_or_keeps_all_that_is_not_ours(conf: Any, mtu: int) -> None:
    try:
        text = cni.configure(json.dumps(conf), PODS, mtu)
    except ConfigError:
        return
    done = json.loads(text)
    assert without_ours(done) == without_ours(conf)
    assert cni.configure(text, PODS, mtu) is text
    if mtu:
        assert bridge_of(done)["mtu"] == mtu
    if bridge_of(done).get("ipam", {}).get("type") != "host-local":
        return
    told = [ip_network(cidr) for cidr in cni.pod_cidrs_of(text)]
    for cidr in map(ip_network, PODS):
        assert any(each.version == cidr.version and each.overlaps(cidr) for each in told)


@given(st.text() | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")))
def test_no_text_is_a_crash(text: str) -> None:
    with suppress(ConfigError):
        cni.configure(text, PODS, 1500)
    with suppress(ConfigError):
        cni.pod_cidrs_of(text)


@given(CONFS)
def test_reading_pod_cidrs_never_crashes_and_gives_cidrs(conf: Any) -> None:
    try:
        found = cni.pod_cidrs_of(json.dumps(conf))
    except ConfigError:
        return
    assert all(str(ip_network(cidr)) == cidr for cidr in found)
    assert len(set(found)) == len(found)
