"""A folder of files that is there whole or not at all, and says in `miniworld.json` what it was made from."""

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

MANIFEST_NAME: Final = "miniworld.json"

Recipe: TypeAlias = Mapping[str, str | int]

LOG: Final = logging.getLogger(__name__)


def write_tree(target: Path, recipe: Recipe, *, files: Iterable[tuple[str, bytes]]) -> Path:
    """Write files below `target` and publish them in one step, or reuse what an equal recipe has left there.

    The files are written beside the target and the finished folder is renamed, so a reader never meets half of them,
    and of several writers at once the first one to finish wins.

    Args:
        target: the folder to make; its parents are made as needed.
        recipe: everything that the files follow from; kept in the manifest.
        files: names relative to `target` and contents; not read where the tree can be reused.

    Raises:
        ValueError: the target holds something else: another recipe, an incomplete tree, files not written here.
    """
    if _is_taken(target):
        return _reuse(target, recipe)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".miniworld-", dir=target.parent) as workshop:
        draft = Path(workshop) / target.name
        _write_files(draft, recipe, files=files)
        try:
            draft.rename(target)
        except OSError:
            if not _is_taken(target):
                raise
            return _reuse(target, recipe)  # another writer was faster
    LOG.info("wrote %s", target)
    return target


def _is_taken(target: Path) -> bool:
    return target.exists() and not (target.is_dir() and not any(target.iterdir()))


def _write_files(draft: Path, recipe: Recipe, *, files: Iterable[tuple[str, bytes]]) -> None:
    draft.mkdir()
    digests: dict[str, str] = {}
    for name, content in files:
        path = draft / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digests[name] = hashlib.sha256(content).hexdigest()
    listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    manifest = {**recipe, "num_files": len(digests), "sha256": hashlib.sha256(listing.encode()).hexdigest()}
    (draft / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _reuse(target: Path, recipe: Recipe) -> Path:
    """Accept the tree that is there if it is the one asked for, and whole."""
    found = _read_manifest(target)
    for key, wanted in recipe.items():
        if found.get(key) != wanted:
            raise ValueError(
                f"{target} was made with {key} {found.get(key)!r}, not {wanted!r}; choose another folder or remove it"
            )
    num_files = sum(path.is_file() for path in target.rglob("*")) - 1  # but the manifest
    if num_files != found.get("num_files"):
        raise ValueError(
            f"{target} holds {num_files} files instead of {found.get('num_files')}; choose another folder or remove it"
        )
    LOG.info("%s is complete, nothing to write", target)
    return target


def _read_manifest(target: Path) -> dict[str, Any]:
    refusal = f"{target} exists and was not written by miniworld (no readable {MANIFEST_NAME}); choose another folder"
    try:
        manifest = json.loads((target / MANIFEST_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(refusal) from error
    if not isinstance(manifest, dict):
        raise ValueError(refusal)
    return manifest
