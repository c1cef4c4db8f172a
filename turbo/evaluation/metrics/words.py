"""Captions into words, about as the COCO evaluation server does it, without Java."""

from __future__ import annotations

import re

_TYPOGRAPHIC = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "--", "—": "--", "…": "..."})
_CLITIC = re.compile(r"(?<=\w)(n't|'(?:s|m|d|re|ve|ll))(?!\w)")
_TWO_WORDS = {"cannot": "can not", "gonna": "gon na", "gotta": "got ta", "wanna": "wan na", "gimme": "gim me"}
_PAIR = re.compile(rf"\b(?:{'|'.join(_TWO_WORDS)})\b")
_TOKEN = re.compile(
    r"""
    n't(?!\w) | '(?:s|m|d|re|ve|ll)(?!\w)     # what _CLITIC has cut off
    | (?:[a-z]\.){2,}                         # u.s.
    | (?:mr|mrs|ms|dr|st|jr|sr|mt|vs)\.       # other words that keep their full stop
    | \w+ (?: (?<=\d)[.,:]\d+ | [-']\w+ )*    # words, numbers, t-shirt, o'clock, 10:30
    | [^\w\s]                                 # a mark
    """,
    re.VERBOSE,
)
_DROPPED = frozenset(""".?!,:;-'"`""")


def split_words(text: str) -> list[str]:
    """Splits a caption into lower-case words and drops its punctuation.

    It approximates Stanford's PTBTokenizer 3.4.1, a Java program, as coco-caption calls it (``-preserveLines
    -lowerCase``, then a list of marks is dropped; Chen et al., "Microsoft COCO Captions", 2015). Contractions are cut
    as in the Penn Treebank: "isn't" is "is" and "n't", "dog's" is "dog" and "'s". Words joined by a hyphen stay
    whole. Brackets are kept, as they are by coco-caption, whose list has them in capitals only.

    It differs where captions hardly go: British spellings are not made American ("colour" stays), only the common
    abbreviations keep their full stop, fractions, e-mail and web addresses, smileys and "and/or" are cut at their
    marks, and brackets, slashes and asterisks stay as they are, which the Java program escapes. On captions of
    plain words and sentence punctuation the two agree.

    Args:
        text: a caption.

    Returns:
        Its words; none for a text without any.

    Examples:
        >>> split_words("A man's T-shirt isn't red, is it?")
        ['a', 'man', "'s", 't-shirt', 'is', "n't", 'red', 'is', 'it']
    """
    text = text.translate(_TYPOGRAPHIC).lower()
    text = _PAIR.sub(lambda found: _TWO_WORDS[found.group()], _CLITIC.sub(r" \1", text))
    return [token for token in _TOKEN.findall(text) if token not in _DROPPED]
