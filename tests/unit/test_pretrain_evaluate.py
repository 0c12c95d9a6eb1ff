import json
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from torch.nn import functional

from models import load_model
from models.config import load_config
from models.embedding import Embedder
from models.onepeace import build_model
from models.tokenizer import Tokenizer
from models.vocabulary import find_vocabulary
from pretrain.evaluate import Evaluation, evaluate, render

CONCEPTS = {"dog": "dog", "clock_tick": "clock", "rain": None, "siren": "fire engine"}
THINGS = (("dog",), ("clock",), ("dog", "clock"), ("tree",), ("clock", "clock"), ("cat",))
CLASSES = ("dog", "clock_tick", "rain", "dog", "siren")
NUM_PICTURES, NUM_CLIPS = 12, 10  # the lists above, gone round


def things_of(index: int) -> tuple[str, ...]:
    return THINGS[index % len(THINGS)]


def class_of(index: int) -> str:
    return CLASSES[index % len(CLASSES)]


def write_world(folder: Path, *, num_pictures: int = NUM_PICTURES, num_clips: int = NUM_CLIPS) -> Path:
    """A tiny held-out part: pictures with two sentences, clips with one."""
    for name in ("images", "audio", "meta"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    images = []
    for index in range(num_pictures):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"images/p{index}.jpg")
        sentences = [{"raw": f"picture {index} {word}"} for word in ("first", "second")]
        images.append(
            {"filename": f"p{index}.jpg", "split": "test", "sentences": sentences, "things": list(things_of(index))}
        )
    (folder / "dataset_miniworld.json").write_text(json.dumps({"images": images, "dataset": "miniworld"}))
    table, listing = ["uniq_id\taudio\ttext\tduration"], ["filename,fold,target,category"]
    for index in range(num_clips):
        soundfile.write(folder / f"audio/s{index}.wav", rng.normal(0, 0.1, 8000), 16_000)
        table.append(f"s{index}\taudio/s{index}.wav\tsound {index}\t0.5")
        listing.append(f"s{index}.wav,1,0,{class_of(index)}")
    (folder / "sounds.tsv").write_text("\n".join(table) + "\n")
    (folder / "meta/esc50.csv").write_text("\n".join(listing) + "\n")
    (folder / "sounds_captions.json").write_text(json.dumps({f"s{i}": [f"sound {i}"] for i in range(num_clips)}))
    (folder / "sound_concepts.json").write_text(json.dumps(CONCEPTS))
    return folder


@pytest.fixture(scope="module")
def held_out(tmp_path_factory) -> Path:
    return write_world(tmp_path_factory.mktemp("world") / "held_out")


Vector = Callable[[str], Iterable[str]]


class Oracle:
    """Stands in for an embedder: a source's vector points to the names that `knows` gives."""

    def __init__(self, knows: Vector, branches: tuple[str, ...] = ("text", "image", "audio")) -> None:
        self.model = SimpleNamespace(adapters=dict.fromkeys(branches))
        self.knows = knows
        self.asked: dict[str, list[str]] = {}
        self.protocols: set[str] = set()

    def _embed(self, branch: str, sources: Iterable[str]) -> torch.Tensor:
        assert branch in self.model.adapters
        self.asked.setdefault(branch, []).extend(sources)
        names = [f"{kind} {i}" for kind in ("picture", "sound") for i in range(NUM_PICTURES)]
        names += ["dog", "clock", "rain", "fire engine", "tree", "cat"]
        vectors = torch.zeros(len(sources), len(names))
        for row, source in enumerate(sources):
            for name in self.knows(source):
                vectors[row, names.index(name)] += 1
        return functional.normalize(vectors + 1e-3)

    def embed_text(self, texts, *, protocol) -> torch.Tensor:
        self.protocols.add(protocol)
        return self._embed("text", texts)

    def embed_image(self, paths) -> torch.Tensor:
        return self._embed("image", [path.stem for path in paths])

    def embed_audio(self, paths) -> torch.Tensor:
        return self._embed("audio", [path.stem for path in paths])


def everything(source: str) -> Iterable[str]:
    """Know what every picture, sound and sentence is, and what is on it or heard in it."""
    words = source.split()
    if source.startswith("This is a sound of"):
        return [{"clock tick": "clock", "siren": "fire engine"}.get(label := source[19:], label)]
    if words[0] == "picture" or source[0] == "p":
        index = int(words[1] if len(words) > 1 else source[1:])
        return [f"picture {index}", *set(things_of(index))]
    index = int(words[1] if len(words) > 1 else source[1:])
    return [f"sound {index}", CONCEPTS[class_of(index)] or "rain"]


def nothing(source: str) -> Iterable[str]:
    return []


def judge(held_out: Path, knows: Vector, **options) -> Evaluation:
    return evaluate(Oracle(knows, **options), held_out, say=lambda _: None)


def by_name(evaluation: Evaluation) -> dict:
    return {metric.name: metric for metric in evaluation.metrics}


def test_who_knows_everything_is_right_always(held_out):
    evaluation = judge(held_out, everything)
    shares = {name: metric for name, metric in by_name(evaluation).items() if "chance" not in name}
    assert len(shares) == 6 + 1 + 6 + 2
    assert {name: metric.value for name, metric in shares.items()} == dict.fromkeys(shares, 100)
    assert all(metric.hits == metric.n for metric in shares.values())


def test_numbers_count_what_their_direction_asks(held_out):
    found = by_name(judge(held_out, everything))
    counts = {name: found[name].n for name in found if "recall_at_1_" in name or "accuracy" in name}
    assert counts == {
        "recall_at_1_text_to_image": 24,
        "recall_at_1_image_to_text": 12,
        "accuracy_sound_classes": 10,
        "recall_at_1_text_to_audio": 10,
        "recall_at_1_audio_to_text": 10,
        "recall_at_1_audio_to_image": 6,  # dogs and clocks; rain is never seen, and no picture has a fire engine
        "recall_at_1_image_to_audio": 8,  # of 12, two have only a tree and two only a cat
    }


def test_chance_is_the_share_of_right_answers(held_out):
    evaluation = judge(held_out, everything)
    found = by_name(evaluation)
    assert evaluation.chance["recall_at_1_text_to_image"] == pytest.approx(100 / 12)
    assert evaluation.chance["recall_at_10_text_to_image"] == pytest.approx(1000 / 12)
    # Two of 24 sentences are right; all five first ones are wrong in 22 of 24, 21 of 23, ... cases.
    wrong = np.prod([(22 - step) / (24 - step) for step in range(5)])
    assert evaluation.chance["recall_at_5_image_to_text"] == pytest.approx(100 * (1 - wrong))
    assert evaluation.chance["accuracy_sound_classes"] == 25
    # Four clips bark, and 4 pictures of 12 show dogs; two tick, and 6 of 12 show clocks.
    assert found["chance_audio_to_image"].value == pytest.approx(100 * (4 * 4 / 12 + 2 * 6 / 12) / 6)
    # Two pictures with a dog alone, two with dog and clock, four with clocks; 4 and 2 of 10 clips are right.
    assert found["chance_image_to_audio"].value == pytest.approx(100 * (2 * 0.4 + 2 * 0.6 + 4 * 0.2) / 8)
    for direction in ("audio_to_image", "image_to_audio"):
        ratio = found[f"times_chance_{direction}"]
        assert ratio.unit == "x"
        assert ratio.value == pytest.approx(100 / found[f"chance_{direction}"].value)
        assert ratio.ci_low <= ratio.value <= ratio.ci_high


def test_who_knows_nothing_gets_the_first_candidate_and_no_more(held_out):
    found = by_name(judge(held_out, nothing))
    assert found["recall_at_1_text_to_image"].hits == 2
    assert found["recall_at_5_image_to_text"].hits == 3  # sentences 0 to 4 are of pictures 0, 1 and 2
    assert found["accuracy_sound_classes"].hits == 4  # the first class is the dog's
    assert found["recall_at_1_audio_to_image"].hits == 4  # the first picture shows a dog
    assert found["recall_at_1_image_to_audio"].hits == 4  # the first clip is a dog


def test_sentences_of_one_picture_are_drawn_again_together(held_out):
    half = {f"picture {index} second" for index in range(NUM_PICTURES)}
    found = by_name(judge(held_out, lambda source: nothing(source) if source in half else everything(source)))
    metric = found["recall_at_1_text_to_image"]
    assert metric.ci_method == "bootstrap over pictures, 1000 resamples, seed 0"
    # Of every picture one sentence hits, so there is nothing to vary but the one picture where both do by luck.
    assert (metric.hits, metric.n) == (13, 24)
    assert 50 <= metric.ci_low <= metric.value <= metric.ci_high <= 64
    assert found["recall_at_1_image_to_text"].ci_method == "wilson"


def test_the_ratios_interval_draws_whole_concepts_or_pictures_again(held_out):
    found = by_name(judge(held_out, everything))
    assert found["times_chance_audio_to_image"].ci_method.startswith("bootstrap over concepts")
    assert found["times_chance_image_to_audio"].ci_method.startswith("bootstrap over pictures")
    # With two concepts the ends are those of one alone: 12 pictures to 6 with clocks, and to 4 with dogs.
    assert found["times_chance_audio_to_image"].ci_low == pytest.approx(2)
    assert found["times_chance_audio_to_image"].ci_high == pytest.approx(3)


def test_classes_are_asked_for_as_the_reference_asks(held_out):
    oracle = Oracle(everything)
    evaluate(oracle, held_out, say=lambda _: None)
    assert "This is a sound of clock tick" in oracle.asked["text"]
    assert oracle.protocols == {"text"}
    assert len(oracle.asked["image"]) == NUM_PICTURES
    assert len(oracle.asked["audio"]) == NUM_CLIPS


@pytest.mark.parametrize(
    ("branches", "has", "lacks", "missing"),
    [
        (("text", "image"), "recall_at_1_text_to_image", "audio", "audio"),
        (("text", "audio"), "accuracy_sound_classes", "image", "image"),
        (("image", "audio"), "recall_at_1_audio_to_image", "text", "text"),
    ],
)
def test_what_a_branch_is_missing_for_is_left_out_and_told(held_out, branches, has, lacks, missing):
    evaluation = judge(held_out, everything, branches=branches)
    assert has in by_name(evaluation)
    assert not [name for name in by_name(evaluation) if lacks in name]
    assert sum(f"the model has no branch {missing}" in note for note in evaluation.notes) == 2


def test_a_model_of_one_branch_is_refused(held_out):
    with pytest.raises(ValueError, match="only image, expected two or more"):
        judge(held_out, everything, branches=("image",))


def test_queries_that_nothing_answers_are_told(held_out):
    notes = judge(held_out, everything).notes
    assert "audio_to_image: 4 of 10 queries are not asked, as no candidate is right" in notes
    assert "image_to_audio: 4 of 12 queries are not asked, as no candidate is right" in notes


def test_a_rank_beyond_the_candidates_is_left_out_and_told(tmp_path):
    evaluation = judge(write_world(tmp_path / "held_out", num_pictures=4, num_clips=5), everything)
    assert "no recall_at_10_text_to_image: there are only 4 candidates" in evaluation.notes
    assert "no recall_at_10_image_to_text: there are only 8 candidates" in evaluation.notes
    assert "recall_at_5_text_to_audio" in by_name(evaluation)
    assert not [name for name in by_name(evaluation) if "_10_" in name]


def test_every_number_is_printed_with_its_interval(held_out):
    evaluation = judge(held_out, everything)
    lines = render(evaluation).splitlines()
    for line, metric in zip(lines[2:], evaluation.metrics, strict=False):
        assert line.startswith(metric.name)
        assert f"{metric.value:.2f} {metric.unit}" in line
        assert metric.ci_low is None or f"[{metric.ci_low:.2f}, {metric.ci_high:.2f}]" in line
    assert tuple(lines[2 + len(evaluation.metrics) :]) == evaluation.notes
    assert max(map(len, lines)) <= 100


def test_json_keeps_every_digit(held_out):
    evaluation = judge(held_out, everything)
    assert Evaluation.model_validate_json(evaluation.to_json()) == evaluation


def test_a_real_model_is_judged_alike_twice(held_out):
    embedder = load_model("mini", seed=0)
    said: list[str] = []
    first = evaluate(embedder, held_out, say=said.append)
    assert first == evaluate(embedder, held_out)
    assert len(first.metrics) == 6 + 1 + 6 + 6
    assert said[0].startswith("embedded 12 image files")


def test_a_missing_picture_stops_everything(tmp_path):
    folder = write_world(tmp_path / "held_out")
    (folder / "images/p3.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"p3\.jpg"):
        evaluate(load_model("mini", seed=0), folder)


def test_sentences_are_prepared_by_the_protocol_that_is_asked_for():
    model = build_model(load_config("mini").branch("text"), seed=0)
    embedder = Embedder(model, Tokenizer.read(find_vocabulary("mini")))
    plain, led = ("a dog",), ("...a dog",)
    assert torch.equal(embedder.embed_text(led, protocol="text"), embedder.embed_text(plain, protocol="text"))
    assert not torch.allclose(embedder.embed_text(led), embedder.embed_text(plain))
    with pytest.raises(ValueError, match=r"unknown protocol of text 'txt'\. Did you mean 'text'"):
        embedder.embed_text(plain, protocol="txt")
