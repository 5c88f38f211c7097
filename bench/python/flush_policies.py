"""Hit ratios of eviction policies on a real Redis that holds half of the dataset, and the bytes that they write to the directory.

A job reads epochs, each in a new random order; the order of the next epoch is known, as a job's is. Redis runs in guaranteed mode
(volatile-ttl): a chunk that is stored has no expiry, until the flusher has written it to the directory; then it gets one that says
when it may go, and each use moves it on. The flusher, played here, sees to it that a tenth of what Redis holds may go ("a
tenth"), and takes first what the policy wants to lose first; or it writes all that comes ("all"), and Redis chooses among all. The
first epoch, which only fills, does not count.

  recency       what was used longest ago goes first
  frequency     what was used least often; of equals, what was used longest ago
  next use      what is needed last, of all that the job will ever read
  as a job says what a job that runs tells (flush_policy="next_use"): what it will read in this epoch stays, in its order; of what it has
                read, the last one goes first
  no eviction   nothing goes: what finds no room is not stored, to the last byte or to the mark of 95 %, as Alnair does
  Belady        an optimal offline cache, of as many chunks as "no eviction" held

Where every chunk is needed once an epoch, nothing can beat Belady's (chunks held) / (chunks): all hits of an epoch were held at its
begin.
"""

import argparse
import heapq
import itertools
import os
import random
import statistics
import sys
from pathlib import Path

from measure import machine, table, targets
from redis import Redis
from redis.exceptions import OutOfMemoryError

sys.path.insert(0, str(Path(__file__).parents[2] / "tests/support"))
from redis_servers import RedisServer  # noqa: E402

SIZE = 20_000  # bytes of a chunk
BATCH = 32
FAR_MS = 4_102_444_800_000  # 2100
NEVER = 1 << 40  # the position of a use that is not known of


class Recency:
    def __init__(self, next_use, epoch):
        self.last: dict = {}

    def used(self, chunk, position):
        self.last[chunk] = position

    def priority(self, chunk):
        return self.last.get(chunk, 0)


class Frequency(Recency):
    def __init__(self, next_use, epoch):
        super().__init__(next_use, epoch)
        self.uses: dict = {}

    def used(self, chunk, position):
        super().used(chunk, position)
        self.uses[chunk] = self.uses.get(chunk, 0) + 1

    def priority(self, chunk):
        return (self.uses.get(chunk, 0) << 24) + super().priority(chunk)


class NextUse:
    def __init__(self, next_use, epoch):
        self.next_use, self.next = next_use, {}

    def used(self, chunk, position):
        self.next[chunk] = self.next_use[position]

    def priority(self, chunk):
        return NEVER - self.next.get(chunk, NEVER)


class AsAJobSays(NextUse):
    """NextUsePolicy of src/cache/redis/flush_policy.h, where a whole epoch has been handed to the prefetcher."""

    def __init__(self, next_use, epoch):
        super().__init__(next_use, epoch)
        self.last: dict = {}
        self.epoch, self.end = epoch, 0  # where the epoch ends

    def used(self, chunk, position):
        super().used(chunk, position)
        self.last[chunk] = position
        self.end = (position // self.epoch + 1) * self.epoch

    def priority(self, chunk):
        following = self.next.get(chunk, NEVER)
        return 2 * NEVER - following if following < self.end else NEVER - self.last.get(chunk, 0)


POLICIES = {"recency": Recency, "frequency": Frequency, "next use": NextUse, "next use, as a job says": AsAJobSays}


def accesses(objects: int, epochs: int, seed: int) -> list:
    order, shuffled = [], list(range(objects))
    for epoch in range(epochs):
        random.Random(seed * 1_000 + epoch).shuffle(shuffled)
        order += shuffled
    return order


def next_uses(order: list) -> list:
    """For each position that of the chunk's next use."""
    following, seen = [NEVER] * len(order), {}
    for position in range(len(order) - 1, -1, -1):
        following[position] = seen.get(order[position], NEVER)
        seen[order[position]] = position
    return following


def belady(order: list, capacity: int, first: int) -> float:
    """Hits from position `first` on; what is needed later than all that is held is not stored."""
    following, held, farthest, hits = next_uses(order), {}, [], 0
    for position, chunk in enumerate(order):
        hits += position >= first and chunk in held
        held[chunk] = following[position]
        heapq.heappush(farthest, (-following[position], chunk))
        while len(held) > capacity:
            when, victim = heapq.heappop(farthest)
            if held.get(victim) == -when:
                del held[victim]
    return hits / (len(order) - first)


class Server:
    """A Redis with room for half of the chunks."""

    def __init__(self, objects: int):
        self._server = RedisServer()
        self.client = Redis(port=self._server.port)
        empty = self.used()
        self._values = [os.urandom(SIZE) for _ in range(64)]
        self.pipeline([("SET", key_of(chunk), self.value(chunk)) for chunk in range(objects)])
        self._limit = empty + (self.used() - empty) // 2

    def used(self) -> int:
        return self.client.info("memory")["used_memory"]

    def is_filled(self, mark: float) -> bool:
        return self.used() > mark * self._limit

    def value(self, chunk: int) -> bytes:
        return self._values[chunk % len(self._values)]

    def begin(self, policy: str, samples: int) -> None:
        self.client.config_set("maxmemory", 0)
        self.client.flushall()
        self.client.config_set("maxmemory-policy", policy)
        self.client.config_set("maxmemory-samples", samples)
        self.client.config_set("maxmemory", self._limit)

    def pipeline(self, commands: list) -> list:
        with self.client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return pipeline.execute(raise_on_error=False)

    def close(self) -> None:
        self.client.close()
        self._server.close()


def key_of(chunk: int) -> str:
    return f"bench:{chunk:016x}"


def read_epochs(server: Server, order: list, first: int, policy=None, reserve: float = 0, mark: float = 1) -> tuple:
    """The hit ratio from position `first` on, the bytes written to the directory, and the chunks that are held in the end.

    `reserve`: the share of what is held that may go. `mark`: of maxmemory, beyond which nothing is stored.
    """
    resident: set = set()  # what Redis took, and was not found missing since
    durable: set = set()
    hits = 0

    def expiry(chunk: int) -> int:
        return FAR_MS + policy.priority(chunk)

    for begin in range(0, len(order), BATCH):
        batch = order[begin : begin + BATCH]
        values = server.pipeline([("GET", key_of(chunk)) for chunk in batch])
        commands, stores = [], []
        for position, (chunk, value) in enumerate(zip(batch, values), begin):
            if value is not None and value != server.value(chunk):
                raise SystemExit("Redis returned other bytes than were stored")
            hits += position >= first and value is not None
            if policy is not None:
                policy.used(chunk, position)
            if value is None and (mark == 1 or not server.is_filled(mark)):
                resident.discard(chunk)
                stores.append(chunk)
                expires = ("PXAT", expiry(chunk)) if chunk in durable else ()
                commands.append(("SET", key_of(chunk), server.value(chunk), *expires))
            elif value is not None and chunk in durable:
                commands.append(("PEXPIREAT", key_of(chunk), expiry(chunk)))
        outcomes = dict(zip((command[1] for command in commands), server.pipeline(commands)))
        for chunk in stores:
            outcome = outcomes[key_of(chunk)]
            if not isinstance(outcome, Exception):
                resident.add(chunk)
            elif not isinstance(outcome, OutOfMemoryError):
                raise outcome
        if policy is not None and (reserve == 1 or server.is_filled(0.9)):
            wanted = int(reserve * len(resident)) - len(resident & durable)
            if wanted > 0:
                release = heapq.nsmallest(max(wanted, BATCH), resident - durable, key=policy.priority)
                durable.update(release)
                server.pipeline([("PEXPIREAT", key_of(chunk), expiry(chunk)) for chunk in release])
    return hits / (len(order) - first), len(durable) * SIZE, server.client.dbsize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=2_000)
    parser.add_argument("--epochs", type=int, default=5, help="with the first one (5)")
    parser.add_argument("--rounds", type=int, default=3, help="each with other orders (3)")
    options = parser.parse_args()
    server = Server(options.objects)
    results: dict = {}
    try:
        for seed in range(options.rounds):
            order = accesses(options.objects, options.epochs, seed)
            following = next_uses(order)
            for mark in (1, 0.95):
                server.begin("noeviction", 5)
                ratio, _, found = read_epochs(server, order, options.objects, mark=mark)
                held = found if mark == 1 else held
                results.setdefault(("no eviction", "–", f"to {100 * mark:.0f} %"), []).append((ratio, 0))
            results.setdefault(("Belady", "–", "–"), []).append((belady(order, held, options.objects), 0))
            for (name, make), reserve, samples in itertools.product(POLICIES.items(), (0.1, 1), (3, 5, 10)):
                server.begin("volatile-ttl", samples)
                ratio, written, _ = read_epochs(server, order, options.objects, make(following, options.objects), reserve)
                results.setdefault((name, samples, "a tenth" if reserve < 1 else "all"), []).append((ratio, written))
    finally:
        server.close()
    print(f"{options.objects:,} chunks of {SIZE:,} bytes, Redis with room for {held:,}, {options.epochs} epochs (the first one not "
          f"counted), medians of {options.rounds} orders; {machine()}\n")  # fmt: skip
    dataset = options.objects * SIZE
    rows = [[*which, f"{statistics.median(ratio for ratio, _ in rounds):.3f}",
             f"{statistics.median(written for _, written in rounds) / dataset:.2f}"]
            for which, rounds in results.items()]  # fmt: skip
    print(table(["policy", "maxmemory-samples", "may go", "hit ratio", "written to the directory, of the dataset"], rows))
    ratios = {which: statistics.median(ratio for ratio, _ in rounds) for which, rounds in results.items()}
    best = {name: max(ratio for which, ratio in ratios.items() if which[0] == name) for name in POLICIES}
    print("\n" + targets([(f"hit ratio of {name}, less that of no eviction filled {mark}", best[name] - ratios["no eviction", "–", mark],
                           "≥", 0) for name in ("next use", "next use, as a job says") for mark in ("to 95 %", "to 100 %")]))  # fmt: skip


if __name__ == "__main__":
    main()
