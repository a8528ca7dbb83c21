"""The selection against the suite itself: what it lists, and what it would run."""

import re
from pathlib import Path

import pytest
from e2e import ipvs, listing, selection, suite
from harness.gomodules import KUBERNETES
from harness.plugin import need

# The first time the suite is built.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def specs() -> list[str]:
    """The specs of the network that the suite lists."""
    need(KUBERNETES.why_none(["e2e.test"]))
    return [spec for spec in listing.specs() if selection.in_family(spec)]


def test_the_suite_would_run_every_spec_of_the_network_that_has_no_reason_and_no_other(
    specs: list[str], tmp_path: Path
) -> None:
    wanted = [spec for spec in specs if not selection.reason(spec)]
    assert suite.selected(tmp_path, focus=selection.focus(), skip=selection.skip()) == wanted


def test_every_reason_is_some_specs_reason(specs: list[str]) -> None:
    used = {selection.reason(spec) for spec in specs}
    assert used - {""} == set(selection.REASONS.values())


def test_every_word_on_a_failure_is_about_a_spec_that_is_run(specs: list[str]) -> None:
    for services_by, words in selection.KNOWN.items():
        known = {selection.known(spec, services_by) for spec in specs if not selection.reason(spec)}
        assert known - {""} == set(words.values())


def test_all_specs_of_network_policies_are_run_but_those_that_need_sctp(specs: list[str]) -> None:
    left_out = {selection.reason(spec) for spec in specs if "[Feature:NetworkPolicy]" in spec}
    assert left_out == {"", selection.NO_SCTP}


def test_each_spec_chosen_for_the_vm_is_one_of_the_suite(specs: list[str]) -> None:
    found = [spec for spec in specs if re.search(ipvs.focus(), spec)]
    assert len(found) == len(ipvs.SPECS), found
