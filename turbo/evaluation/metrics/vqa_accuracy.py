"""The accuracy of VQA v2: agreement with people, after both answers are brought to one form.

Source: visualqa.org/evaluation.html; Antol et al., "VQA: Visual Question Answering", ICCV 2015.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from turbo.errors import TurboError

_ENOUGH = 3  # people who agree make an answer wholly right
_ARTICLES = frozenset({"a", "an", "the"})
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {word: str(number) for number, word in enumerate(_WORDS)} | {"none": "0"}
_MARKS = re.compile(r"""[;/\[\]"{}()=+\\_\-><@`,?!]""")
_TIDY = ((re.compile(r"(?<=\d),(?=\d)"), ""), (re.compile(r"\.(?!\d)"), ""), (_MARKS, " "))
_WITH_APOSTROPHES = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd somebody'd've somebody'll somebody's
someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're
there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've
when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't
wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
"""
# The official list: each of these without one of its apostrophes.
_CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word
    for word in _WITH_APOSTROPHES.split()
    for place, letter in enumerate(word)
    if letter == "'"
}


def normalise(answer: str) -> str:
    """Brings an answer to the form in which answers are compared.

    As published: lower case; full stops go, except before a digit; so do commas between digits; other punctuation
    but apostrophes and colons becomes a space; "none", "zero" to "ten" become digits; "a", "an" and "the" go;
    contractions get their apostrophe ("dont", "don't"). As in the official code, "%", "$", "&", "#" and "*" are no
    punctuation. Where that code goes astray, this follows the description: the code drops a mark without leaving a
    space where the answer has that mark beside a space, too, or has a comma between digits, and it takes the
    apostrophe out of "somebody'd".

    Args:
        answer: of a model or a person.

    Returns:
        Its words, with one space between them.

    Examples:
        >>> normalise("The T-shirt; I dont know"), normalise("two"), normalise("1,000.50"), normalise("2:50 p.m.")
        ("t shirt i don't know", '2', '1000.50', '2:50 pm')
    """
    text = answer.lower()
    for pattern, replacement in _TIDY:
        text = pattern.sub(replacement, text)
    words = [_NUMBERS.get(word, word) for word in text.split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(answer: str, humans: Sequence[str]) -> float:
    """How far people agree with an answer: min(matches / 3, 1), averaged over all sets that leave one person out.

    With ten people, as VQA v2 has them, 0, 1, 2, 3 and 4 or more matches give 0, 0.3, 0.6, 0.9 and 1. With fewer than
    ten the same average is taken. Where the sets have fewer than three people, all of theirs must match for 1. A
    single answer leaves no set: it matches (1) or does not (0), after `normalise`.

    Answers are always normalised. The official code leaves them as they are where all ten agree word for word, so it
    would call "two" wrong where all say "2".

    Args:
        answer: of the model.
        humans: the answers of people, one each.

    Returns:
        0 to 1.

    Raises:
        TurboError: no answer of a person.

    Examples:
        >>> vqa_accuracy("two", ["2", "2", "two", "three", "3", "3", "3", "3", "3", "3"])
        0.9
        >>> vqa_accuracy("a ring", ["ring"]), vqa_accuracy("cross", ["ring"])
        (1.0, 0.0)
    """
    if isinstance(humans, str):
        raise TurboError(f"the answers of people are one text: give a list of texts, [{humans!r}]")
    if not humans:
        raise TurboError("a question without an answer of a person: give one or more")
    given = normalise(answer)
    matches = [normalise(human) == given for human in humans]
    if len(matches) == 1:
        return float(matches[0])
    enough = min(_ENOUGH, len(matches) - 1)
    # Exact in integers; only the last division rounds.
    return sum(min(sum(matches) - left_out, enough) for left_out in matches) / (enough * len(matches))
