"""Texts, pictures and sounds become what the reference implementation makes of them."""

import io
import re

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from torch.nn import functional

from models.config import load_config
from models.modalities import audio, image, text
from models.tokenizer import Tokenizer
from models.vocabulary import find_vocabulary

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def tokenizer(samples_dir) -> Tokenizer:
    folder = samples_dir / "vocabulary"
    if not folder.is_dir():
        pytest.skip(f"no published vocabulary at {folder} (.ci/run beside ../shared has it)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONEPEACE_VOCABULARY", str(folder))
        return Tokenizer.read(find_vocabulary("published"))


def tolerance(manifest: dict, output: str) -> float:
    """The output's own, else the first number of the case's sentence on tolerances."""
    note = re.search(r"atol ([\d.e-]+)", manifest["outputs"][output].get("note", ""))
    return float(note[1] if note else re.search(r"\d[\d.]*e-?\d+", manifest["tolerances"])[0])


def check(case, output: str, ours: torch.Tensor) -> None:
    stored = case.tensors("io")[case.manifest["outputs"][output]["tensor"]]
    stride = re.search(r"every (\d+)\w\w sample", case.manifest["outputs"][output].get("note", ""))
    ours = ours[:: int(stride[1])] if stride else ours
    torch.testing.assert_close(ours, stored.to(ours.dtype), rtol=0, atol=tolerance(case.manifest, output))


# Texts.

PROTOCOLS = {
    "text": "dataset_ids",
    "text-api": "hub_ids",
    "text-grounding": "grounding_ids_no_length_limit",
    "text-raw": "raw_encode_ids_no_processing",
}


@pytest.mark.parametrize("protocol", text.TRANSFORMS)
def test_every_text_has_the_published_ids(find_cases, tokenizer, protocol):
    for case in find_cases("09a"):
        assert case.manifest["rows"]
        for row in case.manifest["rows"]:
            ids = text.TRANSFORMS[protocol](row["text"], tokenizer)
            assert ids.tolist() == row[PROTOCOLS[protocol]], row["text"]


def test_texts_are_cleaned_as_published(find_cases):
    for case in find_cases("09a"):
        for row in case.manifest["rows"]:
            assert text.clean_text(row["text"]) == row["dataset_processed"]


def test_every_text_comes_back(find_cases, tokenizer):
    for case in find_cases("09a"):
        for row in case.manifest["rows"]:
            assert tokenizer.decode(tokenizer.encode(row["text"])) == row["text"]


def test_a_batch_of_texts_is_padded_as_published(find_cases, tokenizer):
    for case in find_cases("09a"):
        (key,) = (key for key in case.manifest if key.startswith("hub_batch_first_"))
        stored = case.manifest[key]
        rows = case.manifest["rows"][: len(stored)]
        ids = text.collate([text.TRANSFORMS["text-api"](row["text"], tokenizer) for row in rows])
        assert ids.tolist() == stored


def test_the_dictionary_has_the_published_order(find_cases, tokenizer):
    for case in find_cases("09a"):
        facts = case.manifest
        assert tokenizer.vocabulary_size == facts["vocabulary_size"]
        assert list(tokenizer.symbols[: len(facts["first_symbols"])]) == facts["first_symbols"]
        assert list(tokenizer.symbols[-len(facts["last_symbols"]) :]) == facts["last_symbols"]
        assert {symbol: tokenizer.symbols.index(symbol) for symbol in facts["specials"]} == facts["specials"]
        assert ("<mask>" in tokenizer.symbols) is facts["has_mask_symbol"]
        for bpe_id, stored in facts["ids_of_gpt2_tokens"].items():
            assert tokenizer.id_of_bpe(int(bpe_id)) == stored


def test_words_start_where_published(find_cases, tokenizer):
    for case in find_cases("09a"):
        facts = case.manifest
        stored = np.load(case.folder / facts["whole_word_start_file"])["is_word_start"]
        np.testing.assert_array_equal(tokenizer.word_starts, stored.astype(bool))
        assert tokenizer.word_starts.sum() == facts["whole_word_start_count"]
        for example in facts["word_start_examples"]:
            assert tokenizer.word_starts[example["ids"]].tolist() == [bool(start) for start in example["is_word_start"]]


def test_another_order_of_the_dictionary_is_seen(find_cases, tokenizer):
    (case, *_) = find_cases("09a")
    merges, bpe_ids, entries = tokenizer.__reduce__()[1]
    turned = Tokenizer(merges, bpe_ids, entries[::-1])
    assert any(
        text.TRANSFORMS["text"](row["text"], turned).tolist() != row["dataset_ids"] for row in case.manifest["rows"]
    )


# Pictures.


def read_picture(case, name: str) -> Image.Image:
    """Read a stored picture as users' files are read."""
    file = io.BytesIO()
    Image.fromarray(np.load(case.folder / case.manifest["files"]["rgb"])[f"rgb_{name}"]).save(file, "PNG")
    return image.read_image(file.getvalue())


def pictures(case, protocol: str) -> list[tuple[str, int, str]]:
    """The case's outputs of one protocol, with the input size in pixels and the picture's name."""
    found = [re.fullmatch(rf"{protocol}_(\d+)_(.+)", output) for output in case.manifest["outputs"]]
    assert any(found)
    return [(match[0], int(match[1]), match[2]) for match in found if match]


def check_pictures(case, published: str, transform) -> None:
    for output, size_px, name in pictures(case, published):
        check(case, output, transform(read_picture(case, name), size_px))


@pytest.mark.parametrize(("protocol", "published"), [("image-square", "hub"), ("image-grounding", "grounding")])
def test_pictures_have_the_published_values(find_cases, protocol, published):
    for case in find_cases("09b"):
        check_pictures(case, published, image.TRANSFORMS[protocol])


def test_boxes_go_to_the_published_targets_and_back(find_cases):
    for case in find_cases("09b"):
        size_px = case.manifest["grounding_patch_size"]
        for row in case.manifest["grounding"]:
            picture = read_picture(case, row["image"])
            assert list(picture.size) == row["wh"] == case.manifest["returned_sizes_wh"][row["image"]]
            scale = image.BoxScale(*picture.size, size_px)
            assert scale.ratios.tolist() == [row["w_resize_ratio"], row["h_resize_ratio"]]
            corners = torch.tensor([[float(value) for value in row["region_coord"].split(",")]])
            target = scale.to_target(corners)
            check(case, f"grounding_target_{row['image']}", target)
            assert target.tolist() == row["target"]
            torch.testing.assert_close(scale.to_pixels(target), corners, rtol=1e-6, atol=0)
            check(case, f"grounding_region_{row['image']}", corners[0])


def resize_tensor(picture: Image.Image, size_px: int) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
    resized = functional.interpolate(pixels, (size_px, size_px), mode="bicubic", antialias=True)[0].clamp(0, 1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (image.CLIP_MEAN, image.CLIP_STD))
    return (resized - mean) / std


@pytest.mark.parametrize("published", ["hub", "grounding"])
def test_resizing_a_tensor_instead_of_a_picture_is_seen(find_cases, published):
    for case in find_cases("09b"):
        with pytest.raises(AssertionError):
            check_pictures(case, published, resize_tensor)


# Sounds.


def read_clip(case, name: str, folder) -> np.ndarray:
    """Read a stored clip as users' files are read: 16-bit where it is, else as floating point."""
    raw = np.load(case.folder / case.manifest["files"]["raw"])[f"raw_{name}"]
    path = folder / "clip.wav"
    soundfile.write(path, raw, audio.SAMPLE_RATE_HZ, subtype="PCM_16" if raw.dtype == np.int16 else "FLOAT")
    return audio.MODALITY.read(path)


def clips(case) -> list[tuple[str, str, dict[str, float]]]:
    """The case's outputs of single clips, with the clip's name and the longest duration where it is given."""
    names = "|".join(map(re.escape, case.manifest["clips"]))
    found = [re.fullmatch(rf"(?:hub|dataset)_({names})(?:_max(\d+))?", name) for name in case.manifest["outputs"]]
    assert any(found)
    return [(match[0], match[1], {"max_duration_s": float(match[2])} if match[2] else {}) for match in found if match]


def check_sounds(case, folder, transform) -> None:
    for output, name, arguments in clips(case):
        check(case, output, transform(read_clip(case, name, folder), **arguments))


def test_sounds_have_the_published_values(find_cases, tmp_path):
    for case in find_cases("09c"):
        check_sounds(case, tmp_path, audio.TRANSFORMS["audio"])


def test_sounds_have_the_published_lengths(find_cases, tmp_path):
    for case in find_cases("09c"):
        for _, name, arguments in clips(case):
            key = f"dataset_len_max{arguments['max_duration_s']:.0f}" if arguments else "hub_len"
            ours = audio.TRANSFORMS["audio"](read_clip(case, name, tmp_path), **arguments)
            assert len(ours) == case.manifest["clips"][name][key]


def test_a_batch_of_sounds_has_the_published_mask(find_cases, tmp_path):
    extractor = audio.AudioOptions.parse(load_config("4b").modalities["audio"], where="4b").extractor
    for case in find_cases("09c"):
        names = case.manifest["hub_batch"]["clips"]
        clips = [audio.TRANSFORMS["audio"](read_clip(case, name, tmp_path)) for name in names]
        batch = audio.collate(clips, extractor)
        assert list(batch.samples.shape) == case.manifest["hub_batch"]["src_audios_shape"]
        assert torch.equal(batch.padding_mask, case.tensors("io")["out.hub_batch_padding_mask"])
        assert [len(clip) for clip in clips] == case.tensors("io")["out.hub_batch_lengths_nonzero"].tolist()
        assert [clip.any().item() for clip in clips] == [True] * len(clips)
        for samples, clip in zip(batch.samples, clips, strict=True):
            assert torch.equal(samples[: len(clip)], clip)
            assert not samples[len(clip) :].any()


def test_frames_are_counted_as_published(find_cases):
    extractor = audio.AudioOptions.parse(load_config("4b").modalities["audio"], where="4b").extractor
    for case in find_cases("09c"):
        for num_samples, frames in case.manifest["conv_length_table"].items():
            assert audio.count_frames(int(num_samples), extractor) == frames
        for facts in case.manifest["clips"].values():
            assert audio.count_frames(facts["hub_len"], extractor) + 1 == facts["hub_mask_len"]


def test_another_epsilon_in_the_norm_is_seen(find_cases, tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "NORM_EPS", 1e-3)
    for case in find_cases("09c"):
        with pytest.raises(AssertionError):
            check_sounds(case, tmp_path, audio.TRANSFORMS["audio"])
