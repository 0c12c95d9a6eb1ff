"""Prepares the import of the OpenMMLab stack: checks which it is, stands in for its operators, stops its noise."""

import contextlib
import functools
import importlib
import io
import warnings
from importlib.metadata import PackageNotFoundError, packages_distributions, version

from downstream.engines.openmmlab.operators import install_missing_operators

# Import name, distribution: the maintained continuation, which has the same import names as the original.
EXPECTED = {
    "mmengine": "onedl-mmengine",
    "mmcv": "onedl-mmcv",
    "mmdet": "onedl-mmdetection",
    "mmseg": "onedl-mmsegmentation",
}

# What the stack says of itself on every start; none of it is about the user's work.
NOISE = (
    r"invalid escape sequence",  # in mmdet's sources, when they are compiled for the first time
    r"torch\.meshgrid: in an upcoming release",
    r"`torch\.jit\.\w+` is deprecated",
    r"``MultiScaleDeformableAttention`` has been moved",
    r"faster_coco_eval is not installed",
    r"`build_\w+` would be deprecated",
    r"The draw is not implemented",
    r"The shape of value will convert",  # of the mean over views
)


@functools.cache
def prepare() -> None:
    """Make `import mmseg` and its siblings safe and quiet, and register all that they offer.

    Raises:
        FileNotFoundError: the stack is not installed, or the original stands where its continuation is expected.
    """
    _check_distributions()
    install_missing_operators()
    silence()
    with contextlib.redirect_stdout(io.StringIO()):  # "Could not import OneDL" is a plain print
        importlib.import_module("mmdet.models")  # registers the parts of Mask2Former
        import mmseg.utils

        mmseg.utils.register_all_modules(init_default_scope=True)
    from mmengine.logging import MMLogger

    MMLogger.get_instance("mmengine", log_level="ERROR")  # else one line for every parameter that is initialised


def silence() -> None:
    """Filter the stack's own warnings by their words."""
    for message in NOISE:
        warnings.filterwarnings("ignore", message=message)


def _check_distributions() -> None:
    owners = packages_distributions()
    for module, expected in EXPECTED.items():
        found = owners.get(module, [])
        if found != [expected]:
            raise FileNotFoundError(
                f"the package {module!r} comes from {' and '.join(found) or 'nowhere'}, expected {expected}; "
                "set the environment up again: make setup"
            )


def stack_versions() -> dict[str, str]:
    """Give the versions of the stack by distribution; what is not installed is left out."""
    versions = {}
    for distribution in EXPECTED.values():
        with contextlib.suppress(PackageNotFoundError):
            versions[distribution] = version(distribution)
    return versions
