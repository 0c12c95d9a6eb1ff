"""Cases 03, 07 and 08 on the way that tasks go: outputs of the model through the kinds to rows, numbers and losses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from downstream.formats.base import Labelled, PicturePair, PictureQuestion, Referred
from downstream.kinds import answers, grounding, load_kind
from downstream.kinds.base import Batch, Facts
from downstream.losses import Loss
from models.checkpoint.load import load_state
from models.checkpoint.names import rename_state
from models.checkpoint.published import read_model_config
from models.heads import Classifier, HeadConfig
from models.modalities.image import SecondImages
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
    is_pair = manifest["use_two_images"]
    head = HeadConfig(
        num_classes=manifest["num_classes"],
        pooled_modality=pooled,
        has_attention_pooling=manifest["config"]["attn_pooling"],
        has_pooler=manifest["config"]["use_pooler"],
        num_passes=2 if is_pair else 1,
    )
    classifier = Classifier(OnePeace(config), head)
    report = load_state(classifier, rename_state(case.tensors("state"), prefix="model."))
    assert not report.missing
    assert not report.unexpected
    passes = [case.model_inputs(dtype)]
    if is_pair:
        passes.append({**passes[0], "image": SecondImages(case.input("src_images_2").to(dtype))})
    with torch.no_grad():
        logits: Tensor = classifier.to(dtype).eval()(*passes)
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


def test_a_stored_box_is_its_own_truth(find_cases):
    for case in find_cases("03c"):
        logits = run(case, torch.float32, pooled="image")
        stored = case.tensors("io")["out.logits_sigmoid"] * torch.tensor(SIZE_PX * 2)
        samples, facts = list_referred(stored)
        rows = list(load_kind("grounding").judge(samples, lambda _, logits=logits: logits, facts).rows)
        for row, box in zip(rows, stored.tolist(), strict=True):
            assert row["prediction"] == pytest.approx(box, abs=2e-3)


@pytest.mark.parametrize(("prefix", "kind"), [("03d", "answers"), ("03e", "pairs")])
def test_the_stored_model_answers_as_its_stored_outputs_do(find_cases, prefix, kind):
    for case in find_cases(prefix):
        logits, stored = run(case, torch.float32, pooled="text"), case.tensors("io")["out.logits"]
        case.check("logits", logits)
        best = stored.argmax(dim=1).tolist()
        path = Path("a.jpg")
        if kind == "answers":
            samples = [PictureQuestion(str(n), path, "what?", ((str(best[n]), 0.6),)) for n in range(len(best))]
            worth = 0.6
        else:
            samples = [PicturePair(str(n), path, path, "so it is", is_true=best[n] == 0) for n in range(len(best))]
            worth = 1
        facts = Facts("image", class_names=tuple(map(str, range(stored.shape[1]))))
        judged = load_kind(kind).judge(samples, lambda _, logits=logits: logits, facts)
        assert judged.metrics[0].hits == pytest.approx(worth * len(best))


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_stored_losses(find_cases, dtype):
    for case in find_cases("07_"):
        boxes = compute("grounding", case.input("refcoco.logits").to(dtype), case.input("refcoco.target").to(dtype))
        case.check("refcoco.loss", boxes.total)
        logits, index = case.input("classify.logits").to(dtype), case.input("classify.target_index")[:, None]
        for kind in ("pairs", "picture_class"):
            case.check("classify_index.loss", compute(kind, logits, index).total)
            smoothed = compute(kind, logits, index, label_smoothing=0.1)
            case.check("classify_index_label_smoothing_0.1.loss", smoothed.total)


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
            loss = compute("answers", logits, listed)
            case.check("classify_multi_label.loss", loss.total)
            case.check("classify_multi_label.n_correct", loss.hits)


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
