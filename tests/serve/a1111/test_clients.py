"""A1111's API: the requests of Open WebUI, SillyTavern and LibreChat, and what all clients share."""

import base64
import io
import json
import threading

import numpy as np
import pytest
from PIL import Image

from tests import upscaler_files
from tests.serve.running import LONG, SMALL


def ask(server, method, path, body=None, **headers):
    """The JSON of an answer that is 200."""
    status, _, data = server.ask(method, f"/sdapi/v1/{path}", body, **headers)
    assert status == 200, data
    return json.loads(data)


def ask_in_thread(server, body, path="txt2img"):
    """(thread, [(status, JSON)]) of a request whose answer takes a while; it is in work."""
    answers: list = []
    thread = threading.Thread(target=lambda: answers.append(server.json("POST", f"/sdapi/v1/{path}", body)))
    thread.start()
    server.until(lambda: ask(server, "GET", "progress?skip_current_image=true")["state"]["sampling_step"] > 0)
    return thread, answers


def test_open_webui_posts_all_options_back_and_draws(server):
    header = {"Authorization": ""}
    options = ask(server, "GET", "options", **header)
    models = ask(server, "GET", "sd-models", **header)
    options["sd_model_checkpoint"] = models[0]["title"]
    assert ask(server, "POST", "options", options, **header) is None
    body = {"prompt": "a cat", "batch_size": 1, "width": 64, "height": 64, "steps": 2}
    answer = ask(server, "POST", "txt2img", body, **header)
    assert Image.open(io.BytesIO(base64.b64decode(answer["images"][0]))).size == (64, 64)
    assert answer["parameters"] == body and isinstance(answer["info"], str)


def test_sillytavern_lists_draws_and_waits(server):
    header = {"Authorization": "Basic Og=="}
    lists = ("upscalers", "latent-upscale-modes", "samplers", "schedulers", "sd-models", "sd-vae")
    told = {path: ask(server, "GET", path, **header) for path in lists}
    body = {
        "url": server.url, "auth": "", "prompt": "a cat", "negative_prompt": "a dog", "sampler_name": "Euler a",
        "scheduler": "Automatic", "steps": 2, "cfg_scale": 7, "width": 64, "height": 64, "restore_faces": False,
        "enable_hr": False, "hr_upscaler": "Latent", "hr_scale": 2, "hr_additional_modules": [],
        "denoising_strength": 0.7, "hr_second_pass_steps": 0, "seed": 5, "clip_skip": 2,
        "override_settings": {"CLIP_stop_at_last_layers": 2, "sd_vae": "Automatic"},
        "override_settings_restore_afterwards": True, "save_images": True, "send_images": True,
        "do_not_save_grid": False, "do_not_save_samples": False,
    }  # fmt: skip
    info = json.loads(ask(server, "POST", "txt2img", body, **header)["info"])
    assert (info["seed"], info["clip_skip"], info["cfg_scale"]) == (5, 2, 7)
    assert info["sampler_name"] in {each["name"] for each in told["samplers"]}
    ask(server, "POST", "options", {"sd_model_checkpoint": told["sd-models"][0]["title"]}, **header)
    progress = ask(server, "GET", "progress", **header)
    assert progress["progress"] == 0.0 and progress["state"]["job_count"] == 0


def test_librechat_draws_and_reads_the_parameters(server):
    answer = ask(server, "POST", "txt2img", {"prompt": "a cat", "negative_prompt": "a dog", **SMALL})
    told = ask(server, "POST", "png-info", {"image": f"data:image/png;base64,{answer['images'][0]}"})
    assert told["info"].startswith("a cat\nNegative prompt: a dog\nSteps: 2, ")
    assert "sd" in told["items"] and told["parameters"]["Steps"] == "2"


def test_styles_are_listed_and_used(server):
    assert [each["name"] for each in ask(server, "GET", "prompt-styles")] == ["Ink"]
    info = json.loads(ask(server, "POST", "txt2img", {"prompt": "a cat", "styles": ["Ink"], **SMALL})["info"])
    assert (info["prompt"], info["negative_prompt"]) == ("a cat, ink drawing", "photo")


def test_an_upscaler_file_enlarges_as_sd_upscale_does(server, sd, tmp_path, monkeypatch):
    upscaler_files.write(tmp_path / "x4.safetensors", upscaler_files.rrdb())
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
        tmp_path / "in.png"
    )
    body = {"image": base64.b64encode((tmp_path / "in.png").read_bytes()).decode(), "upscaling_resize": 4}
    assert "x4" in [each["name"] for each in ask(server, "GET", "upscalers")]
    answer = ask(server, "POST", "extra-single-image", {**body, "upscaler_1": "x4"})
    ran = sd("upscale", "in.png", "-m", "x4.safetensors", "-q")
    ours = np.asarray(Image.open(tmp_path / ran.lines[0]))
    assert (np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["image"])))) == ours).all()


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("txt2img", {"restore_faces": True}, "restore_faces"),
        ("txt2img", {"width": 65}, "width"),
        ("txt2img", {"override_settings": {"sd_vae": "a.vae.pt"}}, "sd_vae"),
        ("txt2img", {"prompt": "<lora:no_such:1>"}, "no_such"),
        ("txt2img", {"prompt": "<lora:/etc/passwd.safetensors:1>"}, "listed name"),
        ("img2img", {}, "init_images"),
        ("options", {"sd_vae": "a.vae.pt"}, "sd_vae"),
        ("options", {"outdir": "/etc"}, "outdir"),
        ("png-info", {}, "image"),
        ("png-info", {"image": "!"}, "image"),
        ("extra-single-image", {"image": "PNG", "upscaler_1": "no_such"}, "no_such"),
        ("extra-single-image", {"image": "PNG", "upscaler_1": "picture"}, "upscaler_1"),
        ("extra-single-image", {"image": "PNG", "upscaling_resize": 17}, "upscaling_resize"),
        ("extra-single-image", {"image": "PNG", "gfpgan_visibility": 0.5}, "gfpgan_visibility"),
    ],
    ids=str,
)
def test_what_is_not_done_is_422_by_name(server, path, body, named):
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    body = {
        key: base64.b64encode(file.getvalue()).decode() if value == "PNG" else value
        for key, value in body.items()
    }
    status, answer = server.json("POST", f"/sdapi/v1/{path}", body)
    assert status == 422 and named in answer["detail"] and answer["error"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "nope", 404), ("DELETE", "txt2img", 405)])
def test_what_there_is_not_is_answered_in_the_form_of_this_api(server, method, path, status):
    told, answer = server.json(method, f"/sdapi/v1/{path}")
    assert told == status and answer["detail"] and isinstance(answer["error"], str)


def test_the_pictures_of_a_body_are_not_sent_back_with_its_fields(server):
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    body = {"init_images": [base64.b64encode(file.getvalue()).decode()], "prompt": "a cat", **SMALL}
    assert ask(server, "POST", "img2img", body)["parameters"] == {"prompt": "a cat", **SMALL}
    kept = {**body, "include_init_images": True, "send_images": False}
    answer = ask(server, "POST", "img2img", kept)
    assert answer["parameters"] == kept and answer["images"] == []


def test_a_model_that_is_not_served_is_404(server):
    status, answer = server.json("POST", "/sdapi/v1/options", {"sd_model_checkpoint": "sdxl"})
    assert status == 404 and "sdxl" in answer["detail"]


def test_progress_shows_the_picture_that_is_drawn_and_interrupt_ends_it(server):
    thread, answers = ask_in_thread(server, {"prompt": "a dog", "seed": 1, **LONG, "steps": 60})
    server.until(lambda: ask(server, "GET", "progress")["current_image"])
    told = ask(server, "GET", "progress")
    assert (
        0 < told["progress"] < 1 and told["state"]["job_count"] == 1 and told["state"]["sampling_steps"] == 60
    )
    assert Image.open(io.BytesIO(base64.b64decode(told["current_image"]))).size == (256, 256)
    assert ask(server, "GET", "progress?skip_current_image=true")["current_image"] is None
    assert ask(server, "POST", "interrupt") == {}
    thread.join()
    assert answers[0][0] == 409 and "interrupted" in answers[0][1]["detail"]
    assert ask(server, "GET", "progress")["progress"] == 0.0


def test_skip_leaves_out_one_picture_and_goes_on(server):
    thread, answers = ask_in_thread(server, {"prompt": "a dog", "seed": 1, "n_iter": 2, **SMALL, "steps": 16})
    ask(server, "POST", "skip")
    thread.join()
    status, answer = answers[0]
    assert status == 200 and json.loads(answer["info"])["all_seeds"] == [2]


def test_progress_and_interrupt_leave_the_jobs_of_other_apis_alone(server):
    ids = server.occupy(1)
    assert ask(server, "GET", "progress")["state"]["job_count"] == 0
    ask(server, "POST", "interrupt")
    assert server.json("GET", f"/v1/jobs/{ids[0]}")[1]["state"] == "running"
    server.free(ids)


def test_a_client_that_leaves_stops_its_picture(server):
    before = server.metric('sd_pictures_total{state="cancelled"}')
    connection = server.post("/sdapi/v1/txt2img", {"prompt": "a dog", "seed": 1, **LONG})
    server.until(lambda: server.metric("sd_running") == 1)
    connection.close()
    server.until(lambda: server.metric('sd_pictures_total{state="cancelled"}') == before + 1)
    server.until(lambda: ask(server, "GET", "progress")["state"]["job_count"] == 0)
