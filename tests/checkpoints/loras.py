"""LoRAs: the tensors of a module of each kind, by their shapes, and the weights that they are for."""

from pathlib import Path

from sdcli.checkpoints.header import Entry

FILE = Path("style.safetensors")
LINEAR, CONVOLUTION, NORM = (24, 16), (24, 16, 3, 3), (24,)


def entry(name, shape, dtype="F16"):
    return Entry(dtype, tuple(shape), 0, 0, FILE, name)


def entries(shapes):
    return {name: entry(name, shape) for name, shape in shapes.items()}


LORA = {"up": (24, 4), "down": (4, 16), "alpha": ()}
CONV_LORA = {"up": (24, 4, 1, 1), "down": (4, 16, 3, 3)}
TUCKER = {"up": (24, 4, 1, 1), "down": (4, 16, 1, 1), "mid": (4, 4, 3, 3), "alpha": (1,)}
LOHA = {"hada_w1_a": (24, 4), "hada_w1_b": (4, 16), "hada_w2_a": (24, 4), "hada_w2_b": (4, 16)}
LOHA_TUCKER = {
    "hada_w1_a": (4, 24), "hada_w1_b": (4, 16), "hada_w2_a": (4, 24), "hada_w2_b": (4, 16),
    "hada_t1": (4, 4, 3, 3), "hada_t2": (4, 4, 3, 3),
}  # fmt: skip
LOKR = {"lokr_w1": (4, 4), "lokr_w2": (6, 4), "alpha": ()}
LOKR_PARTS = {"lokr_w1_a": (4, 1), "lokr_w1_b": (1, 4), "lokr_w2_a": (6, 2), "lokr_w2_b": (2, 4)}
LOKR_TUCKER = {"lokr_w1": (4, 4), "lokr_w2_a": (2, 6), "lokr_w2_b": (2, 4), "lokr_t2": (2, 2, 3, 3)}
GLORA = {"a1": (16, 4), "a2": (4, 16), "b1": (24, 4), "b2": (4, 16)}
OLD_GLORA = {"a1": (4, 16), "a2": (16, 4), "b1": (4, 16), "b2": (24, 4)}
OFT = {"oft_blocks": (6, 4, 4), "alpha": (), "rescale": (24, 1)}
BOFT = {"oft_blocks": (3, 4, 6, 6), "alpha": (), "rescale": (24, 1, 1, 1)}

VALID = [
    ("lora", LORA, LINEAR), ("lora", LORA | {"dora_scale": (24, 1)}, LINEAR), ("lora", CONV_LORA, CONVOLUTION),
    ("lora", CONV_LORA | {"dora_scale": (1, 16, 1, 1)}, CONVOLUTION), ("lora", TUCKER, CONVOLUTION),
    ("lora", CONV_LORA | {"magnitude": (1, 24, 1, 1)}, CONVOLUTION), ("lora", LORA | {"magnitude": (24,)}, LINEAR),
    ("lora", LORA | {"diff_b": (24,), "scale": (), "scalar": ()}, LINEAR),
    ("lora", LORA | {"bias_indices": (2, 7), "bias_values": (7,), "bias_size": (2,)}, LINEAR),
    ("lora", LORA | {"mid": (4, 4)}, LINEAR), ("lokr", LOKR_TUCKER | {"lokr_t2": (2, 2)}, LINEAR),
    ("loha", LOHA, LINEAR), ("loha", LOHA_TUCKER, CONVOLUTION), ("loha", LOHA | {"dora_scale": (1, 16)}, LINEAR),
    ("lokr", LOKR, LINEAR), ("lokr", LOKR_PARTS, LINEAR), ("lokr", LOKR_TUCKER, CONVOLUTION),
    ("lokr", {"lokr_w1": (4, 4), "lokr_w2_a": (6, 2), "lokr_w2_b": (2, 36)}, CONVOLUTION),
    ("glora", GLORA, LINEAR), ("glora", OLD_GLORA, LINEAR), ("glora", GLORA | {"b2": (4, 16, 3, 3)}, CONVOLUTION),
    ("ia3", {"weight": (24,), "on_input": ()}, LINEAR), ("ia3", {"weight": (1, 16, 1, 1), "on_input": ()}, CONVOLUTION),
    ("full", {"diff": LINEAR, "diff_b": (24,)}, LINEAR), ("full", {"diff_b": (24,)}, LINEAR),
    ("full", {"diff": NORM}, NORM),
    ("norm", {"w_norm": (24,), "b_norm": (24,)}, NORM), ("norm", {"w_norm": (24,)}, NORM),
    ("oft", OFT, LINEAR), ("oft", OFT, CONVOLUTION), ("boft", BOFT, CONVOLUTION),
    ("oft_diag", {"oft_diag": (6, 4, 4)}, LINEAR),
    ("oft_inputs", {"oft_R": (4, 6), "scaled_oft": ()}, LINEAR), ("oft_inputs", {"oft_R": (1, 6)}, LINEAR),
    ("oft_inputs", {"oft_R": (36, 6)}, CONVOLUTION),
]  # fmt: skip
