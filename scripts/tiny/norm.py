"""Residual blocks with GroupNorm, scale, shift and SiLU in one kernel (norm.cpp), and bfloat16 where it is faster.

The weights and results are the same; training on a CPU is faster. Only the training uses this: the finished model runs
in plain diffusers.
"""

from functools import cache
from types import ModuleType

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

import recipe
from sdcli.models.device import multiplies_bf16
from sdcli.models.memory import keep_memory


def hasten(network: nn.Module) -> nn.Module:
    """Give every GroupNorm and ResnetBlock2D of a diffusers network its faster form, in place; float32 weights, no
    dropout."""
    _kernel()
    keep_memory()
    for module in network.modules():
        if type(module) is ResnetBlock2D and module.upsample is None and module.downsample is None:
            module.__class__ = FastBlock
        elif type(module) is nn.GroupNorm:
            module.__class__ = FastNorm
    return network.to(memory_format=torch.channels_last)


def mixed(device: str = "cpu") -> torch.autocast:
    """Autocast convolutions and matrix products to bfloat16, on CUDA and on a CPU that multiplies in it: with matrix
    units for it (AMX) a step takes 0.38 of the time, with instructions only (avx512_bf16) 0.57. On other CPUs it
    changes nothing."""
    return torch.autocast(device, torch.bfloat16, enabled=device != "cpu" or multiplies_bf16())


class FastNorm(nn.GroupNorm):
    """nn.GroupNorm by the kernel, for channels-last pictures."""

    def forward(self, x: Tensor) -> Tensor:
        return norm(x, self) if x.dim() == 4 else super().forward(x)


class FastBlock(ResnetBlock2D):
    """ResnetBlock2D without its unused options: norm, SiLU, conv, norm with time, SiLU, conv, and the shortcut."""

    def forward(self, input_tensor: Tensor, temb: Tensor | None = None) -> Tensor:
        x = self.conv1(norm(input_tensor, self.norm1, silu=True))
        time = None if temb is None else self.time_emb_proj(nn.functional.silu(temb))
        if time is not None and self.time_embedding_norm == "default":
            x, time = x + time[:, :, None, None], None
        x = self.conv2(norm(x, self.norm2, time, silu=True))
        return x + (input_tensor if self.conv_shortcut is None else self.conv_shortcut(input_tensor))


def norm(x: Tensor, by: nn.GroupNorm, time: Tensor | None = None, silu: bool = False) -> Tensor:
    """GroupNorm `by`, then `* (1 + scale) + shift` with the two halves of `time` (batch, 2 c), then SiLU."""
    weight, bias = by.weight.expand(len(x), -1), by.bias.expand(len(x), -1)
    if time is not None:
        scale, shift = time.chunk(2, dim=1)
        weight, bias = weight * (1 + scale), bias * (1 + scale) + shift
    return _Norm.apply(x, weight.contiguous(), bias.contiguous(), by.num_groups, by.eps, silu)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, groups, eps, silu):
        x = x.contiguous(memory_format=torch.channels_last)
        y, mean, rstd = _kernel().forward(x, weight, bias, groups, eps, silu)
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.groups, ctx.silu = groups, silu
        return y

    @staticmethod
    def backward(ctx, grad):
        grad = grad.contiguous(memory_format=torch.channels_last)
        return (*_kernel().backward(grad, *ctx.saved_tensors, ctx.groups, ctx.silu), None, None, None)


@cache
def _kernel() -> ModuleType:
    from torch.utils.cpp_extension import load

    return load(
        "tiny_norm",
        [str(recipe.HERE / "norm.cpp")],
        extra_cflags=["-O3", "-march=native", "-ffast-math", "-fopenmp"],
    )
