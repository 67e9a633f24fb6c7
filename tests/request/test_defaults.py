"""Defaults of a Request's fields, which are taken as they are when one is made."""

import dataclasses

import pytest

from sdcli.request.fields import checked
from sdcli.request.request import Request


@pytest.mark.parametrize("declared", dataclasses.fields(Request), ids=lambda field: field.name)
def test_a_default_passes_the_checks_of_its_own_field(declared):
    assert checked(declared, declared.default) == declared.default
