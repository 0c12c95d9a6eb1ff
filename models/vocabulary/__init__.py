"""Where the tokenizer's files are: the mini vocabulary is shipped, the published one is fetched by the user."""

import hashlib
import os
from pathlib import Path
from typing import Any, Final

import yaml

from models.config import unknown_name

HERE: Final = Path(__file__).resolve().parent
MANIFEST_FILE: Final = HERE / "manifest.yaml"
VARIABLE: Final = "ONEPEACE_VOCABULARY"
VOCABULARIES: Final = ("mini", "published")
DEFAULT_FOLDER: Final = HERE.parent.parent / "data" / "vocabulary"


def find_vocabulary(name: str) -> Path:
    """Find the folder of a vocabulary, for `Tokenizer.read`.

    `mini` is shipped. `published` is looked for in the folder that $ONEPEACE_VOCABULARY names, else in
    `data/vocabulary` below the project, and compared with the sizes and hashes of `manifest.yaml`.

    Raises:
        ValueError: no such vocabulary, or files that are not the published ones.
        FileNotFoundError: files are missing; one line with their names, sizes, and where to put them.
    """
    if name not in VOCABULARIES:
        raise ValueError(unknown_name("vocabulary", name, VOCABULARIES))
    if name == "mini":
        return HERE / "mini"
    folder = Path(os.environ.get(VARIABLE) or DEFAULT_FOLDER)
    files = yaml.safe_load(MANIFEST_FILE.read_text(encoding="utf-8"))[name]
    _check_presence(folder, files)
    for file, facts in files.items():
        _check_content(folder / file, facts)
    return folder


def _check_presence(folder: Path, files: dict[str, dict[str, Any]]) -> None:
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        sizes = ", ".join(f"{file} ({files[file]['size_bytes']} bytes)" for file in missing)
        raise FileNotFoundError(
            f"the published vocabulary lacks {sizes} in {folder}; put them there, or name their folder in ${VARIABLE}. "
            f"Their sources and sha256 stand in {MANIFEST_FILE}"
        )


def _check_content(path: Path, facts: dict[str, Any]) -> None:
    size = path.stat().st_size
    if size != facts["size_bytes"]:
        raise ValueError(f"{path} has {size} bytes, expected {facts['size_bytes']}; fetch it again")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != facts["sha256"]:
        raise ValueError(f"{path} has sha256 {found}, expected {facts['sha256']}; fetch it again")
