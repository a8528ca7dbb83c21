"""Whatever bytes a manifest holds: reading it never crashes, and what cannot be used is reported."""

import msgspec
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kube_router.events.manifests import PROBLEMS_MAX, File, keep_good, merge, parse
from kube_router.events.normalize import BUILTIN

GOOD = b"""---
apiVersion: v1
kind: Service
metadata: {name: web, labels: &l {app: web}, annotations: *l}
spec:
  clusterIP: 10.96.0.1
  ports: [{port: 80}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, labels: {a: b}}
spec: {podSelector: {}, ingress: [{ports: [{port: 80}]}]}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Pod, metadata: {name: a}, status: {podIP: 10.244.0.1}}
"""

words = st.sampled_from(
    ["apiVersion", "kind", "metadata", "name", "spec", "items", "v1", "Service", "List", "Pod", "ports", "web", "<<"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words | st.text(max_size=8)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=6), max_leaves=30
)


def read(text: bytes) -> File:
    return parse(text, file="f.yaml", resources=BUILTIN, redact=str)


def test_the_good_manifest_is_good() -> None:
    assert [one.ref.key for one in read(GOOD).declared] == ["default/web", "default/p", "default/a"]
    assert not read(GOOD).problems


def check(file: File) -> None:
    assert len(file.problems) <= PROBLEMS_MAX + 1
    assert all(problem.text for problem in file.problems)
    if file.cut or file.bad:
        assert file.problems
    merged = merge({"f.yaml": file}, BUILTIN)
    assert set(merged.objects) == {resource.name for resource in BUILTIN}


@given(st.binary(max_size=300))
def test_any_bytes(text: bytes) -> None:
    check(read(text))


@given(st.text(alphabet="{}[]:,-&*!|>'\"%@`#? \n\tabk1v", max_size=200))
def test_any_punctuation(text: str) -> None:
    check(read(text.encode()))


@given(st.integers(0, len(GOOD)), st.binary(max_size=4), st.integers(0, 4))
def test_a_good_manifest_with_a_wound(position: int, inserted: bytes, removed: int) -> None:
    wounded = read(GOOD[:position] + inserted + GOOD[position + removed :])
    check(wounded)
    kept = keep_good(wounded, read(GOOD))
    if wounded.cut:
        assert kept.declared == read(GOOD).declared


@given(st.integers(0, len(GOOD)))
def test_a_torn_manifest_declares_nothing_that_the_whole_one_does_not(length: int) -> None:
    whole = {one.ref for one in read(GOOD).declared}
    names = {ref.key for ref in whole}
    for one in read(GOOD[:length]).declared:
        assert any(key.startswith(one.ref.key) for key in names)


@given(trees, trees)
def test_any_tree_reads_the_same_as_yaml_and_as_json(spec: object, meta: object) -> None:
    tree = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec, "status": meta}
    as_json = read(msgspec.json.encode(tree))
    as_yaml = read(yaml.safe_dump(tree, allow_unicode=False).encode())
    check(as_json)
    assert [one.new.obj for one in as_yaml.declared] == [one.new.obj for one in as_json.declared]


@given(trees)
def test_any_tree_as_a_document(tree: object) -> None:
    check(read(yaml.safe_dump(tree).encode()))
    check(read(msgspec.json.encode(tree)))


@given(trees)
def test_any_tree_as_an_object(tree: object) -> None:
    for resource in BUILTIN:
        fields = tree if isinstance(tree, dict) else {"spec": tree, "metadata": {"name": tree}}
        check(read(msgspec.json.encode({**fields, "apiVersion": resource.api_version, "kind": resource.kind})))
