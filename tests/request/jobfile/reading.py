"""Job files in tests: written as texts, read as jobs or as faults."""

import textwrap

import pytest

from sdcli.request.jobfile.batch_job import JobFileError
from sdcli.request.jobfile.read import read_jobs


def no_input():
    """Standard input of a test that reads none."""
    raise AssertionError("standard input is read")


def read(text, **given):
    """The jobs of a text on standard input."""
    data = text if isinstance(text, bytes) else textwrap.dedent(text).encode()
    return read_jobs(["-"], lambda: data, given)


def read_file(path, text, **given):
    """The jobs of a file with this text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return read_jobs([str(path)], no_input, given)


def faults(text, **given):
    """(line, message) of each fault of a text on standard input."""
    with pytest.raises(JobFileError) as caught:
        read(text, **given)
    return [(each.source.line, each.message) for each in caught.value.faults]


def values(jobs, *names):
    """The values of these fields in each job; of one field, without the tuple."""
    found = [tuple(getattr(job.request, name) for name in names) for job in jobs]
    return [each[0] for each in found] if len(names) == 1 else found
