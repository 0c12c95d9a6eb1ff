"""Fine-tuning of a segmentor."""

from collections.abc import Sequence

from downstream.engines.openmmlab.data import PairDataset, SeededDataset, train_pipeline
from downstream.engines.openmmlab.loop import FitOptions, train
from downstream.engines.openmmlab.model import Segmentor
from downstream.engines.openmmlab.optim import build_optimizer, build_schedulers
from downstream.engines.openmmlab.state import Training
from downstream.engines.settings import SegmentationProfile
from downstream.formats.segmentation import LabelledSet, Pair


def fit(
    segmentor: Segmentor,
    pairs: Sequence[Pair],
    *,
    data: LabelledSet,
    profile: SegmentationProfile,
    options: FitOptions,
) -> float:
    """Train a segmentor in place on labelled pictures of a data set.

    Returns:
        Seconds of training in this process, as `train`.

    Raises:
        ValueError: the state to resume from is damaged.
    """
    settings = profile.training
    optimizer = build_optimizer(segmentor, num_layers=len(segmentor.backbone.encoder.layers), settings=settings)
    training = Training(segmentor, optimizer, build_schedulers(optimizer, settings))
    dataset = SeededDataset(PairDataset(pairs, train_pipeline(profile.geometry, data)), seed=options.seed)
    return train(training, dataset, settings=settings, precision=profile.precision, options=options, scope="mmseg")
