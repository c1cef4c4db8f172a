"""The words of the zoo's vision-language models, and tokenizers of whole words for them."""

from __future__ import annotations

from typing import Any

SIZES = ("small", "big")
COLOURS = ("red", "green", "blue", "yellow", "white", "purple")
SHAPES = ("circle", "square", "triangle", "cross", "ring")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
KINDS = SHAPES + DIGITS
NONE = -1  # label of what a scene lacks: the second object of a scene with one

COUNTS = ("none", *DIGITS[1:4])
_SCENES = ("a", "left", "right", "of", "above", "below", *SIZES, *COLOURS, *SHAPES, *DIGITS)
_QUESTIONS = ("the", "what", "which", "is", "are", "there", "how", "many", "it", "on", "thing", "things")
_ANSWERS = ("colour", "size", "digit", "digits", "shape", "shapes", "yes", "no", *COUNTS)
WORDS = tuple(dict.fromkeys([*_SCENES, *_QUESTIONS, *_ANSWERS]))  # their order is the models' token ids
LENGTH = 32  # tokens of a text, at most


def bert_tokenizer() -> Any:
    """Builds a tokenizer as BLIP's: ``[CLS]`` before a text, ``[SEP]`` after it, ``[DEC]`` before what is generated."""
    from transformers import BertTokenizer

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]
    vocabulary = {word: index for index, word in enumerate([*special, *WORDS])}
    return BertTokenizer(vocab=vocabulary, bos_token="[DEC]", model_max_length=LENGTH)


def clip_tokenizer(words: tuple[str, ...] = WORDS, length: int = LENGTH) -> Any:
    """Builds a tokenizer as CLIP's and Stable Diffusion's: it pads with its end token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    # CLIPTextModel would take an end token of id 2 for the one of an old format.
    vocabulary = {word: index for index, word in enumerate(["<start>", "<end>", *words])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 0), ("<end>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<start>", eos_token="<end>", pad_token="<end>", model_max_length=length
    )
