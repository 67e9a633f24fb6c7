"""One picture: from the prompt to latents to pixels."""
