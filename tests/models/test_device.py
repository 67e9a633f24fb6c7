"""What torch is told before it computes."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from sdcli.models import memory

def fetched():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(8 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def held():
    return int(open("/proc/self/statm").read().split()[1])

if {keep}:
    memory.keep_memory()
    fetched()
now = fetched()
with memory.keep_less_memory():
    spared = fetched()
now += fetched()  # and kept again after it, once fetched
full = held()
memory.return_memory()
print(now, spared, full - held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to")
def test_memory_is_kept_for_the_next_layer_and_returned_when_asked():
    """20 blocks of 32 MB are 160,000 pages of 4 KiB, or 320 huge ones: fetched once, or each time."""

    def run(keep: bool) -> list[int]:
        program = PROGRAM.format(keep=keep)
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        return list(map(int, ran.stdout.split()))

    kept, spared, returned = run(True)
    fetched, _, _ = run(False)
    assert kept * 5 < fetched
    assert kept * 3 < spared
    assert returned >= 8 * 2**20 * 4 // 65536  # pages are 64 KiB at most
