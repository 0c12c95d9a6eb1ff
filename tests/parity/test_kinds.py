"""Cases 03, 07 and 08 through the kinds: outputs of the model to rows, numbers and losses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from downstream.formats.base import Labelled, PictureQuestion, Referred
from downstream.kinds import answers, grounding, load_kind
from downstream.kinds.base import Batch, Facts
from downstream.losses import Loss
from models.checkpoint.load import load_state
from models.checkpoint.names import rename_state
from models.checkpoint.published import read_model_config
from models.heads import Classifier, HeadConfig
from models.onepeace import OnePeace
from models.world import Negatives

pytestmark = pytest.mark.golden

SIZE_PX = (640, 480)
PRECISIONS = (torch.float32, torch.float64)


def run(case, dtype, *, pooled: str) -> Tensor:
    """The logits of a stored fine-tuned model for the stored inputs."""
    manifest = case.manifest
    config = read_model_config(
        manifest["config"]["encoder"],
        head_type="vl",
        vocabulary_size=manifest["vocab_size"],
        has_per_layer_bias=True,
        has_projection=False,
        padding_mode="reference",
    )
    head = HeadConfig(num_classes=manifest["num_classes"], pooled_modality=pooled)
    classifier = Classifier(OnePeace(config), head)
    report = load_state(classifier, rename_state(case.tensors("state"), prefix="model."))
    assert not report.missing
    assert not report.unexpected
    with torch.no_grad():
        logits: Tensor = classifier.to(dtype).eval()(case.model_inputs(dtype))
    return logits


def list_referred(boxes) -> tuple[list[Referred], Facts]:
    paths = [Path(f"{number}.jpg") for number in range(len(boxes))]
    samples = [
        Referred(path.stem, path, "that one", tuple(box)) for path, box in zip(paths, boxes.tolist(), strict=True)
    ]
    return samples, Facts("image", sizes=dict.fromkeys(paths, SIZE_PX))


def compute(kind: str, logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Loss:
    batch = Batch((logits,), targets, logits.shape[1], None, lambda _: Negatives({}, 0), label_smoothing)
    return load_kind(kind).compute_loss(batch)


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize(("pooled", "name"), [("image", "logits_sigmoid"), ("text", "logits_text_features_sigmoid")])
def test_boxes_of_the_stored_model_in_pixels(find_cases, pooled, name, dtype):
    for case in find_cases("03c"):
        logits = run(case, dtype, pooled=pooled)
        samples, facts = list_referred(torch.zeros(len(logits), 4))
        pixels = grounding.to_pixels(logits, samples, facts)
        case.check(name, torch.from_numpy(pixels / np.array(SIZE_PX * 2)).to(dtype))


def check_loss(case, name: str, kind: str, logits: Tensor, targets: Tensor, **options) -> None:
    """Compare a kind's loss with the stored one, and its gradient."""
    logits = logits.clone().requires_grad_()
    loss = compute(kind, logits, targets, **options)
    case.check(f"{name}.loss", loss.total)
    loss.total.backward()
    case.check(f"{name}.grad_logits", logits.grad)
    assert loss.weight == case.manifest["scalars"][f"{name}.returned_sample_size"]


def take_targets(kind: str, samples, facts: Facts) -> Tensor:
    """What a fine-tuning learns of samples, as it is handed to the loss."""
    return torch.tensor([example.target for example in load_kind(kind).list_examples(samples, facts)])


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_stored_losses_of_what_is_listed_to_learn_from(find_cases, dtype):
    for case in find_cases("07_"):
        logits, shares = case.input("refcoco.logits").to(dtype), case.input("refcoco.target").double()
        samples, facts = list_referred(shares * torch.tensor(SIZE_PX * 2))
        learned = take_targets("grounding", samples, facts)
        torch.testing.assert_close(learned, shares.float(), rtol=0, atol=1e-7)
        check_loss(case, "refcoco", "grounding", logits, shares.to(dtype))
        logits, labels = case.input("classify.logits").to(dtype), case.input("classify.target_index").tolist()
        classes = [Labelled(f"{n}", Path("a.jpg"), (label,)) for n, label in enumerate(labels)]
        for kind in ("classification", "picture_class"):
            targets = take_targets(kind, classes, Facts("image", tuple("abcdefghijklm")))
            check_loss(case, "classify_index", kind, logits, targets)
            check_loss(case, "classify_index_label_smoothing_0.1", kind, logits, targets, label_smoothing=0.1)
        check_loss(case, "classify_index", "pairs", logits, torch.tensor(labels)[:, None])


@pytest.mark.parametrize("margin", ["1.0", "0.3"])
def test_stored_losses_of_choices(find_cases, margin):
    for case in find_cases("07_"):
        name = f"hinge_margin{margin}"
        logits, target = case.input(f"{name}.logits").view(6, 4, 1), case.input(f"{name}.target")
        batch = Batch(tuple(logits.unbind(1)), target[:, None], 1, None, lambda _: Negatives({}, 0), 0.0)
        case.check(f"{name}.loss", load_kind("choice").compute_loss(batch).total)


@pytest.mark.parametrize("name", ["target_multi", "target_soft"])
def test_the_loss_of_answers_is_that_of_the_target_it_was_listed_from(find_cases, name):
    for case in find_cases("07_"):
        logits, target = case.input("classify.logits"), case.input(f"classify.{name}").float()
        facts = Facts("image", class_names=tuple(map(str, range(target.shape[1]))))
        samples = [
            PictureQuestion(str(n), Path("a.jpg"), "what?", tuple((str(i), row[i]) for i in range(len(row)) if row[i]))
            for n, row in enumerate(target.tolist())
        ]
        listed = torch.tensor([example.target for example in load_kind("answers").list_examples(samples, facts)])
        torch.testing.assert_close(answers.to_dense(listed, target.shape[1]), target, rtol=0, atol=0)
        if name == "target_multi":
            check_loss(case, "classify_multi_label", "answers", logits, listed)
            case.check("classify_multi_label.n_correct", compute("answers", logits, listed).hits)


@pytest.fixture
def metrics_case(find_cases):
    (found,) = find_cases("08_")
    return found


def test_stored_overlaps(metrics_case):
    stored = metrics_case.manifest["results"]["iou_acc"]
    predicted, truth = (metrics_case.input(f"iou.{name}").double() for name in ("hyps", "refs"))
    lowest = min(predicted.min().item(), 0) - 1  # a share is no negative number: both are moved alike
    frame = 2 * (predicted - lowest).max().item()
    samples, facts = list_referred(truth - lowest)
    facts = Facts("image", sizes=dict.fromkeys(facts.sizes, (frame, frame)))
    logits = ((predicted - lowest) / frame).logit()
    (metric,) = load_kind("grounding").judge(samples, lambda _: logits, facts).metrics
    assert (metric.hits, metric.n) == (stored["score_sum"], stored["score_cnt"])


def test_stored_accuracies(metrics_case):
    logits, results = metrics_case.input("accuracy.logits"), metrics_case.manifest["results"]
    labels = metrics_case.input("accuracy.index").tolist()
    names = tuple(map(str, range(logits.shape[1])))
    classes = [Labelled(str(n), Path("a.jpg"), (label,)) for n, label in enumerate(labels)]
    top_1 = load_kind("picture_class").judge(classes, lambda _: logits, Facts("image", names)).metrics[0]
    assert (top_1.hits, top_1.n) == (results["accuracy_index"]["score_sum"], results["accuracy_index"]["score_cnt"])
    questions = [
        PictureQuestion(str(n), Path(f"{n}.jpg"), "what?", tuple(zip(names, row, strict=True)))
        for n, row in enumerate(metrics_case.input("accuracy.soft").tolist())
    ]
    (soft,) = load_kind("answers").judge(questions, lambda _: logits, Facts("image", class_names=names)).metrics
    assert soft.n == results["accuracy_soft"]["score_cnt"]
    assert soft.hits == pytest.approx(results["accuracy_soft"]["score_sum"], abs=1e-6)


def test_planted_errors_are_seen(find_cases):
    (case, *_) = find_cases("07_")
    logits, target = case.input("refcoco.logits"), case.input("refcoco.target")
    with pytest.raises(AssertionError):
        case.check("refcoco.loss", compute("grounding", logits, target[:, [1, 0, 3, 2]]).total)
    (case, *_) = find_cases("03c")
    samples, facts = list_referred(torch.zeros(3, 4))
    pixels = grounding.to_pixels(run(case, torch.float32, pooled="text"), samples, facts)
    with pytest.raises(AssertionError):
        case.check("logits_sigmoid", torch.from_numpy(pixels / np.array(SIZE_PX * 2)).float())
