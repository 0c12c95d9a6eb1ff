"""FSD50K is read by the vocabulary's class numbers, dev whole or in its two parts."""

from pathlib import Path

import pytest

from downstream.formats.base import Labelled, MissingDataError
from downstream.formats.fsd50k import GROUND_TRUTH, read

NAMES = ("Accordion", "Bird", "Motor_vehicle_(road)")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three clips of dev, one of eval."""
    folder = tmp_path / GROUND_TRUTH
    folder.mkdir()
    (folder / "vocabulary.csv").write_text(
        "".join(f"{number},{name},/m/{number}\n" for number, name in enumerate(NAMES))
    )
    (folder / "dev.csv").write_text(
        'fname,labels,mids,split\r\n64760,"Bird,Accordion","x,y",train\r\n16399,Bird,y,val\r\n7,Accordion,x,train'
    )
    (folder / "eval.csv").write_text('fname,labels,mids\n37199,"Motor_vehicle_(road),Bird","x,y"\n')
    for name in ("dev_audio/64760", "dev_audio/16399", "dev_audio/7", "eval_audio/37199"):
        path = tmp_path / f"FSD50K.{name}.wav"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def test_classes_are_ascending_numbers_of_the_vocabulary(root: Path) -> None:
    listing = read(root, "eval")
    assert listing.samples == (Labelled("37199", root / "FSD50K.eval_audio" / "37199.wav", (1, 2)),)
    assert listing.class_names == NAMES
    assert [path.name for path in listing.sources] == ["eval.csv", "vocabulary.csv"]


@pytest.mark.parametrize(
    ("split", "ids"), [("train", ["64760", "7"]), ("val", ["16399"]), ("dev", ["64760", "16399", "7"])]
)
def test_dev_is_read_whole_or_by_its_split_column(root: Path, split: str, ids: list[str]) -> None:
    assert [sample.id for sample in read(root, split).samples] == ids


def test_the_authors_table_of_dev_is_what_they_train_on(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    table = tmp_path / "fsd50K_dev.tsv"
    table.write_text("uniq_id\taudio\ttext\tduration\n1\ta.wav\t3,0\t1\n")
    assert read(tmp_path, "dev").samples == (Labelled("1", tmp_path / "a.wav", (0, 3)),)
    assert read(tmp_path, "train").samples == read(table, "train").samples == read(tmp_path, "dev").samples
    with pytest.raises(MissingDataError, match=r"nor the authors' fsd50K_val_new\.tsv or fsd50K_val\.tsv"):
        read(tmp_path, "val")
    with pytest.raises(ValueError, match="is the authors' table of split dev, expected that of split eval"):
        read(table, "eval")


def test_a_missing_vocabulary_is_missing_data(root: Path) -> None:
    (root / GROUND_TRUTH / "vocabulary.csv").unlink()
    with pytest.raises(MissingDataError, match=r"vocabulary\.csv is missing"):
        read(root, "eval")
