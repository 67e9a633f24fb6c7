"""CLIP: the text encoders of Stable Diffusion: OpenAI's ViT-L, and OpenCLIP's ViT-H and ViT-bigG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdcli.models.architectures.attention import check_heads, join_heads, split_heads


def quick_gelu(x: Tensor) -> Tensor:
    """The approximation of GELU that OpenAI's CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"quick_gelu": quick_gelu, "gelu": F.gelu}
"""What `hidden_act` may say in a config."""

LEGACY_END = 2
"""The end token's id in configs written before it was corrected: the end token is then the highest id of a row."""


@dataclass(frozen=True)
class TextStates:
    """What a text encoder computes.

    `hidden_states` are the embeddings and the output of each layer, (n, tokens, width) each, without the final norm.
    `pooled` is the projected state of the end token (n, projection width), of encoders that have a projection.
    """

    hidden_states: list[Tensor]
    pooled: Tensor | None


class CLIPTextModel(nn.Module):
    """The text transformer (Radford et al. 2021, "Learning Transferable Visual Models").

    `settings` is a complete config in transformers' words, as `config.settings` makes it.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        width = settings["hidden_size"]
        self.embeddings = Embeddings(settings["vocab_size"], settings["max_position_embeddings"], width)
        self.encoder = Encoder(settings)
        self.final_layer_norm = nn.LayerNorm(width, settings["layer_norm_eps"])
        for module in self.modules():
            if isinstance(module, Embeddings | SelfAttention | MLP):
                module.init_weights()
        if settings["architectures"] == ["CLIPTextModelWithProjection"]:
            self.end = int(settings["eos_token_id"])
            self.text_projection = nn.Linear(width, settings["projection_dim"], bias=False)
            _init([(self.text_projection, width**-0.5)])

    def forward(
        self, ids: Tensor, embeddings: Tensor | None = None, mask: Tensor | None = None
    ) -> TextStates:
        """The states of token ids (n, tokens).

        `embeddings` (n, tokens, width) replaces the token embeddings of the ids, for words that were learned. `mask`
        (n, tokens) is False for tokens that no token sees, not even itself; the first must be True.
        """
        x = self.embeddings(self.embed(ids) if embeddings is None else embeddings)
        seen = None if mask is None else _causal(mask)
        hidden_states = [x]
        for layer in self.encoder.layers:
            x = layer(x, seen)
            hidden_states.append(x)
        if not hasattr(self, "text_projection"):
            return TextStates(hidden_states, None)
        at_end = self.final_layer_norm(x)[torch.arange(len(ids), device=x.device), self._ends(ids)]
        return TextStates(hidden_states, self.text_projection(at_end))

    def embed(self, ids: Tensor) -> Tensor:
        """The token embeddings (n, tokens, width) of ids (n, tokens), without positions."""
        out: Tensor = self.embeddings.token_embedding(ids)
        return out

    def _ends(self, ids: Tensor) -> Tensor:
        """The position of each row's first end token."""
        is_end = ids if self.end == LEGACY_END else ids == self.end
        return is_end.to(torch.int).argmax(-1)


class Embeddings(nn.Module):
    """A learned vector for each token, and one for each position."""

    def __init__(self, tokens: int, positions: int, width: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(tokens, width)
        self.position_embedding = nn.Embedding(positions, width)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Adds positions to token embeddings (n, tokens, width)."""
        return embeddings + self.position_embedding.weight[: embeddings.shape[1]]

    def init_weights(self) -> None:
        _init([(self.token_embedding, 0.02), (self.position_embedding, 0.02)])


class Encoder(nn.Module):
    """The layers, one after the other."""

    def __init__(self, settings: Mapping[str, Any], causal: bool = True) -> None:
        super().__init__()
        count = settings["num_hidden_layers"]
        self.layers = nn.ModuleList(EncoderLayer(settings, causal) for _ in range(count))


class EncoderLayer(nn.Module):
    """Self-attention and two linear layers, each behind a layer norm; causal unless the tokens are of a picture."""

    def __init__(self, settings: Mapping[str, Any], causal: bool = True) -> None:
        super().__init__()
        width, eps = settings["hidden_size"], settings["layer_norm_eps"]
        count = settings["num_hidden_layers"]
        self.self_attn = SelfAttention(width, settings["num_attention_heads"], count, causal)
        self.layer_norm1 = nn.LayerNorm(width, eps)
        self.mlp = MLP(width, settings["intermediate_size"], ACTIVATIONS[settings["hidden_act"]], count)
        self.layer_norm2 = nn.LayerNorm(width, eps)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """(n, tokens, width) -> the same shape; `seen` as in SelfAttention."""
        x = x + self.self_attn(self.layer_norm1(x), seen)
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


class SelfAttention(nn.Module):
    """Multi-head attention in which a token sees those before it if it is `causal`, else all."""

    def __init__(self, width: int, heads: int, count: int, causal: bool = True) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads, self.causal, self._count = heads, causal, count
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """(n, tokens, width) -> the same shape.

        `seen` (n, 1, tokens, tokens) says which tokens each token sees; None: itself and those before it, or all.
        """
        q, k, v = (
            split_heads(projection(x), self.heads) for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = F.scaled_dot_product_attention(q, k, v, seen, is_causal=self.causal and seen is None)
        out: Tensor = self.out_proj(join_heads(attended))
        return out

    def init_weights(self) -> None:
        width = self.q_proj.in_features
        inner = width**-0.5 * (2 * self._count) ** -0.5
        layers = [
            (self.k_proj, inner),
            (self.v_proj, inner),
            (self.q_proj, inner),
            (self.out_proj, width**-0.5),
        ]
        _init(layers, second=[layers[i] for i in (2, 0, 1, 3)])


class MLP(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, width: int, inner: int, act: Callable[[Tensor], Tensor], count: int) -> None:
        super().__init__()
        self.act, self._count = act, count
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width) -> the same shape."""
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out

    def init_weights(self) -> None:
        width = self.fc1.in_features
        _init([(self.fc1, (2 * width) ** -0.5), (self.fc2, width**-0.5 * (2 * self._count) ** -0.5)])


def _causal(mask: Tensor) -> Tensor:
    """Which tokens each token sees, (n, 1, tokens, tokens): itself and those before it, where the mask is True."""
    count = mask.shape[-1]
    before = torch.ones(count, count, dtype=torch.bool, device=mask.device).tril()
    return before & mask[:, None, None, :]


Stds = Sequence[tuple[nn.Module, float]]


def _init(layers: Stds, second: Stds | None = None) -> None:
    """Draw the layers' weights with these standard deviations, which CLIP was trained from; their biases are zero.

    Each weight is drawn twice, first with 0.02, in the orders in which transformers draws them: test models keep their
    pictures so.
    """
    for layer, _ in layers:
        nn.init.normal_(layer.get_parameter("weight"), std=0.02)
        if getattr(layer, "bias", None) is not None:
            nn.init.zeros_(layer.get_parameter("bias"))
    for layer, std in second or layers:
        nn.init.normal_(layer.get_parameter("weight"), std=std)
