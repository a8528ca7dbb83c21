"""nftables transactions through the library and through the program, which must behave the same."""

import errno
from collections.abc import Callable

import pytest
from harness.netns import run_in_new, sh

from kube_router.core import nft
from kube_router.core.nft import Nft
from kube_router.events.errors import KernelError

pytestmark = pytest.mark.root

TABLE = "table ip kr { set s { type ipv4_addr; elements = { 10.0.0.1 }\n }\n }"


def by_library() -> Nft:
    return Nft()


def by_program() -> Nft:
    found = Nft()
    found._backend = nft._Program()
    return found


both = pytest.mark.parametrize("make", [by_library, by_program])


@both
def test_a_transaction_is_committed_and_listed(make: Callable[[], Nft]) -> None:
    def body() -> None:
        user = make()
        user.run(TABLE)
        user.run("add element ip kr s { 10.0.0.2 }\ndelete element ip kr s { 10.0.0.1 }")
        (entry,) = user.list_json("list set ip kr s")
        assert (entry["set"]["name"], entry["set"]["elem"]) == ("s", ["10.0.0.2"])

    run_in_new(body)


@both
def test_a_transaction_that_fails_changes_nothing_and_says_why_and_where(make: Callable[[], Nft]) -> None:
    def body() -> None:
        user = make()
        user.run(TABLE)
        with pytest.raises(KernelError, match="No such file or directory") as caught:
            user.run("add element ip kr s { 10.0.0.2 }\ndelete element ip kr s { 10.0.0.9 }")
        assert caught.value.errno == errno.ENOENT
        assert str(caught.value) == (
            "nftables refused: line 2: Could not process rule: No such file or directory"
            " | delete element ip kr s { 10.0.0.9 }"
        )
        assert "10.0.0.2" not in sh("nft list ruleset")
        with pytest.raises(KernelError, match="syntax error"):
            user.run("add nonsense")
        with pytest.raises(KernelError, match="No such file or directory"):
            user.list_json("list set ip kr none")

    run_in_new(body)


def test_the_library_is_used_where_it_is() -> None:
    def body() -> str:
        user = Nft()
        assert user.backend == ""
        user.run("add table ip kr")
        return user.backend

    assert run_in_new(body) == "libnftables (libnftables.so.1)"


def test_without_the_library_the_program_takes_its_place_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_library(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", no_library)
    user = Nft()
    run_in_new(lambda: user.run("add table ip kr"))
    assert user.backend == "nft -f -"
    assert "libnftables_missing" in caplog.text
    assert "apt-get install nftables" in caplog.text


def test_without_either_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(KernelError, match="neither libnftables nor the program nft is there: install it with"):
        by_program().run("add table ip kr")
