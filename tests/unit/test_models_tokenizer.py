"""Every text comes back from its ids, and malformed vocabularies are refused in one line."""

import json
import pickle
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.tokenizer import BYTE_CHARACTERS, SPECIALS, UNK_ID, WORDS, Tokenizer, merge_pieces

BYTES = list(BYTE_CHARACTERS.values())
MERGES = [("a", "b"), ("Ġ", "ab"), ("c", "c"), ("cc", "cc")]


def piece_ids(merges=MERGES) -> dict[str, int]:
    return {piece: number for number, piece in enumerate([*BYTES, *("".join(pair) for pair in merges)])}


def build(entries=None) -> Tokenizer:
    ids = piece_ids()
    return Tokenizer(MERGES, ids, [str(bpe_id) for bpe_id in ids.values()] if entries is None else entries)


TOKENIZER = build()


def write(folder, *, encoder=None, merges=None, dictionary=None) -> None:
    ids = piece_ids()
    lines = "".join(f"{first} {second}\n" for first, second in MERGES)
    entries = "".join(f"{bpe_id} 7\n" for bpe_id in ids.values())
    (folder / "encoder.json").write_text(json.dumps(ids) if encoder is None else encoder, encoding="utf-8")
    (folder / "vocab.bpe").write_text("#version\n" + lines if merges is None else merges, encoding="utf-8", newline="")
    (folder / "dict.txt").write_text(entries if dictionary is None else dictionary, encoding="utf-8", newline="")


# Coming back.


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_comes_back(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@settings(deadline=None)
@given(text=st.text(st.sampled_from("ab c\n\t'sé😀"), max_size=40))
def test_texts_of_merged_pieces_come_back(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_words_leave_no_character_out(text):
    assert "".join(WORDS.findall(text)) == text


@given(text=st.text(st.sampled_from("ab \ud800\udfff"), min_size=1).filter(lambda text: max(text) > "\ud7ff"))
def test_a_lone_surrogate_is_refused_with_its_place(text):
    place = next(number for number, character in enumerate(text) if character > "\ud7ff")
    with pytest.raises(ValueError, match=rf"character {place} .* lone surrogate") as error:
        TOKENIZER.encode(text)
    assert "\n" not in str(error.value)
    assert not isinstance(error.value, UnicodeError)


def test_special_names_in_a_text_are_ordinary_characters():
    for special in SPECIALS:
        ids = TOKENIZER.encode(special)
        assert min(ids) >= len(SPECIALS)
        assert TOKENIZER.decode(ids) == special


# Merging.


def merge_by_rounds(parts, ranks):
    """GPT-2's own way: round by round, every occurrence of the best pair."""
    parts = list(parts)
    while pairs := [pair for pair in pairwise(parts) if pair in ranks]:
        best, merged = min(pairs, key=ranks.__getitem__), []
        for part in parts:
            if merged and (merged[-1], part) == best and merged[-1] != "".join(best):
                merged[-1] += part
            else:
                merged.append(part)
        parts = merged
    return parts


@st.composite
def orders(draw):
    """Merges over three letters, each of pieces made before, each making a new piece."""
    made, order = ["a", "b", "c"], []
    for _ in range(draw(st.integers(0, 12))):
        pair = draw(st.tuples(st.sampled_from(made), st.sampled_from(made)))
        if "".join(pair) not in made:
            made.append("".join(pair))
            order.append(pair)
    return {pair: rank for rank, pair in enumerate(order)}


@settings(max_examples=150, deadline=None)
@given(ranks=orders(), word=st.text(st.sampled_from("abc"), max_size=30))
def test_merging_gives_what_merging_round_by_round_gives(ranks, word):
    assert merge_pieces(word, ranks) == merge_by_rounds(word, ranks)


def test_the_earliest_merge_wins_and_goes_from_left_to_right():
    assert merge_pieces("ccccc", {("c", "c"): 0, ("cc", "cc"): 1}) == ["cccc", "c"]
    assert merge_pieces("abc", {("b", "c"): 0, ("a", "b"): 1}) == ["a", "bc"]


def test_a_word_of_a_hundred_thousand_letters_takes_no_quadratic_time():
    text = "abc" * 33_333  # round by round this takes minutes
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


# The dictionary.


def test_dictionary_ids_follow_the_lines_not_the_bpe_ids():
    turned = build([str(bpe_id) for bpe_id in reversed(piece_ids().values())])
    assert turned.id_of_bpe(len(piece_ids()) - 1) == len(SPECIALS)
    assert turned.encode("cccc") == [len(SPECIALS)]


def test_bpe_ids_without_a_line_are_unknown():
    short = build([str(piece_ids()["a"]), "name0"])
    assert short.encode("aba") == [UNK_ID, 4]
    assert short.decode([4, UNK_ID]) == "a\ufffd"
    assert short.id_of_bpe(10**9) == UNK_ID


def test_specials_and_names_without_text_decode_to_nothing():
    named = build([*(str(bpe_id) for bpe_id in piece_ids().values()), "madeupword0000"])
    assert named.decode([0, 1, 2, named.vocabulary_size - 1]) == ""


@pytest.mark.parametrize("index", [-1, 264])
def test_ids_outside_the_dictionary_are_refused(index):
    with pytest.raises(ValueError, match="expected 0 to 263"):
        TOKENIZER.decode([4, index])


def test_bytes_that_are_no_text_decode_to_the_replacement_character():
    assert TOKENIZER.decode(TOKENIZER.encode("é")[:1]) == "\ufffd"


def test_words_start_at_pieces_with_a_blank_in_front_and_at_entries_without_text():
    named = build([*(str(bpe_id) for bpe_id in piece_ids().values()), "madeupword0000"])
    starts = named.word_starts
    assert starts[:4].all()
    assert starts[-1]
    assert [bool(starts[index]) for index in named.encode(" abab x")] == [True, False, True, False]
    assert not starts[named.encode("\t")].any()
    with pytest.raises(ValueError, match="read-only"):
        starts[0] = False


def test_a_pickled_tokenizer_is_the_same():
    again = pickle.loads(pickle.dumps(TOKENIZER))
    assert again.encode("ab cccc é") == TOKENIZER.encode("ab cccc é")


# Files.


def test_a_folder_is_read_as_built(tmp_path):
    write(tmp_path)
    assert Tokenizer.read(tmp_path).__reduce__()[1] == TOKENIZER.__reduce__()[1]


def test_line_ends_of_windows_change_nothing(tmp_path):
    write(tmp_path)
    for name in ("vocab.bpe", "dict.txt"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes().replace(b"\n", b"\r\n"))
    assert Tokenizer.read(tmp_path).__reduce__()[1] == TOKENIZER.__reduce__()[1]


@pytest.mark.parametrize("name", ["encoder.json", "vocab.bpe", "dict.txt"])
def test_a_missing_file_is_named(tmp_path, name):
    write(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        Tokenizer.read(tmp_path)


def encoder_with(**changes) -> dict:
    return {"encoder": json.dumps(piece_ids() | changes)}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"encoder": '{"a": 1,\n "b": }'}, r"encoder\.json line 2: no JSON"),
        ({"encoder": "[" * 100_000}, r"encoder\.json line 1: nested too deep"),
        ({"encoder": '{"a": ' + "9" * 5000 + "}"}, r"encoder\.json line 1: .* too long a number"),
        ({"encoder": "[1]"}, r"encoder\.json line 1: a list"),
        ({"encoder": "{}"}, r"encoder\.json: no piece '!' for byte 0x21"),
        (encoder_with(x="1"), r"encoder\.json: piece 'x' has id '1'"),
        (encoder_with(x=True), r"encoder\.json: piece 'x' has id 'True'"),
        (encoder_with(x=-1), r"encoder\.json: piece 'x' has id '-1'"),
        (encoder_with(ab=0), r"encoder\.json: pieces '!' and 'ab' share id 0"),
        ({"encoder": json.dumps(piece_ids() | {"日": 900})}, r"encoder\.json: piece '日' holds a character"),
        ({"encoder": json.dumps(piece_ids() | {"": 900})}, r"encoder\.json: piece '' holds"),
        ({"merges": "#\na b\nab\n"}, r"vocab\.bpe line 3: 'ab', expected two pieces"),
        ({"merges": "#\na b c\n"}, r"vocab\.bpe line 2: 'a b c', expected two"),
        ({"merges": "#\na  b\n"}, r"vocab\.bpe line 2: 'a  b', expected two"),
        ({"merges": "#\n\na b\n"}, r"vocab\.bpe line 2: '', expected two"),
        ({"merges": "#\nĠ ab\na b\n"}, r"vocab\.bpe line 2: piece 'ab' is not made by an earlier line"),
        ({"merges": "#\na b\na b\n"}, r"vocab\.bpe line 3: piece 'ab' is made already by line 2"),
        ({"merges": "#\na c\n"}, r"vocab\.bpe line 2: piece 'ac' is not in encoder\.json"),
        ({"dictionary": "0 1\n1\n"}, r"dict\.txt line 2: '1', expected a BPE id"),
        ({"dictionary": "0 1\n1 x\n"}, r"dict\.txt line 2: '1 x', expected"),
        ({"dictionary": "0 1 2\n"}, r"dict\.txt line 1: '0 1 2', expected"),
        ({"dictionary": "0 1\n\n1 1\n"}, r"dict\.txt line 2: '', expected"),
        ({"dictionary": "0 1\n0 1\n"}, r"dict\.txt line 2: '0' stands there already, on line 1"),
        ({"dictionary": "<pad> 1\n"}, r"dict\.txt line 1: '<pad>' stands there already"),
        ({"dictionary": "0 1\n900 1\n"}, r"dict\.txt line 2: BPE id 900 is not in encoder\.json"),
    ],
)
def test_a_malformed_file_is_refused_in_one_line(tmp_path, files, message):
    write(tmp_path, **files)
    with pytest.raises(ValueError, match=message) as error:
        Tokenizer.read(tmp_path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("name", ["encoder.json", "vocab.bpe", "dict.txt"])
def test_bytes_that_are_no_text_are_refused_with_their_line(tmp_path, name):
    write(tmp_path)
    (tmp_path / name).write_bytes(b"x y\nx \xff\n")
    with pytest.raises(ValueError, match=f"{name} line 2: byte 0xff"):
        Tokenizer.read(tmp_path)


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=60), name=st.sampled_from(["encoder.json", "vocab.bpe", "dict.txt"]))
def test_random_bytes_are_refused_or_read_but_nothing_else(tmp_path_factory, content, name):
    folder = tmp_path_factory.mktemp("vocabulary")
    write(folder)
    (folder / name).write_bytes(content)
    with suppress(ValueError):
        Tokenizer.read(folder)
