"""What a rank is given: every sample once, the same order whoever reads, resumable at any step, no fault unnamed."""

import io
import json
import os
import signal
import tarfile
from collections import Counter
from itertools import chain

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.config import load_config
from models.tokenizer import Tokenizer
from models.vocabulary import find_vocabulary
from pretrain.data.config import BatchConfig, DataConfig, FilterConfig, SourceConfig
from pretrain.data.loader import open_loader

WHOLE = load_config("tiny")
SHORT_TEXT = {**WHOLE.modalities["text"], "max_positions": 40}  # fewer than a text may have
TINY = WHOLE.model_copy(update={"modalities": {**WHOLE.modalities, "text": SHORT_TEXT}})
TOKENIZER = Tokenizer.read(find_vocabulary("mini"))
UNFILTERED = FilterConfig(**dict.fromkeys(FilterConfig.model_fields))
NO_SCORE = FilterConfig(min_score=None)
OPENED = []


def png(width=80, height=70, seed=0) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def flac(seconds=0.5) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).standard_normal(int(16_000 * seconds)) * 0.1
    soundfile.write(file, noise, 16_000, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def write_shards(folder, shards) -> str:
    """Write shards of (key, {extension: content}), and how many samples each holds."""
    for number, samples in enumerate(shards):
        with tarfile.open(folder / f"p-{number:03d}.tar", "w") as archive:
            for key, contents in samples:
                for extension, content in contents.items():
                    info = tarfile.TarInfo(f"{key}.{extension}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    sizes = {f"p-{number:03d}.tar": len(samples) for number, samples in enumerate(shards)}
    (folder / "sizes.json").write_text(json.dumps(sizes))
    return f"{folder}/p-{{000..{len(shards) - 1:03d}}}.tar"


def texts(sizes) -> list:
    return [
        [(f"{shard}-{number}", {"txt": f"text {shard} {number}".encode()}) for number in range(size)]
        for shard, size in enumerate(sizes)
    ]


def data_of(path, *, fields=None, **options) -> DataConfig:
    source = SourceConfig(kind="shards", path=path, fields=fields or {"text": "txt"})
    return DataConfig(**{"sources": [source], "filters": UNFILTERED, **options})


def open_all(data, batching=None, *, said=None, lanes=None, **options):
    batching = batching or BatchConfig(batch_size=1, micro_batch_size=1)
    said = [] if said is None else said
    lanes = batching.lanes_of(0, 1) if lanes is None else lanes
    loader = open_loader(data, batching, model=TINY, tokenizer=TOKENIZER, lanes=lanes, say=said.append, **options)
    OPENED.append(loader)
    return loader


@pytest.fixture(autouse=True)
def close_all():
    yield
    while OPENED:
        OPENED.pop().close()


def keys_of(step) -> list[list[str]]:
    return [[sample.key for sample in micro_batch] for micro_batch in step]


def take(loader, num_steps) -> list:
    """The keys of some steps."""
    return [keys_of(next(loader)) for _ in range(num_steps)]


def join(ranks) -> list:
    """The steps of all ranks together, their micro-batches in the order of the ranks."""
    return [list(chain(*parts)) for parts in zip(*ranks, strict=True)]


# Order.


@settings(deadline=None, max_examples=15)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(lambda sizes: sum(sizes) >= 6),
    lanes=st.integers(1, 6),
)
def test_every_sample_comes_exactly_once_an_epoch(tmp_path_factory, sizes, lanes):
    path = write_shards(tmp_path_factory.mktemp("s"), texts(sizes))
    batching = BatchConfig(batch_size=lanes, micro_batch_size=1)
    loader = open_all(data_of(path), batching)
    seen: Counter[tuple[int, str]] = Counter()
    while min(entry["epoch"] for entry in loader.state().values()) < 2:
        for lane, (key,) in enumerate(keys_of(next(loader))):
            seen[loader.state()[str(lane)]["epoch"], key] += 1
    expected = {key for shard in texts(sizes) for key, _ in shard}
    for epoch in (0, 1):
        assert {key: n for (e, key), n in seen.items() if e == epoch} == dict.fromkeys(expected, 1)


BATCHING = BatchConfig(batch_size=16, micro_batch_size=4, lanes_per_micro_batch=2)
SIZES = [5, 17, 0, 9, 30, 2]


def test_the_order_does_not_depend_on_the_world_size(tmp_path):
    data = data_of(write_shards(tmp_path, texts(SIZES)))
    whole = take(open_all(data, BATCHING), 9)
    for world_size in (2, 4):
        ranks = [
            take(open_all(data, BATCHING, lanes=BATCHING.lanes_of(rank, world_size)), 9) for rank in range(world_size)
        ]
        assert join(ranks) == whole


@pytest.mark.parametrize("num_workers", [1, 2])
def test_neither_order_nor_tensors_nor_state_depend_on_processes(tmp_path, num_workers):
    shards = [
        [(f"{s}-{n}", {"png": png(seed=n), "txt": b"a small thing"}) for n in range(size)]
        for s, size in enumerate([3, 6])
    ]
    data = data_of(write_shards(tmp_path, shards), fields={"image": "png", "text": "txt"}, seed=5)
    batching = BatchConfig(batch_size=4, micro_batch_size=4, lanes_per_micro_batch=2)
    own = open_all(data, batching)
    random_state = torch.get_rng_state()
    with open_all(data, batching, num_workers=num_workers) as other:
        for _ in range(3):
            (mine,), (theirs,) = next(own), next(other)
            assert [sample.key for sample in mine] == [sample.key for sample in theirs]
            for one, two in zip(mine, theirs, strict=True):
                assert torch.equal(one.tensors["image"], two.tensors["image"])
                assert torch.equal(one.tensors["text"], two.tensors["text"])
            assert own.state() == other.state()
    assert torch.equal(random_state, torch.get_rng_state())


def test_processes_are_a_divisor_of_the_lanes_and_it_is_said(tmp_path):
    said = []
    data = data_of(write_shards(tmp_path, texts([9])))
    batching = BatchConfig(batch_size=4, micro_batch_size=1)
    with open_all(data, batching, num_workers=3, said=said) as loader:
        next(loader)
    assert said == ["2 processes read data instead of 3: 4 lanes are shared out equally"]
    with pytest.raises(ValueError, match="num_workers -1, expected 0 or more"):
        open_all(data, num_workers=-1)


def test_crops_differ_between_epochs_and_samples_only(tmp_path):
    shards = [[(f"k{n}", {"png": png()}) for n in range(2)]]
    data = data_of(write_shards(tmp_path, shards), fields={"image": "png"})
    loader = open_all(data)
    samples = [next(loader)[0][0] for _ in range(4)]
    again = open_all(data)
    pictures = [sample.tensors["image"] for sample in samples]
    assert all(torch.equal(next(again)[0][0].tensors["image"], picture) for picture in pictures)
    assert not any(torch.equal(pictures[i], pictures[j]) for i in range(4) for j in range(i))


# Resuming.


@settings(deadline=None, max_examples=12)
@given(done=st.integers(0, 14), world_size=st.sampled_from([1, 2, 4]))
def test_a_run_resumes_exactly_at_any_step_and_world_size(tmp_path_factory, done, world_size):
    data = data_of(write_shards(tmp_path_factory.mktemp("s"), texts(SIZES)))
    first = open_all(data, BATCHING)
    take(first, done)
    states = json.loads(json.dumps(first.state()))
    rest = take(first, 6)
    ranks = [open_all(data, BATCHING, lanes=BATCHING.lanes_of(r, world_size), states=states) for r in range(world_size)]
    resumed = [take(rank, 6) for rank in ranks]
    assert join(resumed) == rest
    merged = {lane: state for rank in ranks for lane, state in rank.state().items()}
    assert merged == first.state()


def test_what_processes_prepared_ahead_is_not_in_the_state(tmp_path):
    data = data_of(write_shards(tmp_path, texts(SIZES)))
    own = open_all(data, BATCHING)
    take(own, 2)
    with open_all(data, BATCHING, num_workers=2) as other:
        take(other, 2)
        states = other.state()
    assert states == own.state()
    with open_all(data, BATCHING, num_workers=2, states=states) as resumed:
        assert take(resumed, 2) == take(own, 2)


def test_a_run_resumes_in_the_middle_of_faults_and_filters(tmp_path):
    samples = [(f"k{n}", {"txt": [b"a good text", b"", b"no", b"a text \xff"][n % 4]}) for n in range(40)]
    options = {"filters": NO_SCORE, "max_corrupt_share": 0.6}
    data = data_of(write_shards(tmp_path, [samples]), **options)
    first = open_all(data)
    take(first, 4)
    resumed = open_all(data, states=first.state())
    assert take(resumed, 9) == take(first, 9)
    assert resumed.counts() == first.counts()


@pytest.mark.parametrize("change", ["seed", "lanes", "size"])
def test_a_state_of_other_data_is_refused(tmp_path, change):
    path = write_shards(tmp_path, texts([8, 9]))
    states = open_all(data_of(path)).state()
    batching = BatchConfig(batch_size=1, micro_batch_size=1)
    if change == "lanes":
        batching = BatchConfig(batch_size=2, micro_batch_size=2, lanes_per_micro_batch=2)
    if change == "size":
        write_shards(tmp_path, texts([9, 8]))
    data = data_of(path, seed=1 if change == "seed" else 0)
    with pytest.raises(ValueError, match=r"^the state of lane 0 belongs to data \w{16}, but this is \w{16}"):
        open_all(data, batching, states=states)


def test_a_state_without_one_of_the_lanes_is_refused(tmp_path):
    data = data_of(write_shards(tmp_path, texts(SIZES)))
    states = open_all(data, BATCHING, lanes=range(4)).state()
    with pytest.raises(ValueError, match=r"^no state of lane 4 among 4; give those of all ranks"):
        open_all(data, BATCHING, states=states)


# Filters and faults.


def test_filters_are_counted_by_reason(tmp_path):
    good = {"png": png(140, 150), "txt": b"a red house"}
    samples = [
        ("good", good),
        ("long side", good | {"png": png(640, 130)}),
        ("small", good | {"png": png(100, 100)}),
        ("short", good | {"txt": b"ab"}),
        ("long", good | {"txt": b"ab " * 200}),
        ("emoji", good | {"txt": "a house \N{HOUSE BUILDING}".encode()}),
        ("russian", good | {"txt": "красный дом".encode()}),
        ("empty", good | {"txt": b" "}),
    ]
    path = write_shards(tmp_path, [samples])
    loader = open_all(data_of(path, fields={"image": "png", "text": "txt"}, filters=NO_SCORE))
    while loader.state()["0"]["epoch"] < 1:
        assert keys_of(next(loader)) == [["good"]]
    counts = loader.counts()
    once = [
        *("filtered: " + r for r in ("aspect", "side", "short", "long", "emoji", "language")),
        "corrupt: empty caption",
    ]
    states = loader.state()["0"]
    assert counts["seen"] == 8 + states["position"]
    assert all(1 <= counts[reason] <= 2 for reason in once)
    assert counts["seen"] == sum(number for reason, number in counts.items() if reason != "seen")


def test_corrupt_samples_are_counted_named_and_passed_over(tmp_path):
    good = {"png": png(), "flac": flac(), "txt": b"a red house"}
    samples = [
        ("good", good),
        ("picture", good | {"png": png()[:200]}),
        ("nopicture", good | {"png": b"none"}),
        ("sound", good | {"flac": flac()[:2000]}),
        ("nosound", good | {"flac": b"none"}),
        ("bytes", good | {"txt": b"\xff\xfe"}),
        ("wordy", good | {"txt": b"xyz " * 60}),
        ("lacking", {"png": png(), "txt": b"a red house"}),
    ]
    path = write_shards(tmp_path, [samples])
    said = []
    fields = {"image": "png", "text": "txt", "audio": "flac"}
    loader = open_all(data_of(path, fields=fields), said=said)
    while loader.state()["0"]["epoch"] < 1:
        assert keys_of(next(loader)) == [["good"]]
    faulty = {line.split(": ")[1].removeprefix("p-000.tar/") for line in said}
    assert faulty == {key for key, _ in samples} - {"good"}
    assert said[0].startswith("corrupt sample 1, passed over: p-000.tar/")
    assert not any("\n" in line for line in said)
    counts = loader.counts()
    assert set(counts) == {"seen", "kept", "corrupt: undecodable", "corrupt: missing member"}
    assert counts["seen"] == sum(counts.values()) - counts["seen"]


def test_only_the_first_faults_are_named(tmp_path):
    samples = [(f"k{n}", {"txt": b"" if n % 2 else b"text"}) for n in range(80)]
    said = []
    loader = open_all(data_of(write_shards(tmp_path, [samples]), max_corrupt_share=1), said=said)
    take(loader, 40)
    assert len(said) == 20
    assert said[-1].endswith("; others are counted only")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_too_many_corrupt_samples_end_the_run_in_one_line(tmp_path, num_workers):
    samples = [(f"k{n}", {"txt": b"" if n % 5 == 0 else b"text"}) for n in range(100)]
    data = data_of(write_shards(tmp_path, [samples]), min_corrupt_allowed=3, max_corrupt_share=0.05)
    with (
        open_all(data, num_workers=num_workers) as loader,
        pytest.raises(
            ValueError,
            match=r"^4 of \d+ samples are corrupt \(\d+\.\d%: 4 empty caption\), more than max_corrupt_share 0\.05 and "
            r"min_corrupt_allowed 3; the last is p-000\.tar/k\d+: empty caption: .*; mend the data, or allow more$",
        ),
    ):
        take(loader, 100)


def test_a_share_within_what_is_allowed_is_passed_over(tmp_path):
    samples = [(f"k{n}", {"txt": b"" if n % 5 == 0 else b"text"}) for n in range(100)]
    data = data_of(write_shards(tmp_path, [samples]), min_corrupt_allowed=20, max_corrupt_share=0)
    loader = open_all(data)
    take(loader, 80)
    assert loader.counts()["kept"] == 80


def test_a_cut_shard_costs_its_lost_samples_only(tmp_path):
    path = write_shards(tmp_path, texts([10, 10]))
    cut = tmp_path / "p-001.tar"
    cut.write_bytes(cut.read_bytes()[: 4 * 1024 + 100])
    loader = open_all(data_of(path, max_corrupt_share=1))
    keys = [key for ((key,),) in take(loader, 14)]
    assert sorted(keys) == sorted([f"0-{n}" for n in range(10)] + [f"1-{n}" for n in range(4)])
    take(loader, 1)
    counts = loader.counts()
    assert counts["corrupt: truncated"] >= 6


@pytest.mark.parametrize("num_workers", [0, 1])
def test_data_of_which_nothing_is_kept_ends_the_run(tmp_path, num_workers):
    samples = [(f"k{n}", {"txt": b"ab"}) for n in range(30)]
    data = data_of(write_shards(tmp_path, [samples]), filters=NO_SCORE)
    with (
        open_all(data, num_workers=num_workers) as loader,
        pytest.raises(
            ValueError, match=r"^lane 0 went through \d+ samples, more than there are, and kept none"
        ) as error,
    ):
        next(loader)
    assert "\n" not in str(error.value)


def test_long_stretches_without_a_sample_change_nothing(tmp_path):
    samples = [(f"k{n}", {"txt": b"good text" if n % 97 == 0 else b"ab"}) for n in range(1200)]
    data = data_of(write_shards(tmp_path, [samples]), filters=NO_SCORE)
    batching = BatchConfig(batch_size=4, micro_batch_size=4, lanes_per_micro_batch=2)
    own = open_all(data, batching)
    mine = take(own, 3)
    with open_all(data, batching, num_workers=2) as other:
        assert take(other, 3) == mine
        assert other.state() == own.state()
    assert len({key for ((*keys,),) in mine for key in keys}) >= 6


def test_sizes_that_lie_and_shards_that_go_away_end_the_run_in_one_line(tmp_path):
    path = write_shards(tmp_path, texts([10]))
    (tmp_path / "sizes.json").write_text('{"p-000.tar": 11}')
    with (
        open_all(data_of(path), num_workers=1) as loader,
        pytest.raises(ValueError, match=r"^\S+p-000\.tar holds 10 samples, expected the 11 of sizes\.json"),
    ):
        next(loader)
    loader = open_all(data_of(path), num_workers=0)
    (tmp_path / "p-000.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"^no shard at \S+p-000\.tar$"):
        next(loader)


def test_a_killed_process_gives_one_line_and_no_hang(tmp_path):
    data = data_of(write_shards(tmp_path, texts([50])))
    with open_all(data, BatchConfig(batch_size=8, micro_batch_size=8), num_workers=1) as loader:
        next(loader)
        (worker,) = loader._feed._items._workers
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match=r"process that reads data has ended|DataLoader worker") as error:
            take(loader, 100)
        assert "\n" not in str(error.value).strip()


def test_pictures_of_a_table_that_are_gone_are_faults(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "t.tsv").write_text("image\tcaption\na.png\ta thing\nb.png\tanother\n")
    fields = {"image": "image", "text": "caption"}
    source = SourceConfig(kind="table", path=str(tmp_path / "t.tsv"), fields=fields)
    said = []
    loader = open_all(DataConfig(sources=[source], filters=UNFILTERED), said=said)
    take(loader, 3)
    assert loader.counts()["corrupt: missing file"] >= 1
    assert said[0].startswith("corrupt sample 1, passed over: t.tsv:0/1: missing file: no picture at")


# Settings.


def test_lanes_are_shared_out_equally_among_ranks():
    assert [BATCHING.lanes_of(rank, 4) for rank in range(4)] == [range(2), range(2, 4), range(4, 6), range(6, 8)]
    for rank, world_size in ((0, 3), (2, 2), (0, 8)):
        with pytest.raises(ValueError, match=f"4 micro-batches for rank {rank} of {world_size}"):
            BATCHING.lanes_of(rank, world_size)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 10, "micro_batch_size": 4}, "batch_size 10 is not a multiple of micro_batch_size 4"),
        (
            {"batch_size": 8, "micro_batch_size": 4, "lanes_per_micro_batch": 3},
            "micro_batch_size 4 is not a multiple of lanes_per_micro_batch 3",
        ),
    ],
)
def test_batches_that_cannot_be_cut_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        BatchConfig(**values)


def test_sources_of_other_modalities_or_without_a_score_are_refused():
    sources = [{"kind": "table", "path": "a", "fields": {name: "x"}} for name in ("text", "audio")]
    values = {"sources": sources, "filters": {"min_score": None}}
    with pytest.raises(ValueError, match=r"sources of \['text'\] and \['audio'\]; expected the same modalities"):
        DataConfig.parse(values, where="test")
    with pytest.raises(ValueError, match=r"min_score 0\.3, but a names no score in `facts`"):
        DataConfig.parse({"sources": sources[:1]}, where="test")
