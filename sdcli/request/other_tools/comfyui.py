from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sdcli.request.other_tools.reading import (
    OtherPicture,
    Reading,
    json_object,
    number,
    stem,
    whole,
)  # fmt: skip

Node = dict[str, Any]
_SAVERS = ("SaveImage", "PreviewImage")
_TEXTS = ("text", "text_g", "text_l", "value", "string", "prompt", "STRING", "Text", "positive", "negative")
_NUMBERS = ("value", "seed", "noise_seed", "int", "float", "number", "Number", "INT", "FLOAT", "a")
_CONDITIONING = ("conditioning", "conditioning_1", "conditioning_to", "positive", "cond")
_DECISIVE: Mapping[str, tuple[Any, ...]] = {
    "batch_size": (1,), "s_noise": (1, 1.0), "eta": (1, 1.0), "rho": (7, 7.0), "sigma_min": (), "sigma_max": (),
    "solver_type": ("midpoint",), "crop_w": (0,), "crop_h": (0,), "order": (), "beta_d": (), "beta_min": (),
    "upscale_method": ("bicubic", "lanczos"), "crop": ("disabled",), "grow_mask_by": (0,), "vae_name": (),
    "noise_device": (), "alpha": (), "beta": (), "cfg_conds2_negative": (),
}  # fmt: skip
"""Settings of nodes that are read which are not taken over -> the values that change nothing."""
_HARMLESS = {
    "VAEDecode", "VAEDecodeTiled", "LoadImage", "Reroute", "PreviewImage", "SaveImage", "Note",
    "KSamplerSelect",    "PrimitiveNode", "Seed", "EmptyLatentImage",
}  # fmt: skip


def comfyui(texts: Mapping[str, str], size: tuple[int, int]) -> OtherPicture | None:
    """A picture of ComfyUI: the text `prompt` is the graph that was run, node by node."""
    graph = json_object(texts.get("prompt"))
    if graph is None or not any(isinstance(node, dict) and "class_type" in node for node in graph.values()):
        return None
    nodes = {key: node for key, node in graph.items() if isinstance(node, dict) and "class_type" in node}
    savers = [key for key, node in nodes.items() if node["class_type"] in _SAVERS]
    found = [_Walk(nodes, saver).picture() for saver in savers] or [_Walk(nodes, None).picture()]
    return next((each for each in found if _size(each) == size), found[0])


def _size(picture: OtherPicture) -> tuple[int, int]:
    """The size of the picture that these fields give, by which it is known among those of a graph that saves many."""
    fields = picture.fields
    width, height = (
        round(fields.get(side, 0) * fields.get("hires", 1) / 8) * 8 for side in ("width", "height")
    )
    return width, height


class _Walk:
    """A walk up the graph, from the node that saves the picture to the sampler and on to what it is given."""

    def __init__(self, graph: Mapping[str, Node], saver: str | None) -> None:
        """`saver` is the node that saves the picture; None if no node is known to."""
        self.graph, self.saver = graph, saver
        self.reading = Reading("ComfyUI", {}, "comfyui", like="comfyui", rng="comfyui")
        self.read: set[str] = set()
        self.target: tuple[Any, Any] | None = None  # width and height of the second pass

    def picture(self) -> OtherPicture:
        reached = self._reached()
        samplers = [key for key in reached if self._is_sampler(key)]
        if not samplers:
            self.reading.leave("graph", "no sampler node that is known")
            return self.reading.close()
        last, *earlier = samplers
        self._sampler(last, earlier)
        for key in reached:
            kind = self.graph[key]["class_type"]
            for name, value in self._own_inputs(key).items() if key in self.read else ():
                if name in _DECISIVE and value not in (None, *_DECISIVE[name]):
                    self.reading.leave(f"node {key} {kind}: {name}", value)
            if key not in self.read and kind not in _HARMLESS:
                self.reading.leave(f"node {key} {kind}", self._own_inputs(key))
        return self.reading.close()

    def _reached(self) -> list[str]:
        """The nodes that the saved picture depends on, the nearest first."""
        found: dict[str, None] = dict.fromkeys([self.saver] if self.saver else self.graph)
        for key in _Growing(found):
            found.update(dict.fromkeys(self._links(key)))
        return list(found)

    # --- the sampler

    def _is_sampler(self, key: str) -> bool:
        inputs = self._inputs(key)
        return "latent_image" in inputs or ("latent" in inputs and "sampler_name" in inputs)

    def _sampler(self, key: str, earlier: list[str]) -> None:
        reading = self.reading
        facts = self._sampler_facts(key)
        reading.facts.update({name: value for name, value in facts.items() if value is not None})
        reading.take_seed("seed")
        reading.take("steps", "steps", whole)
        reading.take("cfg", "cfg", number)
        reading.take_sampler("sampler_name", "scheduler")
        denoise = self._as_number(reading.pop("denoise", default=1.0))
        for name in ("start_at_step", "end_at_step", "add_noise", "return_with_leftover_noise"):
            value = reading.pop(name)
            limit = reading.fields.get("steps", 0)
            unused = {"start_at_step": value == 0, "end_at_step": isinstance(value, int) and value >= limit,
                      "add_noise": value == "enable", "return_with_leftover_noise": value == "disable"}  # fmt: skip
            if value is not None and not unused[name]:
                reading.leave(name, value)
        guider = self._linked(key, "guider") or key
        self.read.add(guider)
        self._prompts(guider)
        self._model(self._linked(guider, "model") or self._linked(key, "model"))
        self._latents(self._linked(key, "latent_image") or self._linked(key, "latent"), denoise, earlier)

    def _sampler_facts(self, key: str) -> Node:
        """The settings of a sampler node, those of the nodes that SamplerCustom is built from among them."""
        self.read.add(key)
        names = {"seed": "seed", "noise_seed": "seed", "steps": "steps", "cfg": "cfg", "sampler_name": "sampler_name",
                 "scheduler": "scheduler", "denoise": "denoise", "start_at_step": "start_at_step",
                 "end_at_step": "end_at_step", "add_noise": "add_noise",
                 "return_with_leftover_noise": "return_with_leftover_noise"}  # fmt: skip
        facts = self._settings(key, names)
        for link in ("noise", "guider", "sampler", "sigmas"):
            if (node := self._linked(key, link)) is None:
                continue
            self.read.add(node)
            facts |= self._settings(node, names)
            kind = self.graph[node]["class_type"]
            if link == "sigmas" and "scheduler" not in facts:
                facts["scheduler"] = kind.removesuffix("Scheduler")
            if link == "sampler" and "sampler_name" not in facts:
                facts["sampler_name"] = kind.removeprefix("Sampler")
            if kind == "BasicGuider":
                facts["cfg"] = 1.0
        return facts

    def _settings(self, key: str, names: Mapping[str, str]) -> Node:
        inputs = self._inputs(key)
        return {ours: self._value(inputs[name]) for name, ours in names.items() if name in inputs}

    # --- prompts

    def _prompts(self, key: str) -> None:
        for link, name in (("positive", "prompt"), ("negative", "negative")):
            start = self._linked(key, link) or (
                self._linked(key, "conditioning") if name == "prompt" else None
            )
            text = self._prompt(start, link)
            if text is not None:
                self.reading.set(link, text, name)

    def _prompt(self, key: str | None, link: str) -> str | None:
        """The text that a conditioning was made of; other nodes on the way are named later."""
        seen: set[str] = set()
        while key is not None and key not in seen:
            seen.add(key)
            inputs = self._inputs(key)
            if self.graph[key]["class_type"] == "ConditioningZeroOut":
                self.read.add(key)
                return ""
            own = (link,) if isinstance(inputs.get(link), str) else _TEXTS  # a loader may hold both prompts
            texts = [
                text for name in own if name in inputs and (text := self._as_text(inputs[name])) is not None
            ]
            if texts:
                self.read.add(key)
                self._clip(self._linked(key, "clip"))
                if len(set(texts)) > 1:
                    self.reading.leave(f"{link}: second text", texts[1])
                return texts[0]
            ways = (link, *_CONDITIONING)
            key = next((found for name in ways if (found := self._linked(key, name))), None)
        return None

    def _clip(self, key: str | None) -> None:
        """Clip skip on the way to the text encoder."""
        seen: set[str] = set()
        while key is not None and key not in seen:
            seen.add(key)
            layer = self._value(self._inputs(key).get("stop_at_clip_layer"))
            if layer is not None:
                self.read.add(key)
                self.reading.set("stop_at_clip_layer", layer, "clip_skip", lambda value: -whole(value))
            key = self._linked(key, "clip")

    # --- the model and the latents

    def _model(self, key: str | None) -> None:
        seen: set[str] = set()
        while key is not None and key not in seen:
            seen.add(key)
            inputs = self._inputs(key)
            self._loras(key)
            name = self._value(inputs.get("ckpt_name") or inputs.get("unet_name"))
            if isinstance(name, str):
                self.read.add(key)
                self.reading.model = stem(name)
                return
            if self.graph[key]["class_type"] == "RescaleCFG":
                self.read.add(key)
                self.reading.set(
                    "RescaleCFG", self._value(inputs.get("multiplier")), "guidance",
                    lambda value: f"cfg_rescale:phi={number(value)}",
                )  # fmt: skip
            key = self._linked(key, "model")

    def _loras(self, key: str) -> None:
        """Take the LoRAs of a node over: those of ComfyUI's loaders, and those of a node that lists several."""
        inputs, label = self._inputs(key), f"node {key} {self.graph[key]['class_type']}"
        name = self._value(inputs.get("lora_name"))
        if isinstance(name, str) and name != "None":
            self.read.add(key)
            unet = self._value(inputs.get("strength_model", inputs.get("lora_model_strength", 1.0)))
            has_te = "clip" in inputs or "lora_clip_strength" in inputs
            te = (
                self._value(inputs.get("strength_clip", inputs.get("lora_clip_strength", unet)))
                if has_te
                else 0
            )
            self.reading.take_lora(label, name, unet, te)
        for value in inputs.values():
            if isinstance(value, dict) and "lora" in value:
                self.read.add(key)
                if value.get("on") is not False:
                    self.reading.take_lora(
                        label, value["lora"], value.get("strength"), value.get("strengthTwo")
                    )

    def _latents(self, key: str | None, denoise: float, earlier: list[str]) -> None:
        """What the sampler starts from: empty latents, a picture, or the enlarged latents of an earlier sampler."""
        reading = self.reading
        kinds: list[str] = []
        factor = 1.0
        while key is not None and key not in kinds:
            kinds.append(key)
            kind, inputs = self.graph[key]["class_type"], self._inputs(key)
            if key in earlier:
                self._hires(
                    key, denoise, factor, any("VAEEncode" in self.graph[each]["class_type"] for each in kinds)
                )
                return
            if "width" in inputs and "height" in inputs and "Empty" in kind:
                self.read.add(key)
                for side in ("width", "height"):
                    reading.set(side, self._value(inputs[side]), side, whole)
                if denoise < 1:
                    reading.leave("denoise", denoise, "of empty latents")
                return
            if kind in ("LatentUpscale", "ImageScale") and earlier:
                self.read.add(key)
                self.target = self._value(inputs.get("width")), self._value(inputs.get("height"))
            if kind == "LoadImage":
                self.read.add(key)
                reading.start = True
                reading.set("denoise", denoise, "strength", number)
                return
            if kind in ("VAEEncode", "VAEEncodeTiled", "LatentUpscaleBy", "ImageScaleBy"):
                self.read.add(key)
                factor *= self._as_number(self._value(inputs.get("scale_by", 1.0)))
            if kind in ("VAEEncodeForInpaint", "SetLatentNoiseMask", "InpaintModelConditioning"):
                self.read.add(key)
                reading.masked = True
            key = next(
                (found for name in ("samples", "pixels", "image") if (found := self._linked(key, name))), None
            )
        reading.leave("latent_image", "what the sampler starts from is not known")

    def _hires(self, key: str, denoise: float, factor: float, over_picture: bool) -> None:
        """Two samplers in a row, the second over the enlarged result of the first: --hires, if the rest is the same."""
        reading = self.reading
        later, later_model = dict(reading.fields), reading.model
        facts = self._sampler_facts(key)
        reading.facts.update({name: value for name, value in facts.items() if value is not None})
        reading.take_seed("seed")
        reading.take("steps", "steps", whole)
        reading.take("cfg", "cfg", number)
        reading.take_sampler("sampler_name", "scheduler")
        reading.pop("denoise")
        stops = reading.pop("end_at_step")
        if isinstance(stops, int) and stops < reading.fields.get("steps", 0):
            reading.leave("first pass: end_at_step", stops, "all the steps are run")
        for name in ("start_at_step", "add_noise", "return_with_leftover_noise"):
            value = reading.pop(name)
            if value not in (None, 0, "enable" if name == "add_noise" else "disable"):
                reading.leave(f"first pass: {name}", value)
        guider = self._linked(key, "guider") or key
        self._prompts(guider)
        self._model(self._linked(guider, "model") or self._linked(key, "model"))
        if reading.model != later_model:
            reading.leave("second pass: model", later_model, "it takes the first pass's")
        for name in ("seed", "steps", "cfg", "sampler", "schedule", "prompt", "negative"):
            if later.get(name) != reading.fields.get(name):
                reading.leave(f"second pass: {name}", str(later.get(name)), "it takes the first pass's")
        self._latents(self._linked(key, "latent_image"), 1.0, [])
        if self.target is not None:
            factor = self._factor_to(self.target)
        if factor > 1:
            reading.set("second pass: scale", factor, "hires")
            reading.set("second pass: denoise", denoise, "hires_strength", number)
            reading.fields["hires_by"] = "picture" if over_picture else "latents"
        else:
            reading.leave("second pass", f"denoise {denoise:g}", "only the first pass is drawn")

    def _factor_to(self, target: tuple[Any, Any]) -> float:
        """How many times larger the second pass is, which is to have this width and height; 1 if it is stretched."""
        sides = [self.reading.fields.get(side) for side in ("width", "height")]
        across, down = (
            self._as_number(large) / small if small else 1.0
            for large, small in zip(target, sides, strict=True)
        )
        if not target[1] or not target[0]:  # 0 follows from the other side
            return max(across, down)
        if abs(across - down) > 0.02:
            self.reading.leave("second pass: size", list(target), "it changes the proportions")
            return 1.0
        return across

    # --- the graph

    def _inputs(self, key: str) -> Node:
        inputs = self.graph[key].get("inputs")
        return inputs if isinstance(inputs, dict) else {}

    def _links(self, key: str) -> Iterator[str]:
        for value in self._inputs(key).values():
            if (node := self._target(value)) is not None:
                yield node

    def _linked(self, key: str, name: str) -> str | None:
        """The node behind an input, beyond reroutes."""
        node = self._target(self._inputs(key).get(name))
        return node

    def _target(self, value: Any) -> str | None:
        is_link = isinstance(value, list) and len(value) == 2 and isinstance(value[1], int)
        return str(value[0]) if is_link and str(value[0]) in self.graph else None

    def _value(self, value: Any) -> Any:
        """A value; one behind a link if the node there holds one text or number."""
        seen: set[str] = set()
        while (node := self._target(value)) is not None and node not in seen:
            seen.add(node)
            inputs = self._inputs(node)
            name = next((each for each in (*_NUMBERS, *_TEXTS) if each in inputs), None)
            if name is None:
                return None
            self.read.add(node)
            value = inputs[name]
        return None if isinstance(value, list) else value

    def _as_text(self, value: Any) -> str | None:
        found = self._value(value)
        return found if isinstance(found, str) else None

    def _as_number(self, value: Any) -> float:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 1.0

    def _own_inputs(self, key: str) -> Node:
        """The settings of a node, without its links."""
        return {name: value for name, value in self._inputs(key).items() if not isinstance(value, list)}


class _Growing:
    """Iterates over the keys of a dictionary that grows meanwhile."""

    def __init__(self, found: dict[str, None]) -> None:
        self.found = found

    def __iter__(self) -> Iterator[str]:
        done = 0
        while done < len(self.found):
            yield list(self.found)[done]
            done += 1
