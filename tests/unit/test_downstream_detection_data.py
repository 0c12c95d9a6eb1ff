"""What the detector is shown is what was marked, and what it found is written down picture by picture."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from downstream.config import load_task_config
from downstream.engines.openmmlab.detection_settings import DetectionProfile
from downstream.formats.coco_detection import Instances, read_instances
from downstream.metrics.detection import Detection
from miniworld.coco_detection import write_coco_detection
from models.config import override

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools' own, with NumPy 2

SMALL = ("size=tiny", "cascade.channels=8", "cascade.fc_dim=12", "picture.train_ratio=[1.0,1.0]")


@pytest.fixture(scope="module")
def profile() -> DetectionProfile:
    return DetectionProfile.parse(override(load_task_config("coco_det").profiles["mini"], SMALL), where="test")


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> Instances:
    tree = write_coco_detection(tmp_path_factory.mktemp("world"), num_training=40, num_validation=3)
    return read_instances(tree, "train")


def test_a_training_sample_shows_the_things_that_were_marked(instances: Instances, profile: DetectionProfile) -> None:
    from downstream.engines.openmmlab.detection_data import PictureSet, pick_trainable, train_pipeline

    pictures = pick_trainable(instances)
    assert pictures == instances.pictures
    numbers = {category: number for number, category in enumerate(instances.categories)}
    with_crowd = [
        place for place, each in enumerate(pictures) if any(one["iscrowd"] for one in instances.annotations[each.id])
    ]
    assert with_crowd
    dataset = PictureSet(pictures, train_pipeline(profile.picture), instances=instances)
    for place in with_crowd[:2]:
        marked = [one for one in instances.annotations[pictures[place].id] if not one["iscrowd"]]
        sample = dataset[place]
        things = sample["data_samples"].gt_instances
        assert things.labels.tolist() == [numbers[one["category_id"]] for one in marked]
        assert [int(mask.sum()) for mask in things.masks.masks] == [int(one["area"]) for one in marked]
        for box, mask in zip(things.bboxes.tensor.tolist(), things.masks.masks, strict=True):
            rows, columns = np.nonzero(mask)
            assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_a_test_picture_has_its_longer_side_as_the_square(instances: Instances, profile: DetectionProfile) -> None:
    from downstream.engines.openmmlab.detection_data import PictureSet, test_pipeline

    settings = profile.picture.model_copy(update={"side_px": 192})
    sample = PictureSet(instances.pictures[:1], test_pipeline(settings))[0]
    assert tuple(sample["inputs"].shape) == (3, 144, 192)
    meta = sample["data_samples"].metainfo
    assert (meta["ori_shape"], meta["scale_factor"]) == ((96, 128), (1.5, 1.5))
    assert "bboxes" not in sample["data_samples"].gt_instances


def test_things_that_teach_nothing_are_left_out(instances: Instances) -> None:
    from downstream.engines.openmmlab.detection_data import _is_learned_from, pick_trainable

    good = {"iscrowd": 0, "bbox": [1, 1, 5, 5], "area": 9.0}
    assert _is_learned_from(good)
    for change in ({"iscrowd": 1}, {"bbox": [1, 1, 0.5, 5]}, {"area": 0.0}):
        assert not _is_learned_from({**good, **change})
    empty = Instances(instances.path, instances.pictures, instances.categories, {})
    assert pick_trainable(empty) == ()


def test_a_detection_is_resumed_after_the_last_whole_line(
    instances: Instances, profile: DetectionProfile, tmp_path: Path
) -> None:
    from downstream.engines.openmmlab.detection_model import build_detector
    from downstream.engines.openmmlab.detection_predict import DetectOptions, detect, read_rows

    detector: Any = build_detector(profile, num_classes=len(instances.categories), seed=0)
    pictures, seen = instances.pictures[:3], []
    options = DetectOptions(tmp_path, tuple(instances.categories), 0, lambda done, total: seen.append((done, total)))
    whole = detect(detector, pictures, profile=profile, options=options)
    assert list(whole) == [picture.id for picture in pictures]
    assert all(0 < len(found) <= profile.test.max_detections for found in whole.values())
    assert {each.category for found in whole.values() for each in found} <= set(instances.categories)
    rows = (tmp_path / "predictions.jsonl").read_text()
    (tmp_path / "predictions.jsonl").write_text(rows[: len(rows) - 40])
    assert list(read_rows(tmp_path)) == [picture.id for picture in pictures[:2]]
    assert detect(detector, pictures, profile=profile, options=options) == whole
    assert seen == [(1, 3), (2, 3), (3, 3), (3, 3)]


def test_boxes_and_masks_are_given_in_the_pictures_own_pixels() -> None:
    from mmengine.structures import InstanceData
    from pycocotools import mask as packed

    from downstream.engines.openmmlab.detection_predict import _take

    mask = torch.zeros(1, 6, 9, dtype=torch.bool)
    mask[0, 1:3, 2:7] = True
    found = InstanceData(
        bboxes=torch.tensor([[2.0, 1.0, 7.0, 3.5]]),
        scores=torch.tensor([0.5]),
        mask_scores=torch.tensor([0.25]),
        labels=torch.tensor([1]),
        masks=mask,
    )
    (taken,) = _take(found, (4, 17))
    assert taken == Detection(17, (2.0, 1.0, 5.0, 2.5), 0.5, 0.25, taken.runs)
    assert (packed.decode(dict(taken.runs)) == mask[0].numpy()).all()
