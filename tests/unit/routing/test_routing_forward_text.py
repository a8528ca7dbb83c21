"""Where our FORWARD rules belong, told from what iptables-save prints."""

from hypothesis import given
from hypothesis import strategies as st

from kube_router.plugins.routing import forward, takeover

OURS = [f"-A FORWARD {rule}" for rule in forward.RULES]
NETPOL = '-A FORWARD -m comment --comment "kube-router netpol - X" -j KUBE-ROUTER-FORWARD'


def table(*rules: str, policy: str = "ACCEPT") -> str:
    return "\n".join(["*filter", f":FORWARD {policy} [0:0]", "-A INPUT -j DROP", *rules, "COMMIT", ""])


def edit(text: str, *, remove: bool = False) -> list[str] | None:
    """Return the lines of the edit, ``None`` where none is needed."""
    chain = forward.parse(text)
    assert chain is not None
    found = forward.edit_text(chain, remove=remove)
    return None if found is None else found.text.splitlines()[1:-1]


def inserted(place: int) -> list[str]:
    return [f"-I FORWARD {at} {rule}" for at, rule in enumerate(forward.RULES, place)]


def test_a_table_without_the_chain_is_left() -> None:
    assert forward.parse("*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n") is None
    assert forward.parse("") is None


def test_ours_are_needed_where_somebody_may_drop() -> None:
    assert edit(table()) is None
    assert edit(table(policy="DROP")) == inserted(1)
    assert edit(table("-A FORWARD -j REJECT")) == inserted(1)
    assert edit(table(*OURS, policy="DROP")) is None
    assert edit(table(*OURS)) == [f"-D{rule[2:]}" for rule in OURS]


def test_ours_come_first_but_behind_the_last_jump_to_what_denies() -> None:
    docker = "-A FORWARD -j DOCKER-USER"
    rest = "-A FORWARD -j DROP"
    assert edit(table(NETPOL, rest)) == inserted(2)
    assert edit(table(NETPOL, "-A FORWARD -i x -j ACCEPT", docker, rest)) == inserted(4)
    assert edit(table(NETPOL, *OURS, rest)) is None
    assert edit(table(*OURS, NETPOL, rest)) == [*(f"-D{rule[2:]}" for rule in OURS), *inserted(2)]


def test_ours_that_are_not_whole_or_not_one_behind_the_other_are_put_anew() -> None:
    rest = "-A FORWARD -j DROP"
    for found in (OURS[:2], [*OURS, OURS[0]], [OURS[1], OURS[0], OURS[2]], [OURS[0], rest, *OURS[1:]]):
        deleted = [f"-D{rule[2:]}" for rule in found if rule != rest]
        assert edit(table(*found, rest)) == [*deleted, *inserted(1)]


def test_cleanup_deletes_ours_alone() -> None:
    others = ["-A FORWARD -m comment --comment kube-router -j DROP", '-A FORWARD -m comment --comment "kube-router -j']
    assert edit(table(*others, *OURS), remove=True) == [f"-D{rule[2:]}" for rule in OURS]
    assert edit(table(*others), remove=True) is None


LINES = st.sampled_from([*OURS, NETPOL, "-A FORWARD -j DROP", '-A FORWARD -m comment --comment "it', "-A FORWARD"])


@given(st.lists(LINES, max_size=8), st.sampled_from(["ACCEPT", "DROP"]))
def test_an_edit_that_was_made_needs_no_other(rules: list[str], policy: str) -> None:
    chain = forward.parse(table(*rules, policy=policy))
    assert chain is not None
    made = forward.edit_text(chain)
    if made is None:
        return
    left = list(rules)
    for line in made.text.splitlines()[1:-1]:
        if line.startswith("-D"):
            left.remove(f"-A{line[2:]}")
        else:
            _, _, place, rule = line.split(" ", 3)
            left.insert(int(place) - 1, f"-A FORWARD {rule}")
    after = forward.parse(table(*left, policy=policy))
    assert after is not None
    assert forward.edit_text(after) is None
    assert after.rules == chain.rules


WORDS = st.sampled_from(
    ["-A", ":", "FORWARD", "POSTROUTING", "--match-set", "--comment", "-j", "ACCEPT", '"', "-o", " "]
)


@given(st.lists(WORDS).map(" ".join) | st.text())
def test_no_text_is_a_crash(text: str) -> None:
    chain = forward.parse(f":FORWARD DROP\n{text}")
    assert chain is not None
    forward.edit_text(chain)
    for name in ("nat", "filter"):
        for found in takeover.recognise("iptables-nft", name, text):
            assert set(found.rules) <= set(text.splitlines())
