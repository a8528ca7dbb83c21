"""Label selectors as sorted terms, and the two indexes that look them up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policies import KEYS, VALUES

from kube_router.events.model import Requirement, Selector
from kube_router.plugins.firewall.terms import LabelIndex, SelectorIndex, Term, Terms, selects, terms_of

IN_A, IN_AB = Term("app", "In", ("a",)), Term("app", "In", ("a", "b"))
NOT_A = Term("app", "NotIn", ("a",))
THERE, ABSENT = Term("app", "Exists"), Term("app", "DoesNotExist")


def expressions(*requirements: tuple[str, str, tuple[str, ...]]) -> Selector:
    return Selector(
        match_expressions=tuple(Requirement(key=key, operator=op, values=values) for key, op, values in requirements)
    )


# -- one form ----------------------------------------------------------------------------------------------------------


def test_match_labels_and_an_expression_with_one_value_are_the_same_terms() -> None:
    assert terms_of(Selector(match_labels={"app": "a"})) == (IN_A,)
    assert terms_of(expressions(("app", "In", ("a",)))) == (IN_A,)


def test_neither_order_nor_repetition_makes_another_selector() -> None:
    one = expressions(("app", "In", ("b", "a")), ("tier", "Exists", ()))
    other = expressions(("tier", "Exists", ()), ("app", "In", ("a", "b", "a")), ("tier", "Exists", ()))
    assert terms_of(one) == terms_of(other) == (IN_AB, Term("tier", "Exists"))


@pytest.mark.parametrize(("operator", "values"), [("Gt", ("1",)), ("In", ()), ("NotIn", ()), ("Exists", ("a",))])
def test_a_requirement_that_cannot_be_read_is_left_out(operator: str, values: tuple[str, ...]) -> None:
    selector = Selector(
        match_labels={"app": "a"}, match_expressions=(Requirement(key="tier", operator=operator, values=values),)
    )
    assert terms_of(selector) == (IN_A,)


# -- what is selected --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("term", "of_a", "of_b", "of_nothing"),
    [
        (IN_A, True, False, False),
        (IN_AB, True, True, False),
        (NOT_A, False, True, True),
        (THERE, True, True, False),
        (ABSENT, False, False, True),
        (Term("app", "In", ("",)), False, False, False),
    ],
)
def test_a_term_selects(term: Term, of_a: bool, of_b: bool, of_nothing: bool) -> None:
    found = [selects((term,), labels) for labels in ({"app": "a"}, {"app": "b", "x": "y"}, {"x": "y"})]
    assert found == [of_a, of_b, of_nothing]


def test_no_term_selects_all_and_several_have_to_hold_together() -> None:
    assert selects((), {})
    assert selects((IN_A, Term("x", "Exists")), {"app": "a", "x": ""})
    assert not selects((IN_A, Term("x", "Exists")), {"app": "a"})


# -- indexes -----------------------------------------------------------------------------------------------------------


def test_the_selectors_that_select_labels_are_found_each_once() -> None:
    index: SelectorIndex[str] = SelectorIndex()
    index.add("a", (IN_A,))
    index.add("ab", (IN_AB,))
    index.add("ab and x", (IN_AB, Term("x", "In", ("y",))))
    index.add("not a", (NOT_A,))
    index.add("all", ())
    assert sorted(index.selecting({"app": "a", "x": "y"})) == ["a", "ab", "ab and x", "all"]
    assert sorted(index.selecting({"app": "b"})) == ["ab", "all", "not a"]
    assert sorted(index.selecting({})) == ["all", "not a"]


def test_labels_are_found_in_their_group_only() -> None:
    index: LabelIndex[str] = LabelIndex()
    index.add("prod", "p1", {"app": "a"})
    index.add("prod", "p2", {})
    index.add("dev", "d1", {"app": "a"})
    assert list(index.selected("prod", (IN_A,))) == ["p1"]
    assert sorted(index.selected("prod", ())) == ["p1", "p2"]
    assert list(index.selected("prod", (NOT_A,))) == ["p2"]
    assert list(index.selected("nowhere", ())) == []


def test_what_is_removed_is_found_no_more_and_leaves_nothing() -> None:
    selectors: SelectorIndex[str] = SelectorIndex()
    labels: LabelIndex[str] = LabelIndex()
    empty = vars(selectors).copy(), {name: dict(value) for name, value in vars(labels).items()}
    for id, terms in (("ab", (IN_AB,)), ("all", ())):
        selectors.add(id, terms)
        labels.add("prod", id, {"app": "a", "x": "y"})
    for id in ("ab", "all"):
        selectors.remove(id)
        labels.remove("prod", id)
    assert list(selectors.selecting({"app": "a"})) == list(labels.selected("prod", ())) == []
    assert (vars(selectors), vars(labels)) == empty


_labels = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
_values = st.lists(st.sampled_from(VALUES), min_size=1, unique=True).map(lambda values: tuple(sorted(values)))
_terms = st.lists(
    st.builds(Term, st.sampled_from(KEYS), st.sampled_from(("In", "NotIn")), _values)
    | st.builds(Term, st.sampled_from(KEYS), st.sampled_from(("Exists", "DoesNotExist"))),
    max_size=3,
).map(lambda found: tuple(sorted(found)))


@given(st.lists(_terms, max_size=6), st.lists(_labels, max_size=6))
def test_both_indexes_find_what_trying_each_would(selectors: list[Terms], labelled: list[dict[str, str]]) -> None:
    by_selector: SelectorIndex[int] = SelectorIndex()
    by_labels: LabelIndex[int] = LabelIndex()
    for number, terms in enumerate(selectors):
        by_selector.add(number, terms)
    for number, labels in enumerate(labelled):
        by_labels.add("g", number, labels)
    for labels in labelled:
        wanted = [number for number, terms in enumerate(selectors) if selects(terms, labels)]
        assert sorted(by_selector.selecting(labels)) == wanted
    for terms in selectors:
        wanted = [number for number, labels in enumerate(labelled) if selects(terms, labels)]
        assert sorted(by_labels.selected("g", terms)) == wanted
