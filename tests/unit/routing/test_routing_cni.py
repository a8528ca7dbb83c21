"""The CNI configuration gets the node's pod CIDRs and MTU, and keeps all else that the operator wrote."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from kube_router.events.errors import ConfigError
from kube_router.plugins.routing import cni, cnifile

V4, V6 = "10.244.1.0/24", "fd00:244:1::/64"
SINGLE = '{"bridge":"kube-bridge","cniVersion":"0.3.0","ipam":{"type":"host-local"},"name":"mynet","type":"bridge"}'
LIST = """\
{
  "cniVersion": "0.3.0",
  "name": "mynet",
  "plugins": [
    {
      "type": "portmap",
      "capabilities": {
        "portMappings": true
      }
    },
    {
      "zzz": "kept",
      "type": "bridge",
      "ipam": {
        "dataDir": "/run/ipam",
        "type": "host-local"
      },
      "hairpinMode": true
    },
    {
      "type": "bridge"
    }
  ]
}
"""


def ipam_of(text: str) -> Any:
    return json.loads(text)["ipam"]


# -- what is changed ---------------------------------------------------------------------------------------------------


def test_a_single_configuration_gets_a_range_set_for_each_pod_cidr() -> None:
    assert cni.configure(SINGLE, [V4, V6]) == SINGLE.replace(
        '{"type":"host-local"}',
        '{"type":"host-local","ranges":[[{"subnet":"10.244.1.0/24"}],[{"subnet":"fd00:244:1::/64"}]]}',
    )


def test_in_a_list_it_is_the_first_bridge_wherever_it_stands_and_all_else_keeps_its_order() -> None:
    assert cni.configure(LIST, [V4], 1480) == LIST.replace(
        """\
        "type": "host-local"
      },
      "hairpinMode": true
""",
        """\
        "type": "host-local",
        "ranges": [
          [
            {
              "subnet": "10.244.1.0/24"
            }
          ]
        ]
      },
      "hairpinMode": true,
      "mtu": 1480
""",
    )


@pytest.mark.parametrize("text", [SINGLE, LIST])
def test_what_is_as_wanted_comes_back_as_it_is(text: str) -> None:
    done = cni.configure(text, [V4, V6], 1500)
    assert cni.configure(done, [V4, V6], 1500) is done
    assert cni.configure(done, [V4, V6]) is done
    spaced = json.dumps(json.loads(done), indent=7)
    assert cni.configure(spaced, [V4, V6], 1500) is spaced


def test_the_older_form_becomes_the_first_range_with_its_bounds_and_gateway() -> None:
    ipam = '{"subnet":"10.244.1.0/24","rangeStart":"10.244.1.9","gateway":"10.244.1.1","type":"host-local","x":1}'
    text = SINGLE.replace('{"type":"host-local"}', ipam)
    assert ipam_of(cni.configure(text, [V4, V6])) == {
        "type": "host-local",
        "x": 1,
        "ranges": [
            [{"subnet": V4, "rangeStart": "10.244.1.9", "gateway": "10.244.1.1"}],
            [{"subnet": V6}],
        ],
    }


def test_the_older_form_beside_ranges_that_say_the_same_is_dropped() -> None:
    ipam = '{"subnet":"10.244.1.0/24","type":"host-local","ranges":[[{"subnet":"10.244.1.0/24"}]]}'
    text = SINGLE.replace('{"type":"host-local"}', ipam)
    assert ipam_of(cni.configure(text, [V4])) == {"type": "host-local", "ranges": [[{"subnet": V4}]]}


@pytest.mark.parametrize(
    ("there", "added"),
    [
        ("10.244.1.0/24", False),
        ("10.244.1.128/25", False),
        ("10.244.0.0/16", False),
        ("10.244.1.77/24", False),
        ("10.244.2.0/24", True),
        ("fd00:244:1::/64", True),
        ("no cidr", True),
    ],
)
def test_a_pod_cidr_is_added_unless_a_range_overlaps_it(there: str, added: bool) -> None:
    text = SINGLE.replace('"host-local"', f'"host-local","ranges":[[{{"subnet":"{there}","x":0}}]]')
    expected = [[{"subnet": there, "x": 0}]] + [[{"subnet": V4}]] * added
    assert ipam_of(cni.configure(text, [V4]))["ranges"] == expected


def test_a_range_of_another_node_or_time_stays() -> None:
    text = cni.configure(SINGLE, ["10.244.9.0/24"])
    assert cni.pod_cidrs_of(cni.configure(text, [V4])) == ("10.244.9.0/24", V4)


def test_a_bridge_without_ipam_gets_host_local() -> None:
    assert ipam_of(cni.configure('{"type": "bridge"}', [V4])) == {"type": "host-local", "ranges": [[{"subnet": V4}]]}
    assert cni.configure('{"type": "bridge"}', []) == '{"type": "bridge"}'


def test_another_ipam_plugin_s_ranges_are_its_own_and_only_the_mtu_is_set() -> None:
    text = '{"type":"bridge","ipam":{"type":"dhcp"}}'
    assert cni.configure(text, [V4]) is text
    assert cni.configure(text, [V4], 1400) == '{"type":"bridge","ipam":{"type":"dhcp"},"mtu":1400}'


@pytest.mark.parametrize("there", ["1500", "true", '"1400"', "1400.0", "null"])
def test_an_mtu_that_is_not_the_number_is_replaced_in_its_place(there: str) -> None:
    assert cni.configure(f'{{"mtu":{there},"type":"bridge"}}', [], 1400) == '{"mtu":1400,"type":"bridge"}'


def test_text_of_every_script_and_half_a_surrogate_pair_are_kept() -> None:
    assert cni.configure('{"type":"bridge","name":"größe 網"}', [], 9) == '{"type":"bridge","name":"größe 網","mtu":9}'
    halved = cni.configure('{"type":"bridge","name":"\\ud800é"}', [], 9)
    assert json.loads(halved) == {"type": "bridge", "name": "\ud800é", "mtu": 9}
    halved.encode()


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no JSON: Expecting value"),
        ("{", "no JSON: "),
        ("[]", "no JSON object"),
        ("{}", "names neither plugins nor a type"),
        ('{"plugins": []}', "none of its plugins is of type bridge"),
        ('{"plugins": {"type": "bridge"}}', "none of its plugins is of type bridge"),
        ('{"plugins": [{"type": "ptp"}, 7, null]}', "none of its plugins is of type bridge"),
        ('{"type": "bridge", "ipam": []}', "ipam is no object"),
        ('{"type": "bridge", "ipam": {"ranges": {}}}', "ipam.ranges is no list of lists"),
        ('{"type": "bridge", "ipam": {"ranges": [{}]}}', "ipam.ranges is no list of lists"),
        ('{"type": "bridge", "x": NaN}', "no JSON: NaN is no JSON"),
        ('{"type": "bridge", "x": 1e999}', "no JSON: 1e999 is out of range"),
        ("[" * 100_000, "nested too deeply to be read"),
    ],
)
def test_what_is_no_configuration_is_told_in_words(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match="^" + words.replace(".", r"\.")):
        cni.configure(text, [V4], 1500)


# -- what is read out --------------------------------------------------------------------------------------------------


def test_pod_cidrs_are_those_of_the_older_form_and_of_all_ranges_in_order() -> None:
    ipam = {"subnet": "10.0.0.0/24", "ranges": [[{"subnet": V6}, {"subnet": "10.1.0.5/24"}], [{"subnet": "x"}], 7]}
    text = json.dumps({"plugins": [{"type": "bridge", "ipam": ipam}]})
    assert cni.pod_cidrs_of(text) == ("10.0.0.0/24", V6, "10.1.0.0/24")
    assert cni.pod_cidrs_of(SINGLE) == ()
    assert cni.pod_cidrs_of('{"type": "bridge", "ipam": 7}') == ()


def test_the_reference_is_one_that_we_take() -> None:
    assert json.loads(cni.configure(cni.reference(), [V4], 1500)) == {
        "cniVersion": "0.3.0",
        "name": "mynet",
        "plugins": [
            {
                "name": "kubernetes",
                "type": "bridge",
                "bridge": "kube-bridge",
                "isDefaultGateway": True,
                "hairpinMode": True,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": V4}]]},
                "mtu": 1500,
            },
            {"type": "portmap", "capabilities": {"snat": True, "portMappings": True}},
        ],
    }
    assert json.loads(cni.configure(cni.reference(as_list=False), [V4]))["name"] == "mynet"


# -- the file ----------------------------------------------------------------------------------------------------------


def test_the_file_is_the_one_named_else_the_list_else_the_single_one_that_is_there(tmp_path: Path) -> None:
    assert cnifile.locate({"KUBE_ROUTER_CNI_CONF_FILE": "/x/y.conf"}, folder=tmp_path) == Path("/x/y.conf")
    assert cnifile.locate({}, folder=tmp_path).name == "10-kuberouter.conflist"
    (tmp_path / "10-kuberouter.conf").touch()
    assert cnifile.locate({"KUBE_ROUTER_CNI_CONF_FILE": ""}, folder=tmp_path).name == "10-kuberouter.conf"
    (tmp_path / "10-kuberouter.conflist").touch()
    assert cnifile.locate({}, folder=tmp_path).name == "10-kuberouter.conflist"


def test_the_file_is_replaced_with_its_mode_and_owner_and_only_once(tmp_path: Path) -> None:
    path = tmp_path / "10-kuberouter.conf"
    path.write_text(SINGLE)
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12, 34)
    before = path.stat()
    assert cnifile.bring(path, [V4], 1500) == ({"CNI configuration changed": 1}, ())
    after = path.stat()
    assert (after.st_uid, after.st_gid, stat.S_IMODE(after.st_mode)) == (before.st_uid, before.st_gid, 0o640)
    assert after.st_ino != before.st_ino
    assert cnifile.read_pod_cidrs(path) == (V4,)
    assert cnifile.bring(path, [V4], 1500) == ({}, ())
    assert path.stat().st_ino == after.st_ino
    assert os.listdir(tmp_path) == ["10-kuberouter.conf"]


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "conf"
    target.write_text(SINGLE)
    path = tmp_path / "10-kuberouter.conf"
    path.symlink_to(target)
    cnifile.bring(path, [V4])
    assert path.is_symlink()
    assert cnifile.read_pod_cidrs(target) == (V4,)


def test_what_an_interrupted_write_left_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "10-kuberouter.conf"
    path.write_text(SINGLE)
    (tmp_path / ".10-kuberouter.conf.kube-router").write_text("half")
    assert cnifile.bring(path, [V4])[1] == ()
    assert os.listdir(tmp_path) == ["10-kuberouter.conf"]


@pytest.mark.parametrize("name", ["10-kuberouter.conflist", "10-kuberouter.conf"])
def test_where_there_is_no_configuration_at_all_the_reference_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").touch()
    path = tmp_path / name
    assert cnifile.bring(path, [V4], 1500) == ({"CNI configuration written": 1}, ())
    assert cnifile.read_pod_cidrs(path) == (V4,)
    assert ("plugins" in json.loads(path.read_text())) == (name == "10-kuberouter.conflist")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_without_pod_cidrs_none_is_written_lest_the_node_seem_ready(tmp_path: Path) -> None:
    path = tmp_path / "10-kuberouter.conflist"
    words = f"CNI configuration {path}: there is none, and no pod CIDR of this node to write one"
    assert cnifile.bring(path, [], 1500) == ({}, (words,))
    assert os.listdir(tmp_path) == []


def test_a_missing_file_beside_another_s_is_told(tmp_path: Path) -> None:
    (tmp_path / "05-other.conflist").touch()
    path = tmp_path / "10-kuberouter.conflist"
    _, (words,) = cnifile.bring(path, [V4])
    assert words.startswith(f"CNI configuration {path}: not there, and the folder has another")
    assert cnifile.read_pod_cidrs(path) == ()
    _, (words,) = cnifile.bring(tmp_path / "none" / "x.conf", [V4])
    assert "the folder is not there" in words
    assert os.listdir(tmp_path) == ["05-other.conflist"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"plugins": []}', "none of its plugins is of type bridge; it is left as it is"),
        (b"\xff", "no UTF-8: invalid start byte at byte 0; it is left as it is"),
        (b" " * (cnifile.BYTES_MAX + 1), f"larger than {cnifile.BYTES_MAX} bytes; it is left as it is"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_and_left(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "10-kuberouter.conflist"
    path.write_bytes(content)
    assert cnifile.bring(path, [V4], 1500) == ({}, (f"CNI configuration {path}: {words}",))
    assert path.read_bytes() == content
    assert cnifile.read_pod_cidrs(path) == ()


def test_a_folder_in_the_file_s_place_is_told(tmp_path: Path) -> None:
    path = tmp_path / "10-kuberouter.conf"
    path.mkdir()
    assert cnifile.bring(path, [V4]) == (
        {},
        (f"CNI configuration {path}: Is a directory; pods get addresses as it is",),
    )
