"""Who may import what: the table of CONTRIBUTING.md, read off the import statements."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ("models", "pretrain", "downstream", "reports", "miniworld")

MAY_IMPORT = {
    "models": set(),
    "reports": set(),
    "miniworld": set(),
    "pretrain": {"models", "reports", "miniworld"},
    "downstream": {"models", "reports", "miniworld"},
}

# A benchmark is recorded as every other result is.
EXCEPTIONS = {"models/bench/": {"reports"}}

# Library, the only places that may import it.
DOORS = {
    "mmengine": ("downstream/engines/openmmlab/",),
    "mmcv": ("downstream/engines/openmmlab/",),
    "mmseg": ("downstream/engines/openmmlab/",),
    "mmdet": ("downstream/engines/openmmlab/",),
    "cv2": (),
    "mlflow": ("reports/store.py",),
    "torch": ("models/", "pretrain/", "downstream/"),
    "torchvision": ("models/", "pretrain/", "downstream/"),
    "torchaudio": ("models/", "pretrain/", "downstream/"),
}

# Inside `models` the arrows run against the road: each stage knows the ones before it only.
STAGES = ("models.config", "models.layers", "models.batch", "models.modalities", "models.encoder", "models.onepeace")


def sources(root: Path, package: str) -> list[Path]:
    return sorted(path for path in (root / package).rglob("*.py") if "__pycache__" not in path.parts)


def imported_names(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names.add(node.module or "")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            names |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_the_table_allows(root, package):
    forbidden = set(PACKAGES) - MAY_IMPORT[package] - {package}
    for path in sources(root, package):
        tops = {name.split(".")[0] for name in imported_names(path)}
        relative = path.relative_to(root).as_posix()
        tops -= {name for place, names in EXCEPTIONS.items() if relative.startswith(place) for name in names}
        assert not tops & forbidden, f"{path.relative_to(root)} imports {sorted(tops & forbidden)}"


@pytest.mark.parametrize("library", DOORS)
def test_libraries_come_in_through_their_door_only(root, library):
    for package in PACKAGES:
        for path in sources(root, package):
            tops = {name.split(".")[0] for name in imported_names(path)}
            relative = path.relative_to(root).as_posix()
            assert library not in tops or relative.startswith(DOORS[library]), f"{relative} imports {library}"


def test_stages_of_the_model_know_only_the_stages_before_them(root):
    for path in sources(root, "models"):
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        place = next((index for index, stage in enumerate(STAGES) if module.startswith(stage)), None)
        if place is None:
            continue
        later = tuple(STAGES[place + 1 :])
        names = imported_names(path)
        assert not [name for name in names if name.startswith(later)], f"{module} imports a later stage"


def test_the_encoder_names_no_modality(root):
    text = (root / "models" / "encoder.py").read_text(encoding="utf-8")
    assert not [name for name in ("image", "text", "audio") if name in text]


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_come_from_this_checkout(root, package):
    module = importlib.import_module(package)
    assert Path(module.__file__).parent == root / package


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_typed(root, package):
    assert (root / package / "py.typed").is_file()


def test_no_test_folder_hides_a_package(root):
    assert not list((root / "tests").rglob("__init__.py"))
    assert not [path for path in (root / "tests").rglob("*") if path.is_dir() and path.name in PACKAGES]


def test_the_model_imports_without_the_tracking_and_detection_stacks():
    script = (
        "import sys\n"
        "for name in ('mmengine', 'mmcv', 'mmseg', 'mmdet', 'mlflow', 'cv2'): sys.modules[name] = None\n"
        "import models.onepeace, models.heads, models.checkpoint.load, models.checkpoint.reader\n"
        "import pretrain.job, pretrain.reporting, pretrain.ship\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["downstream/run.py", "--help"],
        ["downstream/run.py", "--list"],
        ["downstream/run.py", "ade20k", "--dry-run", "--profile", "mini"],
        ["pretrain/run.py", "--help"],
        ["pretrain/run.py", "plan", "--gpus", "64", "--gpu", "h100"],
        ["pretrain/run.py", "stage1", "--size", "mini", "--dry-run"],
        ["reports/run.py", "--help"],
        ["miniworld/run.py", "--help"],
    ],
    ids=" ".join,
)
def test_quick_answers_do_not_wait_for_torch(root, arguments):
    script = (
        "import runpy, sys\n"
        f"sys.argv = {arguments!r}\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'mlflow', 'mmengine', 'cv2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root, stdout=subprocess.DEVNULL)
