"""The edit between two tables: what is new, what changes, what goes; and where there is none."""

from kube_router.plugins.firewall.model import Chain, Ruleset, SetType, Touched
from kube_router.plugins.firewall.plan import Edit, carry_out, everything, plan
from kube_router.plugins.firewall.render import write_edit

PEERS = SetType("ipv4_addr")
WEB = Chain(('ip saddr @s4_a counter name "pi_a" accept',), comment="shop/web")
CLASS = Chain(("jump pi_a", "goto deny_ingress"))


def table(**elements: str) -> Ruleset:
    """Return a table with an empty map, and with sets of these elements."""
    ruleset = Ruleset()
    ruleset.add_map("ingress4")
    for name, found in elements.items():
        ruleset.add_set(name, PEERS, found.split())
    return ruleset


def full() -> Ruleset:
    """Return a table in which a pod is sent to the chain of its class, which tries a policy with a set."""
    ruleset = table(s4_a="10.0.0.1 10.0.0.2")
    ruleset.add_chain("pi_a", WEB)
    ruleset.add_chain("ci_a", CLASS)
    ruleset.set_verdict("ingress4", "10.0.0.9", "goto ci_a")
    return ruleset


def edit_between(actual: Ruleset, wanted: Ruleset) -> Edit:
    edit = plan(wanted, actual, everything(wanted, actual))
    assert edit is not None
    return edit


def test_what_is_new_goes_in_first_with_its_elements_then_addresses_are_sent_there() -> None:
    new, changed, gone = edit_between(table(), full()).parts()
    assert new == Edit(
        sets={"s4_a": PEERS}, chains={"ci_a": CLASS, "pi_a": WEB}, elements={"s4_a": ["10.0.0.1", "10.0.0.2"]}
    )
    assert changed == Edit(verdicts={"ingress4": {"10.0.0.9": "goto ci_a"}})
    assert not gone


def test_addresses_are_sent_nowhere_before_what_they_were_sent_to_goes() -> None:
    new, changed, gone = edit_between(full(), table()).parts()
    assert not new
    assert changed == Edit(cut_verdicts={"ingress4": ["10.0.0.9"]})
    assert gone == Edit(dropped_chains=["ci_a", "pi_a"], dropped_sets=["s4_a"])


def test_elements_of_a_set_that_stays_come_and_go_in_one_part() -> None:
    new, changed, gone = edit_between(table(s4_a="10.0.0.1 10.0.0.2"), table(s4_a="10.0.0.2 10.0.0.3")).parts()
    assert changed == Edit(elements={"s4_a": ["10.0.0.3"]}, cut_elements={"s4_a": ["10.0.0.1"]})
    assert not new
    assert not gone


def test_an_address_that_is_sent_elsewhere_is_taken_out_and_put_in() -> None:
    wanted = full()
    wanted.set_verdict("ingress4", "10.0.0.9", "goto deny_ingress")
    assert edit_between(full(), wanted) == Edit(
        verdicts={"ingress4": {"10.0.0.9": "goto deny_ingress"}}, cut_verdicts={"ingress4": ["10.0.0.9"]}
    )


def test_between_equal_tables_there_is_nothing_to_do() -> None:
    edit = edit_between(full(), full())
    assert not edit
    assert edit.changes == {}


def test_only_what_was_touched_is_looked_at() -> None:
    wanted, actual = table(s4_a="10.0.0.1", s4_b="10.0.0.1"), table(s4_a="", s4_b="")
    assert plan(wanted, actual, Touched(elements={("s4_b", "10.0.0.1")})) == Edit(elements={"s4_b": ["10.0.0.1"]})


def test_what_was_touched_and_is_as_it_was_needs_nothing() -> None:
    wanted = full()
    wanted.take_touched()
    wanted.cut_element("s4_a", "10.0.0.1")
    wanted.add_element("s4_a", "10.0.0.1")
    wanted.set_verdict("ingress4", "10.0.0.9", "")
    wanted.set_verdict("ingress4", "10.0.0.9", "goto ci_a")
    assert plan(wanted, full(), wanted.take_touched()) == Edit()


def test_a_name_that_stands_for_something_else_takes_a_replacement() -> None:
    other_chain, other_set, other_map = full(), full(), full()
    other_chain.drop_chain("pi_a")
    other_chain.add_chain("pi_a", WEB._replace(rules=()))
    other_set.drop_set("s4_a")
    other_set.add_set("s4_a", SetType("ipv4_addr", interval=True))
    other_map.add_map("ingress6")
    for other in (other_chain, other_set, other_map):
        assert plan(full(), other, everything(full(), other)) is None
        assert plan(other, full(), everything(full(), other)) is None


def test_an_edit_that_is_carried_out_leads_to_what_is_wanted() -> None:
    for actual, wanted in ((table(), full()), (full(), table()), (full(), table(s4_a="10.0.0.2", s4_b="10.0.0.3"))):
        for part in edit_between(actual, wanted).parts():
            carry_out(part, actual)
        assert actual == wanted
        assert actual.take_touched() == Touched()


def test_a_receipt_tells_how_many_of_what_are_changed() -> None:
    assert edit_between(table(s4_b="10.0.0.1"), full()).changes == {
        **{"set added": 1, "set removed": 1, "chain added": 2, "element added": 3}
    }
    assert edit_between(full(), table(s4_a="10.0.0.1")).changes == {"chain removed": 2, "element removed": 2}


# -- as text -----------------------------------------------------------------------------------------------------------


def test_what_is_new_is_written_before_what_refers_to_it_and_the_stamp_last() -> None:
    new, changed, _ = edit_between(table(), full()).parts()
    assert write_edit(new, '1 comment "7 00"').splitlines() == [
        "table inet kube-router-firewall {",
        "    counter pi_a { }",
        "    set s4_a { type ipv4_addr; }",
        "    chain pi_a {",
        '        comment "shop/web"',
        '        ip saddr @s4_a counter name "pi_a" accept',
        "    }",
        "    chain ci_a {",
        "        jump pi_a",
        "        goto deny_ingress",
        "    }",
        "}",
        "add element inet kube-router-firewall s4_a { 10.0.0.1, 10.0.0.2 }",
        "flush set inet kube-router-firewall stamp",
        'add element inet kube-router-firewall stamp { 1 comment "7 00" }',
    ]
    assert write_edit(changed) == "add element inet kube-router-firewall ingress4 { 10.0.0.9 : goto ci_a }\n"


def test_what_goes_is_deleted_after_what_refers_to_it() -> None:
    _, changed, gone = edit_between(full(), table()).parts()
    assert write_edit(changed) == "delete element inet kube-router-firewall ingress4 { 10.0.0.9 }\n"
    assert write_edit(gone).splitlines() == [
        "delete chain inet kube-router-firewall ci_a",
        "delete chain inet kube-router-firewall pi_a",
        "delete counter inet kube-router-firewall pi_a",
        "delete set inet kube-router-firewall s4_a",
    ]


def test_an_element_is_deleted_before_another_is_added_that_may_overlap_it() -> None:
    actual, wanted = Ruleset(), Ruleset()
    actual.add_set("podcidr4", SetType("ipv4_addr", interval=True), ["10.0.0.0/24"])
    wanted.add_set("podcidr4", SetType("ipv4_addr", interval=True), ["10.0.0.0/16"])
    assert write_edit(edit_between(actual, wanted)).splitlines() == [
        "delete element inet kube-router-firewall podcidr4 { 10.0.0.0/24 }",
        "add element inet kube-router-firewall podcidr4 { 10.0.0.0/16 }",
    ]
