"""The text protocols, told apart by what each cleans and cuts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.modalities.text import MODALITY, PAD_ID, TRANSFORMS, clean_text, collate
from models.tokenizer import EOS_ID, Tokenizer
from models.vocabulary import find_vocabulary

TOKENIZER = Tokenizer.read(find_vocabulary("mini"))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def said(protocol: str, text: str) -> str:
    return TOKENIZER.decode(TRANSFORMS[protocol](text, TOKENIZER).tolist())


@settings(max_examples=100, deadline=None)
@given(text=TEXTS, protocol=st.sampled_from(sorted(TRANSFORMS)))
def test_ids_are_integers_and_end_with_the_only_eos(text, protocol):
    ids = TRANSFORMS[protocol](text, TOKENIZER)
    assert ids.dtype == torch.int64
    assert ids[-1] == EOS_ID
    assert (ids == EOS_ID).sum() == 1
    assert PAD_ID not in ids


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  ", ""),
        (",.!?*#:;~A Dog", "a dog"),
        (" .dog", ".dog"),  # blanks in front are not dropped before punctuation is
        ("a\tb", "a b"),
        ("a \t\r\n b", "a b"),
        ("a\nb", "a\nb"),
        ("a\u00a0b", "a\u00a0b"),
        ("a\u2003\u00a0b", "a b"),
        ("dog\n", "dog"),
        ("dog \n", "dog"),
        ("\ndog", "\ndog"),
        ("dog!", "dog!"),
    ],
)
def test_captions_are_cleaned(text, cleaned):
    assert clean_text(text) == cleaned
    assert said("text", text) == f" {cleaned}"
    assert said("text-grounding", text) == f" {cleaned}"


@settings(max_examples=100, deadline=None)
@given(text=TEXTS)
def test_the_raw_protocol_changes_nothing_but_the_blank_in_front(text):
    assert said("text-raw", text) == f" {text}"


def test_the_api_protocol_lowers_and_cleans_nothing_else():
    assert said("text-api", "#A\tDog ") == " #a\tdog "


def test_texts_are_cut_by_tokens_words_or_not_at_all():
    long = " ".join(["bird"] * 90)
    lengths = {name: len(transform(long, TOKENIZER)) for name, transform in TRANSFORMS.items()}
    assert lengths == {"text": 71, "text-api": 71, "text-grounding": 71, "text-raw": 91}


def test_grounding_cuts_words_not_tokens():
    long = " ".join(["x-y"] * 90)
    assert said("text-grounding", long) == " " + " ".join(["x-y"] * 70)
    assert len(TRANSFORMS["text-grounding"](long, TOKENIZER)) > 71


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_batches_are_padded_at_the_end(lengths):
    texts = [torch.arange(4, 4 + length) for length in lengths]
    batch = collate(texts)
    assert batch.shape == (len(lengths), max(lengths))
    for row, text in zip(batch, texts, strict=True):
        assert torch.equal(row[: len(text)], text)
        assert (row[len(text) :] == PAD_ID).all()


def test_the_modality_reads_and_batches_texts():
    ids = [MODALITY.transforms["text"](MODALITY.read(text), TOKENIZER) for text in ("a dog", "a dog and a bird")]
    assert MODALITY.collate(ids, {}).shape == (2, 6)


def test_no_texts_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        collate([])


def test_what_is_no_text_is_refused():
    with pytest.raises(ValueError, match=r"a bytes, expected a text \(str\)"):
        MODALITY.read(b"a dog")
