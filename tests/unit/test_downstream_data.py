"""Training draws are the same whoever draws them, test pictures fit the window, and counts are MMSegmentation's."""

from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from downstream.engines.deformable import DeformableAttention
from downstream.engines.settings import GeometrySettings
from downstream.formats.ade20k import ADE20K
from downstream.formats.cocostuff import COCO_STUFF
from downstream.formats.segmentation import IGNORED, Pair, find_pairs
from downstream.metrics.segmentation import Areas, score

WIDTH, HEIGHT, NUM_PICTURES = 90, 52, 5
GEOMETRY = GeometrySettings(
    crop_px=64,
    stride_px=32,
    scale_px=(256, 64),
    size_divisor=32,
    test_ratios=("32/64", 1.0, 1.5),
    train_ratio=(0.5, 2.0),
    max_class_share=0.75,
)


@pytest.fixture(scope="module")
def data():
    """Our pipelines, and with them the OpenMMLab stack."""
    from downstream.engines.openmmlab import data

    return data


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, ...]:
    tree = tmp_path_factory.mktemp("ade") / "ADEChallengeData2016"
    rng = np.random.default_rng(0)
    for folder in ("images", "annotations"):
        (tree / folder / "training").mkdir(parents=True)
    for number in range(NUM_PICTURES):
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        label = rng.integers(0, 151, (HEIGHT, WIDTH), dtype=np.uint8)
        Image.fromarray(pixels).save(tree / "images" / "training" / f"ADE_train_{number:08d}.jpg")
        Image.fromarray(label).save(tree / "annotations" / "training" / f"ADE_train_{number:08d}.png")
    return find_pairs(ADE20K, tree, "train")


@settings(max_examples=25, deadline=None)
@given(num_samples=st.integers(1, 9), start=st.integers(0, 40), seed=st.integers(0, 5))
def test_every_sample_comes_once_a_pass_from_any_start(data, num_samples: int, start: int, seed: int) -> None:
    whole = list(islice(data.EndlessSampler(num_samples, seed=seed), 60))
    assert [number for number, _ in whole] == list(range(60))
    assert list(islice(data.EndlessSampler(num_samples, seed=seed, start=start), 60 - start)) == whole[start:]
    for first in range(0, 60 - num_samples + 1, num_samples):
        assert sorted(index for _, index in whole[first : first + num_samples]) == list(range(num_samples))


def test_passes_and_seeds_have_orders_of_their_own(data) -> None:
    draws = [index for _, index in islice(data.EndlessSampler(20, seed=0), 40)]
    others = [index for _, index in islice(data.EndlessSampler(20, seed=7), 20)]
    assert len({tuple(draws[:20]), tuple(draws[20:]), tuple(others)}) == 3


def test_the_order_does_not_depend_on_the_random_state_nor_change_it(data) -> None:
    before = torch.get_rng_state()
    first = list(islice(data.EndlessSampler(9, seed=1), 30))
    torch.manual_seed(3)
    assert first == list(islice(data.EndlessSampler(9, seed=1), 30))
    torch.set_rng_state(before)


class Drawing(torch.utils.data.Dataset):
    """Gives its index and numpy's next random number, as mmcv's transforms would draw it."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, float(np.random.random_sample())  # noqa: NPY002, what mmcv draws from


def test_a_draw_depends_on_seed_number_and_sample_alone(data) -> None:
    dataset = data.SeededDataset(Drawing(), seed=3)
    first = [dataset[number, index] for number, index in ((0, 2), (1, 2), (70, 0))]
    np.random.seed(5)  # noqa: NPY002, the state that a resumed process may be in
    assert [dataset[number, index] for number, index in ((70, 0), (1, 2), (0, 2))] == first[::-1]
    assert [index for index, _ in first] == [2, 2, 0]
    assert len({value for _, value in first}) == 3
    assert data.SeededDataset(Drawing(), seed=4)[0, 2] != first[0]
    assert len(dataset) == 4


@pytest.mark.parametrize(
    ("height", "width", "padding"),
    [(7, 5, (0, 5, 0, 3)), (12, 5, (0, 5, 0, 0)), (7, 30, (0, 0, 0, 3)), (11, 13, (0,) * 4)],
)
def test_short_sides_are_padded_at_the_right_and_the_bottom(data, height: int, width: int, padding: tuple) -> None:
    picture = np.random.default_rng(0).integers(1, 256, (height, width, 3), dtype=np.uint8)
    results = {"img": picture, "img_shape": (height, width), "other": 3}
    padded = data.PadShortSide(10).transform(results)
    assert padded["img"].shape == (max(height, 10), max(width, 10), 3) == (*padded["img_shape"], 3)
    assert np.array_equal(padded["img"][:height, :width], picture)
    assert int(padded["img"].sum()) == int(picture.sum())
    assert padded["img_padding_size"] == padding  # left, right, top, bottom
    assert (results["img"] is picture, padded["other"]) == (True, 3)


def test_a_data_set_has_exactly_the_pairs_in_their_order(data, pairs: tuple[Pair, ...]) -> None:
    chosen = [pairs[3], pairs[0], pairs[4]]
    dataset = data.PairDataset(chosen, data.test_pipeline(GEOMETRY, has_views=False))
    assert len(dataset) == 3
    assert [Path(dataset[index]["data_samples"].img_path).stem for index in range(3)] == [pair.id for pair in chosen]


def test_training_crops_fit_the_window_and_count_classes_from_zero(data, pairs: tuple[Pair, ...]) -> None:
    dataset = data.SeededDataset(data.PairDataset(pairs, data.train_pipeline(GEOMETRY, ADE20K)), seed=0)
    for number in range(4):
        sample = dataset[number, number]
        label = sample["data_samples"].gt_sem_seg.data
        assert label.shape[1:] == sample["inputs"].shape[1:]
        assert max(label.shape[1:]) <= GEOMETRY.crop_px
        values = set(label.unique().tolist())
        assert values <= {*range(150), IGNORED}
        again = dataset[number, number]
        assert torch.equal(again["inputs"], sample["inputs"])


def test_labels_are_numbered_as_mmsegmentation_numbers_those_of_ade20k(data, pairs: tuple[Pair, ...]) -> None:
    from mmseg.datasets.transforms import LoadAnnotations

    places = {"seg_map_path": str(pairs[0].label), "seg_fields": []}
    theirs = LoadAnnotations().transform({**places, "reduce_zero_label": True})["gt_seg_map"]
    plain = LoadAnnotations().transform({**places, "seg_fields": [], "reduce_zero_label": False})
    steps = [step for step in data.train_pipeline(GEOMETRY, ADE20K) if step["type"] == "NumberClasses"]
    (ours,) = (data.NumberClasses(step["table"]).transform(plain)["gt_seg_map"] for step in steps)
    assert np.array_equal(ours, theirs)
    assert ours.dtype == theirs.dtype
    assert {0, 149, IGNORED} <= set(np.unique(ours).tolist())


def test_training_labels_of_another_data_set_are_numbered_its_way(data, pairs: tuple[Pair, ...]) -> None:
    table = next(step["table"] for step in data.train_pipeline(GEOMETRY, COCO_STUFF) if step["type"] == "NumberClasses")
    found = data.NumberClasses(table).transform({"gt_seg_map": np.array([[0, 12, 181], [91, 255, 255]])})["gt_seg_map"]
    assert found.tolist() == [[0, 11, 170], [80, IGNORED, IGNORED]]


@pytest.mark.parametrize("has_distortion", [True, False])
def test_photometric_distortion_can_be_left_out(data, has_distortion: bool) -> None:
    geometry = GEOMETRY.model_copy(update={"has_photometric_distortion": has_distortion})
    kinds = [step["type"] for step in data.train_pipeline(geometry, ADE20K)]
    assert ("PhotoMetricDistortion" in kinds) is has_distortion
    assert kinds[-1] == "PackSegInputs"


def test_one_view_is_stretched_to_the_divisor_and_knows_its_original_size(data, pairs: tuple[Pair, ...]) -> None:
    sample = data.PairDataset(pairs, data.test_pipeline(GEOMETRY, has_views=False))[0]
    height, width = sample["inputs"].shape[1:]
    assert (height, width) == (64, 128)  # 64 x 111 by aspect, then up to multiples of 32
    assert sample["data_samples"].ori_shape == (HEIGHT, WIDTH)


def test_all_views_are_every_scale_with_and_without_a_flip(data, pairs: tuple[Pair, ...]) -> None:
    sample = data.PairDataset(pairs, data.test_pipeline(GEOMETRY, has_views=True))[0]
    assert len(sample["inputs"]) == 2 * len(GEOMETRY.test_ratios)
    assert [meta.flip for meta in sample["data_samples"]] == [False, True] * 3
    for view, meta in zip(sample["inputs"], sample["data_samples"], strict=True):
        assert min(view.shape[1:]) >= GEOMETRY.crop_px
        left, right, top, bottom = meta.img_padding_size
        assert (left, top) == (0, 0)
        unpadded = (view.shape[1] - bottom, view.shape[2] - right)
        assert all(side % GEOMETRY.size_divisor == 0 for side in unpadded)
    plain, flipped = sample["inputs"][2:4]
    assert torch.equal(plain.flip(2), flipped)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), num_absent=st.integers(0, 4), ignored=st.sampled_from([0.0, 0.4]))
def test_scores_equal_those_of_mmsegmentation(data, seed: int, num_absent: int, ignored: float) -> None:
    from mmseg.evaluation import IoUMetric

    rng, counted = np.random.default_rng(seed), []
    for _ in range(3):
        prediction, truth = rng.integers(0, 6 - num_absent, (2, 8, 9))
        truth = np.where(rng.random((8, 9)) < ignored, IGNORED, truth)
        counted.append(IoUMetric.intersect_and_union(torch.from_numpy(prediction), torch.from_numpy(truth), 6, IGNORED))
    areas = [Areas(*(part.numpy().astype(np.int64) for part in (i, p, t))) for i, _, p, t in counted]
    theirs = IoUMetric.total_area_to_metrics(*(sum(parts) for parts in zip(*counted, strict=True)), ["mIoU"])
    ours = {metric.name: metric.value for metric in score(areas, seed=0)}
    expected = {
        "aacc": 100 * float(theirs["aAcc"]),
        "miou": 100 * float(np.nanmean(theirs["IoU"])),
        "macc": 100 * float(np.nanmean(theirs["Acc"])),
    }
    assert ours == pytest.approx(expected, abs=1e-4)  # theirs counts in float32


def test_deformable_attention_equals_that_of_mmcv(data) -> None:
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    torch.manual_seed(0)
    attention = DeformableAttention(12, num_heads=3, num_levels=2, num_points=4, value_ratio=1.0).double()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    sizes, places = [(3, 4), (2, 1)], torch.rand(5, 2).double()
    query, features = torch.randn(2, 5, 12).double(), torch.randn(2, 14, 12).double()
    offsets = attention.sampling_offsets(query).view(2, 5, 3, 2, 4, 2)
    weights = attention.attention_weights(query).view(2, 5, 3, 8).softmax(-1).view(2, 5, 3, 2, 4)
    extent = torch.tensor([(width, height) for height, width in sizes])[None, None, None, :, None]
    points = places[None, :, None, None, None] + offsets / extent
    values = attention.value_proj(features).view(2, 14, 3, 4)
    theirs = multi_scale_deformable_attn_pytorch(values, torch.tensor(sizes), points, weights)
    ours = attention(query, features, places=places, sizes=sizes)
    torch.testing.assert_close(ours, attention.output_proj(theirs), rtol=0, atol=1e-12)


class Thresholder(torch.nn.Module):
    """A segmentor that calls bright pixels class 7 and dark ones class 2."""

    out_channels = 150

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.num_calls = 0

    def test_step(self, batch: dict) -> list[SimpleNamespace]:
        self.num_calls += 1
        height, width = batch["data_samples"][0].ori_shape
        bright = batch["inputs"][0].float().mean() > 127
        label = torch.full((1, height, width), 7 if bright else 2)
        return [SimpleNamespace(pred_sem_seg=SimpleNamespace(data=label))]


@pytest.fixture
def predict(data, pairs: tuple[Pair, ...], tmp_path: Path):
    """Predict some pairs into one folder with a made-up segmentor; gives rows, calls and what was reported."""
    from downstream.config import load_task_config
    from downstream.engines.openmmlab import predict as engine
    from downstream.engines.settings import SegmentationProfile

    profile = SegmentationProfile.parse(load_task_config("ade20k").profiles["mini"], where="test")
    profile = profile.model_copy(update={"geometry": GEOMETRY})

    def call(number: int) -> tuple[dict[str, Areas], int, list[tuple[int, int]]]:
        shown: list[tuple[int, int]] = []
        options = engine.PredictOptions(ADE20K, tmp_path, False, 0, lambda done, total: shown.append((done, total)))
        segmentor = Thresholder()
        rows = engine.predict(segmentor, pairs[:number], profile=profile, options=options)
        return rows, segmentor.num_calls, shown

    return call


def test_predictions_are_counted_against_the_label_and_written_as_ade20k_labels(
    predict, pairs: tuple[Pair, ...], tmp_path: Path
) -> None:
    rows, num_calls, shown = predict(2)
    assert (list(rows), num_calls, shown) == ([pair.id for pair in pairs[:2]], 2, [(1, 2), (2, 2)])
    for pair in pairs[:2]:
        with Image.open(pair.label) as file:
            truth = np.array(file)
        with Image.open(tmp_path / "predictions" / f"{pair.id}.png") as file:
            written = np.array(file)
        (value,) = np.unique(written)
        assert value in (8, 3)
        areas = rows[pair.id]
        assert areas.predicted[value - 1] == (truth > 0).sum() == areas.predicted.sum()
        assert areas.intersect[value - 1] == (truth == value).sum() == areas.intersect.sum()
        assert areas.labelled.tolist() == [(truth == number).sum() for number in range(1, 151)]


def test_a_resumed_prediction_goes_on_where_it_stopped(predict) -> None:
    first, _, _ = predict(2)
    rows, num_calls, shown = predict(4)
    assert (num_calls, shown) == (2, [(3, 4), (4, 4)])
    assert all(np.array_equal(rows[name].intersect, areas.intersect) for name, areas in first.items())
    assert predict(4)[1:] == (0, [])


def test_a_row_that_a_kill_cut_off_is_predicted_again(predict, tmp_path: Path) -> None:
    from downstream.engines.openmmlab.predict import PREDICTIONS_FILE, read_rows

    assert read_rows(tmp_path) == {}
    whole, _, _ = predict(4)
    path = tmp_path / PREDICTIONS_FILE
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3])[:-20])
    assert len(read_rows(tmp_path)) == 2
    rows, num_calls, _ = predict(4)
    assert num_calls == 2
    assert list(rows) == list(whole)
    for name, areas in whole.items():
        assert areas.to_sparse() == rows[name].to_sparse()


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", "cpu:x"])
def test_a_device_that_is_not_there_is_refused_in_one_line(data, name: str) -> None:
    from downstream.engines.openmmlab.segmentation import choose_device

    with pytest.raises(ValueError, match="try --device cpu") as caught:
        choose_device(name)
    assert "\n" not in str(caught.value)


def test_the_processor_is_always_there(data) -> None:
    from downstream.engines.openmmlab.segmentation import choose_device, describe_device

    assert choose_device("cpu").type == "cpu"
    assert describe_device(choose_device("cpu")).startswith("cpu (")
