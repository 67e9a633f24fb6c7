"""Answers: what A1111's clients are told of pictures that were drawn, and of one that they send."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import JSONResponse, Response

import sdcli
from sdcli.request import a1111_text
from sdcli.request.inline_image import InlineImage
from sdcli.request.other_tools.a1111 import split
from sdcli.request.picture import parameters
from sdcli.request.png_metadata import read_png_metadata
from sdcli.serve.a1111.fields import IMAGE_FIELDS
from sdcli.serve.a1111.sent import Sent
from sdcli.serve.queue import Finished
from sdcli.serve.service import Problem


def as_a1111(problem: Problem) -> Response:
    """A problem in the form of A1111's API. What is wrong with a body is 422, as FastAPI has it."""
    status = 422 if problem.status == 400 else problem.status
    body = {"error": problem.kind, "detail": problem.message, "body": "", "errors": problem.message}
    return JSONResponse(body, status, headers=dict(problem.headers))


def pictures(
    results: Sequence[Finished], body: Mapping[str, Any], job_timestamp: str, batch: int
) -> dict[str, Any]:
    """The answer to txt2img and img2img: the pictures as base64, the body, and `info`, which is JSON as a text."""
    keeps = body.get("include_init_images")
    sent = {name: value for name, value in body.items() if keeps or name not in IMAGE_FIELDS}
    is_wanted = Sent(body).truth("send_images", True)
    images = [base64.b64encode(each.data).decode() for each in results] if is_wanted else []
    return {"images": images, "parameters": sent, "info": json.dumps(_info(results, job_timestamp, batch))}


def _info(results: Sequence[Finished], job_timestamp: str, batch: int) -> dict[str, Any]:
    """What `info` says of these pictures, of which the first stands for all where A1111 has one value."""
    requests = [each.request for each in results]
    first, model = requests[0], results[0].facts.get("model", {})
    seed_width, seed_height = (first.seed_size or "0x0").split("x")
    seeds = [request.seed for request in requests]
    subseeds = [
        request.seed if request.variation_seed is None else request.variation_seed for request in requests
    ]
    return {
        "prompt": first.prompt,
        "all_prompts": [request.prompt for request in requests],
        "negative_prompt": first.negative,
        "all_negative_prompts": [request.negative for request in requests],
        "seed": seeds[0],
        "all_seeds": seeds,
        "subseed": subseeds[0],
        "all_subseeds": subseeds,
        "subseed_strength": first.variation_strength,
        "width": first.width,
        "height": first.height,
        "sampler_name": a1111_text.sampler(first.sampler)[0],
        "cfg_scale": first.cfg,
        "steps": first.steps,
        "batch_size": batch,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": str(first.model),
        "sd_model_hash": model.get("sha256", "")[:10],
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": int(seed_width),
        "seed_resize_from_h": int(seed_height),
        "denoising_strength": first.hires_strength if first.hires > 1 else first.strength,
        "extra_generation_params": {"Schedule type": a1111_text.schedule(first.schedule)[0]},
        "index_of_first_image": 0,
        "infotexts": [parameters(each.request, each.facts) for each in results],
        "styles": [],
        "job_timestamp": job_timestamp,
        "clip_skip": first.clip_skip or 1,
        "is_using_inpainting_conditioning": False,
        "version": f"sdcli {sdcli.__version__}",
    }


def png_info(image: InlineImage) -> dict[str, Any]:
    """What a picture says of how it was made: A1111's text, all its texts, and the pairs of the first."""
    texts = read_png_metadata(io.BytesIO(image.png), "image").texts
    info = texts.get("parameters", "")
    return {"info": info, "items": dict(texts), "parameters": _pairs(info)}


def _pairs(info: str) -> dict[str, str]:
    found = split(info) if info else None
    if found is None:
        return {}
    prompt, negative, pairs = found
    return {"Prompt": prompt, "Negative prompt": negative, **pairs}
