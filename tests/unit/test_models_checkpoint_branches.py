"""A branch is loaded from a whole file: alone, strictly, in the wanted type, and in little memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.checkpoint import memory
from models.checkpoint.load import LoadReport, fit_config, load_branches, parse_dtype
from models.checkpoint.memory import check_memory, free_memory_bytes
from models.checkpoint.names import published_name
from models.checkpoint.reader import open_checkpoint, read_state
from models.config import ModelConfig, load_config
from models.layers.position_bias import resize_grid_table, resize_positions
from models.modalities.audio import Waveforms, count_frames
from models.onepeace import OnePeace, build_model

TINY = load_config("tiny")
LEFTOVERS = {"image_mask_token": torch.zeros(1, 8), "decoder_text_embed.bias": torch.zeros(8)}
BUFFERS = {"encoder_wrapper.text_adapter.rp_bucket": torch.zeros(3, 3, dtype=torch.int64)}


def full_model(seed: int = 0, config: ModelConfig = TINY) -> OnePeace:
    model = build_model(config, seed=seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".tables." in name:
                parameter.normal_(generator=torch.Generator().manual_seed(len(name)))
    return model.eval()


def published(model: OnePeace) -> dict[str, Tensor]:
    return {str(published_name(name)): value for name, value in model.state_dict().items()}


@pytest.fixture(scope="module")
def model() -> OnePeace:
    return full_model()


def write(folder: Path, form: str, state: dict[str, Tensor]) -> Path:
    content = {"model": state, "cfg": {"x": 1}}
    if form == "safetensors":
        save_file(state, folder / "x.safetensors")
        return folder / "x.safetensors"
    if form == "sharded":
        names = sorted(state)
        parts = {f"part-{index}.safetensors": names[index::3] for index in range(3)}
        for file, chosen in parts.items():
            save_file({name: state[name] for name in chosen}, folder / file)
        listed = {name: file for file, chosen in parts.items() for name in chosen}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}), encoding="utf-8")
        return folder
    if form == "pickle":
        import pickle

        (folder / "x.pkl").write_bytes(pickle.dumps(content))
        return folder / "x.pkl"
    torch.save(content, folder / "x.pt", _use_new_zipfile_serialization=form == "zip")
    return folder / "x.pt"


FORMS = ("zip", "legacy", "pickle", "safetensors", "sharded")


def clips() -> Waveforms:
    extractor = TINY.modalities["audio"]["extractor"]
    frames = count_frames(4000, extractor)
    return Waveforms(torch.randn(2, 4000), torch.zeros(2, frames + 1, dtype=torch.bool))


INPUTS = {
    "text": torch.tensor([[5, 9, 2, 1], [7, 8, 9, 2]]),
    "image": torch.randn(2, 3, 64, 64),
    "audio": clips(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("branches", [("text",), ("image",), ("audio",), ("image", "text")], ids="+".join)
def test_a_branch_alone_gives_the_whole_models_features_bit_for_bit(
    tmp_path: Path, model: OnePeace, form: str, branches: tuple[str, ...]
) -> None:
    path = write(tmp_path, form, {**published(model), **LEFTOVERS, **BUFFERS})
    alone, report = load_branches(path, "tiny", branches)
    assert not alone.training
    assert set(alone.adapters) == set(branches)
    inputs = {name: INPUTS[name] for name in branches}
    with torch.no_grad():
        ours, whole = alone.encode(inputs), model.encode(inputs)
        assert all(torch.equal(ours[name].features, whole[name].features) for name in branches)
        if len(branches) == 1:
            assert torch.equal(alone.embed(inputs)[branches[0]], model.embed(inputs)[branches[0]])
    left = {part.reason: len(part.names) for part in report.left_out}
    assert left["pretraining decoder"] == 2
    assert left["buffers that follow from the sizes"] == 1
    assert len(report.loaded) + sum(left.values()) == len(published(model)) + 3
    assert not report.missing
    assert not report.unexpected


def test_the_report_names_what_stays_behind(tmp_path: Path, model: OnePeace) -> None:
    path = write(tmp_path, "zip", {**published(model), **LEFTOVERS})
    _, report = load_branches(path, "tiny", ("image",))
    assert "left out by choice" in str(report)
    assert "2 pretraining decoder" in str(report)
    (decoder,) = [part.names for part in report.left_out if part.reason == "pretraining decoder"]
    assert set(decoder) == set(LEFTOVERS)


def test_a_report_without_leftovers_reads_as_before() -> None:
    assert str(LoadReport(("a",), (), (), ())) == "1 loaded (0 reshaped), 0 missing, 0 unexpected"


@pytest.mark.parametrize("drop", ["encoder_wrapper.image_adapter.pos_embed", "image_proj.bias"])
def test_a_missing_name_refuses_the_file(tmp_path: Path, model: OnePeace, drop: str) -> None:
    state = published(model)
    del state[drop]
    with pytest.raises(ValueError, match=r"1 missing .*nothing was loaded") as caught:
        load_branches(write(tmp_path, "zip", state), "tiny", ("image",))
    assert "\n" not in str(caught.value)


def test_a_missing_name_of_another_branch_does_not_matter(tmp_path: Path, model: OnePeace) -> None:
    state = published(model)
    del state["text_proj.bias"]
    load_branches(write(tmp_path, "zip", state), "tiny", ("image",))


def test_an_unknown_name_refuses_the_file(tmp_path: Path, model: OnePeace) -> None:
    state = {**published(model), "encoder_wrapper.image_adapter.new\npart": torch.zeros(2)}
    with pytest.raises(ValueError, match=r"1 unexpected \(encoder_wrapper.image_adapter.new\\npart\)"):
        load_branches(write(tmp_path, "zip", state), "tiny", ("image",))


def test_two_names_for_one_parameter_refuse_the_file(tmp_path: Path, model: OnePeace) -> None:
    state = {**published(model), "encoder_wrapper.image_adapter.rel_pos_table.weight": torch.zeros(52, 2)}
    with pytest.raises(ValueError, match=r"two names for adapters[.]image"):
        load_branches(write(tmp_path, "zip", state), "tiny", ("image",))


def test_another_shape_refuses_the_file(tmp_path: Path, model: OnePeace) -> None:
    state = {**published(model), "image_proj.bias": torch.zeros(33)}
    with pytest.raises(ValueError, match=r"projections.image.bias has shape \(33,\)"):
        load_branches(write(tmp_path, "zip", state), "tiny", ("image",))


def test_another_size_is_told_by_its_first_number(tmp_path: Path, model: OnePeace) -> None:
    with pytest.raises(ValueError, match=r"size 'mini' has embed_dim 128, checkpoint .* has 32"):
        load_branches(write(tmp_path, "zip", published(model)), "mini", ("image",))


def test_a_branch_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    path = write(tmp_path, "zip", published(full_model(config=TINY.branch("text", "image"))))
    with pytest.raises(ValueError, match="has no branch 'audio'; it has: text, image"):
        load_branches(path, "tiny", ("audio",))
    with pytest.raises(ValueError, match="unknown modality 'pictures'"):
        load_branches(path, "tiny", ("pictures",))
    with pytest.raises(ValueError, match="no branch was named"):
        load_branches(path, "tiny", ())


def test_a_size_by_name_follows_the_files_tables_norms_and_grid(tmp_path: Path) -> None:
    image = {"grid_size": 4, "bias_grid_size": 6}
    config = TINY.branch("image", has_per_layer_bias=True, has_final_norm=False, has_projection=False)
    config = config.model_copy(update={"modalities": {"image": image}})
    source = full_model(config=config)
    loaded, report = load_branches(write(tmp_path, "zip", published(source)), "tiny", ("image",))
    assert loaded.config.has_per_layer_bias
    assert not loaded.config.has_final_norm
    assert loaded.config.modalities == {"image": image}
    assert report.reshaped == ()
    pictures = torch.randn(1, 3, 96, 96)
    assert torch.equal(
        loaded.encode({"image": pictures})["image"].features, source.encode({"image": pictures})["image"].features
    )


def test_a_size_by_name_follows_the_files_type_embeddings(tmp_path: Path) -> None:
    options = {name: {**TINY.modalities[name], "has_type_embedding": True} for name in ("text", "image")}
    source = full_model(config=TINY.branch("text", "image").model_copy(update={"modalities": options}))
    loaded, _ = load_branches(write(tmp_path, "zip", published(source)), "tiny", ("text", "image"))
    assert loaded.state_dict().keys() == source.state_dict().keys()


def test_a_config_is_taken_as_it_is(tmp_path: Path, model: OnePeace) -> None:
    image = {"grid_size": 6, "bias_grid_size": 6}
    config = TINY.model_copy(
        update={
            "modalities": {**TINY.modalities, "image": image},
            "has_projection": False,
            "has_final_norm": False,
            "has_per_layer_bias": True,
        }
    )
    loaded, report = load_branches(write(tmp_path, "zip", published(model)), config, ("image",))
    state, stored = loaded.state_dict(), model.state_dict()
    assert torch.equal(state["adapters.image.positions"], resize_positions(stored["adapters.image.positions"], 6))
    tables = [state[f"adapters.image.bias.tables.{layer}"] for layer in range(4)]
    assert all(torch.equal(table, resize_grid_table(stored["adapters.image.bias.tables.0"], 6)) for table in tables)
    assert len({table.data_ptr() for table in tables}) == 4
    assert len(report.reshaped) == 5
    left = {part.reason: len(part.names) for part in report.left_out}
    assert left["projections that the config switches off"] == 3
    assert left["final norms that the config switches off"] == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, None], ids=str)
def test_floats_follow_the_wanted_type(tmp_path: Path, model: OnePeace, dtype: torch.dtype | None) -> None:
    loaded, _ = load_branches(write(tmp_path, "zip", published(model)), "tiny", ("image",), dtype=dtype)
    stored = model.state_dict()
    for name, value in loaded.state_dict().items():
        assert value.dtype == (dtype or torch.float32)
        assert torch.equal(value, stored[name].to(value.dtype))
        assert value.device.type == "cpu"


def test_parameters_can_be_trained_and_do_not_touch_the_file(tmp_path: Path, model: OnePeace) -> None:
    path = write(tmp_path, "zip", published(model))
    before = path.read_bytes()
    loaded, _ = load_branches(path, "tiny", ("image",))
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in loaded.parameters())
    loaded.encode({"image": INPUTS["image"]})["image"].features.sum().backward()
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.zero_()
    assert path.read_bytes() == before


DTYPE_NAMES = {
    "bf16": torch.bfloat16, "bfloat16": torch.bfloat16, "fp16": torch.float16, "float16": torch.float16,
    "half": torch.float16, "fp32": torch.float32, "float32": torch.float32, "float": torch.float32,
}  # fmt: skip


@pytest.mark.parametrize("name", DTYPE_NAMES)
def test_types_have_short_and_long_names(name: str) -> None:
    assert parse_dtype(name) == DTYPE_NAMES[name]


@pytest.mark.parametrize("name", ["fp8", "int8", "", "BF16", "bfloat"])
def test_an_unknown_type_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="unknown dtype"):
        parse_dtype(name)


def test_need_and_free_memory_are_said_before_loading(tmp_path: Path, model: OnePeace) -> None:
    said: list[str] = []
    load_branches(write(tmp_path, "zip", published(model)), "tiny", ("image",), say=said.append)
    (sentence,) = said
    assert "loading needs 0." in sentence
    assert "free on cpu" in sentence


def test_too_little_memory_is_refused_before_anything_is_read(
    tmp_path: Path, model: OnePeace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory_bytes", lambda _: 1000)
    with pytest.raises(ValueError, match=r"loading needs .* free on cpu; load fewer branches"):
        load_branches(write(tmp_path, "zip", published(model)), "tiny", ("image",))


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("max", "5000"), ("current", "4000"), ("stat", "inactive_file 100\nactive_file 50\nanon 9")):
        (tmp_path / f"memory.{name}").write_text(value, encoding="ascii")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert free_memory_bytes(torch.device("cpu")) == 1150
    (tmp_path / "memory.max").write_text("max", encoding="ascii")
    assert free_memory_bytes(torch.device("cpu")) > 10**6
    with pytest.raises(ValueError, match=r"needs 931322[.]57 GiB"):
        check_memory(10**15, device=torch.device("cpu"))


def test_fitting_a_size_keeps_what_the_file_does_not_tell(tmp_path: Path, model: OnePeace) -> None:
    from models.checkpoint.describe import describe

    description = describe(open_checkpoint(write(tmp_path, "zip", published(model))))
    assert fit_config(TINY, description) == TINY


BAD_INDEXES = {
    "no map": {"weights": {}},
    "an empty map": {"weight_map": {}},
    "a path": {"weight_map": {"a": "../x.safetensors"}},
    "an absolute path": {"weight_map": {"a": "/x.safetensors"}},
    "numbers": {"weight_map": {"a": 1}},
    "a list": [],
    "another name": {"weight_map": {"a": "part-0.safetensors"}},
}


@pytest.mark.parametrize("case", BAD_INDEXES)
def test_an_index_that_does_not_fit_its_files_is_refused(tmp_path: Path, model: OnePeace, case: str) -> None:
    folder = write(tmp_path, "sharded", published(model))
    (folder / "model.safetensors.index.json").write_text(json.dumps(BAD_INDEXES[case]), encoding="utf-8")
    with pytest.raises(ValueError, match="checkpoint ") as caught:
        open_checkpoint(folder)
    assert "\n" not in str(caught.value)


def test_a_missing_shard_is_a_missing_file(tmp_path: Path, model: OnePeace) -> None:
    folder = write(tmp_path, "sharded", published(model))
    (folder / "part-1.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"part-1[.]safetensors"):
        read_state(folder)


def test_a_file_that_shrinks_after_it_was_opened_is_told(tmp_path: Path, model: OnePeace) -> None:
    path = write(tmp_path, "zip", published(model))
    checkpoint = open_checkpoint(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match="shorter than when it was opened"):
        checkpoint.read("audio_proj.weight")


def test_a_closed_checkpoint_reads_nothing(tmp_path: Path, model: OnePeace) -> None:
    with open_checkpoint(write(tmp_path, "zip", published(model))) as checkpoint:
        value = checkpoint.tensor("logit_scale")
    with pytest.raises(ValueError, match="no open tensor"):
        checkpoint.read("logit_scale")
    assert torch.equal(value, model.logit_scale)


WIDE = {"embed_dim": 512, "ffn_dim": 2048, "num_layers": 10, "num_heads": 8}
MEASURE = f"""
import sys
from pathlib import Path
import torch
from models.checkpoint.convert import convert
from models.checkpoint.load import load_branches, parse_dtype
from models.config import load_config
def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
config = load_config("tiny").model_copy(update={WIDE!r})
torch.ones(10**6).to(torch.bfloat16).float()
torch.nn.Linear(4, 4).eval()
before = peak()
dtype = None if sys.argv[2] == "stored" else parse_dtype(sys.argv[2])
if len(sys.argv) > 3:
    done = convert(Path(sys.argv[1]), Path(sys.argv[3]), ("image",), dtype=dtype)
    print(done.num_bytes, peak() - before)
else:
    model, _ = load_branches(Path(sys.argv[1]), config, ("image",), dtype=dtype)
    print(sum(p.numel() * p.element_size() for p in model.parameters()), peak() - before)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three branches in 430 MB, once as torch writes them and once as a plain pickle."""
    with torch.device("meta"):
        empty = OnePeace(TINY.model_copy(update=WIDE))
    state = {str(published_name(name)): torch.ones(value.shape) for name, value in empty.state_dict().items()}
    folder = tmp_path_factory.mktemp("large")
    return {form: write(folder, form, state) for form in ("zip", "pickle")}


def measured(root: Path, *arguments: str) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments], cwd=root, capture_output=True, text=True, check=True
    )
    size, growth = done.stdout.split()
    return int(size), int(growth)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc; the Linux jobs do")
@pytest.mark.parametrize(
    ("form", "dtype"),
    [
        ("zip", "stored"),
        pytest.param("zip", "bf16", marks=pytest.mark.slow),
        pytest.param("pickle", "stored", marks=pytest.mark.slow),
    ],
)
def test_loading_a_branch_takes_little_more_memory_than_the_branch(
    large: dict[str, Path], root: Path, form: str, dtype: str
) -> None:
    assert large[form].stat().st_size > 4e8
    size, growth = measured(root, str(large[form]), dtype)
    assert size > 7e7
    assert growth <= 1.2 * size


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc; the Linux jobs do")
def test_converting_holds_one_tensor_at_a_time(large: dict[str, Path], root: Path, tmp_path: Path) -> None:
    size, growth = measured(root, str(large["zip"]), "stored", str(tmp_path / "out.safetensors"))
    assert size > 1.4e8
    assert growth < 4e7
