import numpy as np
import pytest
import torch
from PIL import Image

from models import combine, load_model
from models.checkpoint.load import save_state
from models.config import load_config
from models.embedding import Embedder
from models.onepeace import build_model

TEXTS = ("a red house left of the tree", "a bird", "the siren of a car on the road by the sea at dusk", "rain", "")


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return load_model("mini", seed=0)


def tone(seconds: float, rate_hz: int = 16_000) -> np.ndarray:
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.sin(2 * np.pi * 440 * time_s).astype(np.float32) * np.linspace(0.1, 0.9, len(time_s), dtype=np.float32)


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize("mix", [(0,), (0, 1), (2, 0), (4, 2), (0, 1, 2, 3, 4), (3, 3, 0, 2)])
def test_a_text_embeds_the_same_whatever_else_is_in_the_batch(embedder, mix):
    alone = torch.cat([embedder.embed_text([TEXTS[index]]) for index in mix])
    together = embedder.embed_text([TEXTS[index] for index in mix])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mix", [(0.3, 1.0), (1.0, 2.5), (2.5, 0.7, 1.3), (1.3, 1.3), (3.1, 0.2), (0.9, 1.1, 2.0)])
def test_a_clip_embeds_the_same_whatever_else_is_in_the_batch(embedder, mix):
    alone = torch.cat([embedder.embed_audio([tone(seconds)]) for seconds in mix])
    together = embedder.embed_audio([tone(seconds) for seconds in mix])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_pictures_of_any_shape_embed_the_same_at_any_batch_size(embedder):
    pictures = [picture(index, size) for index, size in enumerate([(64, 64), (31, 200), (90, 17)])]
    whole = embedder.embed_image(pictures)
    torch.testing.assert_close(embedder.embed_image(pictures, batch_size=2), whole, rtol=0, atol=1e-5)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(3))


def test_nothing_embeds_to_nothing(embedder):
    assert embedder.embed_text([]).shape == (0, 128)


def test_a_sound_is_the_same_as_a_file_or_as_samples_at_another_rate(embedder, tmp_path):
    import soundfile

    samples = tone(1.5, 44_100)
    soundfile.write(tmp_path / "tone.wav", samples, 44_100, subtype="FLOAT")
    from_file = embedder.embed_audio([tmp_path / "tone.wav"])
    torch.testing.assert_close(embedder.embed_audio([(samples, 44_100)]), from_file, rtol=0, atol=1e-6)


def test_a_combined_query_has_unit_length_and_leans_to_its_parts(embedder):
    first, second = embedder.embed_text(TEXTS[:2])
    query = combine([first, second])
    assert query.norm().item() == pytest.approx(1, abs=1e-6)
    assert query @ first == pytest.approx((query @ second).item(), abs=1e-5)
    with pytest.raises(ValueError, match="nothing to combine"):
        combine([])


def test_a_branch_loaded_alone_gives_the_full_models_vectors_bit_for_bit(embedder, tmp_path):
    model = build_model(load_config("mini"), seed=0)
    save_state(model.state_dict(), tmp_path / "weights.safetensors", metadata={})
    alone = load_model(tmp_path / "weights.safetensors", branches=["text"])
    assert list(alone.model.adapters) == ["text"]
    assert torch.equal(alone.embed_text(TEXTS), embedder.embed_text(TEXTS))
    with pytest.raises(ValueError, match="no branch 'image'"):
        alone.embed_image([picture(0, (32, 32))])


def test_half_precision_moves_vectors_a_little(embedder):
    half = load_model("mini", seed=0, dtype="bf16")
    assert next(half.model.parameters()).dtype == torch.bfloat16
    similarity = (half.embed_text(TEXTS) * embedder.embed_text(TEXTS)).sum(dim=1)
    assert similarity.min() > 0.99


def test_what_cannot_be_loaded_is_said_in_one_line():
    with pytest.raises(FileNotFoundError, match="no shipped weights"):
        load_model("tiny")
    with pytest.raises(ValueError, match="float31"):
        load_model("mini", seed=0, dtype="float31")
    with pytest.raises(ValueError, match="unknown modality 'sound'"):
        load_model("mini", seed=0, branches=["sound"])
