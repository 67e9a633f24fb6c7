"""Full-size models drawn in little memory: what a process has resident at most, as the system counts it; minutes."""

import subprocess
import sys

import pytest

from tests.checkpoints.test_checkpoint import published
from tests.full_size import write

pytestmark = pytest.mark.slow

DRAW = """
import sys
from sdcli.engine import generate
from sdcli.request.request import Request
result = generate(Request("a lemon", model=sys.argv[1], seed=1, steps=1, device="cpu", stream=True))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(result.picture.image.size[0], status["VmHWM"].split()[0])
"""
LIMITS = {"sd15": (512, 2.5e9), "sdxl-base": (1024, 6e9)}
"""Checkpoint -> (side of its picture in pixels, bytes that drawing it may take)."""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("name", LIMITS)
def test_a_streamed_model_stays_within_its_memory(name, tmp_path):
    """Measured are 1.7 GB for Stable Diffusion 1.5 and 2.2 GB for SDXL in bfloat16; all at once, 6.2 and 18 GB."""
    path = write(tmp_path / "x.safetensors", published(name))
    ran = subprocess.run([sys.executable, "-c", DRAW, str(path)], capture_output=True, text=True)
    path.unlink()
    assert ran.returncode == 0, ran.stderr
    side, kilobytes = map(int, ran.stdout.split())
    size, limit = LIMITS[name]
    assert side == size
    assert 1024 * kilobytes < limit
