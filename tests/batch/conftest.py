"""Fixtures of the batch tests: samplers that break what draws them."""

from __future__ import annotations

import os

import pytest

from sdcli import registry
from tests.batch.batches import install_samplers


@pytest.fixture(scope="module")
def breaking_samplers(tmp_path_factory):
    """The samplers of `batches` are installed, here and in each process that is started."""
    folder = install_samplers(tmp_path_factory.mktemp("samplers"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))
        _forget_plugins()
        yield folder
    _forget_plugins()


def _forget_plugins():
    registry._installed.cache_clear()
    registry.describe.cache_clear()
