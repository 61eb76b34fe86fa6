"""Fuzz the readers with atheris: `make fuzz SECONDS=600`, or `python benchmarks/fuzz/run.py cif`.

One target after the other, each in a process of its own, with limits of 2 s an input and 500 MB
over what it starts with. What the fuzzer finds out is kept in `runs/fuzz/<target>/corpus`, so that
a stopped run goes on where it was; inputs that break a target lie beside it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from benchmarks.fuzz.targets import SEEDS, TARGETS, WORDS  # noqa: E402

SLOWEST_SECONDS = 2
MOST_MEMORY = 500
"""MB beyond the imports."""
INSTRUMENTED = [
    "voltscreen.sources", "voltscreen.campaign.spec", "voltscreen.model.paper_checkpoint",
    "voltscreen.structures.plain_dict", "pymatgen.io.cif",
    "pymatgen.io.vasp.inputs", "yaml", "json", "torch._weights_only_unpickler",
]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=list(TARGETS), help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="of each target")
    parser.add_argument("--folder", type=Path, default=Path("runs/fuzz"))
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options, _ = parser.parse_known_args()
    if options.inside:
        return fuzz(options.targets[0])
    failed = 0
    print("target         inputs  seconds   paths     MB  slowest s  found")
    for target in options.targets:
        failed += bool(report(target, options.folder / target, options.seconds))
    return 1 if failed else 0


def report(target: str, folder: Path, seconds: int) -> list[Path]:
    """Run one target and print its line; the inputs that broke it."""
    corpus, broken = folder / "corpus", folder / "broken"
    for each in (corpus, broken):
        each.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(SEEDS[target]):
        (corpus / f"seed-{index}").write_bytes(seed)
    words = folder / "words"
    words.write_text("".join(f'"{word}"\n' for word in WORDS[target]))
    before = set(broken.iterdir())
    begun = time.monotonic()
    with (folder / "log").open("w+", errors="replace") as log:
        # Goes on after a find, until the time is over.
        while (left := seconds - (time.monotonic() - begun)) > 1:
            done = subprocess.run(
                [sys.executable, __file__, target, "--inside", str(corpus), f"-dict={words}",
                 f"-artifact_prefix={broken}/", f"-max_total_time={int(left)}", "-max_len=4096",
                 "-timeout=60", "-report_slow_units=60",  # wall time; CPU time is judged below
                 "-rss_limit_mb=4000", "-print_final_stats=1"],
                stdout=log, stderr=log, check=False,
            )  # fmt: skip
            if done.returncode == 0:
                break
        log.seek(0)
        text = log.read()
    found = sorted(set(broken.iterdir()) - before)
    inputs = sum(int(n) for n in re.findall(r"number_of_executed_units:\s+(\d+)", text))
    paths = max((int(n) for n in re.findall(r"\bcov: (\d+)", text)), default=0)
    memory = max((int(n) for n in re.findall(r"memory beyond imports: (\d+)", text)), default=0)
    slowest = max((float(n) for n in re.findall(r"slowest input: ([\d.]+)", text)), default=0.0)
    names = ", ".join(path.name for path in found) or "nothing"
    print(
        f"{target:<11} {inputs:>9} {time.monotonic() - begun:>8.0f} {paths:>7} {memory:>6} "
        f"{slowest:>10.2f}  {names}",
        flush=True,
    )
    return found


def fuzz(target: str) -> int:
    """Inside the fuzzing process; never returns, libFuzzer exits."""
    import atheris

    import voltscreen.structures  # noqa: F401  # numba cannot compile what is instrumented

    with atheris.instrument_imports(include=INSTRUMENTED):
        call = TARGETS[target]
        for seed in SEEDS[target]:  # what is imported late, and compiled
            call(seed)
    start, slowest = _resident(), [0.0]

    def test(data: bytes) -> None:
        begun = time.process_time()
        call(data)
        took, more = time.process_time() - begun, _resident() - start
        if took > slowest[0]:
            slowest[0] = took
            print(f"slowest input: {took:.3f} s", file=sys.stderr)
        if more > MOST_MEMORY // 10:
            print(f"memory beyond imports: {more} MB", file=sys.stderr)
        assert took < SLOWEST_SECONDS, f"{took:.1f} s of CPU"
        assert more < MOST_MEMORY, f"{more} MB more than at the start"

    arguments = sys.argv[sys.argv.index("--inside") + 1 :]
    atheris.Setup([sys.argv[0], *arguments], test)
    atheris.Fuzz()
    return 0


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 // 2**20


if __name__ == "__main__":
    sys.exit(main())
