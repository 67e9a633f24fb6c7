"""Teaching a UNet to draw from the words' own states instead of one pooled vector.

Two helps, both of which fade as `recipe.UNET_TAUGHT` pictures go by:

- A **teacher**: the UNet that draws single things from the pooled vector. The pupil, which has no pooled vector, shall
  have the same features between its blocks. Without that, only the final error would tell the new cross-attention what
  it is for, and that learns slowly.
- **Maps**: where a thing is in the picture, cross-attention shall look at the tokens that name it.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextModel

from norm import hasten

BLOCKS = (  # whose outputs are compared
    "down_blocks.2",
    "down_blocks.3",
    "down_blocks.4",
    "mid_block",
    "up_blocks.0",
    "up_blocks.1",
    "up_blocks.2",
    "up_blocks.3",
)
Box = tuple[int, tuple[float, float, float]]
MAPS = 16  # positions per side of the masks that say where a thing is


class Features:
    """Notes what some blocks of a UNet return."""

    def __init__(self, unet: nn.Module) -> None:
        self.noted: dict[str, Tensor] = {}
        for name in BLOCKS:
            unet.get_submodule(name).register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Callable:
        def keep(module: nn.Module, given: tuple, out: Tensor | tuple) -> None:
            self.noted[name] = out[0] if isinstance(out, tuple) else out

        return keep


class Teacher:
    """The model that the pupil's features are compared with: its UNet and its own text encoder, which do not learn."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32).eval()
        if device.type == "cpu":
            hasten(unet).set_attn_processor(AttnProcessor())
        self.unet = unet.requires_grad_(False).to(device)
        text = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval()
        self.text = text.requires_grad_(False).to(device)
        self.features = Features(self.unet)

    @staticmethod
    def there(folder: Path) -> bool:
        """True if there is a model that draws from a pooled vector."""
        config = folder / "unet" / "config.json"
        return config.exists() and json.loads(config.read_text())["addition_embed_type"] == "text"

    @torch.no_grad()
    def show(self, noisy: Tensor, times: Tensor, words: Tensor) -> dict[str, Tensor]:
        """What its blocks return for these pictures."""
        self.unet(noisy, times, encoder_hidden_states=self.text(words).last_hidden_state)
        return self.features.noted


def difference(pupil: dict[str, Tensor], teacher: dict[str, Tensor], rows: Tensor) -> Tensor:
    """The mean squared difference of the features, each in units of the variance of the teacher's.

    rows: the pictures of the pupil's batch that the teacher was shown.
    """
    def one(name: str, shown: Tensor) -> Tensor:
        return (pupil[name][rows].float() - shown.float()).square().mean() / shown.float().var()

    return torch.stack([one(name, shown) for name, shown in teacher.items()]).mean()


class Looks:
    """Notes where cross-attention looks, at the levels with at most MAPS positions per side, except the smallest."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self.noted: list[Tensor] = []  # each (batch, heads, positions, 77)
        for name, module in unet.named_modules():
            if name.endswith("attn2"):
                self._note(module)

    def _note(self, module: nn.Module) -> None:
        scores = module.get_attention_scores

        def noting(*given: Tensor | None) -> Tensor:
            found = scores(*given)
            if torch.is_grad_enabled() and 64 <= found.shape[1] <= MAPS**2:
                self.noted.append(found.unflatten(0, (-1, module.heads)))
            return found

        module.get_attention_scores = noting

    def loss(self, masks: Tensor, spans: Tensor) -> Tensor:
        """How little is looked at the tokens that name a thing, where it is; forgets what was noted.

        masks: (batch, things, MAPS, MAPS), true where a thing is. spans: (batch, things, 77), true at its tokens.
        Things without tokens do not count.
        """
        told = masks * spans.any(-1)[..., None, None]
        total = masks.new_zeros(())
        for found in self.noted:
            side = round(found.shape[2] ** 0.5)
            where = (nn.functional.adaptive_avg_pool2d(told, side) > 0.5).flatten(2).float()  # batch, things, positions
            looked = torch.einsum("bpw,btw->btp", found.float().mean(1), spans.float())
            total = total - (where * (looked + 1e-3).log()).sum() / where.sum().clamp(min=1)
        count, self.noted = max(len(self.noted), 1), []
        return total / count


def masks_of(latents: Tensor, boxes: list[list[Box]]) -> Tensor:
    """(batch, 2, MAPS, MAPS): 1 where a thing is: in its box, and unlike the corner of the picture.

    boxes: of each picture, (thing, (x, y, width)): thing is 0 or 1, the rest are fractions of a side.
    """
    side = latents.shape[-1]
    unlike = (latents - latents[:, :, side // 8, side // 8, None, None]).abs().mean(1, keepdim=True)
    shown = nn.functional.adaptive_avg_pool2d((unlike > 0.25).float(), MAPS) > 0.5  # (batch, 1, MAPS, MAPS)
    centres = (torch.arange(MAPS) + 0.5) / MAPS
    out = torch.zeros(len(latents), 2, MAPS, MAPS)
    for number, things in enumerate(boxes):
        for thing, (x, y, width) in things:
            across, down = ((centres - v).abs() < width / 2 for v in (x, y))
            out[number, thing] += (down[:, None] & across[None, :]).float()
    return out.clamp(max=1) * shown
