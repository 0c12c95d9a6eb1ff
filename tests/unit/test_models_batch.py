"""A batch moves with all its parts, and only floating numbers change their type."""

import pytest
import torch

from models.batch import Shared, Tokens, move
from models.config import load_config
from models.modalities.audio import Waveforms, count_frames
from models.onepeace import build_model

META = torch.device("meta")
CONFIG = load_config("tiny")
SIZES = {"image": (2, 3, 64, 64), "audio": (2, 16_000)}


def test_tensors_move_inside_mappings_and_dataclasses_and_the_rest_stays():
    batch = {"audio": Waveforms(torch.ones(2, 3), torch.zeros(2, 1, dtype=torch.bool)), "text": torch.ones(2)}
    moved = move({"inputs": batch, "tokens": Tokens(torch.ones(1)), "name": "a word", "count": 3}, META)
    audio = moved["inputs"]["audio"]
    assert isinstance(audio, Waveforms)
    tensors = (audio.samples, audio.padding_mask, moved["inputs"]["text"], moved["tokens"].features)
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved["tokens"].padding_mask is None
    assert (moved["name"], moved["count"]) == ("a word", 3)


def test_a_type_is_given_to_floating_numbers_only():
    batch = {"ids": torch.tensor([50000]), "audio": Waveforms(torch.ones(2), torch.tensor([True]))}
    moved = move(batch, torch.device("cpu"), dtype=torch.bfloat16)
    assert moved["ids"].dtype == torch.int64
    assert moved["ids"].item() == 50000
    assert (moved["audio"].samples.dtype, moved["audio"].padding_mask.dtype) == (torch.bfloat16, torch.bool)


def test_without_a_type_each_tensor_keeps_its_own():
    assert move(torch.ones(1, dtype=torch.float64), torch.device("cpu")).dtype == torch.float64


def inputs_of(name: str):
    generator = torch.Generator().manual_seed(0)
    if name == "text":
        return torch.tensor([[5, 9, 8, 7, 2], [7, 8, 2, 1, 1], [4, 2, 1, 1, 1]])
    values = torch.randn(SIZES[name], generator=generator)
    if name == "image":
        return values
    frames = count_frames(16_000, CONFIG.modalities["audio"]["extractor"])
    padding = torch.zeros(2, frames + 1, dtype=torch.bool)
    padding[1, 30:] = True
    return Waveforms(values, padding)


def take(value, rows: list[int]):
    if isinstance(value, Waveforms):
        return Waveforms(value.samples[rows], value.padding_mask[rows])
    return value[rows]


@pytest.mark.parametrize("name", ["text", "image", "audio"])
def test_sequences_that_share_inputs_are_encoded_as_if_each_had_its_own(name: str):
    model = build_model(CONFIG.branch(name), seed=0).eval()
    rows = [1, 0, 1, 1]
    shared = Shared(inputs_of(name), torch.tensor(rows))
    with torch.no_grad():
        together, alone = (model.encode({name: each})[name] for each in (shared, take(inputs_of(name), rows)))
    torch.testing.assert_close(together.features, alone.features, atol=1e-5, rtol=0)
    if alone.padding_mask is not None:
        assert torch.equal(together.padding_mask, alone.padding_mask)
    assert len(together.features) == 4


def test_the_stem_sees_what_is_shared_once():
    model = build_model(CONFIG.branch("audio"), seed=0).eval()
    seen = []
    model.adapters["audio"].extractor.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    model.encode({"audio": Shared(inputs_of("audio"), torch.tensor([0, 1, 0, 0, 1]))})
    assert seen == [2]


def test_gradients_flow_into_what_is_shared_from_every_sequence():
    model = build_model(CONFIG.branch("image"), seed=0)
    gradients = []
    for value in (Shared(inputs_of("image"), torch.tensor([0, 1, 0])), take(inputs_of("image"), [0, 1, 0])):
        model.zero_grad()
        model.encode({"image": value})["image"].features.square().sum().backward()
        gradients.append(model.adapters["image"].stem[0].weight.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5 * float(gradients[1].abs().max()))


def test_what_is_shared_moves_with_its_rows():
    moved = move({"audio": Shared(inputs_of("audio"), torch.tensor([0, 1, 0]))}, META, dtype=torch.bfloat16)["audio"]
    assert isinstance(moved, Shared)
    assert isinstance(moved.inputs, Waveforms)
    assert (moved.inputs.samples.device.type, moved.inputs.samples.dtype) == ("meta", torch.bfloat16)
    assert (moved.rows.device.type, moved.rows.dtype) == ("meta", torch.int64)
