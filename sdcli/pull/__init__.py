"""Pull: files that people share on Civitai, fetched into the user's folders."""
