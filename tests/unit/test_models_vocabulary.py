"""The mini vocabulary is made as it is shipped; the published one is compared with the manifest."""

import hashlib
from collections import Counter

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import models.vocabulary as vocabulary
from miniworld.concepts import CONCEPTS
from models.config import load_config
from models.tokenizer import EOS_ID, SPECIALS, UNK_ID, Tokenizer
from models.vocabulary import find_vocabulary
from models.vocabulary.make import VOCABULARY_SIZE, make_vocabulary, read_words, train

MINI = Tokenizer.read(find_vocabulary("mini"))
NAMES = ("encoder.json", "vocab.bpe", "dict.txt")


def test_the_shipped_files_are_what_the_word_list_makes(tmp_path):
    make_vocabulary(tmp_path)
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == (find_vocabulary("mini") / name).read_bytes()


def test_the_mini_model_has_a_row_for_each_entry():
    assert MINI.vocabulary_size == VOCABULARY_SIZE == load_config("mini").modalities["text"]["vocabulary_size"]


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_comes_back(text):
    ids = MINI.encode(text)
    assert MINI.decode(ids) == text
    assert not {UNK_ID, EOS_ID} & set(ids)


@pytest.mark.parametrize("concept", CONCEPTS, ids=lambda concept: concept.name)
def test_the_words_of_the_miniworld_are_one_token_each(concept):
    for word in (concept.name, *concept.colours):
        assert len(MINI.encode(f" {word}")) == 1


def test_frequent_words_are_one_token_each():
    assert all(len(MINI.encode(word)) == 1 for word, weight in read_words().items() if weight >= 40)


def test_the_dictionary_is_in_order_of_use():
    lines = (find_vocabulary("mini") / "dict.txt").read_text(encoding="utf-8").splitlines()
    uses = [int(line.split(" ")[1]) for line in lines]
    assert uses == sorted(uses, reverse=True)
    assert len(lines) == VOCABULARY_SIZE - len(SPECIALS)


def test_training_merges_the_most_frequent_pair_first():
    merges, uses = train(Counter({"aab": 5, "ab": 4, "cc": 9}), 258)
    assert merges == [("a", "b"), ("c", "c")]  # both 9 times: the alphabet decides
    assert (uses["ab"], uses["a"], uses["cc"], uses["c"]) == (9, 5, 9, 0)


def test_a_list_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="258 pieces exhaust the word list"):
        train(Counter({"abc": 1}), 400)


@pytest.mark.parametrize("content", ["word\n= 3\n", "= 0\nword\n", "= x\nword\n"])
def test_a_word_without_a_weight_is_refused(tmp_path, content):
    path = tmp_path / "words.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"words\.txt line \d: .* expected a weight"):
        read_words(path)


# The published one.


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder of stand-ins, and a manifest that describes them."""
    facts = {}
    for name in NAMES:
        content = name.encode() * 3
        (tmp_path / name).write_bytes(content)
        facts[name] = {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(yaml.safe_dump({"published": facts}), encoding="utf-8")
    monkeypatch.setattr(vocabulary, "MANIFEST_FILE", manifest)
    monkeypatch.setenv("ONEPEACE_VOCABULARY", str(tmp_path))
    return tmp_path


def test_published_files_are_found_where_the_variable_says(published):
    assert find_vocabulary("published") == published


def test_published_files_are_found_below_the_project(published, monkeypatch):
    monkeypatch.delenv("ONEPEACE_VOCABULARY")
    monkeypatch.setattr(vocabulary, "DEFAULT_FOLDER", published)
    assert find_vocabulary("published") == published


def test_missing_files_are_named_with_sizes_and_place(published):
    (published / "dict.txt").unlink()
    (published / "vocab.bpe").unlink()
    with pytest.raises(FileNotFoundError) as error:
        find_vocabulary("published")
    message = str(error.value)
    for part in ("vocab.bpe (27 bytes)", "dict.txt (24 bytes)", str(published), "ONEPEACE_VOCABULARY"):
        assert part in message
    assert "encoder.json (" not in message
    assert "\n" not in message


def test_a_file_of_another_size_is_refused(published):
    (published / "dict.txt").write_bytes(b"0 1\n")
    with pytest.raises(ValueError, match=r"dict\.txt has 4 bytes, expected 24; fetch it again"):
        find_vocabulary("published")


def test_a_file_of_other_content_is_refused(published):
    (published / "vocab.bpe").write_bytes(b"x" * 27)
    with pytest.raises(ValueError, match=r"vocab\.bpe has sha256 [0-9a-f]{64}, expected [0-9a-f]{64}"):
        find_vocabulary("published")


def test_an_unknown_vocabulary_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown vocabulary 'publishd'\. Did you mean 'published'"):
        find_vocabulary("publishd")


def test_the_manifest_describes_the_published_files(samples_dir, monkeypatch):
    monkeypatch.setenv("ONEPEACE_VOCABULARY", str(samples_dir / "vocabulary"))
    assert find_vocabulary("published") == samples_dir / "vocabulary"
