"""Which API server is asked: each once until one answers, the one that works while it does, later the best again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube_router.events.model import Endpoint, EndpointPort, EndpointSlice
from kube_router.events.sources.servers import BACK_S, ENDPOINTS_MAX, SERVICE, Choice, Server, endpoints

A, B, C, D = (Server(f"https://192.0.2.{number}:6443", "test") for number in range(1, 5))
HTTPS = EndpointPort(name="https", port=6443)


def piece(*found: Endpoint, service: str = SERVICE, port: EndpointPort = HTTPS, kind: str = "IPv4") -> EndpointSlice:
    return EndpointSlice(
        namespace="default", name="kubernetes", service=service, address_type=kind, ports=(port,), endpoints=found
    )


def urls(*slices: EndpointSlice, salt: str = "") -> set[str]:
    return {server.url for server in endpoints(slices, name="10.96.0.1", salt=salt)}


# -- endpoints ---------------------------------------------------------------------------------------------------------


def test_ready_endpoints_of_the_service_are_servers_whose_name_is_given() -> None:
    (found,) = endpoints([piece(Endpoint(addresses=("192.0.2.1",)))], name="10.96.0.1", salt="")
    assert found == Server("https://192.0.2.1:6443", "endpoint of default/kubernetes", "10.96.0.1")
    assert str(found) == "https://192.0.2.1:6443 (endpoint of default/kubernetes)"


def test_endpoints_of_both_families_and_of_all_slices_count_once() -> None:
    six = piece(Endpoint(addresses=("fd00::1",)), kind="IPv6")
    four = piece(Endpoint(addresses=("192.0.2.1",)), Endpoint(addresses=("192.0.2.1",)))
    assert urls(four, six, four) == {"https://192.0.2.1:6443", "https://[fd00::1]:6443"}


@pytest.mark.parametrize(
    "other",
    [
        piece(Endpoint(addresses=("192.0.2.1",)), service="kube-system/kubernetes"),
        piece(Endpoint(addresses=("192.0.2.1",)), service=""),
        piece(Endpoint(addresses=("192.0.2.1",), ready=False)),
        piece(Endpoint(addresses=("192.0.2.1",), terminating=True)),
        piece(Endpoint(addresses=("192.0.2.1",)), port=EndpointPort(name="metrics", port=1)),
        piece(Endpoint(addresses=("192.0.2.1",)), port=EndpointPort(name="https", port=6443, protocol="UDP")),
        piece(Endpoint(addresses=("api.example.com",)), kind="FQDN"),
        piece(),
    ],
)
def test_nothing_else_is_a_server(other: EndpointSlice) -> None:
    assert urls(other) == set()


def test_the_order_is_each_node_s_own_and_stays_as_others_come_and_go() -> None:
    slices = [piece(*(Endpoint(addresses=(f"192.0.2.{n}",)) for n in (1, 2, 3)))]
    orders = {tuple(s.url for s in endpoints(slices, name="", salt=f"{n}")) for n in range(50)}
    assert len({order[0] for order in orders}) == 3
    fewer = [piece(*(Endpoint(addresses=(f"192.0.2.{n}",)) for n in (1, 3)))]
    for n in range(50):
        kept = [s for s in endpoints(slices, name="", salt=f"{n}") if s.url != "https://192.0.2.2:6443"]
        assert kept == list(endpoints(fewer, name="", salt=f"{n}"))


def test_there_is_a_bound() -> None:
    many = piece(*(Endpoint(addresses=(f"10.0.{n}.1",)) for n in range(100)))
    assert len(urls(many)) == ENDPOINTS_MAX


# -- the choice --------------------------------------------------------------------------------------------------------


def ask(choice: Choice, alive: set[Server], now: float) -> list[Server]:
    """Make one request as the source does; return whom it asked, the last one having answered if it is alive."""
    asked: list[Server] = []
    while (server := choice.next(asked, now)) is not None:
        asked.append(server)
        if server in alive:
            choice.worked(server, now)
            break
        choice.failed(server)
    return asked


def test_the_first_is_asked_first_and_the_next_while_it_does_not_work() -> None:
    choice = Choice()
    choice.offer([A, B, C])
    assert ask(choice, {C}, 0) == [A, B, C]
    assert ask(choice, {C}, 1) == [C]
    assert choice.current == C


def test_when_the_one_in_use_fails_the_one_behind_it_is_next_for_everybody() -> None:
    choice = Choice()
    choice.offer([A, B, C])
    ask(choice, {A}, 0)
    assert (choice.next([], 1), choice.next([], 1)) == (A, A)
    choice.failed(A)
    choice.failed(A)
    assert choice.current is None
    assert choice.next([], 1) == B
    assert choice.next([A], 1) == B
    assert choice.next([A, B, C], 1) is None


def test_the_best_is_used_again_once_it_works_and_meanwhile_costs_one_request_a_try() -> None:
    choice = Choice()
    choice.offer([A, B])
    ask(choice, {B}, 0)
    assert ask(choice, {A, B}, BACK_S - 1) == [B]
    assert ask(choice, {B}, BACK_S) == [A, B]
    assert ask(choice, {B}, BACK_S) == [B]
    assert ask(choice, {A, B}, 2 * BACK_S) == [A]
    assert ask(choice, {A, B}, 2 * BACK_S) == [A]


def test_only_one_of_many_requests_asks_the_best_one_again() -> None:
    choice = Choice()
    choice.offer([A, B])
    ask(choice, {B}, 0)
    assert [choice.next([], BACK_S) for _ in range(3)] == [A, B, B]


def test_one_that_is_no_longer_offered_is_left_for_a_new_one() -> None:
    choice = Choice()
    choice.offer([A, B])
    ask(choice, {B}, 0)
    choice.offer([A, C])
    assert ask(choice, {B, C}, 1) == [A, C]
    assert choice.servers == (A, C)


def test_but_where_no_other_works_it_goes_on() -> None:
    choice = Choice()
    choice.offer([A, B])
    ask(choice, {B}, 0)
    for now in (1, 2):
        choice.offer([A, C])
        assert ask(choice, {B}, now) == [A, C, B]
    choice.offer([A, C])
    assert ask(choice, set(), 3) == [A, C, B]
    assert choice.servers == (A, C)


def test_after_a_new_login_the_same_one_is_asked_first_if_it_is_still_one() -> None:
    choice = Choice(begin=B)
    choice.offer([A, B])
    assert choice.next([], 0) == B
    other = Choice(begin=C)
    other.offer([A, B])
    assert ask(other, {C}, 0) == [A, B]


Story = st.lists(
    st.tuples(
        st.lists(st.sampled_from([A, B, C, D]), min_size=1, unique=True),
        st.sets(st.sampled_from([A, B, C, D])),
        st.sampled_from([0.0, 1.0, BACK_S]),
    ),
    min_size=1,
    max_size=20,
)


@given(story=Story)
def test_every_request_asks_each_at_most_once_and_ends_with_one_that_works_if_there_is_one(
    story: list[tuple[list[Server], set[Server], float]],
) -> None:
    choice, now = Choice(), 0.0
    for offered, alive, later in story:
        now += later
        choice.offer(offered)
        all_of_them = choice.servers
        assert all_of_them[: len(offered)] == tuple(offered)
        assert len(all_of_them) <= len(offered) + 1
        asked = ask(choice, alive, now)
        assert len(asked) == len(set(asked))
        assert set(asked) <= set(all_of_them)
        if alive & set(all_of_them):
            assert asked[-1] in alive
            assert choice.current == asked[-1]
        else:
            assert set(asked) == set(all_of_them)
            assert choice.current is None


@given(story=Story, alive=st.sets(st.sampled_from([A, B, C]), min_size=1))
def test_whatever_went_before_one_that_works_is_stuck_to(
    story: list[tuple[list[Server], set[Server], float]], alive: set[Server]
) -> None:
    choice, now = Choice(), 0.0
    for offered, lived, later in story:
        now += later
        choice.offer(offered)
        ask(choice, lived, now)
    choice.offer([A, B, C])
    ask(choice, alive, now)
    (first,) = ask(choice, alive, now)[-1:]
    for _ in range(5):
        choice.offer([A, B, C])
        assert ask(choice, alive, now) == [first]
