"""Fixtures: one server with two models, a style, an upscaler and a ControlNet, for all tests of A1111's API."""

import pytest

from tests import control_files, upscaler_files
from tests.serve.running import start, stop


@pytest.fixture(scope="package")
def server(tmp_path_factory):
    """A running server, whose ControlNet is for test:sd1; tests leave its options as they were."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "styles.csv").write_text("name,prompt,negative_prompt\nInk,ink drawing,photo\n")
    upscaler_files.write(folder / "x4.safetensors", upscaler_files.rrdb())
    (folder / "controls").mkdir()
    control_files.controlnet(folder / "controls", "test:sd1", "canny.safetensors")
    named = {
        "SDCLI_STYLES": str(folder / "styles.csv"),
        "SDCLI_UPSCALERS": str(folder),
        "SDCLI_CONTROLS": str(folder / "controls"),
    }
    served = start(folder, "-m", "tiny", "-m", "test:sd1", **named)
    yield served
    stop(served)
