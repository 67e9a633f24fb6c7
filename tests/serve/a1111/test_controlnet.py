"""ControlNet's units: what the clients of A1111's extension send, and the command line's bytes."""

import base64
import io
import json

import pytest
from PIL import Image

from sdcli.errors import SdError
from sdcli.request.inline_image import InlineImage
from sdcli.serve.a1111.fields import values_of
from sdcli.serve.a1111.sent import Sent
from sdcli.serve.budget import Budget
from tests import control_files
from tests.pictures import photo

webuiapi = pytest.importorskip("webuiapi")

SMALL = {"width": 64, "height": 64, "steps": 2, "seed": 7, "sampler_name": "Euler"}
TYPED = ("txt2img", "a cat", "--seed", 7, "--steps", 2, "--width", 64, "--height", 64, "--cfg", 7, "-m", "test:sd1",
         "--like", "a1111", "--sampler", "euler", "--schedule", "automatic")  # fmt: skip
SD1 = {"override_settings": {"sd_model_checkpoint": "test:sd1"}}


def png(image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture(scope="module")
def controls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("controls")
    control_files.controlnet(folder, "test:sd1", "canny.safetensors")
    return folder


@pytest.fixture
def values(controls, monkeypatch):
    """The keys of a job for these units and fields."""
    monkeypatch.setenv("SDCLI_CONTROLS", str(controls))

    def found(*units, **body):
        body = {**body, "alwayson_scripts": {"ControlNet": {"args": list(units)}}}
        return values_of(Sent(body), {}, Budget(), False)

    return found


UNIT = {"model": "canny", "image": png(photo())}


@pytest.mark.parametrize(
    ("unit", "typed"),
    [
        ({"weight": 0.8, "guidance_start": 0.2, "guidance_end": 0.9}, "weight=0.8:start=0.2:end=0.9"),
        ({"control_mode": 1, "resize_mode": 0}, "mode=prompt:fit=stretch"),
        ({"control_mode": 2, "resize_mode": 2}, "mode=control:fit=pad"),
        ({"module": "canny", "pixel_perfect": True, "threshold_a": 50, "threshold_b": 150},
         "annotate=canny:low=50:high=150"),
        ({"module": "lineart_standard", "pixel_perfect": True, "threshold_a": 5, "threshold_b": 8},
         "annotate=lineart:blur=5"),
        ({"module": "tile_resample", "threshold_a": 1}, "weight=1"),
        ({"module": "invert (from white bg & black line)", "resize_mode": "Crop and Resize"}, "annotate=invert"),
    ],
    ids=str,
)  # fmt: skip
def test_a_unit_of_webuiapi_draws_what_the_command_line_does(
    server, sd, tmp_path, controls, monkeypatch, unit, typed
):
    api = webuiapi.WebUIApi(port=server.port)
    unit = webuiapi.ControlNetUnit(image=photo(), **{"model": "canny", "resize_mode": 1, **unit})
    answer = api.txt2img(prompt="a cat", controlnet_units=[unit], alwayson_scripts={}, **SMALL, **SD1)
    api.session.close()
    (tmp_path / "hint.png").write_bytes(base64.b64decode(unit.to_dict()["image"]))
    (tmp_path / "canny.safetensors").write_bytes((controls / "canny.safetensors").read_bytes())
    ran = sd(*TYPED, "--control", f"canny.safetensors:image=hint.png:{typed}", "-q")
    assert ran.code == 0, ran.err
    ours = Image.open(tmp_path / ran.lines[0])
    assert (
        answer.image.tobytes() == ours.tobytes()
    )  # the names of the hint and its settings are recorded otherwise
    assert 'ControlNet 0: "Module: ' in answer.info["infotexts"][0]


def test_a_unit_is_a_control(values):
    found = values({**UNIT, "enabled": True, "low_vram": True, "processor_res": -1, "hr_option": "Both"})
    (control,) = found["control"]
    assert isinstance(control.pop("image"), InlineImage)
    assert control == {
        "file": "canny",
        "weight": 1.0,
        "start": 0.0,
        "end": 1.0,
        "mode": "balanced",
        "fit": "crop",
    }


def test_a_reference_is_one(values):
    unit = {"module": "reference_adain+attn", "image": UNIT["image"], "threshold_a": 0.7, "weight": 0.5}
    found = values(unit)["reference"]
    assert isinstance(found.pop("image"), InlineImage)
    assert found == {"mode": "both", "fidelity": 0.7, "weight": 0.5}


def test_units_that_are_not_enabled_change_nothing(values):
    assert values({**UNIT, "enabled": False, "module": "openpose"}, None) == values()


def test_a_file_may_be_named_with_either_hash(server, values):
    (title,) = server.json("GET", "/controlnet/model_list")[1]["model_list"]
    assert title.startswith("canny [") and len(title) == 16
    assert values({**UNIT, "model": title})["control"][0]["file"] == "canny"


def test_the_extensions_information_is_json(server):
    assert "canny" in server.json("GET", "/controlnet/module_list")[1]["module_list"]
    assert server.json("GET", "/controlnet/version")[1]["version"] >= 2


def test_hints_at_another_size_than_is_drawn_are_refused(values):
    unit = {**UNIT, "module": "canny", "processor_res": 512}
    assert values(unit, width=512, height=768)["control"][0]["annotate"] == "canny"
    for size in ({"width": 1024, "height": 768}, {}):
        with pytest.raises(SdError, match="processor_res"):
            values(unit, **size)


@pytest.mark.parametrize(
    ("unit", "named"),
    [
        ({"module": "openpose"}, "module"),
        ({"module": "lineart_standard", "pixel_perfect": True, "threshold_b": 64}, "threshold_b"),
        ({"module": "tile_resample", "threshold_a": 4}, "threshold_a"),
        ({"model": "nope"}, "model"),
        ({"model": "canny [0123abcd]"}, "another hash"),
        ({"model": "None"}, "model"),
        ({"model": "/etc/canny"}, "model"),
        ({"weight": "heavy"}, "weight"),
        ({"control_mode": "Unbalanced"}, "control_mode"),
        ({"control_mode": True}, "control_mode"),
        ({"control_mode": []}, "control_mode"),
        ({"resize_mode": 3}, "resize_mode"),
        ({"mask": "PNG"}, "mask"),
        ({"image": {"image": UNIT["image"], "mask": "PNG"}}, "mask"),
        ({"image": "/etc/passwd"}, "image"),
        ({"image": "http://localhost/x.png"}, "no address"),
        ({"input_image": UNIT["image"]}, "input_image"),
        ({"hr_option": "Low res only"}, "hr_option"),
        ({"advanced_weighting": [1]}, "advanced_weighting"),
        ({"union_control_type": "Depth"}, "union_control_type"),
        ({"no_such_field": 1}, "no_such_field"),
        ({"module": "reference_only", "guidance_end": 0.5}, "guidance_end"),
        ({"module": "reference_only", "control_mode": 2}, "control_mode"),
    ],
    ids=str,
)
def test_what_is_not_done_is_refused_by_name(values, unit, named):
    with pytest.raises(SdError, match=f"controlnet unit 0: .*{named}"):
        values({**UNIT, **unit})


@pytest.mark.parametrize("script", [5, "x", {"args": 5}, {"args": "x"}, {"args": [5]}, {"args": [[1]]}, [1]])
def test_what_are_no_units_is_refused(script):
    with pytest.raises(SdError, match="alwayson_scripts"):
        values_of(Sent({"alwayson_scripts": {"controlnet": script}}), {}, Budget(), False)


def test_a_refusal_over_http_is_422(server):
    body = {"prompt": "a cat", "alwayson_scripts": {"controlnet": {"args": [{**UNIT, "module": "openpose"}]}}}
    status, answer = server.json("POST", "/sdapi/v1/txt2img", body)
    assert status == 422 and "openpose" in answer["detail"]
    assert json.dumps(answer)
