"""Clips of one or two sounds with sentences, in the layout of AudioCaps.

`audiocaps/`, from `write_audiocaps`:

    dataset/{train,val,test}.csv        audiocap_id,youtube_id,start_time,caption: one row a caption
    audio/<split>/                      <youtube_id>_<start_time>.flac
    audiocaps_{train,val,test}_new.tsv  the authors' tables: uniq_id audio text duration, a row a caption
    {val,test}_texts.json               {uniq_id: [captions]}

A clip has one caption in train and five elsewhere; these do not stand together. Lines end as on Windows.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from miniworld.captions import CaptionedFile, draw_captioned_clip, make_caption_table, make_caption_texts
from miniworld.clips import Video, name_video
from miniworld.orders import Order, make_order
from miniworld.samples import encode_sound
from miniworld.tables import Files, format_csv
from miniworld.tree import write_tree

COLUMNS: Final = ("audiocap_id", "youtube_id", "start_time", "caption")
NUM_CAPTIONS: Final = {"train": 1, "val": 5, "test": 5}
FIRST_IDS: Final = {"train": 1_000_000, "val": 2_000_000, "test": 3_000_000}  # of captions
ALONE_SHARE: Final = 0.25


def write_audiocaps(
    root: Path, *, seed: int = 0, num_train: int = 480, num_val: int = 60, num_test: int = 150, scale: float = 1.0
) -> Path:
    """Write `audiocaps` below `root`; the layout stands at the top of this module.

    Args:
        root: folder that receives the data set's own folder.
        seed: everything follows from it.
        num_train: training clips.
        num_val: validation clips.
        num_test: test clips.
        scale: multiplies every count.

    Returns:
        The folder `audiocaps`; a complete one from the same arguments is kept as it is.

    Raises:
        ValueError: a number makes no sense, or other files stand where the folder belongs.
    """
    counts = {"num_train": num_train, "num_val": num_val, "num_test": num_test}
    order = make_order("audiocaps", seed, counts=counts, scale=scale)
    return write_tree(root / "audiocaps", order.recipe, files=_make_files(order))


def _make_files(order: Order) -> Files:
    for split in NUM_CAPTIONS:
        videos, files = [], []
        for index in range(order.counts[f"num_{split}"]):
            drawn = draw_captioned_clip(
                order.seed,
                f"audiocaps-{split}",
                index=index,
                num_captions=NUM_CAPTIONS[split],
                alone_share=ALONE_SHARE,
            )
            video = name_video(drawn.rng)
            key = f"{video.id}_{video.start_s}"
            file = CaptionedFile(key, f"audio/{split}/{key}.flac", drawn.captions, drawn.clip.duration_s)
            yield file.audio, encode_sound(drawn.clip.samples, "FLAC")
            videos.append(video)
            files.append(file)
        yield f"dataset/{split}.csv", _format_list(split, videos, files=files)
        yield from make_caption_table(f"audiocaps_{split}_new.tsv", files)
        if split != "train":
            yield from make_caption_texts(f"{split}_texts.json", files)


def _format_list(split: str, videos: Sequence[Video], *, files: Sequence[CaptionedFile]) -> bytes:
    """List the first captions of all clips, then all second ones, and so on."""
    said = [
        (video, file.captions[turn])
        for turn in range(NUM_CAPTIONS[split])
        for video, file in zip(videos, files, strict=True)
    ]
    rows = [(FIRST_IDS[split] + n, video.id, video.start_s, caption) for n, (video, caption) in enumerate(said)]
    return format_csv(COLUMNS, rows, line_end="\r\n")
