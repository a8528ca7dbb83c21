"""docs/explain.md is true: what it shows is run on the objects it shows, and compared."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest
from harness.command import kr

from kube_router.cli import route
from kube_router.plugins.firewall.evaluate import Why

PAGE = (Path(__file__).parents[2] / "docs" / "explain.md").read_text()
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert isinstance(found, str)
    return found


SESSIONS = [session.split("\n", 1) for session in block("console").removeprefix("$ kr ").split("\n$ kr ")]


@pytest.fixture(autouse=True)
def objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shop.yaml").write_text(block("yaml"))


def timeless(text: str) -> list[str]:
    return TIME.sub("TIME", text).split("\n")


@pytest.mark.parametrize(("command", "printed"), SESSIONS, ids=[command for command, _ in SESSIONS])
def test_a_command_prints_what_the_page_says(command: str, printed: str) -> None:
    done = kr(*command.split())
    assert (timeless(done.out.rstrip()), done.err) == (timeless(printed.rstrip()), "")
    assert done.status == (0 if printed.startswith("allowed") else 1)


def test_probes_are_answered_as_the_page_says_with_the_fields_it_names() -> None:
    done = kr("explain", "--probes", "-", "--from", "shop.yaml", stdin=block("json").encode())
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert [answer.get("allowed") for answer in answers] == [True, False, None]
    assert (list(answers[2]), done.status) == (["error"], 1)
    fields = {*answers[0], *answers[0]["ingress"], *answers[2]}
    service = kr("explain", "prod/web", "svc/prod/db:5432", "-o", "json", "--from", "shop.yaml")
    fields |= set(json.loads(service.out))
    assert [field for field in fields if f"`{field}`" not in PAGE] == []


def test_every_reason_is_on_the_page() -> None:
    assert [why for why in get_args(Why) if f"`{why}`" not in PAGE] == []


def test_what_is_not_there_is_an_error_and_no_denial() -> None:
    done = kr("explain", "prod/web", "prod/nobody:80", "--from", "shop.yaml")
    assert (done.status, done.out) == (2, "")


def test_every_way_a_packet_can_go_and_every_field_of_a_route_s_answer_is_on_the_page() -> None:
    for way in (*route._WAYS, "none"):
        assert f"`{way}`" in PAGE
    for fields in ("next_hops", "peers", "as_path", "why"):  # of a learned route
        assert f"`{fields}`" in PAGE
    done = kr("explain", "--route", "10.96.0.20", "-o", "json", "--from", "shop.yaml")
    answer = json.loads(done.out)
    told = {*answer, *answer["announced"][0]} - {"address", "node", "seq"}
    assert [field for field in told if f"`{field}`" not in PAGE] == []
    assert (done.status, answer["way"]) == (1, "none")
