"""Dialects: prompt lines, A1111's lines, CSV, JSON lines, OpenAI's lines and pictures, told apart by what they hold."""

import json
import os

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdcli.request.jobfile.batch_job import JobFileError
from sdcli.request.jobfile.openai_lines import Answer, answer_lines
from sdcli.request.jobfile.read import read_jobs
from tests.request.jobfile.reading import faults, no_input, read, read_file, values


def test_each_line_is_a_prompt_and_empty_ones_and_comments_are_none():
    jobs = read("a cat\n\n# a comment\n{red|blue} car, it's old\n[a:b:0.5] cat\r\nseed 1..8\n")
    assert values(jobs, "prompt") == ["a cat", "{red|blue} car, it's old", "[a:b:0.5] cat", "seed 1..8"]
    assert [job.source.line for job in jobs] == [1, 4, 5, 6]


def test_a_line_of_a1111s_options_is_read_as_a1111_reads_it():
    [job, *others] = read(
        '--prompt a red apple --negative_prompt "blurry, old" --steps 9 --cfg_scale 5.5 --seed 3 '
        '--sampler_name "DPM++ 2M Karras" --width 64 --height 128 --tiling true --restore_faces false '
        "--batch_size 2 --n_iter 2 --subseed 4 --subseed_strength 0 --do_not_save_grid true --outpath_samples x/ "
        "--seed_resize_from_w 64 --seed_resize_from_h 128 --styles photo"
    )
    expected = {
        "prompt": "a red apple", "negative": "blurry, old", "steps": 9, "cfg": 5.5, "seed": 3, "sampler": "dpmpp_2m",
        "schedule": "karras", "width": 64, "height": 128, "tile": "both", "seed_size": "64x128", "style": ["photo"],
    }  # fmt: skip
    assert job.request.as_dict() == expected
    assert job.out == "x/"
    assert values(others, "seed") == [4, 5, 6]


def test_a_list_with_hyphens_is_yaml():
    assert values(read("- a cat\n- {prompt: a dog}\n"), "prompt") == ["a cat", "a dog"]


def test_a_mapping_without_jobs_is_one_job():
    assert values(read("prompt: a cat\nseed: [1, 2]\n"), "prompt", "seed") == [("a cat", 1), ("a cat", 2)]


def test_a_prompt_may_stand_before_the_options():
    assert values(read("a red apple --steps 9 --seed=3"), "prompt", "steps", "seed") == [
        ("a red apple", 9, 3)
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a cat --ar 16:9", "no field is called 'ar'"),
        ("--prompt a --steps", "--steps has no value"),
        ("--prompt a --steps 5 6", "'6' stands behind the value of --steps"),
        ("--prompt a --steps five", "steps: 'five' is not a whole number"),
        ("--prompt it's --steps 5", "the options cannot be read: No closing quotation"),
        ("--prompt a --restore_faces true", "nothing of the kind"),
        ("--prompt a --do_not_save_samples true", "are not drawn"),
        ("--prompt a --tiling yes", "'yes' is not true or false"),
        ("--prompt a --batch_size 0", "'0' is not a whole number from 1"),
        ("--prompt a --seed 1 --seed 2", "--seed is here twice"),
        ("--prompt a --tolerance 5", "tolerance is no option"),
        ("gone.png", "there is no such picture"),
        ('{"prompt": "a dog"}', "is JSON among prompts"),
    ],
)
def test_a_line_that_cannot_be_read_is_a_fault_and_never_a_prompt(line, reason):
    [(at, message)] = faults(f"a cat\n{line}\n")
    assert at == 2
    assert reason in message


def test_rows_of_csv_are_converted_by_the_fields_types():
    jobs = read(
        'prompt,steps,cfg_scale,seed,only_masked,name,count\n"a cat, red",9,4..7 by 3,1,false,x,\nb,,,,,,2\n'
    )
    assert values(jobs, "prompt", "steps", "cfg") == [
        ("a cat, red", 9, 4), ("a cat, red", 9, 7), ("b", None, None), ("b", None, None),
    ]  # fmt: skip
    assert [(job.name, job.source.line) for job in jobs] == [("x-4", 2), ("x-7", 2), ("", 3), ("", 3)]
    assert jobs[0].axes == {"cfg": 4}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_cells_may_be_separated_as_spreadsheets_do(separator):
    assert values(read(f"prompt{separator}seed\na{separator}7\n"), "prompt", "seed") == [("a", 7)]


def test_one_column_is_csv_in_a_file_called_so(tmp_path):
    assert values(read_file(tmp_path / "a.csv", "prompt\na\nb\n"), "prompt") == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("prompt,seed\na,1,2\n", (2, "has 3 cells, and the first line names 2; put commas in quotes")),
        ('prompt,seed\na,1\n"b,2\n', (3, "is no CSV: unexpected end of data; correct the quotes")),
        ("prompt,seed\na,x\n", (2, "seed: 'x' is not a whole number")),
        (
            "prompt,seed\n",
            (0, "has no row behind the first line, which names the fields; add one for each job"),
        ),
    ],
)
def test_a_fault_of_csv_has_its_line(text, fault):
    assert faults(text) == [fault]


def test_json_lines_are_jobs_of_two_dialects(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1001.png").touch()
    jobs = read_file(
        tmp_path / "items.jsonl",
        """\
        {"name": "sku-1001", "prompt": "a mug on white", "image": "in/1001.png", "strength": 0.6, "seed": 1001}
        """
        + f"{8 * ' '}{openai('sku-1002', size='512x512', seed=1002)}",
    )
    assert [(job.name, job.source.line) for job in jobs] == [("sku-1001", 1), ("sku-1002", 2)]
    assert values(jobs, "seed", "image", "width") == [
        (1001, os.path.join(tmp_path, "in/1001.png"), None),
        (1002, None, 512),
    ]


def test_a_bad_line_of_json_does_not_hide_the_faults_of_the_next():
    found = faults('{"prompt": "a", "seed": 1}\n{"prompt": \n{"prompt": "b", "stpes": 1}\n[1]\n')
    assert [line for line, _ in found] == [2, 3, 4]


def test_json_documents_are_read_as_yaml_is():
    for text in (
        '{"jobs": [{"prompt": "a", "seed": [1, 2]}]}',
        '[{"prompt": "a",\n "seed": [1, 2]}]',
        '{"prompt": "a",\n"seed": "1..2"}',
    ):
        assert values(read(text), "prompt", "seed") == [("a", 1), ("a", 2)]


def openai(custom_id="x", **body):
    line = {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/images/generations",
        "body": {"prompt": "a mug", **body},
    }
    return json.dumps(line)


def test_an_openai_line_is_read_with_the_words_that_clients_use():
    [job, other] = read(
        openai(
            "{x}", n=2, size="64x128", seed=3, model="gpt-image-1", num_inference_steps=9, guidance_scale=5,
            negative_prompt="b", quality="auto", user="me", response_format="b64_json", style=None, output_format="png",
        )
    )  # fmt: skip
    expected = {
        "prompt": "a mug",
        "negative": "b",
        "seed": 3,
        "steps": 9,
        "cfg": 5.0,
        "width": 64,
        "height": 128,
    }
    assert job.request.as_dict() == expected
    assert other.request.seed == 4
    assert (job.entry, job.name, other.name) == ("{x}", "{x}-3", "{x}-4")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"quality": "hd"}, "quality: 'hd' would change the picture"),
        ({"style": "vivid"}, "style: "),
        ({"background": "transparent"}, "background: 'transparent' would change"),
        ({"stream": True}, "stream: True would change"),
        ({"partial_images": 2}, "partial_images: 2 would change"),
        ({"output_format": "webp"}, "output_format: 'webp' would change"),
        ({"input_fidelity": "high"}, "input_fidelity: is not done here"),
        ({"size": "big"}, "size: 'big' is not width x height"),
        ({"n": 0}, "count: 0 is not"),
        ({"prompt": None}, "no prompt"),
        ({"image": "x.png"}, "image: is not done here"),
    ],
)
def test_what_would_change_the_picture_of_an_openai_line_is_refused_by_name(body, reason):
    assert reason in faults(openai(**body))[0][1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"method": "GET"}, "method: 'GET' is not POST"),
        ({"url": "/v1/images/edits"}, "url: '/v1/images/edits' is not"),
        ({"body": 5}, "body: a number is not a mapping"),
        ({"custom_id": 7}, "custom_id: 7 is not a text"),
        ({"extra": 7}, "extra: a line of OpenAI's Batch API has"),
    ],
)
def test_the_envelope_of_an_openai_line_is_checked(change, reason):
    assert reason in faults(json.dumps({**json.loads(openai()), **change}))[0][1]


def test_a_custom_id_comes_once():
    assert faults(f"{openai()}\n{openai()}") == [(2, "custom_id: 'x' is here twice; give each line its own")]


def test_answers_have_the_form_of_openais():
    answers = [
        Answer("x", 3, b"png"),
        Answer("x", 4, b"gnp"),
        Answer("y", kind="usage", message="no such sampler"),
    ]
    good, bad = map(json.loads, answer_lines(answers, created=9))
    assert good["custom_id"] == "x"
    assert good["error"] is None
    assert good["response"]["status_code"] == 200
    assert good["response"]["body"] == {
        "created": 9, "data": [{"b64_json": "cG5n", "seed": 3}, {"b64_json": "Z25w", "seed": 4}],
    }  # fmt: skip
    assert bad["response"]["status_code"] == 400
    assert bad["response"]["body"]["error"]["message"] == bad["error"]["message"] == "no such sampler"
    assert bad["error"]["code"] == "usage"
    assert good["id"] != bad["id"]


def write_picture(path, **texts):
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    Image.new("RGB", (64, 64)).save(path, pnginfo=info)
    return str(path)


def test_a_picture_is_the_job_that_makes_it_again_with_what_was_typed_on_top(tmp_path):
    request = {"prompt": "a red apple", "seed": 7, "steps": 9, "revision": "r", "model": "org/m"}
    png = write_picture(tmp_path / "apple.png", sd=json.dumps({"format": 2, "request": request}))
    [job] = read_jobs([png], no_input, {})
    assert job.request.as_dict() == request
    assert (job.name, str(job.source)) == ("apple", png)
    [other] = read_jobs([png], no_input, {"steps": 4, "model": "tiny"})
    assert other.request.as_dict() == {"prompt": "a red apple", "seed": 7, "steps": 4}


def test_a_list_of_pictures_is_read_relative_to_itself(tmp_path):
    write_picture(tmp_path / "a b.png", sd=json.dumps({"format": 2, "request": {"prompt": "x", "seed": 1}}))
    jobs = read_file(tmp_path / "list.txt", "a b.png\na dog\n")
    assert values(jobs, "prompt") == ["x", "a dog"]


def test_another_tools_picture_is_taken_over_and_what_is_left_is_noted(tmp_path):
    text = "a red apple\nSteps: 9, Sampler: Euler a, CFG scale: 5, Seed: 7, Size: 64x64, Model: m, Strange: x"
    png = write_picture(tmp_path / "a.png", parameters=text)
    [job] = read_jobs([png], no_input, {}, lambda name, sha256: f"{name}.safetensors")
    assert (job.request.prompt, job.request.like, job.request.model) == (
        "a red apple",
        "a1111",
        "m.safetensors",
    )
    assert [note for note in job.notes if "Strange" in note]
    with pytest.raises(JobFileError, match="in no model folder"):
        read_jobs([png], no_input, {})


def test_a_picture_that_tells_nothing_is_a_fault(tmp_path):
    with pytest.raises(JobFileError, match="no `sd` metadata"):
        read_jobs([write_picture(tmp_path / "a.png")], no_input, {})


def test_several_files_are_read_in_their_order(tmp_path):
    (tmp_path / "a.txt").write_text("a\n")
    (tmp_path / "b.yaml").write_text("jobs: [b]")
    jobs = read_jobs([f"{tmp_path}/a.txt", "-", f"{tmp_path}/b.yaml"], lambda: b"c", {})
    assert values(jobs, "prompt") == ["a", "c", "b"]


@pytest.mark.parametrize("text", [b"\xef\xbb\xbfa cat", "a cat\r\n".encode("utf-16"), b"a cat"])
def test_marks_of_byte_order_and_ends_of_lines_are_no_part_of_a_prompt(text):
    assert values(read(text), "prompt") == ["a cat"]
