"""Each modality is decoded by its protocol; crops follow torchvision's rule with random numbers of their own."""

import io
import math
from types import MappingProxyType

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.functional import resized_crop

from models.augment import CROP_RATIO, draw_crop
from models.config import load_config
from models.modalities import load_modality
from models.modalities.image import image_square, read_image
from models.tokenizer import Tokenizer
from models.vocabulary import find_vocabulary
from pretrain.data.config import DecodingConfig
from pretrain.data.decoding import Decoder

WHOLE = load_config("tiny")
SHORT_TEXT = {**WHOLE.modalities["text"], "max_positions": 40}  # fewer than a text may have
TINY = WHOLE.model_copy(update={"modalities": {**WHOLE.modalities, "text": SHORT_TEXT}})
SIZE_PX = 64


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.read(find_vocabulary("mini"))


def rng(seed=0) -> np.random.Generator:
    return np.random.default_rng(seed)


def picture(width=90, height=70) -> bytes:
    file = io.BytesIO()
    pixels = rng().integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def decode(fields, *, tokenizer=None, seed=0, **options):
    decoder = Decoder(TINY, DecodingConfig(**options), names=fields, tokenizer=tokenizer)
    return decoder.decode(fields, rng(seed))


def test_text_is_decoded_by_its_protocol(tokenizer):
    expected = load_modality("text").transforms["text"]("  A Cat", tokenizer)
    assert torch.equal(decode({"text": "  A Cat"}, tokenizer=tokenizer)["text"], expected)
    assert torch.equal(decode({"text": b"  A Cat"}, tokenizer=tokenizer)["text"], expected)


def test_a_picture_without_crop_is_squashed_whole():
    expected = image_square(read_image(picture()), SIZE_PX)
    assert torch.equal(decode({"image": picture()}, crop_scale=None)["image"], expected)


def test_a_crop_depends_on_its_random_numbers_alone():
    one, again, other = (decode({"image": picture()}, seed=seed)["image"] for seed in (1, 1, 2))
    assert one.shape == (3, SIZE_PX, SIZE_PX)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_crop_is_resized_as_torchvision_does():
    left, top, right, bottom = draw_crop((90, 70), (0.9, 1.0), rng=rng(1))
    decoded = decode({"image": picture()}, seed=1)["image"]
    theirs = resized_crop(read_image(picture()), top, left, bottom - top, right - left, [SIZE_PX, SIZE_PX], 3)
    assert torch.equal(decoded, image_square(theirs, SIZE_PX))


@pytest.mark.parametrize("size", [(90, 70), (70, 90), (128, 128)])
@pytest.mark.parametrize("scale", [(0.9, 1.0), (0.2, 0.5)])
def test_crops_keep_to_scale_and_ratio_inside_the_picture(size, scale):
    for seed in range(50):
        left, top, right, bottom = draw_crop(size, scale, rng=rng(seed))
        width, height = right - left, bottom - top
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]
        slack = 1.5 / min(width, height)
        assert scale[0] - slack <= width * height / math.prod(size) <= scale[1] + slack
        assert CROP_RATIO[0] * (1 - slack) <= width / height <= CROP_RATIO[1] * (1 + slack)


@pytest.mark.parametrize("size", [(300, 10), (10, 300), (1, 1)])
def test_where_no_crop_fits_the_middle_is_taken_as_torchvision_does(size):
    box = draw_crop(size, (0.9, 1.0), rng=rng())
    top, left, height, width = RandomResizedCrop.get_params(Image.new("RGB", size), [0.9, 1.0], list(CROP_RATIO))
    assert box == (left, top, left + width, top + height)


def test_crops_are_spread_as_torchvisions_are():
    ours = np.array([draw_crop((200, 150), (0.5, 1.0), rng=rng(seed)) for seed in range(800)])
    torch.manual_seed(0)
    blank = Image.new("RGB", (200, 150))
    params = [RandomResizedCrop.get_params(blank, [0.5, 1.0], list(CROP_RATIO)) for _ in range(800)]
    theirs = np.array([(left, top, left + width, top + height) for top, left, height, width in params])
    np.testing.assert_allclose(ours.mean(axis=0), theirs.mean(axis=0), atol=4)
    np.testing.assert_allclose(ours.std(axis=0), theirs.std(axis=0), atol=3)


def test_sounds_are_resampled_normalised_and_cut():
    file = io.BytesIO()
    soundfile.write(file, rng().standard_normal(24_000 * 3) * 0.1, 24_000, format="FLAC", subtype="PCM_16")
    modality = load_modality("audio")
    expected = modality.transforms["audio"](modality.read(file.getvalue()), max_duration_s=2)
    decoded = decode({"audio": file.getvalue()}, max_duration_s=2)["audio"]
    assert decoded.shape == (32_000,)
    assert torch.equal(decoded, expected)


class Depth:
    name = "depth"
    transforms = MappingProxyType({"plain": lambda values: torch.tensor([len(values)])})

    def read(self, source):
        return source * 2


def test_a_modality_of_which_nothing_is_known_is_read_and_transformed(monkeypatch):
    monkeypatch.setattr("pretrain.data.decoding.load_modality", lambda name: Depth())
    model = TINY.model_copy(update={"modalities": {"depth": {}}})
    decoder = Decoder(model, DecodingConfig(protocols={"depth": "plain"}), names=["depth"], tokenizer=None)
    assert decoder.decode({"depth": b"abc"}, rng())["depth"].tolist() == [6]


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["video"], {}, "the data has 'video', but size 'tiny' only text, image, audio"),
        (["text"], {}, "the data has texts, but there is no tokenizer"),
        (["image"], {"protocols": {"image": "square"}}, "modality 'image': unknown protocol 'square'. Did you mean"),
        (["audio"], {"protocols": {}}, "modality 'audio': unknown protocol ''"),
    ],
)
def test_what_cannot_be_decoded_is_refused_at_once(names, options, message):
    with pytest.raises(ValueError, match=message):
        Decoder(TINY, DecodingConfig(**options), names=names, tokenizer=None)


def test_a_text_longer_than_the_model_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"^a text of 71 tokens, but the model has positions for 39$"):
        decode({"text": "xyz " * 80}, tokenizer=tokenizer)
