"""All benchmarks that the miniworld can be written as, each in the layout of its makers with the authors' tables.

Every writer takes the folder that receives the data set's own folder, a seed, a scale that multiplies all its counts,
and the counts by name; it returns the data set's own folder. Tables stand in that folder and name media relative to it;
ImageNet has none. No sample is one that pretraining draws, and no two splits share any. Sounds are 1 to 2 s long, one
channel at 16 kHz; pictures have 72 pixels to each side.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from miniworld.audiocaps import write_audiocaps
from miniworld.clotho import write_clotho
from miniworld.esc50 import write_esc50
from miniworld.fsd50k import write_fsd50k
from miniworld.imagenet import write_imagenet
from miniworld.karpathy import write_coco, write_flickr30k
from miniworld.nlvr2 import write_nlvr2
from miniworld.questions import write_avqa
from miniworld.refcoco import write_refcoco, write_refcoco_plus, write_refcocog
from miniworld.vggsound import write_vggsound
from miniworld.vqav2 import write_vqav2

WRITERS: Final[Mapping[str, Callable[..., Path]]] = {
    "esc50": write_esc50,
    "fsd50k": write_fsd50k,
    "vggsound": write_vggsound,
    "audiocaps": write_audiocaps,
    "clotho": write_clotho,
    "avqa": write_avqa,
    "coco": write_coco,
    "flickr30k": write_flickr30k,
    "refcoco": write_refcoco,
    "refcoco_plus": write_refcoco_plus,
    "refcocog": write_refcocog,
    "imagenet": write_imagenet,
    "vqav2": write_vqav2,
    "nlvr2": write_nlvr2,
}
