"""A file of the released size: told what it is in seconds, and one branch of it loaded without the rest."""

import json
import os
import pickle
import struct
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import torch

from models.checkpoint.describe import describe
from models.checkpoint.reader import open_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.golden]

MAX_INSPECT_S = 5.0
MAX_GROWTH = 1.2


class SparseZip:
    """Writes a torch zip whose storages are holes: gigabytes to a reader, kilobytes on the disk."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")
        self.directory: list[bytes] = []

    def add(self, name: str, content: bytes | int) -> None:
        size = content if isinstance(content, int) else len(content)
        start, encoded = self.file.tell(), name.encode()
        padding = -(start + 30 + len(encoded)) % 64
        padding += 64 if padding < 4 else 0
        extra = struct.pack("<HH", 0x4246, padding - 4) + bytes(padding - 4)
        self.file.write(struct.pack("<4s5H3I2H", b"PK\3\4", 0, 0, 0, 0, 0, 0, size, size, len(encoded), padding))
        self.file.write(encoded + extra)
        if isinstance(content, int):
            self.file.truncate(self.file.tell() + size)
            self.file.seek(size, os.SEEK_CUR)
        else:
            self.file.write(content)
        place = struct.pack("<HHQ", 1, 8, start)
        entry = struct.pack(
            "<4s6H3I5H2I",
            b"PK\1\2",
            45,
            45,
            0,
            0,
            0,
            0,
            0,
            size,
            size,
            len(encoded),
            len(place),
            0,
            0,
            0,
            0,
            0xFFFFFFFF,
        )
        self.directory.append(entry + encoded + place)

    def close(self) -> None:
        start, count, content = self.file.tell(), len(self.directory), b"".join(self.directory)
        self.file.write(content)
        end = self.file.tell()
        self.file.write(struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(content), start))
        self.file.write(struct.pack("<4sIQI", b"PK\6\7", 0, end, 1))
        self.file.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))
        self.file.close()


class Stub:
    """A tensor of zeros that takes no memory."""

    def __init__(self, key: int, shape: list[int]) -> None:
        self.storage = types.SimpleNamespace(key=str(key), count=torch.Size(shape).numel())
        self.shape = tuple(shape)

    def __reduce__(self) -> tuple:
        stride = torch.empty(self.shape, device="meta").stride()
        return torch._utils._rebuild_tensor_v2, (self.storage, 0, self.shape, stride, False, {})


class StubPickler(pickle.Pickler):
    def persistent_id(self, value: object) -> tuple | None:
        if isinstance(value, types.SimpleNamespace):
            return "storage", torch.BFloat16Storage, value.key, "cpu", value.count
        return None


@pytest.fixture(scope="module")
def entries(golden_dir: Path) -> dict[str, list]:
    stored = json.loads((golden_dir / "13_full_entries_uncollapsed.json").read_text(encoding="utf-8"))
    return stored["retrieval_val_shared_table"]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, entries: dict[str, list]) -> Path:
    """All published names in bfloat16, the pretraining decoder's mask token among them; 8 GB of zeros."""
    path = tmp_path_factory.mktemp("full") / "one-peace.pt"
    names = {**{name: shape for name, (shape, _) in entries.items()}, "image_mask_token": [1, 768]}
    stubs = {name: Stub(key, shape) for key, (name, shape) in enumerate(names.items())}
    pickled = Path(path.parent / "data.pkl")
    with pickled.open("wb") as file:
        StubPickler(file, protocol=2).dump({"model": stubs, "cfg": {"task": "pretrain"}, "extra_state": None})
    archive = SparseZip(path)
    archive.add("one-peace/data.pkl", pickled.read_bytes())
    archive.add("one-peace/byteorder", b"little")
    for stub in stubs.values():
        archive.add(f"one-peace/data/{stub.storage.key}", 2 * stub.storage.count)
    archive.close()
    return path


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory, entries: dict[str, list]) -> Path:
    """The same names in shards of safetensors, each a hole behind its header."""
    folder, listed = tmp_path_factory.mktemp("shards"), {}
    for number in range(8):
        header, start = {}, 0
        for name in list(entries)[number::8]:
            shape = entries[name][0]
            stop = start + 2 * torch.Size(shape).numel()
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, stop]}
            listed[name], start = f"part-{number}.safetensors", stop
        text = json.dumps(header).encode()
        with (folder / f"part-{number}.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + start)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}), encoding="utf-8")
    return folder


@pytest.mark.parametrize("form", ["released", "sharded"])
def test_a_full_size_file_is_told_in_seconds(form: str, request: pytest.FixtureRequest, golden_dir: Path) -> None:
    path = request.getfixturevalue(form)
    started = time.monotonic()
    description = describe(open_checkpoint(path))
    assert time.monotonic() - started < MAX_INSPECT_S
    facts = json.loads((golden_dir / "13_full_config_facts.json").read_text(encoding="utf-8"))["parameter_counts"]
    counts = {name: branch.num_parameters for name, branch in description.branches.items()}
    assert counts == {"text": facts["L_branch"], "image": facts["V_branch"], "audio": facts["A_branch"]}
    assert description.sizes == {"embed_dim": 1536, "ffn_dim": 6144, "num_layers": 40, "num_heads": 24}
    assert description.unknown == ()


def test_the_command_line_answers_in_seconds_too(released: Path, root: Path) -> None:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "models/run.py", "inspect", str(released)],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert time.monotonic() - started < 2 * MAX_INSPECT_S  # half of it is importing torch
    assert "fairseq, pretrained" in done.stdout
    assert "768 parameters of the pretraining decoder" in done.stdout


LOAD = """
import sys, time
from pathlib import Path
import torch
from models.checkpoint.load import load_branches
def peak():
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("VmHWM"))
torch.zeros(8).to(torch.bfloat16)
before, started = peak(), time.monotonic()
model, report = load_branches(Path(sys.argv[1]), "4b", ("image",))
size = sum(p.numel() * p.element_size() for p in model.parameters())
print(size, peak() - before, len(report.loaded), time.monotonic() - started)
"""


@pytest.mark.parametrize("form", ["released", "sharded"])
def test_one_branch_of_a_full_size_file_takes_its_own_memory_only(
    form: str, request: pytest.FixtureRequest, root: Path
) -> None:
    path = request.getfixturevalue(form)
    done = subprocess.run([sys.executable, "-c", LOAD, str(path)], cwd=root, capture_output=True, text=True, check=True)
    size, growth, loaded, _ = (float(part) for part in done.stdout.split())
    assert size > 3.0e9
    assert growth < MAX_GROWTH * size
    assert loaded > 600
