"""`sd batch` and `--sweep` as a script sees them: results, events, exit codes, reports."""

import csv
import io
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from PIL import Image

SMALL = ["-m", "test:sd1", "-W", 64, "-H", 64, "--steps", 1]
DEFAULTS = {"model": "test:sd1", "width": 64, "height": 64, "steps": 1}


def write(path, *jobs, **more):
    Path(path).write_text(json.dumps({"version": 1, "defaults": DEFAULTS, "jobs": jobs, **more}))


def events(ran):
    return [json.loads(line) for line in ran.lines]


@pytest.fixture
def two_jobs(sd):
    write(
        "jobs.json",
        {"name": "cat", "prompt": "a cat", "seed": 1},
        {"name": "dog", "prompt": "a dog", "seed": 2},
    )
    return sd


def test_a_batch_prints_the_path_of_each_picture(two_jobs):
    ran = two_jobs("batch", "jobs.json", "-o", "out")
    assert (ran.code, sorted(ran.lines)) == (0, ["out/cat.png", "out/dog.png"])


def test_a_second_run_prints_the_same_paths_and_draws_nothing(two_jobs):
    first = two_jobs("batch", "jobs.json", "-o", "out")
    before = {path: path.stat().st_mtime_ns for path in Path("out").glob("*.png")}
    assert sorted(two_jobs("batch", "jobs.json", "-o", "out").lines) == sorted(first.lines)
    assert {path: path.stat().st_mtime_ns for path in Path("out").glob("*.png")} == before


def test_a_picture_is_byte_for_byte_the_same_alone_in_a_count_in_a_batch_and_merged_from_shards(sd):
    write("jobs.json", {"name": "x", "prompt": "a cat", "seed": "5..8"})
    sd("txt2img", "a cat", *SMALL, "--seed", 5, "--count", 4, "-o", "count/{seed}.png")
    sd("batch", "jobs.json", "-o", "whole/{seed}.png")
    for i in (1, 2, 3):
        sd("batch", "jobs.json", "-o", f"shard{i}/{{seed}}.png", "--shard", f"{i}/3")
    assert sd("batch", "jobs.json", "-o", "merged/{seed}.png", *_merge(1, 2, 3)).code == 0
    for seed in range(5, 9):
        alone = Path(sd("txt2img", "a cat", *SMALL, "--seed", seed, "-o", "alone/").lines[0]).read_bytes()
        for folder in ("count", "whole", "merged"):
            assert Path(folder, f"{seed}.png").read_bytes() == alone


def _merge(*shards):
    return [word for i in shards for word in ("--merge", f"shard{i}")]


def test_a_merge_without_all_shards_says_what_is_missing(sd):
    write("jobs.json", {"name": "x", "prompt": "a cat", "seed": "1..8"})
    sd("batch", "jobs.json", "-o", "shard1", "--shard", "1/2")
    ran = sd("batch", "jobs.json", "-o", "merged", *_merge(1))
    assert ran.code == 1 and "of 8 pictures are missing" in ran.err


def test_the_events_tell_of_each_job_and_the_last_one_sums_up(two_jobs):
    told = events(two_jobs("batch", "jobs.json", "-o", "out", "--json"))
    types = [event["type"] for event in told]
    assert (types[0], types[-1]) == ("start", "summary")
    assert sorted(types[1:-1]) == ["job_done", "job_done", "job_started", "job_started"]
    assert all(event["schema"] == "sd.event/1" and event["time"].endswith("Z") for event in told)
    done = [event for event in told if event["type"] == "job_done"]
    assert [(event["name"], event["seed"], event["path"]) for event in done] == [
        ("cat", 1, "out/cat.png"),
        ("dog", 2, "out/dog.png"),
    ]
    assert told[-1]["done"] == 2 and told[-1]["failed"] == 0
    assert "job_skipped" in {
        event["type"] for event in events(two_jobs("batch", "jobs.json", "-o", "out", "--json"))
    }


def test_a_job_that_fails_is_told_with_its_line_and_the_others_are_drawn(sd, monkeypatch):
    from sdcli import engine
    from sdcli.errors import NotFinite

    call = engine.encode_prompts

    def failing(model, job, *rest):
        if job.prompt == "a dog":
            raise NotFinite("the text encoder gave NaN; try --dtype float32")
        return call(model, job, *rest)

    monkeypatch.setattr(engine, "encode_prompts", failing)
    write(
        "jobs.json",
        {"name": "cat", "prompt": "a cat", "seed": 1},
        {"name": "dog", "prompt": "a dog", "seed": 2},
    )
    ran = sd("batch", "jobs.json", "-o", "out", "--json")
    (failed,) = [event for event in events(ran) if event["type"] == "job_failed"]
    assert ran.code == 1 and failed["error"]["code"] == "not_finite" and failed["error"]["exit"] == 7
    assert Path("out/cat.png").exists() and not Path("out/dog.png").exists()
    assert "jobs.json" in ran.err and "1 of 2 jobs failed; --retry-failed draws them again" in ran.err
    monkeypatch.setattr(engine, "encode_prompts", call)
    assert sd("batch", "jobs.json", "-o", "out").code == 1
    assert sd("batch", "jobs.json", "-o", "out", "--retry-failed").code == 0


def test_all_faults_of_a_file_are_listed_and_nothing_is_drawn(sd):
    Path("jobs.yaml").write_text(
        "version: 1\njobs:\n  - {prompt: a cat, cfgg: 3}\n  - {prompt: a dog, steps: many}\n"
    )
    ran = sd("batch", "jobs.yaml", "-o", "out")
    assert ran.code == 2 and not Path("out").exists()
    assert [line for line in ran.err.splitlines() if "jobs.yaml:3" in line and "cfg" in line]
    assert [line for line in ran.err.splitlines() if "jobs.yaml:4" in line and "steps" in line]


def test_a_plan_draws_nothing_and_tells_what_is_left(two_jobs):
    two_jobs("batch", "jobs.json", "-o", "out")
    write(
        "jobs.json",
        {"name": "cat", "prompt": "a cat", "seed": 1},
        {"name": "bus", "prompt": "a bus", "seed": 3},
    )
    ran = two_jobs("batch", "jobs.json", "-o", "out", "--plan")
    assert ran.code == 0 and ran.lines[0] == "2 jobs: 1 to draw, 1 done, 0 failed before"
    plan = json.loads(two_jobs("batch", "jobs.json", "-o", "out", "--plan", "--json").lines[0])["plan"]
    assert [job["path"] for job in plan["to_draw_jobs"]] == ["bus.png"] and plan["models"] == ["test:sd1"]
    assert not Path("out/bus.png").exists()


def test_a_batch_is_read_from_standard_input(sd):
    ran = sd("batch", "-", *SMALL, "-o", "out", stdin=b"a cat\na dog\n")
    assert ran.code == 0 and len(ran.lines) == 2


def test_a_sweep_draws_each_combination_and_goes_on_where_it_ended(sd):
    command = ["txt2img", "a cat", *SMALL, "--sweep", "cfg=2..4 by 2", "--sweep", "seed=1..2", "-o", "out"]
    ran = sd(*command)
    assert ran.code == 0 and sorted(Path(line).name for line in ran.lines) == [
        f"a-cat-{seed}-cfg{cfg}.png" for seed in (1, 2) for cfg in (2, 4)
    ]
    Path("out/a-cat-1-cfg4.png").unlink()
    again = sd(*command, "--json")
    assert [event["type"] for event in events(again)].count("job_done") == 1


def test_a_sweep_over_one_picture_s_options_is_refused(sd):
    ran = sd("txt2img", "a cat", *SMALL, "--sweep", "cfg=2,4", "--steps-dir", "x")
    assert ran.code == 2 and "--steps-dir" in ran.err


def test_pictures_of_a_count_can_have_a_sheet(sd):
    ran = sd("txt2img", "a cat", *SMALL, "--seed", 1, "--count", 3, "--sheet", "sheet.png", "-o", "out")
    assert ran.code == 0 and len(ran.lines) == 3
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 3 * 64


def test_the_reports_are_written_and_renewed_but_never_over_a_file_of_others(two_jobs):
    names = {"--junit": "r.xml", "--markdown": "r.md", "--index": "r.csv", "--sheet": "r.png"}
    options = [word for pair in names.items() for word in pair]
    Path("r.md").write_text("my notes")
    for _ in range(2):
        assert two_jobs("batch", "jobs.json", "-o", "out", *options).code == 0
    suite = ElementTree.parse("r.xml").getroot()
    assert suite.get("tests") == "2" and suite.get("failures") == "0"
    assert [row["name"] for row in csv.DictReader(io.StringIO(Path("r.csv").read_text()))] == ["cat", "dog"]
    assert Path("r.md").read_text() == "my notes" and Path("r-2.md").exists()
    assert sorted(path.name for path in Path().glob("r*")) == [
        "r-2.md",
        "r-3.md",
        "r.csv",
        "r.md",
        "r.png",
        "r.xml",
    ]


def test_a_batch_is_compared_with_goldens(two_jobs):
    assert two_jobs("batch", "jobs.json", "-o", "a", "--check", "gold").code == 2
    assert two_jobs("batch", "jobs.json", "-o", "a", "--check", "gold", "--update").code == 0
    assert sorted(path.name for path in Path("gold").iterdir()) == ["cat.png", "dog.png"]
    assert two_jobs("batch", "jobs.json", "-o", "b", "--check", "gold").code == 0
    write(
        "jobs.json",
        {"name": "cat", "prompt": "a cat", "seed": 3},
        {"name": "bus", "prompt": "a bus", "seed": 2},
    )
    ran = two_jobs("batch", "jobs.json", "-o", "c", "--check", "gold")
    assert ran.code == 1 and Path("c/jobs-differences.png").exists()
    for word in ("cat.png: changed", "bus.png: new", "dog.png: gone"):
        assert word in ran.err


def test_hashes_are_goldens_as_well(two_jobs):
    assert two_jobs("batch", "jobs.json", "-o", "a", "--check", "gold.jsonl", "--update").code == 0
    assert two_jobs("batch", "jobs.json", "-o", "b", "--check", "gold.jsonl").code == 0
    assert len(Path("gold.jsonl").read_text().splitlines()) == 2


def test_openai_lines_are_answered(sd):
    body = {"prompt": "a cat", "n": 2, "size": "64x64", "seed": 4}
    line = {"custom_id": "one", "method": "POST", "url": "/v1/images/generations", "body": body}
    Path("in.jsonl").write_text(json.dumps(line) + "\n")
    ran = sd("batch", "in.jsonl", "-m", "test:sd1", "--steps", 1, "-o", "out", "--openai", "answers.jsonl")
    (answer,) = [json.loads(each) for each in Path("answers.jsonl").read_text().splitlines()]
    assert ran.code == 0 and answer["custom_id"] == "one" and answer["response"]["status_code"] == 200
    assert [each["seed"] for each in answer["response"]["body"]["data"]] == [4, 5]


@pytest.mark.parametrize("options", [["--shard", "0/2"], ["--shard", "3/2"], ["--shard", "x"], ["--on", "moon"],
                                     ["--update"], ["-o", "-"], ["--junit", "x.txt"],
                                     ["--shard", "1/2", "--merge", "x"]])  # fmt: skip
def test_options_that_cannot_be_meant_are_refused_before_anything_is_written(two_jobs, options):
    ran = two_jobs("batch", "jobs.json", *options)
    assert ran.code == 2 and len(ran.err.splitlines()) == 1
    assert sorted(path.name for path in Path().iterdir()) == ["jobs.json"]


def test_the_last_line_of_github_s_summary_file_is_the_batch_s(two_jobs, monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    two_jobs("batch", "jobs.json", "-o", "out")
    assert "2 pictures" in (tmp_path / "summary.md").read_text()


def test_the_name_of_a_file_holds_what_the_model_decides(sd):
    write("jobs.json", {"prompt": "a cat", "seed": 1, "out": "{cfg}-{sampler}-{schedule}-{steps}.png"})
    (path,) = sd("batch", "jobs.json", "-o", "out").lines
    request = json.loads(sd("info", path, "--json").out)
    assert Path(path).name == "{cfg}-{sampler}-{schedule}-{steps}.png".format_map(request)


def test_names_that_are_typed_and_names_in_the_file_are_a_fault(sd):
    write("jobs.json", {"prompt": "a cat", "seed": 1, "out": "q/{seed}.png"})
    ran = sd("batch", "jobs.json", "-o", "out/{cfg}.png")
    assert ran.code == 2 and "q/{seed}.png" in ran.err and "{cfg}.png" in ran.err
    assert sd("batch", "jobs.json", "-o", "out").lines == ["out/q/1.png"]


def test_a_picture_that_gets_another_name_is_told_of(two_jobs):
    two_jobs("batch", "jobs.json", "-o", "out")
    Path("out/cat.png").write_bytes(b"altered")
    ran = two_jobs("batch", "jobs.json", "-o", "out")
    assert "out/cat.png is another picture and was left as it is; this one is out/cat-2.png" in ran.err
    assert "out/cat-2.png" in ran.lines and "out/dog.png" in ran.lines


def test_a_journal_that_cannot_be_read_is_told_of(two_jobs):
    Path("out").mkdir()
    Path("out/jobs.journal.jsonl").write_text("not json\n")
    ran = two_jobs("batch", "jobs.json", "-o", "out")
    assert ran.code == 0 and "jobs.journal.jsonl: 1 of its lines cannot be read" in ran.err


def test_a_single_fault_is_an_event_as_several_are(sd):
    write("jobs.json", {"prompt": "a cat", "cfgg": 1})
    ran = sd("batch", "jobs.json", "--json")
    first, last = (json.loads(line) for line in ran.lines)
    assert first["type"] == "fault" and "cfgg" in first["message"] and last["error"]["code"] == "usage"


def test_a_sweep_says_which_typed_value_it_takes_the_place_of(sd):
    ran = sd("txt2img", "a cat", *SMALL, "--seed", 9, "--sweep", "seed=1,2", "-o", "out")
    assert ran.code == 0 and "--sweep seed takes the place of seed 9" in ran.err


def test_a_place_where_nothing_can_be_drawn_is_refused_before_the_batch_begins(two_jobs):
    ran = two_jobs("batch", "jobs.json", "-o", "out", "--on", "processes:0", "--json")
    assert ran.code == 2 and [list(json.loads(line)) for line in ran.lines] == [["error"]]


def test_update_says_which_goldens_it_removes(two_jobs):
    two_jobs("batch", "jobs.json", "-o", "a", "--check", "gold", "--update")
    write("jobs.json", {"name": "cat", "prompt": "a cat", "seed": 1})
    ran = two_jobs("batch", "jobs.json", "-o", "a", "--check", "gold", "--update")
    assert ran.code == 0 and "dog.png: no job makes it any more; its golden is removed" in ran.err
    assert [path.name for path in Path("gold").iterdir()] == ["cat.png"]
