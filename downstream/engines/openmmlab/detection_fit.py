"""Fine-tuning of a detector."""

from downstream.engines.openmmlab.data import SeededDataset
from downstream.engines.openmmlab.detection_data import PictureSet, pick_trainable, train_pipeline
from downstream.engines.openmmlab.detection_model import Detector
from downstream.engines.openmmlab.detection_optim import build_optimizer, build_schedulers
from downstream.engines.openmmlab.detection_settings import DetectionProfile
from downstream.engines.openmmlab.loop import FitOptions, train
from downstream.engines.openmmlab.state import Training
from downstream.formats.coco_detection import Instances


def fit(detector: Detector, instances: Instances, *, profile: DetectionProfile, options: FitOptions) -> float:
    """Train a detector in place on the pictures that show something.

    Returns:
        Seconds of training in this process, as `train`.

    Raises:
        ValueError: no picture shows anything, or the state to resume from is damaged.
    """
    settings = profile.training
    pictures = pick_trainable(instances)
    if not pictures:
        raise ValueError(f"{instances.path} marks nothing to learn from, expected at least one thing that is no crowd")
    optimizer = build_optimizer(detector, num_layers=len(detector.backbone.sides), settings=settings)
    training = Training(detector, optimizer, build_schedulers(optimizer, settings))
    shown = PictureSet(pictures, train_pipeline(profile.picture), instances=instances)
    dataset = SeededDataset(shown, seed=options.seed)
    return train(training, dataset, settings=settings, precision=profile.precision, options=options, scope="mmdet")
