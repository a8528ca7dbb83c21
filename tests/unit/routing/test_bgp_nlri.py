"""Prefixes as octets: both families, with path identifiers and without."""

import pytest

from kube_router.plugins.routing.bgp.model import Family, Prefix, prefix_of
from kube_router.plugins.routing.bgp.nlri import Malformed, pack_prefixes, parse_prefixes


@pytest.mark.parametrize(
    ("octets", "family", "texts"),
    [
        pytest.param("", Family.IPV4, [], id="none"),
        pytest.param("00", Family.IPV4, ["0.0.0.0/0"], id="default"),
        pytest.param("18 0a0100", Family.IPV4, ["10.1.0.0/24"], id="24"),
        pytest.param("20 01020304 19 01020380 09 0a80", Family.IPV4, ["1.2.3.4/32", "1.2.3.128/25", "10.128.0.0/9"]),
        pytest.param("09 0aff", Family.IPV4, ["10.128.0.0/9"], id="bits beyond the length are cleared"),
        pytest.param("01 ff", Family.IPV4, ["128.0.0.0/1"], id="one bit"),
        pytest.param("00 40 fd00000100000000", Family.IPV6, ["::/0", "fd00:1::/64"], id="v6"),
        pytest.param("03 3f", Family.IPV6, ["2000::/3"], id="v6 bits beyond the length"),
        pytest.param("80 20010db8000000000000000000000001", Family.IPV6, ["2001:db8::1/128"], id="128"),
    ],
)
def test_octets_are_prefixes(octets: str, family: Family, texts: list[str]) -> None:
    prefixes, path_ids = parse_prefixes(bytes.fromhex(octets), family, add_path=False)
    assert [str(prefix) for prefix in prefixes] == texts
    assert prefixes == [prefix_of(text) for text in texts]
    assert path_ids is None


def test_a_prefix_read_is_a_whole_prefix() -> None:
    (prefix,) = parse_prefixes(bytes.fromhex("180a0100"), Family.IPV4, add_path=False)[0]
    assert type(prefix) is Prefix
    assert prefix.network == b"\x0a\x01\x00\x00"
    assert prefix.family is Family.IPV4


def test_path_identifiers_go_with_their_prefixes() -> None:
    octets = bytes.fromhex("00000007 18 0a0100  ffffffff 09 0aff")
    prefixes, path_ids = parse_prefixes(octets, Family.IPV4, add_path=True)
    assert [str(prefix) for prefix in prefixes] == ["10.1.0.0/24", "10.128.0.0/9"]
    assert path_ids == [7, 0xFFFFFFFF]


@pytest.mark.parametrize(
    ("octets", "family", "add_path", "words"),
    [
        pytest.param("21 0102030405", Family.IPV4, False, "a prefix of 33 bits, above 32", id="33"),
        pytest.param("81" + "00" * 17, Family.IPV6, False, "a prefix of 129 bits, above 128", id="129"),
        pytest.param("18 0a", Family.IPV4, False, "the last prefix lacks 2 octets", id="cut"),
        pytest.param("18", Family.IPV4, False, "the last prefix lacks 3 octets", id="nothing but a length"),
        pytest.param("00000007", Family.IPV4, True, "4 octets are left for a path identifier and a prefix", id="id"),
        pytest.param("00000007 21 00", Family.IPV4, True, "a prefix of 33 bits, above 32", id="33 with id"),
        pytest.param("00000007 18 0a", Family.IPV4, True, "the last prefix lacks 2 octets", id="cut with id"),
    ],
)
def test_octets_that_are_no_prefixes_say_why(octets: str, family: Family, add_path: bool, words: str) -> None:
    with pytest.raises(Malformed, match=f"^{words}$"):
        parse_prefixes(bytes.fromhex(octets), family, add_path)


def test_a_prefix_takes_as_few_octets_as_hold_it() -> None:
    prefixes = [prefix_of(text) for text in ("0.0.0.0/0", "10.0.0.0/8", "10.128.0.0/9", "fd00:1::/64")]
    assert [one.hex() for one in pack_prefixes(prefixes)] == ["00", "080a", "090a80", "40fd00000100000000"]
