"""Group 07: every fine-tuning loss on given logits, with its gradients; and one whole step of retrieval."""

import functools
import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou

from downstream import losses
from downstream.losses import Loss
from models import contrast
from models.checkpoint.load import load_state
from models.checkpoint.names import published_name, rename_state
from models.checkpoint.published import read_model_config
from models.contrast import align, read_scale
from models.onepeace import OnePeace
from models.world import Negatives

pytestmark = pytest.mark.golden

PRECISIONS = (torch.float32, torch.float64)
GIVEN, STEP = "07_", "07b"
GRADIENT_SHARE = 1e-4  # of the tensor's largest entry
SCALE_ATOL = 1e-6  # of the logit scale, a sum that nearly cancels
SMOOTHING = 0.1  # of the step; the manifest says so in words
PARTNERS = {"image": "i", "audio": "a"}

# By the case's name for it: where its inputs are, and our loss.
LOSSES = {
    "refcoco": ("refcoco.logits", "refcoco.target", losses.box_loss),
    "hinge_margin1.0": ("hinge_margin1.0.logits", "hinge_margin1.0.target", losses.hinge_loss),
    "hinge_margin0.3": ("hinge_margin0.3.logits", "hinge_margin0.3.target", losses.hinge_loss),
    "classify_multi_label": ("classify.logits", "classify.target_multi", losses.multi_label_loss),
    "classify_soft_target": ("classify.logits", "classify.target_soft", losses.soft_target_loss),
    "classify_index": ("classify.logits", "classify.target_index", losses.index_loss),
    "classify_index_label_smoothing_0.1": (
        "classify.logits",
        "classify.target_index",
        functools.partial(losses.index_loss, label_smoothing=0.1),
    ),
}
CONTRASTS = tuple(
    f"{partner}_text_contrastive_eps{smoothing}_logscale{scale}"
    for partner in PARTNERS
    for smoothing in ("0.0", "0.1")
    for scale in ("2.0", "5.0")
)


def outputs_of(case, name: str, dtype: torch.dtype, *, compute) -> tuple[Loss, dict[str, Tensor]]:
    """Our loss, and what the case stores of it under its own names."""
    logits_name, target_name, _ = LOSSES[name]
    logits = case.input(logits_name).to(dtype).requires_grad_()
    target = case.input(target_name)
    loss = compute(logits, target.to(dtype) if target.is_floating_point() else target)
    loss.total.backward()
    found = {"loss": loss.total, "grad_logits": logits.grad}
    if name != "refcoco":
        found["n_correct"] = loss.hits
    return loss, {f"{name}.{key}": value for key, value in found.items()}


def contrast_outputs(case, name: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """The same of a contrastive loss, whose scale starts at the logarithm in its name."""
    partner, smoothing, logarithm = re.fullmatch(r"(\w+)_text_contrastive_eps(.+)_logscale(.+)", name).groups()
    vectors = {
        "text": case.input("contrastive.text_features").to(dtype).requires_grad_(),
        partner: case.input("contrastive.other_features").to(dtype).requires_grad_(),
    }
    logit_scale = nn.Parameter(torch.tensor(float(logarithm), dtype=dtype))
    scale = read_scale(logit_scale)
    settings = {"negatives": alone(vectors), "scale": scale, "label_smoothing": float(smoothing)}
    loss, hits = losses.contrastive_loss(vectors, **settings), align(vectors, **settings).hits
    assert loss.hits == (hits["text"] + hits[partner]) / 2
    assert loss.weight == 1
    loss.total.backward()
    found = {"loss": loss.total, "logit_scale_exp": scale, "logit_scale_after": logit_scale}
    found |= {"grad_text": vectors["text"].grad, "grad_other": vectors[partner].grad}
    found |= {"grad_logit_scale": logit_scale.grad, **hits_by_direction(hits, partner, dtype)}
    return {f"{name}.{key}": value for key, value in found.items()}


def alone(vectors) -> Negatives:
    return Negatives({name: value.detach() for name, value in vectors.items()}, first_row=0)


def hits_by_direction(hits, partner: str, dtype) -> dict[str, Tensor]:
    letter = PARTNERS[partner]
    return {f"{letter}2t_ncorrect": hits[partner].to(dtype), f"t2{letter}_ncorrect": hits["text"].to(dtype)}


def check_all(case, found: dict[str, Tensor]) -> None:
    for key, value in found.items():
        case.check(key, value)


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_its_gradient_and_its_hits(find_cases, name, dtype):
    for case in find_cases(GIVEN):
        loss, found = outputs_of(case, name, dtype, compute=LOSSES[name][2])
        check_all(case, found)
        assert loss.weight == case.manifest["scalars"][f"{name}.returned_sample_size"]


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", CONTRASTS)
def test_a_contrast_its_gradients_and_its_scale(find_cases, name, dtype):
    for case in find_cases(GIVEN):
        check_all(case, contrast_outputs(case, name, dtype))


def test_no_stored_output_is_passed_over(find_cases):
    for case in find_cases(GIVEN):
        found = {}
        for name, (*_, compute) in LOSSES.items():
            found |= outputs_of(case, name, torch.float32, compute=compute)[1]
        for name in CONTRASTS:
            found |= contrast_outputs(case, name, torch.float32)
        assert set(found) == set(case.manifest["outputs"])


def build(case, dtype) -> OnePeace:
    manifest = case.manifest
    config = read_model_config(
        manifest["config"]["encoder"],
        head_type=manifest["head_type"],
        vocabulary_size=manifest["vocab_size"],
        has_per_layer_bias=manifest["config"]["copy_rel_pos_table"],
        has_projection=True,
        padding_mode="reference",
    )
    model = OnePeace(config)
    report = load_state(model, rename_state(case.tensors("state")))
    assert not report.missing
    assert not report.unexpected
    return model.to(dtype).eval()


def run_step(model: OnePeace, case, dtype) -> dict[str, Tensor]:
    """One step without an update: gradients stay in the model."""
    vectors, scale = model.embed(case.model_inputs(dtype)), read_scale(model.logit_scale)
    settings = {"negatives": alone(vectors), "scale": scale, "label_smoothing": SMOOTHING}
    loss = losses.contrastive_loss(vectors, **settings)
    loss.total.backward()
    hits = align(vectors, **settings).hits
    return {"loss": loss.total, "logit_scale_exp": scale, **hits_by_direction(hits, "image", dtype)}


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_a_step_of_retrieval(find_cases, dtype):
    for case in find_cases(STEP):
        found = run_step(build(case, dtype), case, dtype)
        assert set(found) == set(case.manifest["outputs"])
        check_all(case, found)


def check_gradients(model: OnePeace, case) -> None:
    stored = case.tensors("grads")
    found = {published_name(name): p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert set(found) == set(stored)
    for name, gradient in found.items():
        atol = GRADIENT_SHARE * stored[name].abs().max().item() + (SCALE_ATOL if name == "logit_scale" else 0)
        torch.testing.assert_close(gradient.to(stored[name].dtype), stored[name], rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_all_gradients_of_a_step(find_cases, dtype):
    for case in find_cases(STEP):
        model = build(case, dtype)
        run_step(model, case, dtype)
        check_gradients(model, case)


def with_smoothing_of_torch(logits: Tensor, target: Tensor, *, label_smoothing: float) -> Tensor:
    return nn.functional.cross_entropy(logits, target, label_smoothing=label_smoothing)


def with_normalised_target(logits: Tensor, target: Tensor) -> Loss:
    return losses.soft_target_loss(logits, target / target.sum(dim=1, keepdim=True))


def without_the_right_choice(logits: Tensor, target: Tensor) -> Loss:
    loss = losses.hinge_loss(logits, target)
    return replace(loss, total=loss.total - len(target))


def with_boxes_without_extent(logits: Tensor, target: Tensor) -> Loss:
    loss, boxes = losses.box_loss(logits, target), logits.sigmoid()
    of_all = 1 - generalized_box_iou(boxes, target).diagonal()
    has_extent = (boxes[:, :2] < boxes[:, 2:]).all(dim=1)
    return replace(loss, total=loss.total - of_all[has_extent].mean() + of_all.mean())


@pytest.mark.parametrize(
    ("name", "compute"),
    [
        ("refcoco", with_boxes_without_extent),
        ("hinge_margin0.3", without_the_right_choice),
        ("classify_multi_label", losses.soft_target_loss),
        ("classify_soft_target", with_normalised_target),
        ("classify_index", functools.partial(losses.index_loss, label_smoothing=0.01)),
        ("classify_index_label_smoothing_0.1", losses.index_loss),
    ],
)
def test_a_planted_error_in_a_loss_is_seen(find_cases, name, compute):
    (case, *_) = find_cases(GIVEN)
    _, found = outputs_of(case, name, torch.float32, compute=compute)
    with pytest.raises(AssertionError):
        case.check(f"{name}.loss", found[f"{name}.loss"])


def test_a_margin_that_is_read_from_the_settings_is_seen(find_cases, monkeypatch):
    monkeypatch.setattr(losses, "HINGE_MARGIN", 0.3)
    (case, *_) = find_cases(GIVEN)
    for key, value in outputs_of(case, "hinge_margin0.3", torch.float32, compute=losses.hinge_loss)[1].items():
        if not key.endswith("n_correct"):
            with pytest.raises(AssertionError):
                case.check(key, value)


@pytest.mark.parametrize(
    ("module", "part", "planted", "wrong"),
    [
        (contrast, "smoothed_cross_entropy", with_smoothing_of_torch, {"loss", "grad_text", "grad_other"}),
        (contrast, "MAX_LOGIT_SCALE", 1000.0, {"loss", "logit_scale_after", "logit_scale_exp", "grad_logit_scale"}),
        (losses, "align", lambda vectors, _, **named: align(vectors, Negatives(vectors, 0), **named), {"grad_text"}),
    ],
    ids=["smoothing", "clamp", "negatives that learn"],
)
def test_a_planted_error_in_a_contrast_is_seen(find_cases, monkeypatch, module, part, planted, wrong):
    (case, *_), name = find_cases(GIVEN), "image_text_contrastive_eps0.1_logscale5.0"
    monkeypatch.setattr(module, part, planted)
    found = contrast_outputs(case, name, torch.float32)
    for key in wrong:
        with pytest.raises(AssertionError):
            case.check(f"{name}.{key}", found[f"{name}.{key}"])


@pytest.mark.parametrize("victim", ["projections.image.weight", "logit_scale", "encoder.norms.text.bias"])
def test_a_planted_error_in_a_step_is_seen(find_cases, victim):
    (case, *_) = find_cases(STEP)
    model = build(case, torch.float32)
    with torch.no_grad():
        model.get_parameter(victim).view(-1)[::2].add_(1e-1)
    found = run_step(model, case, torch.float32)
    with pytest.raises(AssertionError):
        check_all(case, found)
    with pytest.raises(AssertionError):
        check_gradients(model, case)
