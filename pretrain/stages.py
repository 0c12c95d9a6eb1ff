"""What a stage trains, and what it takes from the stage before it."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from models.config import load_config
from models.modalities import list_modalities
from models.onepeace import INITIAL_TEMPERATURE, OnePeace, initialise
from pretrain.config import StageConfig
from pretrain.decoder import Decoder
from pretrain.objective import Objective

LOGIT_SCALE = "model.logit_scale"


def build_objective(config: StageConfig) -> Objective:
    """Build the model of the stage's pair, the decoder and the losses, with fresh weights by the stage's seed."""
    size = load_config(config.size).branch(*config.objective.pair, drop_path_rate=config.drop_path_rate)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = OnePeace(size)
        decoder = Decoder(config.decoder, size) if config.objective.terms else None
        return Objective(model, decoder, config.objective).apply(initialise)


def trained_names(objective: Objective, trained: str) -> set[str]:
    """Name the parameters that a stage trains.

    Args:
        objective: with the model and the decoder.
        trained: `all`, or the modality that is added to a model which stays as it is.

    Source: paper, Pretraining; reference one_peace/models/one_peace/one_peace_pretrain.py, stage2_pretrain.
    """
    names = {name for name, _ in objective.named_parameters()}
    if trained == "all":
        return names
    own = {f"model.{name}" for name in objective.model.own_parameters(trained)}
    return own | {name for name in names if name == LOGIT_SCALE or name.startswith("decoder.")}


def freeze(objective: Objective, trained: str) -> None:
    """Let gradients flow into what the stage trains, and nowhere else."""
    names = trained_names(objective, trained)
    for name, parameter in objective.named_parameters():
        parameter.requires_grad_(name in names)


def take_over(objective: Objective, state: Mapping[str, Tensor], config: StageConfig) -> None:
    """Load the weights of the stage before, in place.

    Everything of modalities that this stage lacks stays behind; what belongs to a modality that is new keeps its fresh
    weights.

    Args:
        objective: freshly built.
        state: tensors by our names, of the objective before.
        config: of the stage that begins.

    Raises:
        ValueError: something is missing that is not the new modality's, there is more than other modalities' parts,
            or a shape differs.
    """
    wanted = objective.state_dict()
    new = {name for name in wanted if config.trained != "all" and f".{config.trained}." in f".{name}."}
    if missing := sorted(set(wanted) - set(state) - new):
        raise ValueError(
            f"the weights to start {config.stage} from lack {len(missing)} names, such as {missing[0]}; expected those "
            f"of {config.starts_from}, size {config.size}, with the decoder"
        )
    _refuse_surplus([name for name in state if name not in wanted], objective, config)
    taken = {name: state[name] for name in state if name in wanted and name not in new}
    if misfits := [name for name, value in taken.items() if value.shape != wanted[name].shape]:
        first = misfits[0]
        raise ValueError(
            f"{first} has shape {tuple(taken[first].shape)} in the weights to start from, expected "
            f"{tuple(wanted[first].shape)}; expected those of {config.starts_from}, size {config.size}"
        )
    objective.load_state_dict({**wanted, **taken})
    if config.reset_logit_scale:
        with torch.no_grad():
            objective.model.logit_scale.fill_(math.log(1 / INITIAL_TEMPERATURE))


def _refuse_surplus(names: Sequence[str], objective: Objective, config: StageConfig) -> None:
    """Check that what stays behind is no part of a larger model of the same modalities."""
    others = [name for name in list_modalities() if name not in objective.model.config.modalities]
    odd = [
        name
        for name in names
        if not any(f".{other}." in f".{name}." for other in others)
        and not (objective.decoder is None and name.startswith("decoder."))
    ]
    if odd:
        raise ValueError(
            f"the weights to start {config.stage} from hold {len(odd)} names that this stage has no place for, such "
            f"as {odd[0]}; expected those of {config.starts_from}, size {config.size}"
        )
