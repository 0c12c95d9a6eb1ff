"""Shards, tables, csv and Karpathy's json are read sample by sample; what is damaged is named, never left out."""

import csv
import io
import json
import random
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.data.base import SampleError
from pretrain.data.config import SourceConfig
from pretrain.data.sources import count_epoch, open_source, open_sources

SAID: list[str] = []
SHARD_FIELDS = {"image": "jpg;jpeg", "text": "txt"}


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def members_of(key: str, *, picture: bytes = b"picture", text: str = "a cat") -> list[tuple[str, bytes]]:
    return [(f"{key}.jpg", picture + key.encode()), (f"{key}.txt", text.encode())]


def write_shard(path: Path, keys: list[str]) -> Path:
    return write_tar(path, [member for key in keys for member in members_of(key)])


def shards_at(path, **changes) -> SourceConfig:
    return SourceConfig(**{"kind": "shards", "path": str(path), "fields": SHARD_FIELDS, **changes})


def open_quietly(config: SourceConfig):
    return open_source(config, say=SAID.append)


def read_all(source) -> list:
    """Every sample, or its fault as (reason, key)."""
    found = []
    for number in range(len(source.shards)):
        shard = source.open(number)
        assert len(shard) == source.count(number)
        for ordinal in range(len(shard)):
            try:
                found.append(shard.read(ordinal))
            except SampleError as error:
                found.append((error.reason, error.key))
        shard.close()
    return found


# Shards.


def test_a_brace_pattern_names_shards_of_any_size(tmp_path):
    for number, size in enumerate((3, 1, 0)):
        write_shard(tmp_path / f"p-{number:06d}.tar", [f"{number}{index}" for index in range(size)])
    source = open_quietly(shards_at(tmp_path / "p-{000000..000002}.tar"))
    assert list(source.shards) == ["p-000000.tar", "p-000001.tar", "p-000002.tar"]
    assert [source.count(number) for number in range(3)] == [3, 1, 0]
    samples = read_all(source)
    assert [sample.key for sample in samples] == ["00", "01", "02", "10"]
    assert samples[3].fields == {"image": b"picture10", "text": b"a cat"}


def test_samples_are_read_in_any_order(tmp_path):
    keys = [f"k{index}" for index in range(20)]
    source = open_quietly(shards_at(write_shard(tmp_path / "p.tar", keys)))
    shard = source.open(0)
    order = random.Random(0).sample(range(20), 20)
    assert [shard.read(ordinal).key for ordinal in order] == [keys[ordinal] for ordinal in order]
    shard.close()


def test_members_are_grouped_as_webdataset_does(tmp_path):
    members = [
        ("a/x.1.jpg", b"not a jpg: the extension is 1.jpg"),
        ("a/x.JPEG", b"P"),
        ("a/x.txt", b"T"),
        ("__meta__", b"-"),
        ("README", b"-"),
        ("b/x.txt", b"T2"),
        ("b/x.jpg", b"P2"),
        ("b/x.jpeg", b"the first extension goes before"),
    ]
    samples = read_all(open_quietly(shards_at(write_tar(tmp_path / "p.tar", members))))
    assert [(sample.key, sample.fields["image"]) for sample in samples] == [("a/x", b"P"), ("b/x", b"P2")]


def test_missing_and_doubled_members_are_faults_of_their_sample(tmp_path):
    members = [("a.jpg", b"P"), ("b.txt", b"T"), *members_of("c"), ("d.jpg", b"P"), ("d.jpg", b"P"), ("d.txt", b"T")]
    found = read_all(open_quietly(shards_at(write_tar(tmp_path / "p.tar", members))))
    assert found[:2] == [("missing member", "a"), ("missing member", "b")]
    assert found[2].key == "c"
    assert found[3] == ("doubled member", "d")


def test_facts_are_read_from_the_json_of_a_sample(tmp_path):
    told = {"a": b'{"similarity": 0.31, "w": "640"}', "b": b"{", "c": b"[]", "d": b"{}", "e": b'{"similarity": null}'}
    members = [m for key, text in told.items() for m in (*members_of(key), (f"{key}.json", text))] + members_of("f")
    config = shards_at(write_tar(tmp_path / "p.tar", members), facts={"score": "similarity"})
    first, *faults = read_all(open_quietly(config))
    assert first.facts == {"score": 0.31}
    assert [reason for reason, _ in faults] == [*["faulty json"] * 2, *["missing fact"] * 2, "missing member"]


@settings(deadline=None, max_examples=40)
@given(length=st.integers(0, 14_000))
def test_a_shard_cut_anywhere_loses_no_sample_of_its_count(tmp_path_factory, length):
    folder = tmp_path_factory.mktemp("cut")
    keys = [f"k{index}" for index in range(6)]
    path = write_shard(folder / "p.tar", keys)
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    (folder / "sizes.json").write_text('{"p.tar": 6}')
    found = read_all(open_quietly(shards_at(path)))
    assert len(found) == 6
    faults = [entry for entry in found if isinstance(entry, tuple)]
    samples = found[: 6 - len(faults)]
    assert [sample.key for sample in samples] == keys[: len(samples)]
    assert all(sample.fields["image"] == b"picture" + sample.key.encode() for sample in samples)
    assert {reason for reason, _ in faults} <= {"truncated", "missing member"}
    assert len(samples) >= min(6, length // 2048)  # four blocks a sample: two headers, two contents


@pytest.mark.parametrize("length", [0, 100, 512, 600, 2048, 3000, 5 * 1024])
def test_a_cut_shard_that_nobody_counted_shows_at_least_one_fault(tmp_path, length):
    path = write_shard(tmp_path / "p.tar", [f"k{index}" for index in range(6)])
    path.write_bytes(path.read_bytes()[:length])
    found = read_all(open_quietly(shards_at(path)))
    assert 1 <= sum(isinstance(entry, tuple) for entry in found) <= 2  # a sample cut in two, and those after it


def test_a_damaged_header_shows_as_lost_samples(tmp_path):
    path = write_shard(tmp_path / "p.tar", [f"k{index}" for index in range(6)])
    content = bytearray(path.read_bytes())
    content[2 * 2048 : 2 * 2048 + 300] = b"\xff" * 300
    path.write_bytes(content)
    (tmp_path / "sizes.json").write_text('{"p.tar": 6}')
    found = read_all(open_quietly(shards_at(path)))
    assert [sample.key for sample in found[:2]] == ["k0", "k1"]
    assert found[2:] == [("truncated", f"#{ordinal}") for ordinal in range(2, 6)]


@pytest.mark.parametrize("told", [5, 7])
def test_sizes_that_lie_are_refused_with_the_shards_name(tmp_path, told):
    path = write_shard(tmp_path / "p.tar", [f"k{index}" for index in range(6)])
    (tmp_path / "sizes.json").write_text(json.dumps({"p.tar": told}))
    source = open_quietly(shards_at(path))
    assert source.count(0) == told
    with pytest.raises(ValueError, match=rf"p\.tar holds 6 samples, expected the {told} of sizes\.json") as error:
        source.open(0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ("{", r"sizes\.json is no json"),
        ('{"p.tar": "6"}', r"sizes\.json is no object of whole numbers"),
        ('{"p.tar": -1}', r"sizes\.json is no object of whole numbers"),
        ('{"q.tar": 6}', r"sizes\.json beside .*p\.tar leaves it out"),
    ],
)
def test_faulty_sizes_are_refused(tmp_path, sizes, message):
    path = write_shard(tmp_path / "p.tar", ["a"])
    (tmp_path / "sizes.json").write_text(sizes)
    with pytest.raises(ValueError, match=message) as error:
        open_quietly(shards_at(path))
    assert "\n" not in str(error.value)


def test_counting_without_sizes_is_said(tmp_path):
    SAID.clear()
    open_quietly(shards_at(write_shard(tmp_path / "p.tar", ["a"])))
    assert SAID.pop() == f"no sizes.json in {tmp_path}: the samples of 1 shards are counted"


def test_missing_shards_are_named_in_one_line(tmp_path):
    write_shard(tmp_path / "p-0.tar", ["a"])
    with pytest.raises(FileNotFoundError, match=r"^no shard at .*p-1\.tar; 2 of 3 are missing$"):
        open_quietly(shards_at(tmp_path / "p-{0..2}.tar"))
    with pytest.raises(FileNotFoundError, match=r"^no shard at .*p-0\.tar; 1 of 1 are missing$"):
        open_quietly(shards_at(tmp_path / "none" / "p-0.tar"))
    with pytest.raises(ValueError, match="2 shards, but 1 different ones"):
        open_quietly(shards_at(tmp_path / "p-{0,0}.tar"))


def test_a_shard_that_goes_away_is_named(tmp_path):
    path = write_shard(tmp_path / "p.tar", ["a"])
    source = open_quietly(shards_at(path))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"^no shard at .*p\.tar$"):
        source.open(0)


# Tables and csv.

ROWS = [
    ("7", "a.jpg", "a cat"),
    ("8", "sub/b.jpg", 'a "big" dog, running'),
    ("9", "c.jpg", "na\u00efve\u2028art"),
    ("10", "d e.jpg", " blanks stay "),
    ("11", "f.jpg", "the last"),
]


def write_table(path: Path, rows=ROWS, *, end="\n", last=True) -> Path:
    lines = ["\t".join(row) for row in [("id", "image", "caption"), *rows]]
    path.write_bytes((end.join(lines) + (end if last else "")).encode())
    return path


def write_csv(path: Path, rows=ROWS) -> Path:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([("id", "image", "caption"), *rows])
    return path


def rows_at(path: Path, **changes) -> SourceConfig:
    kind = "table" if path.suffix == ".tsv" else "csv"
    fields = {"image": "image", "text": "caption"}
    return SourceConfig(**{"kind": kind, "path": str(path), "fields": fields, "key": "id", **changes})


def pairs(samples) -> list[tuple]:
    return [(sample.key, sample.fields["image"], sample.fields["text"]) for sample in samples]


@pytest.mark.parametrize("rows_per_shard", [1, 2, 5, 100])
@pytest.mark.parametrize("write", [write_table, write_csv])
def test_rows_are_read_whatever_their_number_in_a_shard(tmp_path, write, rows_per_shard):
    path = write(tmp_path / ("t.tsv" if write is write_table else "t.csv"))
    source = open_quietly(rows_at(path, rows_per_shard=rows_per_shard))
    assert pairs(read_all(source)) == [(key, tmp_path / image, text) for key, image, text in ROWS]
    assert len(source.shards) == -(-5 // rows_per_shard)
    assert source.shards[0] == f"{path.name}:0"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_of_a_table_are_no_part_of_it(tmp_path, end, last):
    path = write_table(tmp_path / "t.tsv", end=end, last=last)
    assert [text for _, _, text in pairs(read_all(open_quietly(rows_at(path))))] == [row[2] for row in ROWS]


def test_the_last_column_of_a_table_may_hold_the_separator(tmp_path):
    path = write_table(tmp_path / "t.tsv", [("1", "a.jpg", "one\ttwo")])
    assert pairs(read_all(open_quietly(rows_at(path)))) == [("1", tmp_path / "a.jpg", "one\ttwo")]


def test_csv_values_may_hold_line_ends(tmp_path):
    rows = [("1", "a.jpg", "one\ntwo, three"), ("2", "b.jpg", "x")]
    source = open_quietly(rows_at(write_csv(tmp_path / "t.csv", rows), rows_per_shard=1))
    assert [text for _, _, text in pairs(read_all(source))] == ["one\ntwo, three", "x"]


def test_rows_that_cannot_be_split_are_faults(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_bytes(b"id\timage\tcaption\n1\ta.jpg\n\n2\tb.jpg\t\xff\n3\t\tno path\n4\td.jpg\tgood\n")
    found = read_all(open_quietly(rows_at(path)))
    assert found[:4] == [
        ("malformed row", "row 0"),
        ("malformed row", "row 1"),
        ("malformed row", "row 2"),
        ("missing member", "3"),
    ]
    assert found[4].key == "4"


def test_rows_of_a_csv_that_cannot_be_split_are_faults(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"id,image,caption\n1,a.jpg\n2,b\rad.jpg,x\n3,c.jpg,good\n")
    found = read_all(open_quietly(rows_at(path)))
    assert found[:2] == [("malformed row", "row 0"), ("malformed row", "row 1")]
    assert found[2].key == "3"


def test_rows_without_a_name_are_numbered_and_facts_are_columns(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("score\timage\tcaption\n0.5\ta.jpg\tx\nhigh\tb.jpg\ty\n0.25\tc.jpg\tz\n")
    config = rows_at(path, key=None, facts={"score": "score"}, root="elsewhere", rows_per_shard=2)
    first, fault, last = read_all(open_quietly(config))
    assert (first.key, first.facts, first.fields["image"]) == ("0", {"score": 0.5}, Path("elsewhere/a.jpg"))
    assert fault == ("missing fact", "1")
    assert last.key == "2"


@pytest.mark.parametrize(
    ("content", "changes", "message"),
    [
        ("id\timage\tcaption\n", {"fields": {"text": "text"}}, r"t\.tsv has no column 'text', only id, image, caption"),
        ("id\timage\tcaption\n", {"key": "uniq_id"}, "has no column 'uniq_id'"),
        ("id\timage\tcaption\n", {"facts": {"score": "sim"}}, "has no column 'sim'"),
        ("", {}, "expected a header line of different column names"),
        ("id\tid\n", {}, "expected a header line of different column names"),
    ],
)
def test_tables_without_a_column_are_refused(tmp_path, content, changes, message):
    path = tmp_path / "t.tsv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        open_quietly(rows_at(path, **changes))


def test_a_table_that_changes_while_it_is_read_is_refused(tmp_path):
    path = write_table(tmp_path / "t.tsv")
    source = open_quietly(rows_at(path, rows_per_shard=2))
    path.write_text("id\timage\tcaption\n1\ta.jpg\tx\n")
    with pytest.raises(ValueError, match=r"t\.tsv holds 0 rows from byte \d+, expected 2; it was changed"):
        source.open(1)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="no table at"):
        source.open(0)


# Karpathy's json.


def picture_of(name: str, split: str, sentences: list[tuple[int, str]], **more) -> dict:
    told = [{"raw": raw, "tokens": raw.split(), "sentid": number} for number, raw in sentences]
    return {"filename": name, "split": split, "imgid": 0, "sentences": told, **more}


PICTURES = [
    picture_of("a.jpg", "train", [(7, "a cat"), (8, "a } brace ] and \u00e9")], filepath="val2014"),
    picture_of("b.jpg", "val", [(9, "unseen")]),
    picture_of("c.jpg", "restval", [(10, " outer blank\n")]),
    picture_of("d.jpg", "train", []),
    picture_of("e.jpg", "train", [(11, "x"), (12, "y"), (13, "z")]),
]


def write_karpathy(path: Path, pictures=PICTURES, **options) -> Path:
    before = {"dataset": "coco", "year": 2014}
    path.write_text(json.dumps({**before, "images": pictures, "after": [1]}, **options), encoding="utf-8")
    return path


def karpathy_at(path: Path, **changes) -> SourceConfig:
    fields = {"image": "filename", "text": "raw"}
    splits = ("train", "restval")
    return SourceConfig(**{"kind": "karpathy", "path": str(path), "fields": fields, "split": splits, **changes})


@pytest.mark.parametrize("rows_per_shard", [1, 2, 100])
@pytest.mark.parametrize("options", [{}, {"indent": 1, "ensure_ascii": False}])
@pytest.mark.parametrize("block", [7, 1 << 20])
def test_each_sentence_of_a_split_is_a_sample(tmp_path, monkeypatch, rows_per_shard, options, block):
    monkeypatch.setattr("pretrain.data.karpathy.BLOCK_BYTES", block)
    path = write_karpathy(tmp_path / "k.json", **options)
    source = open_quietly(karpathy_at(path, rows_per_shard=rows_per_shard))
    assert pairs(read_all(source)) == [
        ("7", tmp_path / "val2014/a.jpg", "a cat"),
        ("8", tmp_path / "val2014/a.jpg", "a } brace ] and \u00e9"),
        ("10", tmp_path / "c.jpg", " outer blank\n"),
        ("11", tmp_path / "e.jpg", "x"),
        ("12", tmp_path / "e.jpg", "y"),
        ("13", tmp_path / "e.jpg", "z"),
    ]


def test_a_sentence_without_text_is_a_fault(tmp_path):
    pictures = [picture_of("a.jpg", "train", [(7, "x")]) | {"sentences": [{"sentid": 1}, "text", {"raw": "\ud83d"}]}]
    found = read_all(open_quietly(karpathy_at(write_karpathy(tmp_path / "k.json", pictures), split=("train",))))
    assert found == [("missing member", "1"), ("missing member", "a.jpg#1"), ("malformed row", "a.jpg#2")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", r"k\.json has '\[' at byte 0, expected '\{': it is no Karpathy json"),
        ('{"dataset": "coco"}', r"has '}' at byte 18, expected ','"),
        ('{"images": [{"split": "train"}]}', "lacks a split, a filename or sentences"),
        ('{"images": [{"filename": "a", "split": "train", "sentences": [', "cannot be read from byte 12 on"),
        ('{"images": []}', "has no split 'train', only"),
        ("", "has '' at byte 0"),
    ],
)
def test_other_json_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "k.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        open_quietly(karpathy_at(path))
    assert "\n" not in str(error.value)


def test_genuine_karpathy_json_is_read_whole(samples_dir):
    path = samples_dir / "mscoco_karpathy" / "dataset_coco.json"
    pictures = json.loads(path.read_bytes())["images"]
    splits = tuple({picture["split"] for picture in pictures})
    samples = read_all(open_quietly(karpathy_at(path, split=splits, rows_per_shard=7)))
    assert [s.fields["text"] for s in samples] == [s["raw"] for picture in pictures for s in picture["sentences"]]


# All kinds.


def test_all_kinds_give_the_same_samples_of_the_same_data(tmp_path):
    (tmp_path / "sub").mkdir()
    for _, image, _ in ROWS:
        (tmp_path / image).write_bytes(b"picture of " + image.encode())
    members = [
        member
        for key, image, text in ROWS
        for member in ((f"{key}.jpg", (tmp_path / image).read_bytes()), (f"{key}.txt", text.encode()))
    ]
    pictures = [picture_of(image, "train", [(int(key), text)]) for key, image, text in ROWS]
    configs = [
        shards_at(write_tar(tmp_path / "p.tar", members)),
        rows_at(write_table(tmp_path / "t.tsv")),
        rows_at(write_csv(tmp_path / "t.csv")),
        karpathy_at(write_karpathy(tmp_path / "k.json", pictures), split=("train",)),
    ]
    contents = [
        [
            (key, image if isinstance(image, bytes) else image.read_bytes(), t.decode() if isinstance(t, bytes) else t)
            for key, image, t in pairs(read_all(open_quietly(config)))
        ]
        for config in configs
    ]
    assert len(contents[0]) == 5
    assert all(content == contents[0] for content in contents)


def test_several_sources_are_one_after_the_other(tmp_path):
    table, more = write_table(tmp_path / "t.tsv"), write_table(tmp_path / "u.tsv", ROWS[:2])
    configs = [rows_at(table, rows_per_shard=2), rows_at(more, rows_per_shard=1)]
    source = open_sources(configs, say=SAID.append)
    assert list(source.shards) == ["t.tsv:0", "t.tsv:2", "t.tsv:4", "u.tsv:0", "u.tsv:1"]
    assert [sample.key for sample in read_all(source)] == ["7", "8", "9", "10", "11", "7", "8"]
    assert count_epoch(configs, say=SAID.append) == 7


@pytest.mark.parametrize("kind", ["table", "csv", "karpathy"])
def test_missing_files_are_named_in_one_line(tmp_path, kind):
    split = ("train",) if kind == "karpathy" else ()
    config = SourceConfig(kind=kind, path=str(tmp_path / "none"), fields={"text": "raw"}, split=split)
    with pytest.raises(FileNotFoundError, match=r"^no (table|json) at .*none$"):
        open_quietly(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "shards", "root": "x"}, "root 'x': a source of kind 'shards' has none"),
        ({"kind": "table", "split": ["a"]}, "a source of kind 'table' has none"),
        ({"kind": "karpathy"}, "expected one or more, such as"),
        ({"kind": "karpathy", "split": ["a"], "key": "b"}, "key 'b': a source of kind 'karpathy' has none"),
        ({"kind": "csv", "fields": {}}, "fields {}: expected one or more"),
        ({"kind": "csv", "facts": {"width": "w"}}, "expected score, or width and height"),
        ({"kind": "csv", "fact": {}}, "unknown key 'fact'. Did you mean 'facts'"),
    ],
)
def test_settings_that_a_kind_has_no_use_for_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        SourceConfig.parse({"path": "p", "fields": {"text": "txt"}, **values}, where="test")
