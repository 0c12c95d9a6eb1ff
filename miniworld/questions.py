"""Questions about sounds with four answers each, in the layout of AVQA.

`AVQA/`, from `write_avqa`:

    data/annotation/{train,val}_qa.json     lists of id, video_name, video_id, question_text, multi_choice, answer,
                                            question_relation, question_type
    data/audio/                             <video_name>.wav, that is <11 characters>_<start second, 6 digits>
    avqa_{train,val}.tsv                    the authors' tables: uniq_id audio text duration; text is the question, the
                                            four choices and the answer's place among them, joined by &&&

Two questions share a clip. There are no videos: what is asked can be heard.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from miniworld.asking import Question, ask
from miniworld.clips import Heard, Video, name_video
from miniworld.orders import Order, make_order
from miniworld.samples import SoundSample, encode_sound, make_sound_of, pair_seed
from miniworld.tables import SOUND_COLUMNS, Files, format_duration, format_json, format_table
from miniworld.tree import write_tree

QUESTIONS_PER_CLIP: Final = 2
FIRST_QUESTIONS: Final = {"train": 100, "val": 61_000}  # ids by split
FIRST_VIDEOS: Final = {"train": 200, "val": 76_000}  # ids of videos, which are no part of their names
SEPARATOR: Final = "&&&"


def write_avqa(root: Path, *, seed: int = 0, num_train: int = 600, num_val: int = 200, scale: float = 1.0) -> Path:
    """Write `AVQA` below `root`; the layout stands at the top of this module.

    Args:
        root: folder that receives the data set's own folder.
        seed: everything follows from it.
        num_train: training questions.
        num_val: validation questions.
        scale: multiplies every count.

    Returns:
        The folder `AVQA`; a complete one from the same arguments is kept as it is.

    Raises:
        ValueError: a number makes no sense, or other files stand where the folder belongs.
    """
    order = make_order("avqa", seed, counts={"num_train": num_train, "num_val": num_val}, scale=scale)
    return write_tree(root / "AVQA", order.recipe, files=_make_files(order))


@dataclass(frozen=True, eq=False)
class AskedClip:
    """A sound with the questions about it."""

    sound: SoundSample
    video: Video
    questions: tuple[Question, ...]


def draw_asked_clip(seed: int, split: str, *, index: int) -> AskedClip:
    """Draw one sound with two different questions; the classes take turns."""
    stream = f"avqa-{split}"
    sound = make_sound_of(seed, stream, index=index)
    rng = np.random.default_rng([pair_seed(seed, stream, index=index), 2])
    video = name_video(rng)
    heard = Heard(sound.sound.name, sound.num_events)
    return AskedClip(sound, video, ask(heard, rng, num_questions=QUESTIONS_PER_CLIP))


def _make_files(order: Order) -> Files:
    for split, first_id in FIRST_QUESTIONS.items():
        wanted = order.counts[f"num_{split}"]
        entries: list[dict[str, Any]] = []
        rows = []
        for index in range(-(-wanted // QUESTIONS_PER_CLIP)):
            drawn = draw_asked_clip(order.seed, split, index=index)
            audio = f"data/audio/{drawn.video.stem}.wav"
            yield audio, encode_sound(drawn.sound.samples, "WAV")
            for question in drawn.questions[: wanted - len(entries)]:
                number = first_id + len(entries)
                entries.append(_make_entry(question, number, video=drawn.video, video_id=FIRST_VIDEOS[split] + index))
                rows.append((str(number), audio, _join(question), format_duration(drawn.sound.duration_s)))
        yield f"data/annotation/{split}_qa.json", format_json(entries, indent=4)
        yield f"avqa_{split}.tsv", format_table(SOUND_COLUMNS, rows)


def _make_entry(question: Question, number: int, *, video: Video, video_id: int) -> dict[str, Any]:
    return {
        "id": number,
        "video_name": video.stem,
        "video_id": video_id,
        "question_text": question.text,
        "multi_choice": list(question.choices),
        "answer": question.answer,
        "question_relation": "Sound",
        "question_type": question.kind,
    }


def _join(question: Question) -> str:
    return SEPARATOR.join((question.text, *question.choices, str(question.answer)))
