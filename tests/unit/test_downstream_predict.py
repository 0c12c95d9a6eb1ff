"""Scores are made in the published order, and put together from windows and views as MMSegmentation does it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from downstream.config import load_task_config
from downstream.engines.settings import SegmentationProfile
from downstream.formats.ade20k import ADE20K
from downstream.formats.segmentation import Pair
from models.config import override

NUM_CLASSES = 150
SMALL = (
    *("head.channels=32", "head.num_heads=2", "head.ffn_dim=48", "head.num_queries=7", "size=tiny"),
    *("geometry.crop_px=64", "geometry.stride_px=32", "adapter.num_heads=2", "adapter.conv_planes=4"),
    *("geometry.scale_px=[256,64]", "geometry.test_ratios=[27/64,37/64,46/64,55/64,64/64,73/64,82/64]"),
)
PROFILE = SegmentationProfile.parse(override(load_task_config("ade20k").profiles["mini"], SMALL), where="test")
NUM_VIEWS = {False: 1, True: 14}

# Logits of two masks over two cells, of one class each: half way between the cells the first mask is the surer one by
# its logit, 2.5 against 0.9, and the second one by its share, 0.71 against 0.63.
MASKS = torch.tensor([[6.0, -1.0], [1.0, 0.8]]).view(1, 2, 1, 2)
CLASSES = torch.tensor([[[9.0, -9.0, -9.0], [-9.0, 9.0, -9.0]]])


@pytest.fixture(scope="module")
def engine():
    """The door to the OpenMMLab stack."""
    from downstream.engines.openmmlab import predict

    return predict


@pytest.fixture(autouse=True)
def _silent(engine) -> None:
    """Every test starts with pytest's own filters."""
    from downstream.engines.openmmlab.imports import silence

    silence()


@pytest.fixture(scope="module")
def segmentor(engine) -> nn.Module:
    """A small segmentor whose masks and classes differ from query to query."""
    from downstream.engines.openmmlab.model import build_segmentor

    built = build_segmentor(PROFILE, num_classes=NUM_CLASSES, seed=0).eval()
    generator = torch.Generator().manual_seed(1)
    head = built.decode_head
    with torch.no_grad():
        for part in (head.query_feat, head.query_embed, head.cls_embed, head.mask_embed[4]):
            part.weight.copy_(torch.randn(part.weight.shape, generator=generator))
    return built


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, ...]:
    """A wide and a tall picture, each larger than the window in one direction at least."""
    tree = tmp_path_factory.mktemp("views") / "ADEChallengeData2016"
    found = []
    for number, (height, width) in enumerate(((50, 83), (90, 61))):
        image = tree / "images" / "validation" / f"ADE_val_{number:08d}.jpg"
        label = tree / "annotations" / "validation" / f"ADE_val_{number:08d}.png"
        for path in (image, label):
            path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(image)
        Image.fromarray(np.ones((height, width), dtype=np.uint8)).save(label)
        found.append(Pair(image.stem, image, label))
    return tuple(found)


def test_scores_are_weighed_before_they_are_enlarged(engine) -> None:
    from downstream.engines.openmmlab.model import score_pixels

    scores = score_pixels(CLASSES, MASKS, size=(4, 8))[0]
    small = torch.einsum("qc,qhw->chw", CLASSES[0].softmax(-1)[:, :2], MASKS[0].sigmoid())
    middle = (small[:, 0, 0] + small[:, 0, 1]) / 2
    assert scores.shape == (2, 4, 8)
    torch.testing.assert_close(scores[:, :, 3:5].mean((1, 2)), middle)
    assert middle[1] > middle[0], "the order shows in the class"
    enlarged = functional.interpolate(MASKS, size=(4, 8), mode="bilinear", align_corners=False)[0].sigmoid()
    assert enlarged[0, 0, 3:5].mean() > enlarged[1, 0, 3:5].mean()


def test_the_head_departs_from_the_installed_one_in_this_order_alone(segmentor: nn.Module) -> None:
    from mmseg.models import Mask2FormerHead

    head, metas = segmentor.decode_head, [{"img_shape": (64, 64)}]
    with torch.inference_mode():
        features = segmentor.extract_feat(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2)))
        classes, masks = (outputs[-1] for outputs in head(features, []))
        ours, theirs = head.predict(features, metas, None), Mask2FormerHead.predict(head, features, metas, None)
    shares = classes.softmax(-1)[..., :-1]
    small = torch.einsum("bqc,bqhw->bchw", shares, masks.sigmoid())
    assert small.shape == (1, NUM_CLASSES, 16, 16)
    torch.testing.assert_close(ours, enlarge(small, (64, 64)))
    torch.testing.assert_close(theirs, torch.einsum("bqc,bqhw->bchw", shares, enlarge(masks, (64, 64)).sigmoid()))
    assert (ours.argmax(1) != theirs.argmax(1)).any()


def enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def slide(segmentor: nn.Module, pixels: Tensor) -> Tensor:
    """Average the outputs of all windows over one normed picture (1, 3, height, width)."""
    crop, step = PROFILE.geometry.crop_px, PROFILE.geometry.stride_px
    height, width = pixels.shape[2:]
    total, count = torch.zeros(1, NUM_CLASSES, height, width), torch.zeros(height, width)
    for top in starts(height, crop, step):
        for left in starts(width, crop, step):
            window = pixels[:, :, top : top + crop, left : left + crop]
            place = (0, slice(None), slice(top, top + crop), slice(left, left + crop))
            total[place] += segmentor.encode_decode(window, [{"img_shape": window.shape[2:]}])[0]
            count[place[2:]] += 1
    return total / count


def starts(length: int, crop: int, step: int) -> Iterator[int]:
    """Begin a window every step, the last one at the end of the picture."""
    first = range(0, max(length - crop, 0) + step, step)
    return (max(min(start, length - crop), 0) for start in first if start < length - crop + step or start == 0)


@pytest.mark.parametrize("size", [(64, 64), (64, 160), (96, 77)])
def test_windows_are_put_together_as_mmsegmentation_does(segmentor: nn.Module, size: tuple[int, int]) -> None:
    from mmseg.models import EncoderDecoder

    assert type(segmentor) is EncoderDecoder
    pixels = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        theirs = EncoderDecoder.slide_inference(segmentor, pixels, [{"img_shape": size, "pad_shape": (999, 999)}])
        torch.testing.assert_close(slide(segmentor, pixels), theirs, rtol=0, atol=1e-6)


def view_scores(segmentor: nn.Module, pixels: Tensor, info) -> Tensor:
    """Score one view as the published code does: windows, padding off, original size, softmax, flip undone."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (PROFILE.mean, PROFILE.std))
    scores = slide(segmentor, ((pixels.flip(0) - mean) / std)[None])
    _, right, _, bottom = info.get("img_padding_size", (0, 0, 0, 0))
    scores = scores[:, :, : scores.shape[2] - bottom, : scores.shape[3] - right]
    scores = enlarge(scores, info.ori_shape).softmax(1)[0]
    return scores.flip(2) if info.get("flip") else scores


@pytest.fixture(params=[False, True], ids=["one view", "all scales and flips"])
def judged(request, engine, segmentor: nn.Module, pairs, tmp_path: Path) -> list[tuple[dict, Tensor, bool]]:
    """Predict both pictures; gives each one's sample, the class numbers that were written, and what was asked for."""
    from downstream.engines.openmmlab.data import PairDataset, test_pipeline

    has_views = request.param
    options = engine.PredictOptions(ADE20K, tmp_path, has_views=has_views, num_workers=0, progress=lambda *_: None)
    engine.predict(segmentor, pairs, profile=PROFILE, options=options)
    files = [tmp_path / engine.PREDICTIONS_FOLDER / f"{pair.id}.png" for pair in pairs]
    written = [torch.from_numpy(np.array(Image.open(file))).long() - 1 for file in files]
    dataset = PairDataset(pairs, test_pipeline(PROFILE.geometry, has_views=has_views))
    return [(dataset[number], label, has_views) for number, label in enumerate(written)]


def test_predictions_are_the_mean_of_all_views_with_flips_undone(segmentor: nn.Module, judged) -> None:
    for sample, written, has_views in judged:
        views = sample["inputs"] if has_views else [sample["inputs"]]
        samples = sample["data_samples"] if has_views else [sample["data_samples"]]
        assert len(views) == NUM_VIEWS[has_views]
        assert sum(bool(view.get("flip")) for view in samples) == len(views) // 2
        with torch.inference_mode():
            scored = [view_scores(segmentor, view.float(), info) for view, info in zip(views, samples, strict=True)]
        scores = torch.stack(scored).mean(0)
        chosen = scores.gather(0, written[None])[0]
        torch.testing.assert_close(chosen, scores.max(0).values, rtol=0, atol=1e-6)
        assert len(written.unique()) > 1


def test_predictions_are_those_of_mmsegmentations_own_segmentor_and_view_model(segmentor: nn.Module, judged) -> None:
    from mmengine.dataset import pseudo_collate
    from mmseg.models import EncoderDecoder, SegTTAModel

    assert type(segmentor) is EncoderDecoder
    for sample, written, has_views in judged:
        model = SegTTAModel(module=segmentor) if has_views else segmentor
        with torch.inference_mode():
            theirs = model.test_step(pseudo_collate([sample]))[0].pred_sem_seg.data.squeeze()
        assert torch.equal(written, theirs)
