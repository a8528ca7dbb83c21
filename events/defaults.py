"""Fill in what the API server would before anybody reads an object: manifests need not say it (pure).

Only defaults that a node agent can see: the namespace, a Service's type, families and cluster IPs, protocols, a
policy's types, the label that names a Namespace. What the API server *allocates* (a cluster IP, a node port) is no
default. The resourceVersion of a dumped object is dropped: it counts the changes of another store.

Parts of an object may be shared with others (YAML aliases), so what is changed is copied first.
"""

from collections.abc import Callable, Mapping
from typing import Any

Json = dict[str, Any]

NAMESPACE_LABEL = "kubernetes.io/metadata.name"


def with_defaults(obj: Json, *, kind: str, namespaced: bool) -> Json:
    """Return the object as the API server would have stored it. Whatever has the wrong shape stays as it is."""
    meta = obj.get("metadata")
    if isinstance(meta, dict):
        meta = {name: value for name, value in meta.items() if name != "resourceVersion"}
        if namespaced:
            meta["namespace"] = meta.get("namespace") or "default"
        else:
            meta.pop("namespace", None)
        obj = {**obj, "metadata": meta}
    fill = _BY_KIND.get(kind)
    return obj if fill is None else fill(obj)


def _namespace(obj: Json) -> Json:
    meta = obj.get("metadata")
    if not isinstance(meta, dict) or not isinstance(meta.get("labels") or {}, dict):
        return obj
    labels = {**(meta.get("labels") or {}), NAMESPACE_LABEL: meta.get("name")}
    return {**obj, "metadata": {**meta, "labels": labels}}


def _service(obj: Json) -> Json:
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        return obj
    spec = {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"} | _present(spec)
    if spec["type"] in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] != "ExternalName":
        _fill_addresses(spec)
    spec["ports"] = _with_protocol(spec.get("ports"))
    return {**obj, "spec": spec}


def _fill_addresses(spec: Json) -> None:
    """Make clusterIP and clusterIPs agree and name the families, the first address's first."""
    if not spec.get("clusterIPs") and spec.get("clusterIP"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    addresses = spec.get("clusterIPs")
    written = [text for text in addresses if isinstance(text, str)] if isinstance(addresses, list) else []
    if written:
        spec.setdefault("clusterIP", written[0])
    dual = spec.get("ipFamilyPolicy") in ("RequireDualStack", "PreferDualStack")
    if "ipFamilies" not in spec:
        families = ["IPv6" if ":" in text else "IPv4" for text in written if text != "None"]
        spec["ipFamilies"] = families or (["IPv4", "IPv6"] if dual else ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack" if len(spec["ipFamilies"] or ()) < 2 else "RequireDualStack")


def _slice(obj: Json) -> Json:
    return {**obj, "ports": _with_protocol(obj.get("ports"))}


def _policy(obj: Json) -> Json:
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        return obj
    spec = dict(spec)
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
    for direction in ("ingress", "egress"):
        rules = spec.get(direction)
        if isinstance(rules, list):
            spec[direction] = [
                {**rule, "ports": _with_protocol(rule["ports"])} if isinstance(rule, dict) and "ports" in rule else rule
                for rule in rules
            ]
    return {**obj, "spec": spec}


def _with_protocol(ports: object) -> Any:
    """Return the ports, each with a protocol. ``None`` stays: it is an empty list."""
    if not isinstance(ports, list):
        return ports
    return [{"protocol": "TCP", **_present(port)} if isinstance(port, dict) else port for port in ports]


def _present(fields: Json) -> Json:
    """Return the fields that are not null: null is absent."""
    return {name: value for name, value in fields.items() if value is not None}


_BY_KIND: Mapping[str, Callable[[Json], Json]] = {
    "Namespace": _namespace,
    "Service": _service,
    "EndpointSlice": _slice,
    "NetworkPolicy": _policy,
}
