"""What Python benchmarks share: interleaved rounds, medians, CPU seconds, a table."""

import os
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass, field


@dataclass
class Measured:
    """What a competitor has measured itself, in seconds."""

    seconds: float
    cpu_seconds: float
    cpu_seconds_after: float = 0.0  # of what it left to be done afterwards


@dataclass
class Series:
    """The rounds of one competitor."""

    rounds: list = field(default_factory=list)

    def seconds(self) -> list:
        return [each.seconds for each in self.rounds]

    def rate(self, samples: int) -> float:
        return samples / statistics.median(self.seconds())

    def cpu(self) -> float:
        return statistics.median(each.cpu_seconds for each in self.rounds)

    def cpu_after(self) -> float:
        return statistics.median(each.cpu_seconds_after for each in self.rounds)

    def spread(self) -> float:
        """Half of the distance between the quartiles, of the median."""
        if len(self.rounds) < 3:
            return 0.0
        low, middle, high = statistics.quantiles(self.seconds(), n=4)
        return (high - low) / 2 / middle


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def interleaved(competitors: dict, rounds: int) -> dict:
    """Runs each competitor once a round, in turn, so that the machine's moods reach all of them.

    One that returns a Measured has measured itself.
    """
    series = {name: Series() for name in competitors}
    for _ in range(rounds):
        for name, run in competitors.items():
            cpu, start = cpu_seconds(), time.perf_counter()
            measured = run()
            if not isinstance(measured, Measured):
                measured = Measured(time.perf_counter() - start, cpu_seconds() - cpu)
            series[name].rounds.append(measured)
    return series


def touch_memory(size: int) -> None:
    """Fills as many bytes of free memory as are about to be used, and frees them.

    A virtual machine gives free memory back to its host after seconds. The first touch of a page then takes ten times as long as usual,
    which would be what is measured.
    """
    block = b"\1" * (1 << 20)
    with tempfile.TemporaryFile(dir="/dev/shm", buffering=0) as file:
        for _ in range(-(-size // len(block))):
            file.write(block)


def private_bytes(pid: int) -> int:
    """Memory that only this process holds."""
    total = 0
    with open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            if line.startswith("Private_"):
                total += int(line.split()[1]) * 1024
    return total


def machine() -> str:
    """The machine, in one line."""
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown CPU")
    return f"{len(os.sched_getaffinity(0))} cores, {model}, load {os.getloadavg()[0]:.1f}"


def table(header: list, rows: list) -> str:
    """Rows as a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def targets(rows: list) -> str:
    """What is wanted beside what was measured: rows of (what, measured, "≥" or "≤", wanted)."""
    lines = []
    for what, measured, relation, wanted in rows:
        met = measured >= wanted if relation == "≥" else measured <= wanted
        lines.append([what, f"{measured:.3g}", f"{relation} {wanted:g}", "met" if met else "**missed**"])
    return table(["target", "measured", "wanted", ""], lines)
