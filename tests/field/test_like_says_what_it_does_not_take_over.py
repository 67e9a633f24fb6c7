"""A convention of another tool that `--like` does not take over is said in one line on standard error.

Version 0.1.0 drew `--like comfyui --sampler euler_a` with the noise of its own generator, another picture than
ComfyUI's, without a word.
"""


def draw(sd, toy, *options):
    return sd("txt2img", "x", "-m", toy, "--steps", "2", "--seed", "1", *options)


def test_like_says_in_one_line_what_it_does_not_take_over(sd, toy):
    ran = draw(sd, toy, "--like", "comfyui", "--sampler", "euler_a")
    assert ran.code == 0
    assert len(ran.err.splitlines()) == 1
    assert "sd: --like comfyui is not exact here: the noise of its steps is that of --rng comfyui" in ran.err


def test_like_says_nothing_where_all_is_taken_over(sd, toy):
    assert draw(sd, toy, "--like", "comfyui", "--sampler", "euler").err == ""
    assert draw(sd, toy, "--like", "comfyui", "--sampler", "euler_a", "--rng", "comfyui").err == ""
    assert draw(sd, toy, "--like", "comfyui", "--sampler", "dpmpp_sde").err == ""
    assert draw(sd, toy, "--sampler", "euler_a").err == ""
