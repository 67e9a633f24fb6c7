"""Fixtures: one server with two models, a style and an upscaler, for all tests of A1111's API."""

import pytest

from tests import upscaler_files
from tests.serve.running import start, stop


@pytest.fixture(scope="package")
def server(tmp_path_factory):
    """A running server; tests leave its options as they were."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "styles.csv").write_text("name,prompt,negative_prompt\nInk,ink drawing,photo\n")
    upscaler_files.write(folder / "x4.safetensors", upscaler_files.rrdb())
    named = {"SDCLI_STYLES": str(folder / "styles.csv"), "SDCLI_UPSCALERS": str(folder)}
    served = start(folder, "-m", "tiny", "-m", "test:sd1", **named)
    yield served
    stop(served)
