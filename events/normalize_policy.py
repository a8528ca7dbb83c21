"""Turn the API's NetworkPolicy into ours, as written: the policy compiler judges it.

Three absences mean different things and stay different: a peer without ``podSelector`` does not select by pod, one
with an empty ``podSelector`` selects every pod, and a rule without ``from`` means everybody.

A policy that cannot be read fails closed. While its selector can be read it stands, without any rule, for the pods it
selects: it admits nothing. (The API server lets no such policy in; a folder of manifests may hold one.)
"""

from collections.abc import Iterable

import msgspec
from msgspec import Raw

from kube_router.events import canonical, model, wire
from kube_router.events.errors import ObjectError
from kube_router.events.faults import UNDECODABLE, Faults, decode, identify, reason
from kube_router.events.resource import Normalized, Redact

_policies = msgspec.json.Decoder(wire.NetworkPolicy)
_targets = msgspec.json.Decoder(wire.TargetedPolicy)


def normalize_networkpolicy(raw: bytes | Raw, redact: Redact) -> Normalized:
    """Return the NetworkPolicy; one that cannot be read admits nothing to or from the pods it selects."""
    try:
        written = _policies.decode(raw)
    except UNDECODABLE as error:
        return _closed(raw, reason(error))
    namespace, name, faults = identify("NetworkPolicy", written.metadata, namespaced=True)
    meta = written.metadata or wire.Meta()
    spec = written.spec
    if spec is None:
        raise faults.fatal("spec", "missing, so that nobody knows for which pods the policy is")
    policy = model.NetworkPolicy(
        namespace=namespace,
        name=name,
        uid=meta.uid or "",
        # The API reads an absent podSelector as an empty one, which selects every pod of the namespace.
        pod_selector=_selector(spec.pod_selector or wire.Selector()),
        policy_types=_policy_types(spec),
        ingress=_rules(spec.ingress or ()),
        egress=_rules(spec.egress or ()),
    )
    return Normalized(policy, meta.resource_version or "", 0, faults.found())


def _closed(raw: bytes | Raw, why: str) -> Normalized:
    """Return the policy with its selector only. ObjectError where that cannot be read either."""
    try:
        written = decode(_targets, raw, "NetworkPolicy")
    except ObjectError as error:
        raise ObjectError(
            "NetworkPolicy", error.key, f"{why}; object ignored, its pods are not protected by it"
        ) from None
    namespace, name, faults = identify("NetworkPolicy", written.metadata, namespaced=True)
    if written.spec is None:
        raise faults.fatal("spec", "missing, so that nobody knows for which pods the policy is")
    return _denying(namespace, name, written=written, why=why, faults=faults)


def _denying(namespace: str, name: str, *, written: wire.TargetedPolicy, why: str, faults: Faults) -> Normalized:
    meta, spec = written.metadata or wire.Meta(), written.spec or wire.PolicyTarget()
    faults.add(*_path_and_what(why))
    policy = model.NetworkPolicy(
        namespace=namespace,
        name=name,
        uid=meta.uid or "",
        pod_selector=_selector(spec.pod_selector or wire.Selector()),
        policy_types=("Ingress", "Egress"),
    )
    return Normalized(policy, meta.resource_version or "", 0, faults.found())


def _path_and_what(why: str) -> tuple[str, str]:
    where, _, what = why.partition(": ")
    return where, f"{what}; the policy admits nothing to or from its pods until fixed"


def _policy_types(spec: wire.PolicySpec) -> tuple[str, ...]:
    """Return the directions: as written, else as the API's defaulting has them (egress only if there are rules)."""
    if spec.policy_types:
        return tuple(canonical.intern(direction) for direction in spec.policy_types)
    return ("Ingress", "Egress") if spec.egress else ("Ingress",)


def _rules(written: Iterable[wire.IngressRule | wire.EgressRule]) -> tuple[model.PolicyRule, ...]:
    return tuple(
        model.PolicyRule(
            peers=tuple(_peer(peer) for peer in rule.peers or ()),
            ports=tuple(_port(port) for port in rule.ports or ()),
        )
        for rule in written
    )


def _peer(written: wire.PolicyPeer) -> model.PolicyPeer:
    block = written.ip_block
    return model.PolicyPeer(
        pod_selector=None if written.pod_selector is None else _selector(written.pod_selector),
        namespace_selector=None if written.namespace_selector is None else _selector(written.namespace_selector),
        ip_block=None if block is None else model.IPBlock(cidr=block.cidr or "", excepts=tuple(block.excepts or ())),
    )


def _port(written: wire.PolicyPort) -> model.PolicyPort:
    return model.PolicyPort(
        protocol=canonical.intern(written.protocol or "TCP"), port=written.port, end_port=written.end_port
    )


def _selector(written: wire.Selector) -> model.Selector:
    return model.Selector(
        match_labels=canonical.labels(written.match_labels),
        match_expressions=tuple(
            model.Requirement(
                key=requirement.key or "",
                operator=canonical.intern(requirement.operator or ""),
                values=tuple(requirement.values or ()),
            )
            for requirement in written.match_expressions or ()
        ),
    )
