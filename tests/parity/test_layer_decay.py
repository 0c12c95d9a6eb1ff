"""Group 11: weight decay and learning rate of every parameter."""

import json
import re

import pytest
import torch
from torch import nn

from models.checkpoint.names import rename_state
from models.optim import parameter_groups
from pretrain.names import our_name

pytestmark = pytest.mark.golden

LAYER = re.compile(r"(?<=\.)(layers|rel_pos_table_list|conv_layers)\.\d+\.")
MENDED = {"decoder.cls_embeddings.text", "decoder.positions.image"}


def general(name: str) -> str:
    """A published name for any layer: its number of dimensions is the same in all."""
    return LAYER.sub(r"\1.N.", name)


@pytest.fixture(scope="session")
def dimensions(golden_dir):
    """Numbers of dimensions by published name; case 11 has none, so the other cases' states give them."""
    found: dict[str, set[int]] = {}
    for path in sorted(golden_dir.glob("*.json")):
        for name, shape in stored_shapes(path):
            found.setdefault(general(name), set()).add(len(shape))
    assert [name for name, numbers in found.items() if len(numbers) > 1] == []
    return {name: numbers.pop() for name, numbers in found.items()}


def stored_shapes(path):
    states = json.loads(path.read_text(encoding="utf-8")).get("state_dicts") or {}
    for state in states.values():
        for name, (shape, *_) in state["all_official_keys"].items():
            yield name, shape


def rename(published: str, *, pretraining: bool) -> str:
    """Our name in the pretraining model, or in a fine-tuned one."""
    if not pretraining:
        (ours,) = rename_state({published: torch.empty(0)}, prefix="model.")
        assert ours != published, f"no name of ours for {published}"
        return ours
    ours = our_name(published)
    assert ours is not None, f"no name of ours for {published}"
    return ours


def is_pretraining(set_name: str) -> bool:
    return set_name.startswith("pretrain")


def stored_groups(case, set_name):
    """(group, scale, weight decay) by our name."""
    return {
        rename(name, pretraining=is_pretraining(set_name)): (row["group"], row["lr_scale"], row["weight_decay"])
        for name, row in case.manifest["groups"][set_name].items()
    }


def our_groups(case, set_name, dimensions, **changes):
    """The same of ours, over parameters of the stored names and numbers of dimensions."""
    manifest = case.manifest
    named = [
        (
            rename(name, pretraining=is_pretraining(set_name)),
            nn.Parameter(torch.empty((1,) * dimensions[general(name)], device="meta")),
        )
        for name in manifest["groups"][set_name]
    ]
    settings = {
        "weight_decay": manifest["weight_decay"],
        "layer_decay": 1.0 if is_pretraining(set_name) else manifest["layer_decay"],
        "num_layers": manifest["layers"],
        "mode": "reference",
    }
    groups = parameter_groups(named, **(settings | changes))
    names = {id(parameter): name for name, parameter in named}
    return {
        names[id(parameter)]: (group["name"], group["lr_scale"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }


def test_group_scale_and_decay_of_every_parameter(find_cases, dimensions):
    for case in find_cases("11"):
        assert case.manifest["groups"]
        for set_name, rows in case.manifest["groups"].items():
            ours = our_groups(case, set_name, dimensions)
            assert len(ours) == len(rows)
            assert ours == stored_groups(case, set_name)


def test_ours_differs_in_the_parameters_of_the_missing_comma_only(find_cases, dimensions):
    for case in find_cases("11"):
        seen = set()
        for set_name in case.manifest["groups"]:
            ours, stored = our_groups(case, set_name, dimensions, mode="ours"), stored_groups(case, set_name)
            changed = {name for name in stored if ours[name] != stored[name]}
            assert changed == MENDED & set(stored)
            seen |= changed
        assert seen == MENDED


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("retrieval", {"layer_decay": 0.85}),
        ("retrieval", {"num_layers": 100}),
        ("classify", {"weight_decay": 0.123}),
        ("pretrain_stage1", {"mode": "ours"}),
        ("pretrain_stage2", {"mode": "ours"}),
    ],
)
def test_a_planted_error_in_a_group_is_seen(find_cases, dimensions, kind, change):
    (case, *_) = find_cases("11")
    sets = [name for name in case.manifest["groups"] if name.startswith(kind)]
    assert sets
    for set_name in sets:
        assert our_groups(case, set_name, dimensions, **change) != stored_groups(case, set_name)
