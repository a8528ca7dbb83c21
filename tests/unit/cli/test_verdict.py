"""The first line of ``kr status``: whether the node is well."""

from typing import Any

import pytest

from kube_router.cli.verdict import verdict

WELL = {"name": "proxy", "state": "in sync", "ready": True}
PRESUMED = {"name": "routing", "state": "presumed from the journal", "ready": False}
FAILING = {"name": "firewall", "state": "backing off", "ready": True, "last_error": "KernelError: EPERM"}
WAITING = {"state": "waiting for the first list", "ready": False}
AGAIN = {"name": "proxy", "state": "reconciling", "ready": True}


@pytest.mark.parametrize(
    ("plugins", "said"),
    [
        pytest.param([WELL], "in sync, no problems", id="well"),
        pytest.param([WELL, AGAIN], "in sync, no problems", id="at work again"),
        pytest.param([AGAIN | {"ready": False}], "not in sync: proxy reconciling", id="at work for the first time"),
        pytest.param([AGAIN | {"last_error": "EPERM"}], "not in sync: proxy reconciling", id="trying again"),
        pytest.param([WELL, FAILING], "not in sync: firewall backing off", id="failing"),
        pytest.param([WELL, PRESUMED], "not in sync: routing presumed", id="one waits for its peers"),
        pytest.param([PRESUMED | {"name": "proxy"}, PRESUMED], "presumed from the journal for 12m4s", id="no API"),
        pytest.param([FAILING, PRESUMED], "not in sync: firewall backing off, routing presumed", id="both"),
        pytest.param(
            [WAITING | {"name": "a"}, WAITING | {"name": "b"}],
            "not in sync: a, b waiting for the first list",
            id="knows nothing",
        ),
        pytest.param([], "no plugin runs, no problems", id="nothing runs"),
    ],
)
def test_the_verdict_is_one_line(plugins: list[dict[str, Any]], said: str) -> None:
    assert verdict({"plugins": plugins, "uptime_s": 724, "problems": []}) == said


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"problems": ["Service a/b: x"]}, "in sync, 1 problem"),
        ({"problems": ["x", "y"]}, "in sync, 2 problems"),
        ({"journal": {"stopped": "no space"}}, "in sync, journal STOPPED, no problems"),
        ({"journal": None}, "in sync, no problems"),
    ],
)
def test_what_is_wrong_besides_is_counted_behind_it(document: dict[str, Any], said: str) -> None:
    assert verdict({"plugins": [WELL], **document}) == said


def test_an_agent_that_says_nothing_is_no_error() -> None:
    assert verdict({}) == "no plugin runs, no problems"
