"""docs/conformance.md against what is kept, and what the page makes of a run."""

from pathlib import Path

from e2e import page, selection
from e2e.results import FAILED, PASSED, SKIPPED, Kept, Result, Run, kept

DENY = "[sig-network] Netpol should deny <all> [Feature:NetworkPolicy]"
ASKED = "[sig-network] DNS should ask"
SCTP = "[sig-network] Networking should speak [Feature:SCTPConnectivity]"
OTHER = "[sig-apps] Job should run"


def a_run(*results: Result) -> Run:
    return Run(
        title="Natively",
        about="About it.",
        services_by="somebody",
        kubernetes="v1.2.3",
        commit="abc",
        nodes=2,
        at_once=4,
        seconds=125,
        results=list(results),
        left_out=[SCTP],
    )


def test_the_page_is_what_the_kept_runs_render_to() -> None:
    runs = kept()
    assert runs
    assert page.PATH.read_text() == page.render(runs), "cd tests && python -m e2e --page"


def test_a_run_is_read_back_as_it_was_kept(tmp_path: Path) -> None:
    run = a_run(Result(DENY, PASSED, 12), Result(ASKED, FAILED, 3, 'said "no"'))
    Kept(tmp_path / "it.json").save(run)
    assert Kept(tmp_path / "it.json").load() == run


def test_the_page_shows_every_spec_with_its_outcome_and_every_other_with_a_reason() -> None:
    lines = page.render([a_run(Result(DENY, PASSED, 12), Result(ASKED, FAILED, 3, "the pipe | broke"))]).splitlines()
    assert "| [Natively](#natively) | 1 | 1 | 1 |" in lines
    assert "| should deny &lt;all> \\[Feature:NetworkPolicy] | passed | 12 |" in lines
    assert "| should ask | **FAILED**: the pipe \\| broke | 3 |" in lines
    assert f"| Networking should speak \\[Feature:SCTPConnectivity] | {selection.NO_SCTP} |" in lines
    assert "### DNS" in lines
    assert "Kubernetes v1.2.3, 2 nodes, agent of commit `abc`; 4 specs at once, 2 specs in 2 min 5 s." in lines


def test_the_page_says_who_serves_services_where_specs_depend_on_it() -> None:
    lines = page.render([a_run(Result("[sig-network] Services should serve", PASSED, 1))]).splitlines()
    assert "### Services (served by somebody)" in lines


def test_a_spec_without_a_result_or_a_reason_is_named() -> None:
    run = a_run(Result(DENY, PASSED, 12))
    assert page.unaccounted(run, [DENY, SCTP, OTHER]) == []
    assert page.unaccounted(run, [DENY, ASKED, SCTP]) == [ASKED]
    assert page.unaccounted(a_run(Result(ASKED, SKIPPED)), [ASKED]) == [ASKED]


def test_a_failure_of_which_nothing_is_known_is_named() -> None:
    failed = Result(ASKED, FAILED, 3, "no")
    assert page.unknown_failures(a_run(Result(DENY, PASSED, 12), failed)) == [failed]
