"""deploy/monitoring/ is true: its queries parse and ask for what is exported, its alerts fire when they should.

Prometheus itself judges the queries and runs the alerts' unit tests (promtool, Debian: ``apt-get install prometheus``).
"""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness.exported import series
from harness.pages import anchors
from harness.promtool import promtool

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
DASHBOARD = json.loads((MONITORING / "kube-router.json").read_text())
RULES = [
    rule for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
STORIES = yaml.safe_load((MONITORING / "alerts_test.yaml").read_text())["tests"]

# Labels that no agent gives: who scrapes it does (docs/monitoring.md).
SCRAPED = {"job", "node"}
OF_PROMETHEUS = {"up"}
VARIABLES = {"$__rate_interval": "5m", "$node": ".*"}


# -- queries -----------------------------------------------------------------------------------------------------------


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """Return where each query stands, and the query with the dashboard's variables filled in."""
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in panels():
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            (metric,) = re.findall(r"^label_values\((\w+), \w+\)$", variable["query"]["query"])
            yield f"variable {variable['name']}", metric


def filled(query: str) -> str:
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return query


QUERIES = [(where, filled(query)) for where, query in queries()]


def selectors(query: str) -> list[tuple[str, set[str]]]:
    """Return each metric of a query with the labels it is selected by."""
    bare = re.sub(r'"[^"]*"', '""', query)
    found = re.findall(r"\b((?:kube_router|process)_\w+|up)\b(?:\{([^}]*)\})?", bare)
    return [(name, set(re.findall(r"(\w+)\s*(?:=|!=|=~|!~)", labels))) for name, labels in found]


def grouped(query: str) -> set[str]:
    """Return the labels by which a query aggregates or matches."""
    return {
        label.strip()
        for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", query)
        for label in labels.split(",")
        if label
    }


@pytest.mark.parametrize(("where", "query"), QUERIES)
def test_a_query_asks_only_for_what_an_agent_exports(where: str, query: str) -> None:
    exported = series()
    asked = selectors(query)
    assert asked
    assert [name for name, _ in asked if name not in exported.keys() | OF_PROMETHEUS] == []
    unknown = [(name, labels - exported.get(name, set()) - SCRAPED) for name, labels in asked]
    assert [(name, labels) for name, labels in unknown if labels] == []
    there = set().union(*(exported.get(name, set()) for name, _ in asked)) | SCRAPED
    assert grouped(query) - there == set()


def test_the_reading_of_queries_sees_names_labels_and_groups() -> None:
    query = (
        'sum by (node, le) (rate(kube_router_x_bucket{node=~"a{b}",type!="c"}[5m])) / on (node) up{job="kube-router"}'
    )
    assert selectors(query) == [("kube_router_x_bucket", {"node", "type"}), ("up", {"job"})]
    assert grouped(query) == {"node", "le"}


def test_every_metric_that_is_exported_is_shown_in_a_panel() -> None:
    shown = {name for panel in panels() for target in panel["targets"] for name, _ in selectors(filled(target["expr"]))}
    untold = {
        name
        for name in series()
        if not name.startswith("process_") and not name.endswith(("_sum", "_count", "_bytes_total"))
    }
    assert sorted(untold - shown) == []


def test_prometheus_parses_every_query(tmp_path: Path) -> None:
    parts = [{"record": f"query:{number}", "expr": query} for number, (_, query) in enumerate(QUERIES)]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": parts}]}))
    promtool("check", "rules", str(tmp_path / "queries.yaml"))


# -- the dashboard -----------------------------------------------------------------------------------------------------


def test_every_panel_has_an_id_of_its_own_and_says_what_to_do() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert [panel["title"] for panel in panels() if len(panel.get("description", "")) < 40] == []
    assert [
        panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row" and panel["title"][-1] != "?"
    ] == []


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    """Say whether two places share a cell of the grid."""
    across = one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
    return across and one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]


def test_no_panel_lies_on_another_or_beside_the_grid() -> None:
    places = [(panel["title"], panel["gridPos"]) for panel in DASHBOARD["panels"]]
    assert [(a, b) for (a, one), (b, other) in combinations(places, 2) if overlap(one, other)] == []
    assert [title for title, place in places if place["x"] + place["w"] > 24] == []


def test_the_data_source_is_the_one_that_is_chosen() -> None:
    (chosen,) = [each for each in DASHBOARD["templating"]["list"] if each["type"] == "datasource"]
    wanted = {"type": "prometheus", "uid": f"${{{chosen['name']}}}"}
    assert [panel["title"] for panel in panels() if panel["datasource"] != wanted] == []
    assert {json.dumps(target["datasource"]) for panel in panels() for target in panel["targets"]} == {
        json.dumps(wanted)
    }
    assert "__inputs" not in DASHBOARD  # of exports that ask for a source when they are imported


# -- the alerts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_says_how_bad_it_is_and_where_it_is_told_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor == rule["alert"].lower()
    assert anchor in anchors(ROOT / page)


def stories(alert: str) -> Sequence[dict[str, Any]]:
    return [case for story in STORIES for case in story["alert_rule_test"] if case["alertname"] == alert]


@pytest.mark.parametrize("alert", [rule["alert"] for rule in RULES])
def test_the_stories_of_an_alert_have_a_moment_at_which_it_fires_and_one_at_which_it_does_not(alert: str) -> None:
    assert {bool(case["exp_alerts"]) for case in stories(alert)} == {True, False}


def test_the_alerts_fire_when_their_stories_say_so() -> None:
    promtool("check", "rules", str(MONITORING / "alerts.yaml"))
    promtool("test", "rules", str(MONITORING / "alerts_test.yaml"))
