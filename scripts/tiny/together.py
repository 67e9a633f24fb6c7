"""Training on several cores: one process per core, each with its own pictures; regularly all continue from the mean of
their weights. Threads of one process wait for each other at every layer; these processes meet every twenty steps, so
that a meeting costs little on a busy machine too."""

import os
from collections.abc import Callable

import torch
import torch.multiprocessing as processes
from torch import Tensor, nn

MEET = 20  # steps of the first process from one meeting to the next


class Party:
    """The state that the processes share. The first process decides when to meet and when to end."""

    def __init__(self, network: nn.Module, count: int):
        context = processes.get_context("spawn")
        size = sum(p.numel() for p in _learned(network))
        self.weights = torch.zeros(count, size).share_memory_()
        self.made = torch.zeros(count, dtype=torch.long).share_memory_()  # steps since the last meeting
        self.done = torch.zeros(1, dtype=torch.double).share_memory_()  # fraction of the whole time that is over
        self.called = context.Event()
        self.barrier = context.Barrier(count)
        self.cores = sorted(os.sched_getaffinity(0))[:count]

    def start(self, follow: Callable) -> None:
        """Start the other processes, each with `follow(rank, party)`; they end with this one."""
        for rank in range(1, len(self.cores)):
            processes.get_context("spawn").Process(target=follow, args=(rank, self), daemon=True).start()
        self.sit(0)

    def sit(self, rank: int) -> None:
        """Keep this process on its own core."""
        os.sched_setaffinity(0, {self.cores[rank]})
        torch.set_num_threads(1)

    def meet(self, rank: int, network: nn.Module, steps: int) -> int:
        """Set `network` to the mean of all, each weighted by the steps it made; returns the steps of all together."""
        if rank == 0:
            self.called.set()
        parameters = _learned(network)
        self.weights[rank] = torch.cat([p.flatten() for p in parameters])
        self.made[rank] = steps
        self.barrier.wait()
        mean = self._mean()
        for p, part in zip(parameters, mean.split([p.numel() for p in parameters]), strict=True):
            p.copy_(part.view(p.shape))
        together = int(self.made.sum())
        self.called.clear()
        self.barrier.wait()
        return together

    def _mean(self) -> Tensor:
        shares = self.made.float() / self.made.sum().clamp(min=1)
        return torch.einsum("w,wn->n", shares, self.weights)


def _learned(network: nn.Module) -> list[Tensor]:
    return [p.data for p in network.parameters() if p.requires_grad]
