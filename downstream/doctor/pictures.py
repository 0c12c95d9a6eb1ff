"""How pictures are prepared: resolution, normalisation, the order of the channels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from downstream.doctor.base import Cost, Finding, Question, ok, suspect, unchecked
from downstream.doctor.case import Case
from models.config import unknown_name

if TYPE_CHECKING:
    from downstream.doctor.probe import Change

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # OpenAI CLIP; written again, for what is used is what is examined
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
TOLERANCE = 1e-3
NO_PICTURES = "there are no pictures"


def look_at_resolution(case: Case) -> Finding:
    """Hold the settings' resolution against the config's and the file's."""
    if "image" not in case.setting.inputs:
        return unchecked(NO_PICTURES)
    size, expected = (_size(each.inputs) for each in (case.setting, case.expected))
    stored = _read_stored_size(case)
    block = f"settings.{case.part.setting}.inputs.image"
    key = f"{block}.arguments.size_px"
    protocol, wanted = (each.inputs["image"].protocol for each in (case.setting, case.expected))
    if protocol != wanted:
        told = f"pictures are prepared by {protocol!r}, the config says {wanted!r}"
        return suspect(told, f"leave --set {block}.protocol out")
    if size != expected:
        return suspect(
            f"pictures are judged at {size} px, the config says {expected} px{_tell_dispute(case)}",
            f"leave --set {key} out",
        )
    if stored is not None and stored != size and _is_unpublished(case, stored):
        return suspect(
            f"the file's relative tables are those of {stored} px, the config says {size} px{_tell_dispute(case)}",
            _resize_remedy(case, key, stored),
        )
    return ok(f"{stored or size} px" + (", as the file's relative tables" if stored is not None else ""))


def _read_stored_size(case: Case) -> int | None:
    """Read off the file's relative tables which resolution they are for."""
    branch = case.description.branches.get("image") if case.description is not None else None
    return None if branch is None else branch.input.get("image_size_px")


def _size(inputs: Any) -> int | None:
    value = inputs["image"].arguments.get("size_px")
    return None if value is None else int(value)


def _is_unpublished(case: Case, stored: int) -> bool:
    """Tell whether the protocol at the file's resolution is none of the published ones."""
    image = case.setting.inputs["image"]
    moved = image.model_copy(update={"arguments": {**image.arguments, "size_px": stored}})
    protocol = case.setting.model_copy(update={"inputs": {**case.setting.inputs, "image": moved}}).protocol_id
    return protocol not in {target["protocol"] for target in case.config.targets}


def _tell_dispute(case: Case) -> str:
    """Say where paper and release disagree about the resolution."""
    key = f"{case.part.setting}.inputs.image.arguments.size_px"
    return next((f"; {line}" for line in case.disputes if key in line), "")


def _resize_remedy(case: Case, key: str, stored: int) -> str:
    if case.part.setting == "zero-shot":
        return (
            f"--set {key}={stored}, the resolution that the weights were made for, or name weights made for the other"
        )
    return "name a file that was fine-tuned at the config's resolution; an evaluation goes by the file's"


@dataclass(frozen=True)
class Calibration:
    """What the code makes of pictures of one colour."""

    black: tuple[float, ...]
    """By plane, what 0 becomes."""
    white: tuple[float, ...]
    """By plane, what 255 becomes."""
    planes: tuple[int, ...]
    """Which plane red, green and blue raise most."""


def calibrate(case: Case) -> Calibration:
    """Put black, white, red, green and blue through the transform of the settings."""
    from PIL import Image

    from models.modalities import load_modality

    image = case.setting.inputs["image"]
    transforms = load_modality("image").transforms
    if image.protocol not in transforms:
        raise ValueError(unknown_name("protocol of image", image.protocol, transforms))
    transform = transforms[image.protocol]

    def look(colour: tuple[int, int, int]) -> tuple[float, ...]:
        tensor = transform(Image.new("RGB", (64, 48), colour), **image.arguments)
        return tuple(float(value) for value in tensor.mean(dim=(1, 2)))

    black = look((0, 0, 0))
    planes = []
    for channel in range(3):
        raised = look(tuple(255 * (channel == other) for other in range(3)))  # type: ignore[arg-type]
        planes.append(max(range(3), key=lambda plane: raised[plane] - black[plane]))
    return Calibration(black, look((255, 255, 255)), tuple(planes))


def look_at_normalisation(case: Case) -> Finding:
    """See what black and white become, and hold it against the published mean and deviation."""
    if "image" not in case.setting.inputs:
        return unchecked(NO_PICTURES)
    found = calibrate(case)
    wanted = [((value - mean) / std) for value in (0, 1) for mean, std in zip(CLIP_MEAN, CLIP_STD, strict=True)]
    if max(abs(a - b) for a, b in zip(found.black + found.white, wanted, strict=True)) > TOLERANCE:
        shown = ", ".join(f"{a:.3f} to {b:.3f}" for a, b in zip(found.black, found.white, strict=True))
        return suspect(
            f"the code maps 0..255 to {shown}, the published mean and deviation map it to "
            f"{wanted[0]:.3f} to {wanted[3]:.3f} in red",
            "mend the transform in models/modalities/image.py: CLIP's mean and deviation after division by 255",
        )
    return ok("black and white become what CLIP's mean and deviation make of them")


def look_at_channels(case: Case) -> Finding:
    """See which plane red, green and blue raise."""
    if "image" not in case.setting.inputs:
        return unchecked(NO_PICTURES)
    found = calibrate(case).planes
    if found != (0, 1, 2):
        return suspect(
            f"red, green and blue come out as planes {found[0]}, {found[1]} and {found[2]}",
            "mend the reader or the transform in models/modalities/image.py: planes are red, green, blue",
        )
    return ok("red, green and blue are planes 0, 1 and 2")


def probe_normalisation(case: Case) -> Finding:
    """Normalise the same pixels otherwise."""
    from downstream.doctor.probe import try_changes

    if case.plain.media != "image":
        return unchecked(NO_PICTURES)
    trial = try_changes(case.probe, _other_norms(calibrate(case)))
    if trial.best is None:
        return ok(f"{trial.told}; CLIP's and ImageNet's values are too close to be told apart")
    remedy = "the weights, or the files, are made for that normalisation: name those of the published protocol"
    return suspect(trial.told, remedy, gain=trial.best.gain)


def _other_norms(found: Calibration) -> "dict[str, Change]":
    import torch

    from downstream.doctor.probe import Change

    def column(values: tuple[float, ...]) -> torch.Tensor:
        return torch.tensor(values).view(3, 1, 1)

    black, white = column(found.black), column(found.white)
    mean, std = column(CLIP_MEAN), column(CLIP_STD)

    def pixels(tensor: torch.Tensor) -> torch.Tensor:
        return (tensor - black) / (white - black)

    return {
        "pixels from 0 to 1": Change(prepared=pixels),
        "pixels from -1 to 1": Change(prepared=lambda tensor: 2 * pixels(tensor) - 1),
        "pixels from 0 to 255": Change(prepared=lambda tensor: 255 * pixels(tensor)),
        "normalised twice": Change(prepared=lambda tensor: (tensor - mean) / std),
    }


def probe_channels(case: Case) -> Finding:
    """Read red for blue and blue for red."""
    from PIL import Image

    from downstream.doctor.probe import Change, try_changes

    if case.plain.media != "image":
        return unchecked(NO_PICTURES)

    def swap(picture: Any) -> Any:
        return Image.merge("RGB", picture.split()[::-1])

    trial = try_changes(case.probe, {"blue, green, red": Change(decoded=swap)})
    if trial.best is None:
        return ok(trial.told)
    return suspect(
        trial.told,
        "the files were written, or the weights trained, with red and blue exchanged (OpenCV does so): "
        "unpack the published pictures, or name weights that were trained on RGB",
        gain=trial.best.gain,
    )


RESOLUTION = Question("resolution", Cost.FREE, look_at_resolution)
NORMALISATION = Question("normalisation", Cost.CHEAP, look_at_normalisation)
CHANNELS = Question("channel order", Cost.CHEAP, look_at_channels)
NORMALISATION_PROBE = Question("normalisation", Cost.COMPUTE, probe_normalisation)
CHANNELS_PROBE = Question("channel order", Cost.COMPUTE, probe_channels)
