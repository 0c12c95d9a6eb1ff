"""The OpenMMLab stack is looked at before it is imported."""

import warnings

import pytest

from downstream.engines.openmmlab import imports
from downstream.engines.openmmlab.imports import EXPECTED, NOISE, silence, stack_versions

SOUND = {module: [distribution] for module, distribution in EXPECTED.items()}


@pytest.mark.parametrize(
    ("owners", "words"),
    [
        ({**SOUND, "mmcv": ["mmcv"]}, "'mmcv' comes from mmcv, expected onedl-mmcv"),
        ({**SOUND, "mmseg": []}, "'mmseg' comes from nowhere"),
        ({**SOUND, "mmdet": ["mmdet", "onedl-mmdetection"]}, "comes from mmdet and onedl-mmdetection"),
    ],
    ids=["original", "absent", "both"],
)
def test_another_stack_than_expected_is_missing(
    monkeypatch: pytest.MonkeyPatch, owners: dict[str, list[str]], words: str
) -> None:
    monkeypatch.setattr(imports, "packages_distributions", lambda: owners)
    with pytest.raises(FileNotFoundError, match="make setup") as caught:
        imports._check_distributions()
    assert words in str(caught.value)


def test_the_expected_stack_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "packages_distributions", lambda: SOUND)
    imports._check_distributions()


def test_versions_are_told_by_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(stack_versions()) <= set(EXPECTED.values())
    monkeypatch.setattr(imports, "EXPECTED", {"x": "no-such-package-of-ours"})
    assert stack_versions() == {}


def test_only_the_stacks_own_words_are_silenced() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        silence()
        warnings.warn("faster_coco_eval is not installed, use pip", stacklevel=1)
        with pytest.raises(UserWarning, match="ours"):
            warnings.warn("ours: faster_coco_eval is not installed", stacklevel=1)
    assert len(NOISE) == len(set(NOISE))


def test_the_mean_over_views_is_made_in_silence() -> None:
    import torch

    imports.prepare()
    from mmengine.structures import PixelData

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        silence()
        assert PixelData(data=torch.zeros(2, 3)).data.shape == (1, 2, 3)
