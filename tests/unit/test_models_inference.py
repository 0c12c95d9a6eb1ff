"""What a branch needs to embed is estimated as it is measured, and the paper's model fits a card of 16 GB."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from models.config import load_config
from models.inference import BATCH_SIZES, embed_bytes, forward_bytes, longest_tokens
from models.modalities.audio import collate
from models.onepeace import build_model
from pretrain.cost import count_parameters

CARD_BYTES = 16e9
RESERVE = 0.08  # for the driver and fragmentation; pretrain/plan.py
BRANCH_PARAMETERS = {"text": 1.592e9, "image": 1.517e9, "audio": 1.533e9}


class Peak(TorchDispatchMode):
    """Follows the memory that operations give; `most` is the most there was at any time, in bytes."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        own = [*module.parameters(), *module.buffers()]
        self.ignored = {tensor.untyped_storage()._cdata for tensor in own}
        self.found: dict[int, tuple[StorageWeakRef, int]] = {}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple) else [out]:
            if isinstance(value, Tensor) and (storage := value.untyped_storage())._cdata not in self.ignored:
                known = self.found.get(storage._cdata)
                if known is None or known[0].expired():
                    self.found[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.most = max(self.most, sum(size for place, size in self.found.values() if not place.expired()))
        return out


def make_input(name: str, batch: int) -> tuple[Any, int]:
    """Give a batch for the mini model, and its tokens."""
    generator = torch.Generator().manual_seed(0)
    if name == "text":
        return torch.randint(4, 2048, (batch, 120), generator=generator), 121
    if name == "image":
        return torch.randn(batch, 3, 64, 64, generator=generator), 17
    clips = [torch.randn(16_000, generator=generator) for _ in range(batch)]
    waveforms = collate(clips, load_config("mini").modalities["audio"]["extractor"])
    return waveforms, waveforms.padding_mask.shape[1]


@pytest.mark.parametrize("name", BATCH_SIZES)
def test_each_sample_needs_what_is_counted(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    model = build_model(load_config("mini").branch(name), seed=0).eval()
    if name == "audio":  # whole clips at once, as on a GPU
        monkeypatch.setattr(type(model.adapters["audio"].extractor), "forward", nn.Sequential.forward)
    with torch.no_grad():
        model.embed({name: make_input(name, 1)[0]})  # what is computed once and kept
    found, counted = [], []
    for batch in (4, 12):  # what the batch size does not change falls out
        value, tokens = make_input(name, batch)
        with torch.no_grad(), Peak(model) as peak:
            model.embed({name: value})
        found.append(peak.most)
        counted.append(forward_bytes(model.config, name, tokens=tokens, batch_size=batch, bytes_per_value=4))
    assert counted[1] - counted[0] == pytest.approx(found[1] - found[0], rel=0.1)


def need(*names: str) -> float:
    """Count the bytes of branches of the paper's model in bfloat16 and of the largest of their batches."""
    config = load_config("4b").branch(*names)
    tokens = longest_tokens(config, max_duration_s=15.0, text_tokens=None)
    batches = (
        forward_bytes(config, name, tokens=tokens[name], batch_size=BATCH_SIZES[name], bytes_per_value=2)
        for name in names
    )
    return 2 * sum(count_parameters(config).values()) + max(batches)


@pytest.mark.parametrize("name", BATCH_SIZES)
def test_a_branch_of_the_papers_model_embeds_in_bfloat16_on_16_gb(name: str) -> None:
    weights = 2 * sum(count_parameters(load_config("4b").branch(name)).values())
    assert weights == pytest.approx(2 * BRANCH_PARAMETERS[name], rel=1e-3)
    found = embed_bytes(load_config("4b"), name, num_parameters=weights // 2, bytes_per_value=2)
    assert found == need(name)
    assert weights < found < 5e9 < CARD_BYTES * (1 - RESERVE)


def test_all_branches_of_the_papers_model_embed_in_bfloat16_on_16_gb() -> None:
    weights = 2 * sum(count_parameters(load_config("4b")).values())
    assert weights == pytest.approx(7.77e9, rel=1e-3)
    assert need("text", "image", "audio") < 9.5e9 < CARD_BYTES * (1 - RESERVE)
    print({name: f"{need(name) / 1e9:.2f} GB" for name in BATCH_SIZES}, f"{need(*BATCH_SIZES) / 1e9:.2f} GB")
