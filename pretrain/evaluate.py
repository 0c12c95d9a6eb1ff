"""Judging pretrained weights by the held-out part of the miniworld: retrieval, sound classes, sounds and pictures.

Pictures and sounds never meet in training; that they find each other nevertheless is what the paper calls emergent.

Sentences and prompts are prepared under protocol `text`, as the reference does when it evaluates.

Source: paper, Experiments and Emergent Zero-shot Retrieval; the share of right first places between pictures and sounds
is ours, as no number was published.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.config import Settings
from models.embedding import Embedder
from models.retrieval import RANKS, Ints, search, top_k
from pretrain.held_out import HeldOut, read_held_out
from reports.interval import NUM_RESAMPLES, bootstrap_ratio_of_sums, measure_share, name_bootstrap, sum_clusters
from reports.record import MetricValue
from reports.table import DASH, render_text

Say: TypeAlias = Callable[[str], None]
Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]

PROMPT = "This is a sound of {label}"  # paper, appendix

_LOG = logging.getLogger(__name__)


class Evaluation(Settings):
    """How the weights did.

    Intervals are Wilson's where every query stands for itself, and come from drawing whole pictures, clips or concepts
    again where several queries belong to one.
    """

    metrics: tuple[MetricValue, ...]
    chance: dict[str, float]
    """By metric, in per cent, what blind choice would reach on average; shares of hits only."""
    notes: tuple[str, ...]
    """What was not measured, and why."""

    def to_json(self) -> str:
        """Write it as JSON, every digit kept."""
        return self.model_dump_json(indent=2)


class _Score(NamedTuple):
    metric: MetricValue
    chance: float | None = None


@dataclass(frozen=True)
class _Trial:
    """The weights at work: vectors of the media that were embedded, and what it takes to embed sentences."""

    embedder: Embedder
    world: HeldOut
    media: Mapping[str, Tensor]
    seed: int
    notes: list[str]

    def embed(self, sentences: Sequence[str]) -> Tensor:
        return self.embedder.embed_text(sentences, protocol="text")


def evaluate(embedder: Embedder, held_out: Path, *, say: Say = _LOG.info, seed: int = 0) -> Evaluation:
    """Judge a model by the folder `held_out` of `miniworld-pairs`; its layout stands in miniworld/pretraining.py.

    Three parts, each of which needs two branches and is left out, with a note, where the model lacks one:

    * text, image: recall over all pictures and all their sentences, both ways;
    * text, audio: accuracy of sound classes named by a prompt, and recall over all clips and their sentences;
    * image, audio: whether the nearest picture shows what is heard, and the other way; queries with a right answer
      only. `times_chance_...` is that share over the one that blind choice would reach.

    Two clips may share a sentence word for word; only its own counts, as in the published benchmarks, so that recall
    between text and audio stays below 100.

    Args:
        embedder: with at least two branches.
        held_out: the folder.
        say: gets a sentence about each part.
        seed: of the bootstraps.

    Raises:
        FileNotFoundError: a file of the layout is missing.
        ValueError: a file does not keep to the layout, or the model has a single branch.
    """
    branches = list(embedder.model.adapters)
    wanted = [needs for needs in _PARTS if set(needs) <= set(branches)]
    if not wanted:
        raise ValueError(f"this model has only {', '.join(branches)}, expected two or more of text, image, audio")
    world = read_held_out(held_out)
    media = _embed_media(embedder, world, names=sorted({name for needs in wanted for name in needs}), say=say)
    trial = _Trial(embedder, world, media, seed, notes=[])
    scores: list[_Score] = []
    for needs, judge in _PARTS.items():
        if needs in wanted:
            start = time.perf_counter()
            scores += judge(trial)
            say(f"judged {' and '.join(needs)} in {time.perf_counter() - start:.1f} s")
        else:
            lacking = [name for name in needs if name not in branches]
            trial.notes.append(f"nothing of {' and '.join(needs)}: the model has no branch {' or '.join(lacking)}")
    chance = {score.metric.name: score.chance for score in scores if score.chance is not None}
    return Evaluation(metrics=tuple(score.metric for score in scores), chance=chance, notes=tuple(trial.notes))


def render(evaluation: Evaluation) -> str:
    """Print an evaluation as an aligned table, each number with its 95 % interval, ending in a line break."""
    cells = [
        [metric.name, *_number_cells(metric), str(metric.n), _chance_cell(evaluation.chance.get(metric.name))]
        for metric in evaluation.metrics
    ]
    table = render_text(cells, header=("metric", "value [95 %]", "interval", "n", "chance"))
    return table + "".join(f"{note}\n" for note in evaluation.notes)


def _number_cells(metric: MetricValue) -> tuple[str, str]:
    value = f"{metric.value:.2f} {metric.unit}"
    if metric.ci_low is None or metric.ci_high is None or metric.ci_method is None:
        return value, DASH
    return f"{value} [{metric.ci_low:.2f}, {metric.ci_high:.2f}]", metric.ci_method.split(",")[0]


def _chance_cell(chance: float | None) -> str:
    return DASH if chance is None else f"{chance:.2f} %"


def _embed_media(embedder: Embedder, world: HeldOut, *, names: Iterable[str], say: Say) -> dict[str, Tensor]:
    """Embed pictures and clips, each once."""
    jobs: dict[str, tuple[Callable[..., Tensor], list[Path]]] = {
        "image": (embedder.embed_image, [picture.path for picture in world.pictures]),
        "audio": (embedder.embed_audio, [clip.path for clip in world.clips]),
    }
    found = {}
    for name, (embed, paths) in jobs.items():
        if name in names:
            start = time.perf_counter()
            found[name] = embed(paths)
            say(f"embedded {len(paths)} {name} files in {time.perf_counter() - start:.1f} s")
    return found


def _judge_text_and_image(trial: _Trial) -> list[_Score]:
    return _score_recall(trial, "image", sentences=[picture.sentences for picture in trial.world.pictures])


def _judge_text_and_audio(trial: _Trial) -> list[_Score]:
    found = [_score_classes(trial)]
    return found + _score_recall(trial, "audio", sentences=[clip.sentences for clip in trial.world.clips])


def _score_recall(trial: _Trial, medium: str, *, sentences: Sequence[tuple[str, ...]]) -> list[_Score]:
    """Score sentences and what they were said of, both ways."""
    owners = np.repeat(np.arange(len(sentences)), [len(each) for each in sentences])
    vectors = {"text": trial.embed([one for each in sentences for one in each]), medium: trial.media[medium]}
    ids = {"text": owners, medium: np.arange(len(sentences))}
    word = {"image": "pictures", "audio": "clips"}[medium]
    scores = []
    for query, gallery in (("text", medium), (medium, "text")):
        size, num_right = len(ids[gallery]), np.bincount(ids[gallery])[ids[query]]
        ks = [k for k in RANKS if k <= size]
        found = search(vectors, ids, query=query, gallery=gallery, ks=ks)
        for k in RANKS:
            name = f"recall_at_{k}_{query}_to_{gallery}"
            if k not in ks:
                trial.notes.append(f"no {name}: there are only {size} candidates")
                continue
            metric = measure_share(name, found.hits[k], clusters=ids[query], over=word, seed=trial.seed)
            scores.append(_Score(metric, 100 * float(_chances(num_right, size, k).mean())))
    return scores


def _score_classes(trial: _Trial) -> _Score:
    """Score clips by the class whose prompt is nearest, among all classes of the miniworld."""
    labels = list(trial.world.concepts)
    prompts = [PROMPT.format(label=label.replace("_", " ")) for label in labels]
    vectors = {"text": trial.embed(prompts), "audio": trial.media["audio"]}
    answers = np.array([labels.index(clip.category) for clip in trial.world.clips])
    ids = {"text": np.arange(len(labels)), "audio": answers}
    hits = search(vectors, ids, query="audio", gallery="text", ks=(1,)).hits[1]
    metric = measure_share("accuracy_sound_classes", hits, clusters=np.arange(len(hits)), over="clips", seed=trial.seed)
    return _Score(metric, 100 / len(labels))


def _judge_image_and_audio(trial: _Trial) -> list[_Score]:
    """Score pictures and clips by what they have in common; classes that nothing to be seen makes are wrong always."""
    clips, pictures = trial.world.clips, trial.world.pictures
    concepts = [trial.world.concepts[clip.category] for clip in clips]
    right = np.array([[concept in picture.things for picture in pictures] for concept in concepts])
    # Clips of one concept share their right answers: other concepts are what the ratio should be told to hold for.
    by_concept = np.unique([str(concept) for concept in concepts], return_inverse=True)[1]
    by_picture = np.arange(len(pictures))
    return [
        *_score_common(trial, ("audio", "image"), right=right, clusters=by_concept, over="concepts"),
        *_score_common(trial, ("image", "audio"), right=right.T, clusters=by_picture, over="pictures"),
    ]


def _score_common(
    trial: _Trial, direction: tuple[str, str], *, right: Bools, clusters: Ints, over: str
) -> list[_Score]:
    """Score the nearest candidate of every query that has a right one; `right` is (queries, candidates)."""
    (query, gallery), name = direction, "_to_".join(direction)
    asked = np.flatnonzero(right.any(axis=1))
    if len(asked) < len(right):
        left_out = len(right) - len(asked)
        trial.notes.append(f"{name}: {left_out} of {len(right)} queries are not asked, as no candidate is right")
    if not asked.size:
        return []
    nearest = top_k(trial.media[query][asked], trial.media[gallery], 1)[1][:, 0].numpy()
    hits, chances = right[asked, nearest].astype(np.int64), right[asked].mean(axis=1)
    chance = 100 * float(chances.mean())
    recall = measure_share(f"recall_at_1_{name}", hits, clusters=np.arange(len(hits)), over=over, seed=trial.seed)
    return [
        _Score(recall, chance),
        _Score(MetricValue(name=f"chance_{name}", value=chance, n=len(hits))),
        _Score(_measure_ratio(f"times_chance_{name}", hits, chances, clusters[asked], over=over, seed=trial.seed)),
    ]


def _measure_ratio(name: str, hits: Ints, chances: Floats, clusters: Ints, *, over: str, seed: int) -> MetricValue:
    """Make a metric of how many times more often queries hit than blind choice would."""
    sums = [sum_clusters(values, clusters) for values in (hits, chances)]
    low, high = bootstrap_ratio_of_sums(*sums, reduce="pooled", num_resamples=NUM_RESAMPLES, seed=seed)
    return MetricValue(
        name=name,
        value=float(hits.sum() / chances.sum()),
        unit="x",
        n=len(hits),
        ci_low=low / 100,
        ci_high=high / 100,
        ci_method=name_bootstrap(over, seed=seed),
    )


def _chances(num_right: Ints, size: int, k: int) -> Floats:
    """Give each query the probability that one of its right candidates is among k drawn blindly."""
    return np.array([1 - comb(size - int(right), k) / comb(size, k) for right in num_right])


_PARTS: Mapping[tuple[str, str], Callable[[_Trial], list[_Score]]] = {
    ("text", "image"): _judge_text_and_image,
    ("text", "audio"): _judge_text_and_audio,
    ("image", "audio"): _judge_image_and_audio,
}
