"""A state is loaded whole or not at all, and every name is accounted for."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor, nn

from models.checkpoint.load import LoadReport, load_state, save_state
from models.checkpoint.reader import read_state
from models.config import load_config
from models.layers.position_bias import resize_grid_table, resize_positions
from models.onepeace import OnePeace

CONFIG = load_config("tiny")
BASE = CONFIG.model_copy(update={"num_layers": 2})


def make_model(seed: int = 0, *, grid: int = 4, per_layer: bool = False, names: tuple[str, ...] = ("image",)):
    config = BASE.branch(*names, has_per_layer_bias=per_layer)
    options = {"grid_size": grid, "bias_grid_size": grid}
    modalities = {name: options if name == "image" else value for name, value in config.modalities.items()}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = OnePeace(config.model_copy(update={"modalities": modalities}))
        for name, parameter in model.named_parameters():
            if ".tables." in name:
                nn.init.normal_(parameter)
    return model


def copy_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_a_state_of_the_same_shape_is_loaded_bit_for_bit() -> None:
    source, target = make_model(1), make_model(2)
    report = load_state(target, source.state_dict())
    assert_equal(copy_of(target), copy_of(source))
    assert set(report.loaded) == set(source.state_dict())
    assert (report.missing, report.unexpected, report.reshaped) == ((), (), ())


DAMAGES: dict[str, Callable[[dict[str, Tensor], str], object]] = {
    "missing": lambda state, name: state.pop(name),
    "unexpected": lambda state, name: state.update({f"{name}_2": state[name]}),
    "another shape": lambda state, name: state.update({name: torch.zeros(*state[name].shape, 3)}),
}
UNSIZED = sorted(
    name for name in make_model().state_dict() if not name.endswith(".positions") and ".tables" not in name
)


@settings(max_examples=25, deadline=None)
@given(damage=st.sampled_from(sorted(DAMAGES)), name=st.sampled_from(UNSIZED))
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(damage: str, name: str) -> None:
    model = make_model(1)
    before, state = copy_of(model), copy_of(make_model(2))
    DAMAGES[damage](state, name)
    with pytest.raises(ValueError, match=name) as caught:
        load_state(model, state)
    assert "\n" not in str(caught.value)
    assert_equal(copy_of(model), before)


@pytest.mark.parametrize("name", ["adapters.image.positions", "adapters.image.bias.tables.0"])
def test_positions_and_tables_may_not_be_missing(name: str) -> None:
    model, state = make_model(1), copy_of(make_model(2))
    del state[name]
    before = copy_of(model)
    with pytest.raises(ValueError, match=f"1 missing \\({name}\\)"):
        load_state(model, state)
    assert_equal(copy_of(model), before)


def test_a_shape_that_differs_is_told_with_both_shapes() -> None:
    state = {**copy_of(make_model()), "encoder.layers.1.attn.q_proj.bias": torch.zeros(31)}
    with pytest.raises(ValueError, match=r"q_proj.bias has shape \(31,\) in the checkpoint, expected \(32,\)"):
        load_state(make_model(), state)


def test_what_may_be_missing_keeps_its_value_and_is_reported() -> None:
    model = make_model(1)
    before, state = copy_of(model), copy_of(make_model(2))
    kept = [name for name in state if name.startswith("projections.")]
    for name in kept:
        del state[name]
    report = load_state(model, state, may_miss=("projections.", "no_such_part."))
    assert sorted(report.missing) == sorted(kept)
    assert_equal({name: copy_of(model)[name] for name in kept}, {name: before[name] for name in kept})
    assert_equal({name: copy_of(model)[name] for name in state}, state)


def test_what_may_be_missing_does_not_excuse_anything_else() -> None:
    state = copy_of(make_model(2))
    del state["projections.image.bias"], state["encoder.layers.0.ffn_norm.bias"]
    with pytest.raises(ValueError, match="2 missing"):
        load_state(make_model(1), state, may_miss=("projections.",))


@pytest.mark.parametrize("names", [("image",), ("text", "image", "audio")], ids=",".join)
def test_a_shared_table_is_copied_to_every_layer(names: tuple[str, ...]) -> None:
    source, target = make_model(1, names=names), make_model(2, per_layer=True, names=names)
    report = load_state(target, source.state_dict())
    loaded = target.state_dict()
    for name in names:
        shared = source.state_dict()[f"adapters.{name}.bias.tables.0"]
        for layer in range(2):
            assert torch.equal(loaded[f"adapters.{name}.bias.tables.{layer}"], shared)
    assert set(report.reshaped) == {f"adapters.{name}.bias.tables.1" for name in names}
    assert report.missing == ()


def test_tables_of_every_layer_are_not_overwritten_by_the_first() -> None:
    source, target = make_model(1, per_layer=True), make_model(2, per_layer=True)
    load_state(target, source.state_dict())
    assert_equal(copy_of(target), copy_of(source))
    first, second = (target.state_dict()[f"adapters.image.bias.tables.{layer}"] for layer in range(2))
    assert not torch.equal(first, second)


def test_tables_of_every_layer_do_not_fit_a_model_that_shares_one() -> None:
    with pytest.raises(ValueError, match="1 unexpected"):
        load_state(make_model(1), make_model(2, per_layer=True).state_dict())


@pytest.mark.parametrize("per_layer", [False, True])
def test_positions_and_tables_of_a_smaller_grid_are_resized(per_layer: bool) -> None:
    source, target = make_model(1, grid=3), make_model(2, grid=5, per_layer=per_layer)
    report = load_state(target, source.state_dict())
    loaded, stored = target.state_dict(), source.state_dict()
    positions = resize_positions(stored["adapters.image.positions"], 5)
    assert torch.equal(loaded["adapters.image.positions"], positions)
    table = resize_grid_table(stored["adapters.image.bias.tables.0"], 5)
    for layer in range(2 if per_layer else 1):
        assert torch.equal(loaded[f"adapters.image.bias.tables.{layer}"], table)
    assert len(report.reshaped) == (3 if per_layer else 2)


def test_a_table_of_a_larger_grid_is_refused_and_changes_nothing() -> None:
    model = make_model(1, grid=3)
    before = copy_of(model)
    with pytest.raises(ValueError, match="a 5 x 5 grid cannot become one of 3 x 3"):
        load_state(model, make_model(2, grid=5).state_dict())
    assert_equal(copy_of(model), before)


def test_names_below_another_module_are_found_as_well() -> None:
    wrapped, source = nn.Sequential(), make_model(1, grid=3)
    wrapped.add_module("inner", make_model(2, grid=5, per_layer=True))
    state = {f"inner.{name}": value for name, value in source.state_dict().items()}
    assert len(load_state(wrapped, state).reshaped) == 3


def test_the_state_itself_is_not_changed() -> None:
    state = copy_of(make_model(1, grid=3))
    before = dict(state)
    load_state(make_model(2, grid=5, per_layer=True), state)
    assert state.keys() == before.keys()
    assert all(state[name] is before[name] for name in state)


def test_a_report_counts_and_shows_the_first_names() -> None:
    report = LoadReport(loaded=("a", "b"), missing=("c", "d", "e", "f"), unexpected=("g",), reshaped=("b",))
    assert str(report) == "2 loaded (1 reshaped), 4 missing (c, d, e, ...), 1 unexpected (g)"


def test_a_saved_state_reads_back_with_its_provenance(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    state = {"a": torch.randn(3, 4).t(), "b": nn.Parameter(torch.randn(2)), "c": torch.tensor(3)}
    save_state(state, path, metadata={"recipe": "mine"})
    read = read_state(path)
    assert all(torch.equal(read[name], value) for name, value in state.items())
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"recipe": "mine"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.safetensors"]


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    metadata = {"format": "pt", "recipe": 'größe "1"\n\x01', "commit": "0", "made": "2026", "seed": "7"}
    paths = [tmp_path / f"{number}.safetensors" for number in range(6)]
    for path in paths:
        save_state({"a": torch.arange(3.0)}, path, metadata=metadata)
    assert len({path.read_bytes() for path in paths}) == 1
    assert torch.equal(read_state(paths[0])["a"], torch.arange(3.0))
    with safe_open(paths[0], framework="pt") as file:
        assert file.metadata() == metadata


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    save_state({"a": torch.ones(2)}, path, metadata={})

    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("models.checkpoint.load.save_file", fail)
    with pytest.raises(OSError, match="no space left"):
        save_state({"a": torch.zeros(2)}, path, metadata={})
    assert torch.equal(read_state(path)["a"], torch.ones(2))


def test_another_number_of_heads_is_refused_and_changes_nothing() -> None:
    base = load_config("tiny").branch("image", has_projection=False)
    model, other = OnePeace(base), OnePeace(base.model_copy(update={"num_heads": 4}))
    before = copy_of(model)
    with pytest.raises(ValueError, match=r"tables\.0"):
        load_state(model, other.state_dict())
    assert_equal(copy_of(model), before)


@pytest.mark.parametrize("shape", [(17, 16), (10, 16), (12, 32), (1, 32), (10, 32, 1)])
def test_unfit_positions_are_refused_and_change_nothing(shape: tuple[int, ...]) -> None:
    base = load_config("tiny").branch("image", has_projection=False)
    model = OnePeace(base)
    before = copy_of(model)
    state = {**copy_of(OnePeace(base)), "adapters.image.positions": torch.zeros(shape)}
    with pytest.raises(ValueError, match="positions has shape"):
        load_state(model, state)
    assert_equal(copy_of(model), before)


def test_a_missing_table_of_one_layer_is_not_made_up() -> None:
    config = load_config("tiny").branch("image", has_projection=False, has_per_layer_bias=True)
    state = copy_of(OnePeace(config))
    del state["adapters.image.bias.tables.1"]
    with pytest.raises(ValueError, match="1 missing"):
        load_state(OnePeace(config), state)
