"""The order in which a DataLoader will read: predicted from copies, so that nothing is drawn early.

Whoever draws from a sampler ahead of the loop changes what the loop could see: the global random state, a generator, the
sampler itself. So the order of an epoch is computed beside the sampler: its own code runs on a copy of it, with a copy of
the random state that it is about to use. A prediction that turns out wrong costs prefetching, never a wrong sample.
"""

from __future__ import annotations

import copy
from typing import Any, Iterable, Optional

import torch
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler
from torch.utils.data.distributed import DistributedSampler


def _copy_of(generator: Optional[torch.Generator]) -> Optional[torch.Generator]:
    generator = torch.default_generator if generator is None else generator
    if generator.device.type != "cpu":
        return None
    twin = torch.Generator()
    twin.set_state(generator.get_state())
    return twin


def predict(sampler: Any) -> Optional[Iterable[int]]:
    """The indices that `sampler` is about to yield, batches flattened; None if that cannot be known.

    To be called right before the first index is drawn. Only exact types are known: a subclass may do anything.
    """
    kind = type(sampler)
    if kind is BatchSampler:
        return predict(sampler.sampler)
    if kind in (list, tuple, range):
        return sampler  # type: ignore[no-any-return]
    if kind in (SequentialSampler, DistributedSampler):
        return iter(sampler)  # a function of their attributes
    if kind not in (RandomSampler, SubsetRandomSampler, WeightedRandomSampler):
        return None
    generator = _copy_of(sampler.generator)
    if generator is None or (kind is WeightedRandomSampler and sampler.weights.device.type != "cpu"):
        return None
    if kind is RandomSampler and sampler.generator is None:
        # It takes a seed from the global generator, and the rest from one of its own.
        seed = int(torch.empty((), dtype=torch.int64).random_(generator=generator).item())
        generator.manual_seed(seed)
    twin = copy.copy(sampler)
    twin.generator = generator
    return iter(twin)
