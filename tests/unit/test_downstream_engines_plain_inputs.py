"""Sources become batches: shared files once, texts once and for all, crops that follow from seed and number."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from downstream.engines.plain import inputs
from downstream.engines.plain.inputs import Crop, Preparer
from downstream.engines.plain.settings import InputSettings
from downstream.engines.plain.units import Unit
from models.batch import Shared
from models.config import load_config
from models.embedding import find_tokenizer
from models.heads import Classifier, HeadConfig
from models.modalities import load_modality
from models.onepeace import build_model

TINY = load_config("tiny")
TOKENIZER = find_tokenizer(TINY.modalities["text"]["vocabulary_size"])
AUDIO = InputSettings(protocol="audio", arguments={"max_duration_s": 3})
IMAGE = InputSettings(protocol="image-square", arguments={"size_px": 64})
TEXT = InputSettings(protocol="text-raw")
QUESTIONS = ("what is it", "where does it stand", "how many of them are there")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    paths = [folder / f"{number}.wav" for number in range(3)]
    for path, length in zip(paths, (17_000, 30_000, 22_000), strict=True):
        soundfile.write(path, rng.uniform(-0.5, 0.5, length), 16_000)
    return paths


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(3)]
    for path in paths:
        Image.fromarray(rng.integers(256, size=(50, 70, 3), dtype=np.uint8)).save(path)
    return paths


def make(**protocols: InputSettings) -> Preparer:
    return Preparer(TINY.branch(*protocols), protocols, TOKENIZER)


def asked(sounds: list[Path]) -> list[Unit]:
    """Three questions about one sound, and one about another."""
    about_one = [Unit.of(text=question, audio=sounds[0]) for question in QUESTIONS]
    return [*about_one, Unit.of(text=QUESTIONS[0], audio=sounds[1])]


def test_a_file_that_sequences_share_is_prepared_once(sounds: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    decode = type(load_modality("audio")).read

    def read(self: Any, source: Any) -> Any:
        opened.append(Path(source).name)
        return decode(self, source)

    monkeypatch.setattr(type(load_modality("audio")), "read", read)
    preparer = make(text=TEXT, audio=AUDIO)
    (batch,) = preparer.collate(asked(sounds))
    assert opened == ["0.wav", "1.wav"]
    assert isinstance(batch["audio"], Shared)
    assert batch["audio"].rows.tolist() == [0, 0, 0, 1]
    assert batch["audio"].inputs.samples.shape == (2, 30_000)
    assert batch["text"].rows.tolist() == [0, 1, 2, 0]


def test_nothing_is_shared_where_all_are_distinct(sounds: list[Path]) -> None:
    (batch,) = make(audio=AUDIO).collate([Unit.of(audio=path) for path in sounds])
    assert not isinstance(batch["audio"], Shared)
    assert batch["audio"].samples.shape == (3, 30_000)


def test_a_model_gives_the_same_whether_sequences_share_a_file_or_not(sounds: list[Path]) -> None:
    preparer = make(text=TEXT, audio=AUDIO)
    model = build_model(TINY.branch("text", "audio", has_projection=False), seed=0)
    classifier = Classifier(model, HeadConfig(num_classes=2, pooled_modality="text")).eval()
    with torch.no_grad():
        together = classifier(*preparer.collate(asked(sounds)))
        alone = torch.cat([classifier(*preparer.collate([unit])) for unit in asked(sounds)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    assert together[0].ne(together[1]).any(), "the questions differ"
    assert together[0].ne(together[3]).any(), "the sounds differ"


def test_texts_are_prepared_once_and_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    preparer = make(text=TEXT)
    first = preparer.transform("text", "a dog")
    monkeypatch.setattr(inputs, "load_modality", None)
    assert preparer.transform("text", "a dog") is first


def test_units_of_different_modalities_make_no_batch(sounds: list[Path]) -> None:
    preparer = make(text=TEXT, audio=AUDIO)
    with pytest.raises(ValueError, match="different modalities"):
        preparer.collate([Unit.of(audio=sounds[0]), Unit.of(text="a dog")])


def test_each_pass_has_its_own_inputs(pictures: list[Path]) -> None:
    preparer = make(text=TEXT, image=IMAGE)
    units = [
        Unit(((("text", "x"), ("image", pictures[0])), (("text", "x"), ("image", pictures[1])))),
        Unit(((("text", "y"), ("image", pictures[2])), (("text", "y"), ("image", pictures[0])))),
    ]
    first, second = preparer.collate(units)
    assert torch.equal(first["image"][0], second["image"][1])
    assert torch.equal(second["image"][0], preparer.transform("image", pictures[1]))


def test_the_measure_is_seconds_of_sounds_and_tokens_of_texts() -> None:
    preparer, path = make(text=TEXT, audio=AUDIO), Path("a.wav")
    words = float(len(preparer.transform("text", QUESTIONS[2])))
    assert preparer.measure(Unit.of(text=QUESTIONS[2], audio=path), {path: 1.5}) == (words, 1.5)
    assert words > len(preparer.transform("text", "a"))
    assert preparer.measure(Unit.of(audio=path), {}) == (0.0,)


@pytest.mark.parametrize(
    ("name", "settings", "tokenizer", "message"),
    [
        ("audio", {"protocol": "audoi"}, TOKENIZER, "unknown protocol of audio 'audoi'. Did you mean 'audio'?"),
        (
            "audio",
            {"protocol": "audio", "arguments": {"max_duration": 3}},
            TOKENIZER,
            "protocol 'audio': unknown argument 'max_duration'. Did you mean 'max_duration_s'?",
        ),
        ("text", {"protocol": "text"}, None, "protocol 'text' of text needs a vocabulary, and this model has none"),
    ],
)
def test_what_a_protocol_does_not_take_is_one_line(name: str, settings: Any, tokenizer: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Preparer(TINY.branch(name), {name: InputSettings.parse(settings, where="x")}, tokenizer)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        make(audio=AUDIO).collate([Unit.of(audio=tmp_path / "gone.wav")])


def cropped(pictures: list[Path], *, seed: int = 0, first_number: int = 0) -> torch.Tensor:
    units = [Unit.of(image=path) for path in pictures]
    crop = Crop((0.3, 0.5), seed)
    (batch,) = make(image=IMAGE).collate(units, crop=crop, first_number=first_number)
    images: torch.Tensor = batch["image"]
    return images


def test_crops_follow_from_seed_and_number_alone(pictures: list[Path]) -> None:
    whole = cropped(pictures, first_number=40)
    assert torch.equal(whole, cropped(pictures, first_number=40))
    assert torch.equal(whole[1:], cropped(pictures[1:], first_number=41)), "however the batch is cut"
    for other in (cropped(pictures, first_number=43), cropped(pictures, seed=1, first_number=40)):
        assert all(not torch.equal(mine, theirs) for mine, theirs in zip(whole, other, strict=True))


def test_a_crop_is_a_part_of_the_picture_and_sounds_have_none(pictures: list[Path], sounds: list[Path]) -> None:
    with Image.open(pictures[0]) as picture:
        for number in range(20):
            part = Crop((0.3, 0.5), 0)(picture, number=number)
            assert 0.25 < part.width * part.height / (picture.width * picture.height) < 0.55
    preparer = make(audio=AUDIO)
    units = [Unit.of(audio=path) for path in sounds]
    (plain,), (with_crop,) = preparer.collate(units), preparer.collate(units, crop=Crop((0.3, 0.5), 0))
    assert torch.equal(plain["audio"].samples, with_crop["audio"].samples)


def test_a_picture_that_stands_twice_in_a_batch_is_cropped_once(pictures: list[Path]) -> None:
    units = [Unit.of(text=word, image=pictures[0]) for word in ("a", "b")]
    (batch,) = make(text=TEXT, image=IMAGE).collate(units, crop=Crop((0.3, 0.5), 0), first_number=7)
    assert batch["image"].rows.tolist() == [0, 0]
    assert torch.equal(batch["image"].inputs, cropped(pictures[:1], first_number=7))
