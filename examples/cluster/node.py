"""One node of the example: trains on images in S3, as any script would, and reports to cluster.py, a line of JSON at a time."""
import hashlib
import json
import sys
import time

import torch
from torch import nn

import alnair
from alnair import AlnairJobDataLoader
from training import Images, small_cnn


class CheckedImages(Images):
    """Sums up what was read, whatever the order: two nodes that read the same samples have the same sum."""

    small = True

    def __init__(self, part, **options):
        self.sum = 0
        super().__init__(part, **options)

    def __getitem__(self, index):
        digest = hashlib.blake2b(b"%d:" % index + self.get_data(index), digest_size=16).digest()
        self.sum = (self.sum + int.from_bytes(digest, "big")) % (1 << 128)
        return super().__getitem__(index)


def report(**what) -> None:
    print(json.dumps(what), flush=True)


def main() -> None:
    options = json.loads(sys.argv[1])
    torch.manual_seed(options["seed"])
    torch.set_num_threads(1)
    images = CheckedImages("train", source=options["source"])  # the rest comes from the environment: ALNAIR_REDIS...
    loader = AlnairJobDataLoader(images, batch_size=32, shuffle=True, lookahead=options["lookahead"])
    model = small_cnn(1, len(images.classes))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    report(ready=True)
    sys.stdin.readline()  # all nodes begin together
    for epoch in range(1, options["epochs"] + 1):
        images.sum, start = 0, time.perf_counter()
        for number, (pixels, labels) in enumerate(loader):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(pixels), labels)
            loss.backward()
            optimizer.step()
            report(batch=number, epoch=epoch)
        report(epoch=epoch, sum=f"{images.sum:032x}", seconds=time.perf_counter() - start, loss=loss.item())
    counts = alnair.stats()
    report(counts={name: int(counts[name]) for name in
                   ("reads", "source_hit_bytes", "redis_hit_bytes", "disk_hit_bytes", "read_bytes", "s3_get_object")})


if __name__ == "__main__":
    main()
