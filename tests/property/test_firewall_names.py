"""The names of chains and sets stand for one content each, whichever policy they come from."""

from random import Random

from harness.shop import compiled_for
from policies import policy

from kube_router.plugins.firewall.model import FAMILIES, is_policy_chain

POLICIES = 3000


def test_a_name_stands_for_one_content_among_thousands_of_policies() -> None:
    random = Random(7)
    contents: dict[str, object] = {}
    rules: set[tuple[str, ...]] = set()
    for _ in range(POLICIES):
        compiled = compiled_for(policy(random.choice), FAMILIES)
        uses = compiled.uses
        for name, content in {**compiled.chains, **uses.peers, **uses.named, **uses.fixed}.items():
            assert contents.setdefault(name, content) == content
        rules |= {chain.rules for chain in compiled.chains.values()}
    assert len(rules) > POLICIES // 2


def test_each_direction_of_a_policy_has_a_chain_of_its_own() -> None:
    random = Random(8)
    for _ in range(100):
        each = policy(random.choice)
        compiled = compiled_for(each, FAMILIES)
        assert set(compiled.names.values()) == set(compiled.chains)
        assert all(is_policy_chain(name) and name[1] == side[0] for side, name in compiled.names.items())
