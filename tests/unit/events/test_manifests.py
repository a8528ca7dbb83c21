"""Manifests are read as an API server would read them, and what is wrong with them is named by file and line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kube_router.events import manifests as m
from kube_router.events.block import Fault
from kube_router.events.documents import documents
from kube_router.events.errors import ConfigError
from kube_router.events.manifests import File, Manifests, keep_good, merge
from kube_router.events.model import Namespace, NetworkPolicy, Node, Pod, Service
from kube_router.events.normalize import BUILTIN
from kube_router.events.selectors import selects
from kube_router.events.sources.folder import read_folder

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}\n"


def read(text: str | bytes, file: str = "a.yaml") -> File:
    raw = text.encode() if isinstance(text, str) else text
    return m.parse(raw, file=file, resources=BUILTIN, redact=str)


def cluster(**files: str) -> Manifests:
    return merge({name: read(text, name) for name, text in files.items()}, BUILTIN)


def keys(file: File) -> list[str]:
    return [one.ref.key for one in file.declared]


def said(file: File) -> list[str]:
    return [str(problem) for problem in file.problems]


# -- what is declared ------------------------------------------------------------------------------------------------


def test_a_service_gets_the_api_defaults() -> None:
    (one,) = read(SERVICE).declared
    assert one.where == "a.yaml:1"
    service = one.new.obj
    assert isinstance(service, Service)
    assert service.key == "default/web"
    assert (service.type, service.cluster_ips, service.ip_families) == ("ClusterIP", ("10.96.0.1",), ("IPv4",))
    assert service.ports[0].protocol == "TCP"


@pytest.mark.parametrize(
    ("spec", "families"),
    [
        ("{clusterIPs: ['fd00::1', 10.96.0.1]}", ("IPv6", "IPv4")),
        ("{clusterIP: None}", ("IPv4",)),
        ("{ipFamilyPolicy: RequireDualStack}", ("IPv4", "IPv6")),
        ("{type: ExternalName, externalName: example.org}", ()),
        ("{ipFamilies: [IPv6], clusterIP: 'fd00::1'}", ("IPv6",)),
    ],
)
def test_a_services_families_follow_its_addresses(spec: str, families: tuple[str, ...]) -> None:
    (one,) = read(f"apiVersion: v1\nkind: Service\nmetadata: {{name: s}}\nspec: {spec}").declared
    assert isinstance(one.new.obj, Service)
    assert one.new.obj.ip_families == families


def test_a_namespace_gets_the_label_that_names_it() -> None:
    (one,) = read("apiVersion: v1\nkind: Namespace\nmetadata: {name: prod, labels: {a: b}}").declared
    assert one.new.obj == Namespace(name="prod", labels={"a": "b", "kubernetes.io/metadata.name": "prod"})


def test_a_namespace_nobody_declared_exists() -> None:
    found = cluster(a="apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: prod}").objects["namespaces"]
    assert [new.obj for new in found] == [Namespace(name="prod", labels={"kubernetes.io/metadata.name": "prod"})]


def test_a_declared_namespace_is_not_made_up() -> None:
    text = SERVICE + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {team: x}}"
    (only,) = cluster(a=text).objects["namespaces"]
    assert isinstance(only.obj, Namespace)
    assert only.obj.labels["team"] == "x"


@pytest.mark.parametrize(
    ("rules", "types"),
    [("", ("Ingress",)), ("egress: [{}]", ("Ingress", "Egress")), ("policyTypes: [Egress]", ("Egress",))],
)
def test_a_policys_types_follow_its_rules(rules: str, types: tuple[str, ...]) -> None:
    text = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {}, %s}"
    (one,) = read(text % rules).declared
    assert isinstance(one.new.obj, NetworkPolicy)
    assert one.new.obj.policy_types == types


def test_several_documents_and_lists_are_taken_apart_each_object_with_its_line() -> None:
    text = (
        f"# services\n{SERVICE}---\n---\napiVersion: v1\nkind: List\nitems:\n"
        "- apiVersion: v1\n  kind: Pod\n  metadata: {name: p}\n- apiVersion: v1\n  kind: Node\n  metadata: {name: n}\n"
    )
    assert [(one.ref.key, one.where) for one in read(text).declared] == [
        ("default/web", "a.yaml:2"),
        ("default/p", "a.yaml:11"),
        ("n", "a.yaml:14"),
    ]


def test_a_typed_list_in_json_is_taken_apart_with_lines() -> None:
    text = '{"apiVersion":"v1","kind":"PodList","items":[\n {"metadata":{"name":"a"}},\n {"metadata":{"name":"b"}}]}'
    assert [(one.ref.key, one.where) for one in read(text, "p.json").declared] == [
        ("default/a", "p.json:2"),
        ("default/b", "p.json:3"),
    ]


def test_finished_pods_are_left_out_as_the_api_servers_selector_does() -> None:
    text = "apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nstatus: {phase: %s, podIP: 10.244.0.7}\n---\n"
    assert keys(read(text % ("job", "Succeeded") + text % ("web", "Running"))) == ["default/web"]


def test_kinds_nobody_needs_are_ignored_silently() -> None:
    assert (
        read("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n---\napiVersion: v1\nkind: Secret") == File()
    )


def test_the_resource_version_of_a_dump_means_nothing() -> None:
    (one,) = read(SERVICE.replace("{name: web}", '{name: web, resourceVersion: "77"}')).declared
    assert one.new.rv == ""


def test_anchors_and_merges_work_and_shared_parts_stay_apart() -> None:
    text = (
        "apiVersion: v1\nkind: Pod\nmetadata: &m {name: a, labels: {x: '1'}}\n---\n"
        "base: &b {kind: Pod, apiVersion: v1}\n<<: *b\nmetadata: {name: b}\n"
    )
    first, second = read(text).declared
    assert isinstance(first.new.obj, Pod)
    assert (first.ref.key, second.ref.key) == ("default/a", "default/b")


def test_a_cluster_scoped_object_loses_its_namespace() -> None:
    (one,) = read("apiVersion: v1\nkind: Node\nmetadata: {name: n, namespace: oops}").declared
    assert one.new.obj == Node(name="n")


# -- what is wrong ---------------------------------------------------------------------------------------------------


def test_an_unknown_api_version_of_a_needed_kind_is_reported_once() -> None:
    file = read("---\napiVersion: v7\nkind: Service\nmetadata: {name: web}")
    assert said(file) == ["Service default/web: apiVersion 'v7' is not v1; object ignored (a.yaml:2)"]
    assert file.declared == ()


def test_text_that_is_no_object_is_reported() -> None:
    assert said(read("just words")) == ["Manifest a.yaml:1: expected an object, found 'just words'; ignored"]
    assert said(read("a: 1")) == ["Manifest a.yaml:1: no apiVersion and kind: not a Kubernetes object; ignored"]


def test_a_key_written_twice_is_reported() -> None:
    file = read(SERVICE + "kind: Service\n")
    assert said(file) == ["Manifest a.yaml:5: 'kind' is there twice; the later one counts"]
    assert keys(file) == ["default/web"]


def test_broken_yaml_is_reported_with_its_line_and_what_came_before_is_kept() -> None:
    file = read(SERVICE + "---\nkind: [\n")
    assert keys(file) == ["default/web"]
    assert file.cut
    assert said(file)[0].startswith("Manifest a.yaml:7: ")


def test_broken_json_is_reported_with_its_line() -> None:
    assert said(read('{"kind": "Service",\n "apiVersion": ]')) == [
        "Manifest a.yaml:2: expecting value; nothing from here on can be read"
    ]


def test_a_bad_part_of_an_object_is_reported_with_the_place() -> None:
    (one,) = read(SERVICE.replace("port: 80", "port: 80000")).declared
    assert [str(problem) for problem in one.new.problems] == [
        "Service default/web: spec.ports[0].port: 80000 is not 1-65535; port ignored (a.yaml:1)"
    ]


def test_an_object_that_cannot_be_used_spoils_only_itself() -> None:
    file = read("apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: words\n---\n" + SERVICE)
    assert keys(file) == ["default/web"]
    assert len(file.problems) == 1
    assert file.problems[0].key == "default/bad"
    assert "(a.yaml:1)" in file.problems[0].text


def test_an_object_declared_twice_is_reported_and_the_first_counts() -> None:
    found = cluster(a=SERVICE, b=SERVICE.replace("10.96.0.1", "10.96.0.2"))
    (only,) = found.objects["services"]
    assert isinstance(only.obj, Service)
    assert only.obj.cluster_ips == ("10.96.0.1",)
    assert [str(problem) for problem in found.problems["b"]] == [
        "Service default/web: declared again in b:1; the one in a:1 counts"
    ]


def test_the_problems_of_one_file_are_bounded() -> None:
    file = read("---\na: 1\n" * 500)
    assert len(file.problems) == m.PROBLEMS_MAX + 1
    assert said(file)[-1] == "Manifest a.yaml: and 450 more problems"


def test_all_problems_of_a_cluster_are_listed_those_inside_objects_too() -> None:
    found = cluster(a=SERVICE.replace("port: 80", "port: 0"), b="words")
    assert [problem.key for problem in m.all_problems(found)] == ["b:1", "default/web"]


# -- the last good version -------------------------------------------------------------------------------------------


def test_the_last_good_version_of_a_broken_file_stands_as_a_whole() -> None:
    good = read(SERVICE + "---\n" + SERVICE.replace("web", "api"))
    broken = keep_good(read(SERVICE.replace("10.96.0.1", "10.96.0.9") + "---\n{{"), good)
    assert broken.declared == good.declared
    assert broken.problems != ()
    assert keep_good(read("{{"), broken).declared == good.declared
    assert keys(keep_good(read(SERVICE), broken)) == ["default/web"]


def test_the_last_good_version_of_a_bad_object_stands() -> None:
    good = read(SERVICE)
    bad = keep_good(read("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: 7"), good)
    assert bad.declared == good.declared
    assert bad.bad == frozenset()


def test_a_file_that_was_never_whole_forgets_nothing_it_has_shown() -> None:
    first = keep_good(read(SERVICE + "---\n{{"), None)
    second = keep_good(read("{{"), first)
    assert second.cut
    assert keys(second) == ["default/web"]


# -- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("80", 80),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 15),
        ("1.5", 1.5),
        ("yes", True),
        ("Off", False),
        ("~", None),
        ("2026-11-24T00:00:00Z", "2026-11-24T00:00:00Z"),
        ("1:30", "1:30"),
        ("=", "="),
        (".inf", ".inf"),
        ("'80'", "80"),
        ("!!str 80", "80"),
        ("9" * 5000, "9" * 5000),
        ("fd00::1", "fd00::1"),
        ("10.96.0.1", "10.96.0.1"),
    ],
)
def test_scalars_are_read_as_kubernetes_tools_read_them(text: str, value: object) -> None:
    (document,) = documents(f"a: {text}".encode())
    assert document.value == {"a": value}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"[" * 200_000, "nested more than 100 deep"),
        (b"- " * 200_000, "nested more than 100 deep"),
        (b'{"a":' * 200_000, "nested too deeply to be read"),
        (b"a: &a [*a]", "*a names nothing before it"),
        (b"? [a]\n: b", "a key must be text, not a mapping or a list"),
        (b"a: !!python/object:os.system {}", "means nothing here"),
        (b"a: !!binary aGk=", "means nothing here"),
        (b"a: \xff", "not UTF-8 text"),
        (b"a: \x07", "control characters are not allowed (#x0007)"),
        (b'{"a": Infinity, "b"', "Infinity is no JSON"),
        (b"<<: 7", "<< takes a mapping or a list of mappings"),
    ],
)
def test_text_that_could_do_harm_is_a_fault(text: bytes, fault: str) -> None:
    with pytest.raises(Fault) as raised:
        list(documents(text))
    assert fault in raised.value.what


def test_aliases_cannot_multiply_without_end() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    with pytest.raises(Fault, match="aliases expanded"):
        list(documents("\n".join(lines).encode()))


# -- selectors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        ({}, True),
        ({"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"}, True),
        ({"fieldSelector": "status.phase=Failed"}, False),
        ({"fieldSelector": "spec.nodeName="}, True),
        ({"labelSelector": "app=web"}, True),
        ({"labelSelector": "app!=web"}, False),
        ({"labelSelector": "app in (api, web),!old"}, True),
        ({"labelSelector": "app notin (api, web)"}, False),
        ({"labelSelector": "tier"}, False),
        ({"labelSelector": "tier!=x"}, True),
    ],
)
def test_selectors_mean_what_they_mean_to_the_api_server(selectors: Mapping[str, str], expected: bool) -> None:
    pod: dict[str, Any] = {"metadata": {"labels": {"app": "web"}}, "status": {"phase": "Running"}}
    assert selects(selectors, pod) is expected


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_single_file_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(SERVICE)
    assert [new.obj.key for new in read_folder(tmp_path / "x.yaml", BUILTIN, str).objects["services"]] == [
        "default/web"
    ]


def test_editors_files_subfolders_and_dangling_links_are_not_read(tmp_path: Path) -> None:
    for name in (".a.yaml", "a.yaml~", ".a.yaml.swp", "#a.yaml#", "4913", "notes.txt"):
        (tmp_path / name).write_text("{{{")
    (tmp_path / "sub.yaml").mkdir()
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere")
    found = read_folder(tmp_path, BUILTIN, str)
    assert found.problems == {}
    assert found.objects["services"] == ()


def test_a_missing_path_is_the_operators_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_folder(tmp_path / "nowhere", BUILTIN, str)
