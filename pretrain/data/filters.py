"""Which samples pretraining keeps: score, caption and picture, judged before anything is decoded.

Source: paper, appendix, pretraining data.
"""

import io
import unicodedata
import warnings
from pathlib import Path
from typing import Final

import regex  # type: ignore[import-untyped]  # Python's own `re` knows no \p{Extended_Pictographic}
from PIL import Image

from models.modalities.image import FORMATS
from models.modalities.text import clean_text
from pretrain.data.base import RawSample, SampleError
from pretrain.data.config import FilterConfig

# Pictures among the characters, flags and key caps; of the signs of ordinary print only when shown as pictures.
EMOJI: Final = regex.compile(
    r"(?V1)[\p{Extended_Pictographic}--[©®™‼⁉]]|[©®™‼⁉]\uFE0F|\p{Regional_Indicator}|[#*0-9]\uFE0F?\u20E3"
)
WORDS: Final = regex.compile(r"\p{L}+(?:['\u2019]\p{L}+)*")
MIN_LATIN_SHARE: Final = 0.9
MIN_ASCII_SHARE: Final = 0.8
MIN_FOREIGN_WORDS: Final = 2  # one alone is often part of an English name: El Paso, de Gaulle
ENGLISH_WORDS: Final = "the of and with is are was at on for by from to this that an in a it as"
FOREIGN_WORDS: Final = (
    "de la le les des du un une et dans sur avec pour est au aux el los las del una con para por y en es il di della "
    "nel che der das ein eine und mit auf für im ist von zu dem het een voor och av på med att som os uma da na się "
    "jest ve bir için"
)


def reject(raw: RawSample, config: FilterConfig) -> str | None:
    """Say by which filter a sample falls, in one word; None keeps it.

    Raises:
        SampleError: its caption is empty.
        FileNotFoundError: its picture is gone.
        ValueError: its picture's header cannot be read.
    """
    if config.min_score is not None and not raw.facts["score"] >= config.min_score:  # a score that is no number falls
        return "score"
    caption = raw.fields.get("text")
    if caption is not None and (reason := reject_caption(read_caption(caption, raw.key), config)):
        return reason
    wants_size = config.max_aspect is not None or config.min_side_px is not None
    if "image" in raw.fields and wants_size:
        return reject_size(*_find_size(raw), config)
    return None


def read_caption(content: bytes | Path | str, key: str) -> str:
    """Decode a caption.

    Raises:
        SampleError: it is not UTF-8, or nothing is left when it is cleaned.
    """
    try:
        caption = content.decode("utf-8") if isinstance(content, bytes) else str(content)
    except UnicodeDecodeError as error:
        raise SampleError("undecodable", f"its text is not UTF-8: {error}", key=key) from None
    if not clean_text(caption).strip():
        raise SampleError("empty caption", f"nothing is left of {caption[:50]!r}", key=key)
    return caption


def reject_caption(caption: str, config: FilterConfig) -> str | None:
    """Say by which filter a caption falls."""
    length = len(caption.strip())
    if config.min_characters is not None and length < config.min_characters:
        return "short"
    if config.max_characters is not None and length > config.max_characters:
        return "long"
    if config.no_emoji and EMOJI.search(caption):
        return "emoji"
    if config.english_only and not seems_english(caption):
        return "language"
    return None


def reject_size(width: float, height: float, config: FilterConfig) -> str | None:
    """Say by which filter a picture of this size in pixels falls."""
    short, long = min(width, height), max(width, height)
    if config.min_side_px is not None and not short >= config.min_side_px:
        return "side"
    if config.max_aspect is not None and not long <= config.max_aspect * short:
        return "aspect"
    return None


def seems_english(text: str) -> bool:
    """Guess whether a caption is English: a rule of thumb without a language model.

    It needs letters; nine in ten of them Latin, eight in ten plain ASCII; and no two function words of other European
    languages unless there are as many English ones. So other scripts fall, and sentences of Latin script mostly;
    a few words without any function word pass in any language, as do names.

    Differs: the paper does not name its detector.
    """
    letters = [character for character in text if character.isalpha()]
    latin = sum(character.isascii() or unicodedata.name(character, "").startswith("LATIN") for character in letters)
    plain = sum(character.isascii() for character in letters)
    if not letters or latin < MIN_LATIN_SHARE * len(letters) or plain < MIN_ASCII_SHARE * len(letters):
        return False
    foreign_words, english_words = FOREIGN_WORDS.split(), ENGLISH_WORDS.split()
    words = [word.lower() for word in WORDS.findall(text)]
    foreign = sum(word in foreign_words for word in words)
    english = sum(word in english_words for word in words)
    return foreign < MIN_FOREIGN_WORDS or foreign <= english


def _find_size(raw: RawSample) -> tuple[float, float]:
    """Take width and height from what the source tells, else from the picture's header."""
    if "width" in raw.facts:
        return raw.facts["width"], raw.facts["height"]
    content = raw.fields["image"]
    return read_size(content if isinstance(content, bytes) else Path(content))


def read_size(source: bytes | Path) -> tuple[int, int]:
    """Read a picture's width and height in pixels without decoding it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no picture.
    """
    if isinstance(source, Path) and not source.is_file():
        raise FileNotFoundError(f"no picture at {source}")
    where = str(source) if isinstance(source, Path) else "the picture"
    try:
        with (
            warnings.catch_warnings(action="ignore", category=UserWarning),  # faulty EXIF: not the size
            Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as picture,
        ):
            return picture.size
    except Exception as error:  # Pillow's decoders raise many kinds on faulty files
        raise ValueError(f"{where} has no header that can be read: {type(error).__name__}") from None
