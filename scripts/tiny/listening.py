"""Teaching a UNet to draw two things from the words' own states, where one pooled vector can't tell which is where.

The **teacher** is a UNet that draws two of one thing (*two cats*) well and two things not at all. Three helps fade as
`recipe.UNET_TAUGHT` pictures go by:

- **Features.** In the half of a picture where the cat is, the pupil that is told *a cat next to a tree* shall have the
  features between its blocks that the teacher has when told *two cats*; in the other half those of *two trees*.
  Without that, only the final error would tell the cross-attention what it is for, and that learns slowly.
- **Pooled vectors.** For two things, the pooled vector shall be what it is for *two* of anything, on average: it says
  how many and in which style, and leaves to cross-attention which.
- **Maps.** Where a thing is in the picture, cross-attention shall look at the tokens that name it.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextModel

import recipe
import tokens
from captions import doubled
from concepts import CONCEPTS
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
    "conv_out",
)
Box = tuple[int, tuple[float, float, float]]
MAPS = 16  # positions per side of the masks that say where a thing is
ENOUGH = 0.75  # of the attention; the rest is for the words that say a style or a background


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
    """The model that the pupil is compared with: its UNet and its own text encoder, which do not learn."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32).eval()
        if device.type == "cpu":
            hasten(unet).set_attn_processor(AttnProcessor())
        self.unet = unet.requires_grad_(False).to(device)
        text = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval()
        self.text, self.device = text.requires_grad_(False).to(device), device
        self.features = Features(self.unet)

    @torch.no_grad()
    def show(self, noisy: Tensor, times: Tensor, words: Tensor) -> dict[str, Tensor]:
        """What its blocks return for these pictures."""
        self.unet(noisy, times, encoder_hidden_states=self.text(words).last_hidden_state)
        return self.features.noted

    @torch.no_grad()
    def pooled(self, texts: list[str]) -> Tensor:  # (n, width)
        """Its pooled vectors of these captions, as they are added to the time embedding."""
        ids = torch.tensor(tokens.encode(texts), device=self.device)
        return torch.cat([self.unet.add_embedding(self.text(part).last_hidden_state) for part in ids.split(64)])

    def anything(self) -> Tensor:  # (styles, 2, width)
        """The mean pooled vector of two of anything, beside or above each other, in each style of recipe.STYLES."""
        return torch.stack([
            torch.stack([
                self.pooled([
                    f"{doubled(name, above)}, {words}" if style != recipe.UNSAID else doubled(name, above)
                    for name in CONCEPTS
                    for words in said[:2]
                ]).mean(0)
                for above in (False, True)
            ])
            for style, said in recipe.STYLES.items()
        ])


class Pooled:
    """Mixes the pooled vectors of a UNet with others while it trains: `share` of its own, the rest `others`."""

    def __init__(self, unet: nn.Module) -> None:
        self.share: Tensor | None = None  # (batch, 1)
        self.others: Tensor | None = None  # (batch, width)
        self.own: Tensor | None = None  # (batch, width), as computed last
        unet.add_embedding.register_forward_hook(self._hook)

    def _hook(self, module: nn.Module, given: tuple, out: Tensor) -> Tensor:
        if self.share is None:
            return out
        self.own, share, self.share = out, self.share, None
        return share * out + (1 - share) * self.others


def difference(pupil: dict[str, Tensor], teacher: dict[str, Tensor], rows: Tensor, where: Tensor) -> Tensor:
    """The mean squared difference of the features, each in units of the variance of the teacher's.

    rows: the pictures of the pupil's batch that the teacher was shown. where: (rows, 1, MAPS, MAPS), 1 where they are
    compared.
    """

    def one(name: str, shown: Tensor) -> Tensor:
        shown, seen = shown.float(), nn.functional.interpolate(where, shown.shape[-2:], mode="area")
        squares = (pupil[name][rows].float() - shown).square() * seen
        return squares.mean() / seen.mean() / shown.var()

    return torch.stack([one(name, shown) for name, shown in teacher.items()]).mean()


class Looks:
    """Notes where cross-attention looks, at the levels with at most MAPS positions per side."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self.noted: list[Tensor] = []  # each (batch, heads, positions, 77)
        for name, module in unet.named_modules():
            if name.endswith("attn2"):
                self._note(module)

    def _note(self, module: nn.Module) -> None:
        scores = module.get_attention_scores

        def noting(*given: Tensor | None) -> Tensor:
            found = scores(*given)
            if torch.is_grad_enabled() and found.shape[1] <= MAPS**2:
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
            missed = -((looked + 1e-3) / ENOUGH).clamp(max=1).log()
            total = total + (where * missed).sum() / where.sum().clamp(min=1)
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


def half_of(above: bool, second: bool) -> Tensor:  # (MAPS, MAPS)
    """1 in the half of the picture where the first or the second of two things is."""
    later = torch.arange(MAPS) >= MAPS // 2
    line = (later if second else ~later).float()
    return line[:, None].expand(MAPS, MAPS) if above else line[None, :].expand(MAPS, MAPS)
