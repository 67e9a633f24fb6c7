"""Random prompts for property tests."""

from hypothesis import strategies as st

WORDS = st.text("abz ,.é", max_size=12)
"""Text that no part of the prompt language has a meaning for."""

SIGNS = [
    "(",
    ")",
    "[",
    "]",
    "\\",
    ":",
    "|",
    ",",
    " ",
    "\n",
    ":1.3)",
    ":0.5]",
    ":3]",
    "BREAK",
    " AND ",
    "a",
    "cat",
    "²",
    "٣",
]
PROMPTS = st.lists(st.sampled_from(SIGNS), max_size=25).map("".join) | st.text(max_size=40)
"""Any text, most often one full of brackets, colons and numbers."""
