"""Time commands that draw nothing, as whole processes, beside a Python that does nothing.

    python scripts/bench/startup.py [--rounds 15] [--sd PATH ...]

Prints for each command the best and the median of the wall time and of the CPU time (user and system), in milliseconds.
Where other programs share the cores, trust the CPU time. `sd` is the one beside this Python; with two or more --sd,
installations in other environments are timed in turn. Standard output goes to a pipe that is read, as in a script.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

COMMANDS = (
    ("--help",),
    ("--version",),
    ("txt2img", "--help"),
    ("txt2img", "a red apple", "--steps", "0"),
    ("samplers",),
    ("models",),
    ("info", "tiny"),
    ("tokens", "a red apple"),
)


def timed(command: list[str]) -> tuple[float, float]:
    """(wall, CPU) milliseconds of a process."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, capture_output=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * wall, 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sd", type=Path, action="append", metavar="PATH", help="an installed sd")
    given = parser.parse_args()
    installed = given.sd or [Path(sys.executable).parent / "sd"]

    rows = [("python -c pass", [str(sd.parent / "python"), "-c", "pass"]) for sd in installed[:1]]
    rows += [
        (" ".join(["sd", *arguments]) + f"  {sd}" * (len(installed) > 1), [str(sd), *arguments])
        for arguments in COMMANDS
        for sd in installed
    ]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name, _ in rows}
    for _ in range(given.rounds + 1):  # the first fills the file cache
        for name, command in rows:
            times[name].append(timed(command))

    width = max(map(len, times))
    print(f"{'milliseconds':{width}}  wall: best  median  CPU: best  median")
    for name, found in times.items():
        wall, cpu = zip(*found[1:], strict=True)
        print(f"{name:{width}}  {min(wall):10.0f}  {median(wall):6.0f}  {min(cpu):9.0f}  {median(cpu):6.0f}")


if __name__ == "__main__":
    main()
