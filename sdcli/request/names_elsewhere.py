"""Names elsewhere: the one table of what other tools call the settings of a request, in Python and on command lines.

Read in: A1111's API (modules/api/models.py) and the old scripts/txt2img.py, the pipelines of diffusers, the options of
stable-diffusion.cpp (examples/common), InvokeAI's metadata and the inputs of ComfyUI's nodes.
"""

WORDS = {
    "prompt": "positive_prompt text",
    "negative": "negative_prompt neg neg_prompt negativeprompt uc",
    "style": "styles prompt_styles",
    "styles_file": "styles_path styles_csv",
    "embedding": "embeddings textual_inversion ti",
    "hypernet": "hypernetwork hypernetworks",
    "reference": "reference_only reference_image ref_image",
    "tome": "token_merging_ratio tome_ratio",
    "control": "controlnet controlnet_units",
    "wildcards": "wildcard_dir wildcards_dir wildcards_folder",
    "seed": "generator noise_seed",
    "steps": "num_inference_steps ddim_steps sample_steps sampling_steps num_steps inference_steps",
    "cfg": "cfg_scale guidance_scale cfgscale unconditional_guidance_scale",
    "sampler": "sampler_name sampling_method sample_method sampler_index",
    "schedule": "scheduler schedule_type noise_schedule scheduler_name",
    "model": "checkpoint ckpt ckpt_path ckpt_name sd_model sd_model_checkpoint model_path model_id model_name",
    "vae": "vae_path vae_name sd_vae",
    "image": "init_image init_img input_image init initimage",
    "strength": "denoising_strength prompt_strength denoise denoising",
    "mask": "mask_image mask_img init_mask",
    "padding": "inpaint_full_res_padding masked_area_padding",
    "only_masked": "inpaint_full_res",
    "invert_mask": "inpainting_mask_invert",
    "clip_skip": "clip_stop_at_last_layers skip_clip",
    "width": "w",
    "height": "h",
    "rng": "randn_source rng_type",
    "ensd": "eta_noise_seed_delta",
    "variation_seed": "subseed",
    "variation_strength": "subseed_strength",
    "hires": "hr_scale hires_scale hires_upscale",
    "hires_strength": "hires_denoising_strength",
    "dtype": "torch_dtype",
    "prediction": "prediction_type parameterization",
}
"""Our field -> the words of others."""

FIELDS = {word: field for field, words in WORDS.items() for word in words.split()}
"""A word of others -> our field."""

OUTPUT = {
    "count": "n_iter n_samples batch_count num_images num_images_per_prompt num_outputs n_images",
    "out": "outdir output outpath output_dir output_path save_path",
}
"""An option of the output -> the words of others."""

HINTS = {
    "batch_size": "pictures are drawn one after another; --count says how many",
    "plms": "give --sampler plms",
    "ddim": "give --sampler ddim",
    "ddim_eta": "an option rides on the sampler's name: --sampler ddim:eta=1",
    "eta": "an option rides on the sampler's name: --sampler euler_a:eta=0.5",
    "s_noise": "an option rides on the sampler's name: --sampler euler_a:s_noise=1.02",
    "karras": "give --schedule karras",
    "use_karras_sigmas": "give --schedule karras",
    "scale": "the guidance scale is --cfg",
    "guidance_rescale": "give --guidance cfg_rescale:phi=0.7",
    "cfg_rescale": "give --guidance cfg_rescale:phi=0.7",
    "image_guidance_scale": "it is --image-cfg of sd img2img",
    "img_cfg_scale": "it is --image-cfg of sd img2img",
    "image_cfg_scale": "it is --image-cfg of sd img2img",
    "tiling": "give --tile both",
    "seamless": "give --tile both",
    "circular": "give --tile both",
    "enable_hr": "give --hires 2, the factor",
    "seed_resize_from_w": "give --seed-size 512x512",
    "seed_resize_from_h": "give --seed-size 512x512",
    "precision": "give --dtype float32, bfloat16 or float16",
    "fp16": "give --dtype float16",
    "half": "give --dtype float16",
    "no_half": "give --dtype float32",
    "type": "give --dtype float32, bfloat16 or float16",
    "from_file": "--prompt-file reads one prompt from a file",
    "lora": "adapters cannot be used yet",
    "lora_model_dir": "adapters cannot be used yet",
    "embd_dir": "the environment variable SDCLI_EMBEDDINGS names the folder, --embedding one file",
    "embeddings_dir": "the environment variable SDCLI_EMBEDDINGS names the folder, --embedding one file",
    "ip_adapter_image": "give --ip-adapter FILE:image=face.png",
    "ip_adapter_scale": "it rides on the file: --ip-adapter FILE:image=face.png:weight=0.8",
    "sag_scale": "give --guidance sag:strength=0.75",
    "style_fidelity": "it rides on the picture: --reference in.png:fidelity=0.5",
    "control_net": "give --control net.safetensors:image=edges.png",
    "control_image": "give --control net.safetensors:image=edges.png",
    "control_strength": "a setting rides on the file's name: --control net.safetensors:image=edges.png:weight=0.9",
    "controlnet_conditioning_scale": "a setting rides on the file's name: --control …:weight=0.9",
    "control_guidance_start": "a setting rides on the file's name: --control …:start=0.2",
    "control_guidance_end": "a setting rides on the file's name: --control …:end=0.6",
    "guess_mode": "a setting rides on the file's name: --control …:mode=control",
    "canny": "let --control make the edges: --control …:annotate=canny",
    "restore_faces": "there is nothing of the kind here; leave it out",
    "medvram": "networks are loaded one at a time by itself where memory is short; leave it out",
    "lowvram": "networks are loaded one at a time by itself where memory is short; leave it out",
    "offload_to_cpu": "networks are loaded one at a time by itself where memory is short; leave it out",
    "xformers": "torch's own attention is used; leave it out",
    "diffusion_fa": "torch's own attention is used; leave it out",
}
"""A word of others for what is asked for in another way here -> that way."""
