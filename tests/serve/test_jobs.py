"""The own API: a job file in; ids, events and files out."""

import base64
import hashlib
import io
import json
import shlex

import pytest
from PIL import Image

from sdcli.request.jobfile.read import read_jobs
from tests.serve.running import LONG, SMALL, events_of


def picture_of(server, id: str) -> bytes:
    """The file of a job, when it has ended."""
    events = events_of(server.ask("GET", f"/v1/jobs/{id}/events")[2])
    assert events[-2]["type"] == "job_done", events[-2]
    status, headers, data = server.ask("GET", f"/v1/jobs/{id}/picture")
    assert status == 200 and headers["content-type"] == "image/png"
    return data


def test_a_job_is_taken_with_an_id_and_its_file_is_the_command_lines(server, sd, tmp_path):
    status, answer = server.json("POST", "/v1/jobs", {"prompt": "a red apple", "seed": 7, **SMALL})
    (job,) = answer["jobs"]
    assert status == 202 and job["seed"] == 7
    sd("txt2img", "a red apple", "--seed", 7, "-s", 2, "-W", 64, "-H", 64, "-q")
    assert picture_of(server, job["id"]) == (tmp_path / "a-red-apple-7.png").read_bytes()


def test_a_job_that_is_done_tells_the_command_that_draws_it_and_the_name_that_its_file_gets(
    server, sd, tmp_path
):
    photo = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(photo, "PNG")
    sent = {"data": base64.b64encode(photo.getvalue()).decode(), "name": "a photo.png"}
    body = {"prompt": "-a 'dog'", "image": sent, "strength": 0.5, "seed": 7, "steps": 2}
    (job,) = server.json("POST", "/v1/jobs", body)[1]["jobs"]
    assert "command" not in job
    data = picture_of(server, job["id"])
    done = server.json("GET", f"/v1/jobs/{job['id']}")[1]
    program, *arguments = shlex.split(done["command"])
    (tmp_path / "a photo.png").write_bytes(photo.getvalue())
    assert program == "sd" and sd(*arguments).code == 0
    assert (tmp_path / done["file"]).read_bytes() == data


def test_a_job_of_two_pictures_without_a_name_has_no_command(server):
    photo = io.BytesIO()
    Image.new("L", (64, 64), 255).save(photo, "PNG")
    pictures = dict.fromkeys(("image", "mask"), base64.b64encode(photo.getvalue()).decode())
    (job,) = server.json("POST", "/v1/jobs", {"prompt": "a dog", "steps": 2, **pictures})[1]["jobs"]
    picture_of(server, job["id"])
    assert server.json("GET", f"/v1/jobs/{job['id']}")[1]["command"] == ""


def test_a_sweep_is_drawn_as_a_batch_draws_it_with_the_same_seeds(server):
    file = {"defaults": {"seed": "1..2", **SMALL}, "jobs": [{"prompt": ["a cat", "a bus"], "name": "two"}]}
    jobs = server.json("POST", "/v1/jobs", file)[1]["jobs"]
    planned = read_jobs(["-"], lambda: json.dumps(file).encode(), {})
    assert [job["seed"] for job in jobs] == [each.request.seed for each in planned]
    assert [job["name"] for job in jobs] == [each.name for each in planned]
    unseeded = {"prompt": "a dog", **SMALL}
    (planned_one,) = read_jobs(["-"], lambda: json.dumps(unseeded).encode(), {})
    assert server.json("POST", "/v1/jobs", unseeded)[1]["jobs"][0]["seed"] == planned_one.request.seed


def test_events_have_the_form_of_a_batchs(server):
    id = server.json("POST", "/v1/jobs", {"prompt": "a cat", "seed": 3, "name": "cat", **SMALL})[1]["jobs"][
        0
    ]["id"]
    data = picture_of(server, id)
    events = events_of(server.ask("GET", f"/v1/jobs/{id}/events")[2])
    kinds = [event["type"] for event in events]
    assert kinds[0] == "start" and kinds[-1] == "summary" and "job_started" in kinds
    assert all(event["schema"] == "sd.event/1" and event["time"].endswith("Z") for event in events)
    done = events[-2]
    assert done["sha256"] == hashlib.sha256(data).hexdigest()
    assert (done["name"], done["seed"], done["id"]) == ("cat", 3, id)
    assert events[-1]["done"] == 1


def test_steps_are_told_while_they_are_taken_with_previews_if_they_are_wanted(server):
    body = {"prompt": "a cat", "seed": 4, **SMALL, "steps": 12}
    data = server.ask("POST", "/v1/jobs?previews=3", body, Accept="text/event-stream")[2]
    steps = [event for event in events_of(data) if event["type"] == "step"]
    assert [event["step"] for event in steps] == sorted({event["step"] for event in steps})
    assert steps[-1]["step"] == steps[-1]["steps"] == 12
    previews = [event["preview"] for event in steps if "preview" in event]
    assert previews
    assert Image.open(io.BytesIO(base64.b64decode(previews[0]))).size == (64, 64)


def test_a_running_job_is_cancelled_at_its_next_step_and_a_waiting_one_at_once(server):
    running, waiting = server.occupy(2)
    assert server.json("DELETE", f"/v1/jobs/{waiting}")[1]["state"] == "cancelled"
    assert server.json("DELETE", f"/v1/jobs/{running}")[1]["state"] == "cancelled"
    server.until(lambda: server.metric("sd_running") == 0)
    events = events_of(server.ask("GET", f"/v1/jobs/{running}/events")[2])
    assert events[-2]["type"] == "job_failed" and events[-2]["error"]["code"] == "cancelled"
    assert server.ask("GET", f"/v1/jobs/{running}/picture")[0] == 409


def test_an_ended_job_stays_as_it_is_when_it_is_cancelled(server):
    id = server.json("POST", "/v1/jobs", {"prompt": "a cat", "seed": 5, **SMALL})[1]["jobs"][0]["id"]
    picture_of(server, id)
    assert server.json("DELETE", f"/v1/jobs/{id}")[1]["state"] == "done"


def test_leaving_a_stream_of_events_leaves_the_job(server):
    (id,) = server.occupy(1)
    connection = server.connect()
    connection.sendall(f"GET /v1/jobs/{id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert connection.recv(10)
    connection.close()
    assert server.json("GET", f"/v1/jobs/{id}")[1]["state"] == "running"
    server.free([id])


def test_leaving_the_stream_of_a_submission_cancels_its_jobs(server):
    before = server.metric('sd_pictures_total{state="cancelled"}')
    data = json.dumps({"prompt": "a dog", "seed": 1, **LONG}).encode()
    connection = server.connect()
    connection.sendall(
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data
    )
    server.until(lambda: server.metric("sd_running") == 1)
    connection.close()
    server.until(lambda: server.metric('sd_pictures_total{state="cancelled"}') == before + 1)


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ({"include": ["/etc/passwd"], "jobs": [{"prompt": "a cat"}]}, "include"),
        ({"prompt": "a cat", "count": 1_000_000}, "count"),
        ({"prompt": "a cat", "cfg": "1..9 in 5000"}, "5,000 values, and at most 64"),
        ({"prompt": "a cat", "seed": "1..1000000"}, "1,000,000 values, and at most 64"),
        ({"prompt": "a cat", "seed": ["1..64"] * 2}, "at most 64 values"),
        ({"prompt": "a cat", "seed": "1..10", "cfg": "1..10"}, "100 jobs"),
        ({"prompt": "a cat", "out": "/tmp/x.png"}, "out"),
        ({"prompt": "a cat", "image": "photo.png"}, "image"),
        ({"prompt": "a cat", "image": "-"}, "image"),
        ({"prompt": "a cat", "image": {"data": "AAAA", "path": "x"}}, "image"),
        ({"prompt": "a cat", "image": "http://localhost/x.png"}, "image"),
        ({"prompt": "a cat", "latents_in": "x.safetensors"}, "latents_in"),
        ({"prompt": "a cat", "styles_file": "/etc/passwd"}, "styles_file"),
        ({"prompt": "a cat", "wildcards": "/etc"}, "wildcards"),
        ({"prompt": "a cat", "control": ["x:image=/etc/passwd"]}, "control"),
        ({"prompt": "a cat", "reference": "/etc/passwd"}, "reference"),
        ({"prompt": "a cat", "ip_adapter": ["x:image=/etc/passwd"]}, "ip_adapter"),
        ({"prompt": "a cat", "region": ["a dog@/etc/passwd"]}, "region"),
        ({"prompt": "a cat", "hires": 2, "hires_by": "/etc/passwd"}, "hires_by"),
        ({"prompt": "a cat", "embedding": ["/etc/passwd"]}, "embedding"),
        ({"prompt": "a cat <lora:/etc/x.safetensors:1>"}, "names a path"),
        ({"prompt": "a cat <{lora|lora}:/etc/x.safetensors:1>"}, "names a path"),
        ({"prompt": "a cat <lora:/etc/x.SAFETENSORS:1>"}, "names a path"),
        ({"prompt": "a cat", "revision": "main"}, "revision"),
        ({"prompt": "a cat", "device": "cuda:7"}, "device"),
        ([], "job"),
        ({"jobs": []}, "jobs"),
        ({"prompt": "a cat", "steps": [[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]}, "nested"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_job_that_cannot_be_meant_or_names_a_file_is_refused_by_name(server, file, named):
    status, answer = server.json("POST", "/v1/jobs", file)
    assert status == 400 and named in answer["error"]["message"], answer


@pytest.mark.parametrize("id", ["nope", "job-0", "../jobs", "%2e%2e%2fetc%2fpasswd", "a" * 5000])
def test_an_unknown_job_is_not_found(server, id):
    assert server.ask("GET", f"/v1/jobs/{id}")[0] == 404


def test_the_description_has_every_field_that_may_be_asked_for(server):
    status, described = server.json("GET", "/openapi.json")
    fields = described["components"]["schemas"]["Request"]["properties"]
    assert status == 200 and fields["steps"]["minimum"] == 1 and "vae" not in fields
    assert "/v1/jobs/{id}/events" in described["paths"]


def test_metrics_are_in_prometheus_text_form(server):
    status, headers, data = server.ask("GET", "/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain")
    for line in data.decode().splitlines():
        assert line.startswith(("# HELP ", "# TYPE ")) or float(line.rpartition(" ")[2]) >= 0


def test_a_server_says_that_it_is_there(server):
    assert server.json("GET", "/healthz") == (200, {"status": "ok"})
