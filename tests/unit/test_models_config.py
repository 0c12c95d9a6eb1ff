"""A size is read whole or refused in one line that names the nearest known name."""

import pytest
from pydantic import ValidationError

from models.config import ModelConfig, Settings, list_sizes, load_config, unknown_name

VALUES = {
    "name": "test",
    "embed_dim": 12,
    "ffn_dim": 20,
    "num_layers": 5,
    "num_heads": 3,
    "modalities": {"text": {"a": 1}, "image": {"b": 2}},
}


def refused(changes: dict, dropped: str = "") -> str:
    values = {key: value for key, value in {**VALUES, **changes}.items() if key != dropped}
    with pytest.raises(ValueError, match=r"^here: ") as caught:
        ModelConfig.parse(values, where="here")
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_an_unknown_key_names_the_nearest_known_one() -> None:
    assert "unknown key 'embed_dims'. Did you mean 'embed_dim'?" in refused({"embed_dims": 3})


def test_an_unknown_key_like_no_other_lists_all() -> None:
    assert "Known: drop_path_rate, embed_dim, ffn_dim," in refused({"zzz": 3})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"embed_dim": 0}, "embed_dim 0"),
        ({"num_layers": "many"}, "num_layers 'many'"),
        ({"drop_path_rate": 1.0}, "drop_path_rate 1.0"),
        ({"drop_path_rate": float("nan")}, "drop_path_rate nan"),
        ({"num_heads": 5}, "embed_dim 12 is not a multiple of num_heads 5"),
        ({"modalities": 3}, "modalities 3"),
    ],
)
def test_an_impossible_value_is_named(changes: dict, words: str) -> None:
    assert words in refused(changes)


def test_a_missing_key_is_named() -> None:
    assert "ffn_dim: Field required" in refused({}, dropped="ffn_dim")


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        ModelConfig.parse(VALUES, where="here").embed_dim = 3  # type: ignore[misc]


def test_a_branch_keeps_the_named_modalities_in_the_order_of_the_size() -> None:
    config = ModelConfig.parse({**VALUES, "modalities": {"text": {}, "image": {}, "audio": {}}}, where="here")
    assert tuple(config.branch("audio", "text").modalities) == ("text", "audio")
    assert tuple(config.modalities) == ("text", "image", "audio")


def test_a_branch_takes_changes_and_checks_them() -> None:
    config = ModelConfig.parse(VALUES, where="here")
    assert config.branch("image", has_final_norm=False).has_final_norm is False
    with pytest.raises(ValueError, match="unknown key 'has_final_norms'"):
        config.branch("image", has_final_norms=False)


def test_a_branch_of_an_unknown_modality_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown modality 'images'\. Did you mean 'image'\?"):
        ModelConfig.parse(VALUES, where="here").branch("images")


@pytest.mark.parametrize(("has_per_layer_bias", "number"), [(False, 1), (True, 5)])
def test_there_is_one_bias_table_or_one_for_each_layer(has_per_layer_bias: bool, number: int) -> None:
    config = ModelConfig.parse({**VALUES, "has_per_layer_bias": has_per_layer_bias}, where="here")
    assert config.num_bias_tables == number


def test_sizes_are_found_by_file_name() -> None:
    assert set(list_sizes()) >= {"4b", "mini", "tiny"}
    assert all(load_config(size).name == size for size in list_sizes())


@pytest.mark.parametrize("size", ["tinny", "../configs/tiny", ""])
def test_an_unknown_size_is_refused(size: str) -> None:
    with pytest.raises(ValueError, match="unknown size"):
        load_config(size)


def test_the_paper_size_is_the_table_of_the_paper() -> None:
    config = load_config("4b")
    assert (config.embed_dim, config.ffn_dim, config.num_layers, config.num_heads) == (1536, 6144, 40, 24)
    assert config.layer_scale_init == 1e-6
    assert tuple(config.modalities) == ("text", "image", "audio")


def test_the_smallest_settings_have_no_keys_to_offer() -> None:
    class Empty(Settings):
        pass

    with pytest.raises(ValueError, match="here: unknown key 'x'"):
        Empty.parse({"x": 1}, where="here")


def test_names_are_offered_in_order() -> None:
    assert unknown_name("size", "qqq", ["b", "a"]) == "unknown size 'qqq'. Known: a, b."
