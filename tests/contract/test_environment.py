"""The lock, what is installed from it, and what is knowingly left unmet."""

import re
from importlib.metadata import PackageNotFoundError, distributions, version

import pytest
from packaging.requirements import Requirement

# `opencv-python` needs system libraries that slim machines lack; the headless build takes its place.
KNOWN_UNMET = {
    ("onedl-mmcv", "opencv-python"),
    ("onedl-mmsegmentation", "opencv-python"),
    ("imaug", "opencv-python"),
    ("imagecorruptions-imaug", "opencv-python"),
}


@pytest.fixture(scope="session")
def locked(root) -> dict[str, str]:
    lines = (root / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return dict(line.removesuffix(" \\").split("==") for line in lines if "==" in line)


def test_every_line_of_the_lock_is_a_pin_or_a_hash(root):
    pattern = re.compile(r"[a-z0-9][a-z0-9._-]*==[0-9][0-9a-z.]* \\|    --hash=sha256:[0-9a-f]{64}( \\)?")
    lines = (root / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not pattern.fullmatch(line)] == []


def test_every_direct_requirement_is_locked(root, locked):
    lines = (root / "requirements.in").read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line.split("#")[0]) for line in lines if line.split("#")[0].strip()]
    for requirement in wanted:
        assert locked[requirement.name.lower()] in requirement.specifier, requirement


def test_what_is_installed_is_what_is_locked(locked):
    different = {}
    for name, pinned in locked.items():
        try:
            if version(name) != pinned:
                different[name] = version(name)
        except PackageNotFoundError:
            different[name] = "missing"
    assert different == {}


def test_unmet_requirements_are_exactly_the_known_ones():
    unmet = set()
    for distribution in distributions():
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            try:
                is_met = requirement.specifier.contains(version(requirement.name), prereleases=True)
            except PackageNotFoundError:
                is_met = False
            if not is_met:
                unmet.add((distribution.metadata["Name"].lower(), requirement.name.lower()))
    assert unmet == KNOWN_UNMET


def test_the_conda_environment_points_at_the_same_lock(root):
    assert "-r requirements.lock" in (root / "environment.yml").read_text(encoding="utf-8")


def test_no_file_names_a_package_index(root):
    for name in ("requirements.in", "requirements.lock", "environment.yml", "pyproject.toml", "Makefile"):
        text = (root / name).read_text(encoding="utf-8")
        assert not re.search(r"index-url|find-links|https?://(?!127\.0\.0\.1)", text), name
