"""Nodes, and the secrets in their annotations."""

import json
from pathlib import Path

import pytest

from kube_router.events.errors import ConfigError
from kube_router.events.keyfile import load_key
from kube_router.events.model import Node, NodeAddress
from kube_router.events.normalize_node import normalize_node
from kube_router.events.redact import REMEMBERED_MAX, Redactor
from kube_router.events.resource import Normalized

KEY = b"k" * 32
CANARY = "c2VjcmV0LWNhbmFyeQ=="


def node(annotations: dict[str, str], redactor: Redactor) -> Normalized:
    raw = json.dumps({"metadata": {"name": "n1", "annotations": annotations}})
    return normalize_node(raw.encode(), redactor.digest)


def annotation(result: Normalized, name: str) -> str:
    assert isinstance(result.obj, Node)
    return result.obj.annotations[name]


def test_a_node_is_kept_with_its_addresses_and_cidrs() -> None:
    raw = json.dumps(
        {
            "metadata": {
                "name": "n1.example.com",
                "uid": "u",
                "resourceVersion": "5",
                "labels": {"zone": "a"},
                "annotations": {"kube-router.io/node.asn": "64512", "other": CANARY},
            },
            "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "FD00:1::1/64", "x"]},
            "status": {
                "addresses": [
                    {"type": "InternalIP", "address": "192.0.2.1"},
                    {"type": "Hostname", "address": "n1"},
                    {"type": "ExternalIP", "address": "2001:DB8::1"},
                    {"type": "InternalIP", "address": "nonsense"},
                ],
                "images": [{"names": ["a"]}],
            },
        }
    )
    result = normalize_node(raw.encode(), Redactor(KEY).digest)
    assert result.rv == "5"
    assert result.obj == Node(
        name="n1.example.com",
        uid="u",
        addresses=(
            NodeAddress(type="InternalIP", address="192.0.2.1"),
            NodeAddress(type="ExternalIP", address="2001:db8::1"),
        ),
        pod_cidrs=("10.1.0.0/24", "fd00:1::/64"),
        labels={"zone": "a"},
        annotations={"kube-router.io/node.asn": "64512"},
    )
    assert [problem.text for problem in result.problems] == [
        "status.addresses[3].address: 'nonsense' is no address; left out",
        "spec.podCIDRs[2]: 'x' is no CIDR; left out",
    ]


def test_a_list_of_passwords_keeps_its_blanks() -> None:
    redactor = Redactor(KEY)
    result = node({"kube-router.io/peer.passwords": f"{CANARY}, ,{CANARY},b"}, redactor)
    digest = redactor.digest(CANARY)
    assert annotation(result, "kube-router.io/peer.passwords") == f"{digest},,{digest},{redactor.digest('b')}"
    assert redactor.plaintext(digest) == CANARY


def test_peers_keep_what_is_no_secret() -> None:
    redactor = Redactor(KEY)
    text = f"""
- remoteip: 192.0.2.9
  remoteasn: 64513
  password: {CANARY}
  port: 1179
  bfd:
    enabled: true
    detection_multiplier: 3
    typo: {CANARY}
- remoteip: 192.0.2.10
  remoteasn: 64513
  password: 0123
  Password: {CANARY}
  passwrd: [{CANARY}]
  localip: {{nested: {CANARY}}}
- password:
"""
    result = node({"kube-router.io/peers": text}, redactor)
    assert result.problems == ()
    one, two, three = json.loads(annotation(result, "kube-router.io/peers"))
    digest = redactor.digest(CANARY)
    assert one == {
        "remoteip": "192.0.2.9",
        "remoteasn": 64513,
        "password": digest,
        "port": 1179,
        "bfd": {"enabled": True, "detection_multiplier": 3, "typo": digest},
    }
    assert redactor.plaintext(two["password"]) == "0123"
    assert sorted(two) == ["Password", "localip", "password", "passwrd", "remoteasn", "remoteip"]
    assert three == {"password": ""}
    assert CANARY not in annotation(result, "kube-router.io/peers")


BOMB = "a: &a [x,x]\n" + "".join(f"b{i}: &b{i} [*{'a' if i == 0 else f'b{i - 1}'},x]\n" for i in range(60))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"- password: '{CANARY}", "is no YAML that can be read"),
        (f"password: {CANARY}", "is no list of peers"),
        (f"[{CANARY}]", "holds something that is no mapping"),
        (f"- &x {{password: {CANARY}}}\n- *x", "uses YAML aliases, which are not supported here"),
        (BOMB, "uses YAML aliases, which are not supported here"),
        (f"- remoteasn: .inf\n  password: {CANARY}", "is no YAML that can be read"),
        (f"- remoteip: 2026-99-99\n  password: {CANARY}", "is no YAML that can be read"),
        (f"- !!python/object:os.system {{password: {CANARY}}}", "is no YAML that can be read"),
        ("- {password: " + CANARY + "}\n" + "#" * 65536, "is longer than 65536 characters"),
        ("[" * 5000 + CANARY, "is no YAML that can be read"),
    ],
)
def test_peers_that_cannot_be_read_are_digested_whole(text: str, complaint: str) -> None:
    redactor = Redactor(KEY)
    result = node({"kube-router.io/peers": text}, redactor)
    assert [problem.text for problem in result.problems] == [
        f"metadata.annotations[kube-router.io/peers]: {complaint}; no peer of it is used"
    ]
    assert annotation(result, "kube-router.io/peers") == redactor.digest(text)


def test_no_peers_are_no_problem() -> None:
    result = node({"kube-router.io/peers": "[]"}, Redactor(KEY))
    assert (annotation(result, "kube-router.io/peers"), result.problems) == ("[]", ())


def test_a_misspelt_password_annotation_is_a_secret_still() -> None:
    result = node({"kube-router.io/peer.Password": CANARY}, Redactor(KEY))
    assert annotation(result, "kube-router.io/peer.Password").startswith("redacted:")


def test_a_digest_depends_on_secret_and_key_only() -> None:
    assert Redactor(KEY).digest("a") == Redactor(KEY).digest("a") != Redactor(KEY).digest("b")
    assert Redactor(KEY).digest("a") != Redactor(b"j" * 32).digest("a")
    assert len(Redactor(KEY).digest("a")) == len("redacted:") + 32


def test_a_restarted_agent_does_not_know_the_secret() -> None:
    assert Redactor(KEY).plaintext(Redactor(KEY).digest("a")) is None


def test_what_is_remembered_has_a_bound() -> None:
    redactor = Redactor(KEY)
    digests = [redactor.digest(str(i)) for i in range(REMEMBERED_MAX + 1)]
    assert redactor.plaintext(digests[0]) is None
    assert redactor.plaintext(digests[-1]) == str(REMEMBERED_MAX)


def test_a_redactor_does_not_show_what_it_holds() -> None:
    redactor = Redactor(KEY)
    redactor.digest(CANARY)
    assert repr(redactor) == "Redactor()"


def test_the_key_is_made_once_and_for_root_only(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "redact.key"
    key = load_key(path)
    assert len(key) == 32
    assert load_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["redact.key"]


def test_half_a_key_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "redact.key"
    path.write_bytes(b"half")
    assert len(load_key(path)) == 32


def test_a_key_that_cannot_be_read_is_the_operators_to_fix(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read or make the redaction key"):
        load_key(tmp_path)
