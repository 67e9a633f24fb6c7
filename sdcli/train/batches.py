"""Batches: which pictures are learned from in which batch; the seed and the batch's number alone decide."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from functools import lru_cache


class Batches:
    """The endless sequence of batches. A batch has pictures of one bucket, and each epoch has every picture once.

    `buckets` is the bucket of each picture. The last batch of a bucket in an epoch may be smaller.
    """

    def __init__(self, buckets: Sequence[Hashable], size: int, seed: int) -> None:
        self.size, self.seed = size, seed
        self.members = [
            [i for i, each in enumerate(buckets) if each == bucket] for bucket in dict.fromkeys(buckets)
        ]
        self.per_epoch = sum(-(-len(members) // size) for members in self.members)
        self._epoch = lru_cache(maxsize=1)(self._shuffled)

    def __getitem__(self, number: int) -> tuple[int, ...]:
        """The pictures of a batch; batches count from 0."""
        epoch, place = divmod(number, self.per_epoch)
        return self._epoch(epoch)[place]

    def _shuffled(self, epoch: int) -> list[tuple[int, ...]]:
        order = random.Random(f"{self.seed} {epoch}")
        batches = []
        for members in self.members:
            mixed = order.sample(members, len(members))
            batches += [tuple(mixed[i : i + self.size]) for i in range(0, len(mixed), self.size)]
        order.shuffle(batches)
        return batches
