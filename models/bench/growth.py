"""How the cost of the model grows, and what it should grow like."""

from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

import torch

from models.batch import move
from models.bench.inputs import bench_config, draw_clips, draw_pictures, draw_texts, spread_bias
from models.bench.measure import measure_peak_memory, time_once
from models.config import ModelConfig
from models.onepeace import build_model
from models.retrieval import top_k
from reports.benchmark import Growth, fit_power

REPEATS = 3
TEXTS, PICTURES = 4, 2
GALLERIES = (10_000, 20_000, 40_000, 80_000)


def measure_growths(size: str, *, device: torch.device, dtype: torch.dtype) -> Iterator[Growth]:
    """Measure time against length, batch and layers, and memory against the size of a gallery."""

    def forward(config: ModelConfig, inputs: Mapping[str, Any]) -> float:
        return _time_forward(config, inputs, device=device, dtype=dtype)

    whole = bench_config(size)
    text, image, audio = (whole.branch(name) for name in ("text", "image", "audio"))
    yield fit(
        "text forward", "tokens", lambda n: forward(text, {"text": draw_texts(text, [n] * TEXTS)}),
        points=(32, 64, 128, 256, 512), expected="from 1, products, towards 2, attention",
    )  # fmt: skip
    yield fit(
        "audio forward", "seconds of a clip", lambda n: forward(audio, {"audio": draw_clips(audio, [n])}),
        points=(1, 2, 4, 8, 15), expected="from 1, products, towards 2, attention",
    )  # fmt: skip
    yield fit(
        "image forward", "pictures", lambda n: forward(image, {"image": draw_pictures(image, n)}),
        points=(1, 2, 4, 8, 16), expected="1",
    )  # fmt: skip
    yield fit(
        "image forward", "layers", lambda n: _forward_layers(image, n, forward), points=(3, 6, 12, 24), expected="1"
    )
    yield fit(
        "search beyond its vectors", "candidates", lambda n: _search(n, whole.embed_dim, device),
        points=GALLERIES, expected="0, until one query's scores fill a block", quantity="bytes",
    )  # fmt: skip


def fit(
    name: str,
    variable: str,
    measure: Callable[[int], float],
    *,
    points: tuple[int, ...],
    expected: str,
    quantity: str = "seconds",
) -> Growth:
    """Measure at every point and fit a power law."""
    found = tuple((float(point), float(measure(point))) for point in points)
    _, exponent = fit_power(found)
    return Growth.model_validate(
        {"name": name, "variable": variable, "quantity": quantity, "points": found, "exponent": exponent,
         "expected": expected}
    )  # fmt: skip


def _forward_layers(
    config: ModelConfig, layers: int, forward: Callable[[ModelConfig, Mapping[str, Any]], float]
) -> float:
    changed = config.branch("image", num_layers=layers)
    return forward(changed, {"image": draw_pictures(changed, PICTURES)})


def _time_forward(config: ModelConfig, inputs: Mapping[str, Any], *, device: torch.device, dtype: torch.dtype) -> float:
    model = build_model(config, seed=0).to(device, dtype).eval()
    spread_bias(model)
    batch = move(inputs, device, dtype=dtype)
    with torch.inference_mode():
        model.encode(batch)
        return median(time_once(lambda: model.encode(batch), device) for _ in range(REPEATS))


def _search(count: int, dim: int, device: torch.device) -> float:
    generator = torch.Generator().manual_seed(6)
    gallery = torch.nn.functional.normalize(torch.randn(count, dim, generator=generator), dim=1).to(device)
    queries = gallery[:1000].clone()
    return measure_bytes(lambda: top_k(queries, gallery, 10), device)


def measure_bytes(run: Callable[[], Any], device: torch.device) -> float:
    """Measure the peak memory of a run for a power law, in which nothing at all counts as one byte.

    Raises:
        OSError: the system does not tell.
    """
    peak = measure_peak_memory(run, device)
    if peak is None:
        raise OSError("the system does not tell a process's peak memory; leave --growth out")
    return float(max(peak, 1))
