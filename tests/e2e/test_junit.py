"""The reader of the suite's report, on what the suite writes."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from e2e import junit
from e2e.results import FAILED, PASSED, SKIPPED, Result

REPORT = """\
<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="6"><testsuite name="Kubernetes e2e suite" package="/">
<testcase name="[SynchronizedBeforeSuite]" status="passed" time="0.2"></testcase>
<testcase name="[It] [sig-network] Netpol should deny" status="passed" time="12.51"></testcase>
<testcase name="[It] [sig-network] DNS should answer" status="skipped" time="0"><skipped message="skipped"></skipped>
</testcase>
<testcase name="[It] [sig-network] DNS should ask" status="skipped" time="0.4">
<skipped message="skipped - Only for &#xA; two families"></skipped></testcase>
<testcase name="[It] [sig-network] API should serve" status="failed" time="61.49">
<failure message="[FAILED] no pod runs&#xA;in 60 s&#xA;In [It] at: a.go:7 @ 11/24/26 17:53:23" type="failed">
all of it</failure></testcase>
<testcase name="[ReportAfterSuite] Kubernetes e2e JUnit report" status="passed" time="0.1"></testcase>
</testsuite></testsuites>
"""


def test_specs_come_with_outcome_time_and_word_and_without_those_that_were_not_selected(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    path.write_text(REPORT)
    assert junit.read(path) == [
        Result("[sig-network] API should serve", FAILED, 61, "no pod runs in 60 s"),
        Result("[sig-network] DNS should ask", SKIPPED, 0, "Only for two families"),
        Result("[sig-network] Netpol should deny", PASSED, 13),
    ]


def test_half_a_report_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    path.write_text(REPORT[:-40])
    with pytest.raises(ElementTree.ParseError):
        junit.read(path)
