"""A batch moves with all its parts, and only floating numbers change their type."""

import torch

from models.batch import Tokens, move
from models.modalities.audio import Waveforms

META = torch.device("meta")


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
