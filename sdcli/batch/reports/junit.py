"""JUnit: a batch as the XML that CI servers show as tests: each picture is a test case."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as XML

from sdcli.batch.outcome import Outcome
from sdcli.batch.reports.described import kind_of, name_of, reason_of, seconds_of

NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped (section 2.2)."""


def junit(outcomes: Sequence[Outcome], title: str, seconds: float) -> bytes:
    """The XML of one test suite, in UTF-8.

    A picture that failed, changed, is new or gone is a failure, a bug an error; one that was drawn before, or that the
    batch did not come to, is skipped. `classname` is the job file and the entry.
    """
    cases = [_case(outcome) for outcome in outcomes]
    suite = XML.Element(
        "testsuite",
        {
            "name": _legal(title),
            "tests": str(len(cases)),
            "failures": str(_number(cases, "failure")),
            "errors": str(_number(cases, "error")),
            "skipped": str(_number(cases, "skipped")),
            "time": f"{seconds:.3f}",
        },
    )
    suite.extend(cases)
    suites = XML.Element("testsuites", {key: suite.attrib[key] for key in suite.attrib if key != "skipped"})
    suites.append(suite)
    XML.indent(suites)
    text: str = XML.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def _case(outcome: Outcome) -> XML.Element:
    job = outcome.job
    case = XML.Element("testcase", {
        "name": _legal(name_of(outcome)),
        "classname": _legal(".".join(filter(None, (job.source.file, job.entry)))),
        "time": f"{seconds_of(outcome):.3f}",
        "file": _legal(job.source.file),
        "line": str(job.source.line),
    })  # fmt: skip
    reason = _legal(reason_of(outcome))
    if outcome.state in ("skipped", "not_run"):
        XML.SubElement(case, "skipped", {"message": reason})
    elif not outcome.is_good:
        tag = "error" if outcome.failure and outcome.failure.kind == "bug" else "failure"
        fault = XML.SubElement(case, tag, {"message": reason, "type": kind_of(outcome)})
        fault.text = _legal(f"{job.source}: {reason_of(outcome)}")
    if outcome.path is not None:
        XML.SubElement(case, "system-out").text = _legal(str(outcome.path))
    return case


def _number(cases: Sequence[XML.Element], tag: str) -> int:
    return sum(case.find(tag) is not None for case in cases)


def _legal(text: str) -> str:
    """The text with a replacement character for each one that XML cannot hold."""
    return NOT_IN_XML.sub("\ufffd", text)
