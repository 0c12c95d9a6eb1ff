"""The optimiser groups by layer as released, and the schedule rises and falls to zero."""

import pytest
import torch
from torch import nn

from downstream.engines.settings import AdapterSettings, TrainingSettings
from downstream.engines.vit_adapter import ViTAdapter
from models.config import load_config
from models.onepeace import build_model

NUM_LAYERS = 4


@pytest.fixture(scope="module")
def optim():
    """Our optimiser's module, and with it the OpenMMLab stack."""
    from downstream.engines.openmmlab import optim

    return optim


def make_settings(**changes) -> TrainingSettings:
    values = {
        "iterations": 20,
        "batch_size": 6,
        "micro_batch_size": 6,
        "lr": 0.5,
        "weight_decay": 0.05,
        "layer_decay": 0.5,
        "warmup_iterations": 5,
        "drop_path_rate": 0.0,
        "drop_activations": False,
        "state_interval": 5,
    }
    return TrainingSettings.parse({**values, **changes}, where="test")


class Segmentor(nn.Module):
    """Named like the real one: our backbone, and a head of a few parts."""

    def __init__(self) -> None:
        super().__init__()
        config = load_config("tiny").branch(
            "image", has_per_layer_bias=True, has_final_norm=False, has_projection=False
        )
        self.backbone = ViTAdapter(build_model(config, seed=0), AdapterSettings(conv_planes=2, num_heads=2))
        self.decode_head = nn.ModuleDict({"query_embed": nn.Embedding(3, 2), "cls_embed": nn.Linear(2, 4)})
        self.decode_head["pixel_decoder"] = nn.Linear(2, 2)


@pytest.fixture(scope="module")
def segmentor() -> Segmentor:
    return Segmentor()


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("backbone.model.adapters.image.cls_embedding", 0),
        ("backbone.model.adapters.image.positions", 0),
        ("backbone.model.adapters.image.stem.0.weight", 0),
        ("backbone.model.adapters.image.bias.tables.0", 1),
        ("backbone.model.adapters.image.bias.tables.39", 40),
        ("backbone.model.encoder.layers.0.attn.q_proj.weight", 1),
        ("backbone.model.encoder.layers.12.ffn.image.gate_proj.weight", 13),
        ("backbone.interactions.0.injector.gamma", 41),
        ("backbone.spm.stem.0.weight", 41),
        ("backbone.level_embed", 41),
        ("decode_head.query_embed.weight", 0),
        ("decode_head.query_feat.weight", 0),
        ("decode_head.level_embed.weight", 0),
        ("decode_head.cls_embed.bias", 0),
        ("decode_head.mask_embed.2.weight", 0),
        ("decode_head.pixel_decoder.mask_feature.weight", 41),
        ("decode_head.transformer_decoder.layers.0.norms.0.weight", 41),
    ],
)
def test_each_parameter_belongs_to_its_layer(optim, name: str, layer: int) -> None:
    assert optim.layer_of(name, 40) == layer


def test_every_parameter_is_in_exactly_one_group(optim, segmentor: Segmentor) -> None:
    groups = optim.parameter_groups(segmentor, num_layers=NUM_LAYERS, settings=make_settings())
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(found) == len(set(found))
    assert set(found) == {id(parameter) for parameter in segmentor.parameters()}
    assert len({group["name"] for group in groups}) == len(groups)


def test_rates_shrink_by_layer_and_vectors_do_not_decay(optim, segmentor: Segmentor) -> None:
    settings = make_settings()
    groups = optim.parameter_groups(segmentor, num_layers=NUM_LAYERS, settings=settings)
    place = {id(parameter): group for group in groups for parameter in group["params"]}
    for name, parameter in segmentor.named_parameters():
        group, layer = place[id(parameter)], optim.layer_of(name, NUM_LAYERS)
        assert group["lr"] == pytest.approx(0.5 * 0.5 ** (NUM_LAYERS + 1 - layer)), name
        decays = parameter.ndim > 1
        assert group["weight_decay"] == (0.05 if decays else 0.0), name
    assert {optim.layer_of(name, NUM_LAYERS) for name, _ in segmentor.named_parameters()} == set(range(6))


def test_without_layer_decay_all_rates_are_the_same(optim, segmentor: Segmentor) -> None:
    groups = optim.parameter_groups(segmentor, num_layers=NUM_LAYERS, settings=make_settings(layer_decay=1.0))
    assert {group["lr"] for group in groups} == {0.5}


def test_the_optimiser_is_adamw_with_the_settings(optim, segmentor: Segmentor) -> None:
    settings = make_settings(betas=(0.8, 0.95))
    optimizer = optim.build_optimizer(segmentor, num_layers=NUM_LAYERS, settings=settings)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.95)}
    assert {group["eps"] for group in optimizer.param_groups} == {1e-8}


def rates(optim, settings: TrainingSettings) -> list[float]:
    """The rate of each optimiser step."""
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.AdamW([parameter], lr=settings.lr)
    schedulers = optim.build_schedulers(optimizer, settings)
    found = []
    for _ in range(settings.iterations):
        found.append(optimizer.param_groups[0]["lr"])
        parameter.grad = torch.ones(2)
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return [*found, optimizer.param_groups[0]["lr"]]


@pytest.mark.parametrize(("iterations", "warmup"), [(20, 5), (100, 20), (7, 1)])
def test_the_rate_is_the_released_schedules(optim, iterations: int, warmup: int) -> None:
    """mmcv 0.x: a decay from the first iteration on, and during the warm-up a factor that rises to one."""
    settings = make_settings(iterations=iterations, warmup_iterations=warmup)
    expected = []
    for step in range(iterations + 1):
        factor = 1 - (1 - min(step / warmup, 1)) * (1 - settings.warmup_start)
        expected.append(settings.lr * (1 - step / iterations) * factor)
    assert rates(optim, settings) == pytest.approx(expected, abs=1e-9)


def test_without_warm_up_the_rate_starts_at_its_peak(optim) -> None:
    found = rates(optim, make_settings(warmup_iterations=0))
    assert found[0] == max(found) == 0.5


def test_a_resumed_training_has_the_rates_of_a_straight_one(optim, tmp_path) -> None:
    from downstream.engines.openmmlab.state import Training

    def start() -> Training:
        model = nn.Linear(3, 2)
        nn.init.constant_(model.weight, 0.5)
        nn.init.zeros_(model.bias)
        settings = make_settings()
        optimizer = optim.build_optimizer(model, num_layers=NUM_LAYERS, settings=settings)
        return Training(model, optimizer, optim.build_schedulers(optimizer, settings))

    def run(training: Training, first: int, last: int) -> list[float]:
        found = []
        for number in range(first, last):
            training.model(torch.full((4, 3), float(number))).square().mean().backward()
            training.optimizer.step()
            training.optimizer.zero_grad()
            found.append(training.optimizer.param_groups[0]["lr"])
            for scheduler in training.schedulers:
                scheduler.step()
        return found

    straight, broken = start(), start()
    expected = run(straight, 0, 20)
    found = run(broken, 0, 7)
    broken.save(tmp_path / "state.safetensors", iteration=7)
    resumed = start()
    assert resumed.load(tmp_path / "state.safetensors")[0] == 7
    assert found + run(resumed, 7, 20) == expected
    assert torch.equal(resumed.model.weight, straight.model.weight)
