"""Texts that tokenizers differ on."""

from __future__ import annotations

PROBES = (
    *("", " ", "a", "It is great.", "tab\tnew\nline", "don't!stop-me", "[SEP] [MASK]x", "Ünïcödé ÀÉÎ Straße İI"),
    *("中文字符 and 漢字", "日本語テキスト", "한국어 문장", "Ελληνικά Ώρα", "кириллица Й", "हिन्दी का पाठ", "ไทย"),
    *("emoji 🙂👍🏽", "\u200b\u00adzero\ufeffwidth", "ﬁ ﬂ Ǆ ǅ ẞ", "100 % ≠ ½ €", "e\u0301 o\u0323\u0302"),
    *("עִבְרִית", "x" * 150, "word " * 600),
)  # fmt: skip
"""One text each."""


def probe_columns(pairs: bool) -> list[list[str]]:
    """The texts as the inputs of a model: one column, or two whose rows are pairs of different texts."""
    return [list(PROBES), list(reversed(PROBES))][: 2 if pairs else 1]
