"""Pictures are decoded by content, refused in one line, and resized as 8-bit pixels."""

import io
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from models.modalities.image import CLIP_MEAN, CLIP_STD, FORMATS, MODALITY, TRANSFORMS, BoxScale, collate, read_image

PIXELS = np.random.default_rng(0).integers(0, 256, (22, 31, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)


def encode(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


PNG = encode(PICTURE, "PNG")


# Reading.


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_a_picture_is_the_same_from_every_source(tmp_path, kind):
    content = encode(PICTURE, kind)
    path = tmp_path / "picture.jpg"  # another name than the content
    path.write_bytes(content)
    for source in (path, str(path), content, bytearray(content), memoryview(content), PICTURE):
        read = MODALITY.read(source)
        assert read.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(read), PIXELS)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"])
def test_other_modes_become_rgb_as_pillow_converts_them(mode):
    picture = PICTURE.convert("L").convert(mode) if mode in ("LA", "PA") else PICTURE.convert(mode)
    read = read_image(picture)
    assert read.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(read), np.asarray(picture.convert("RGB")))


def test_grey_of_16_bits_keeps_its_high_byte():
    deep = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    read = np.asarray(read_image(encode(Image.fromarray(deep), "PNG")))
    np.testing.assert_array_equal(read, np.repeat((deep >> 8)[..., None], 3, axis=2))


def test_the_orientation_of_the_camera_is_not_applied():
    exif = PICTURE.getexif()
    exif[0x0112] = 6
    assert read_image(encode(PICTURE, "JPEG", exif=exif)).size == PICTURE.size


def test_transparent_palettes_are_read_without_a_warning():
    content = encode(PICTURE.convert("P"), "PNG", transparency=bytes(range(256)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(content).mode == "RGB"


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_fixed_range_are_refused(mode):
    with pytest.raises(ValueError, match=f"pixels of mode '{mode}' have no fixed range"):
        read_image(PICTURE.convert("L").convert(mode))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello", "is no picture; expected one of JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no picture"),
        (PNG[: len(PNG) // 2], "cannot be decoded: image file is truncated"),
        (encode(PICTURE, "JPEG")[:-9], "cannot be decoded: image file is truncated"),
        (encode(PICTURE, "WEBP")[:-9], "cannot be decoded"),
    ],
)
def test_faulty_files_are_refused_in_one_line_with_their_name(tmp_path, content, message):
    path = tmp_path / "faulty.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"faulty\.png {message}") as error:
        read_image(path)
    assert "\n" not in str(error.value)


def test_a_picture_that_would_fill_the_memory_is_refused():
    huge = bytearray(PNG)
    huge[16:24] = (100_000).to_bytes(4, "big") * 2
    huge[29:33] = __import__("zlib").crc32(huge[12:29]).to_bytes(4, "big")
    with pytest.raises(ValueError, match="the picture cannot be decoded: Image size"):
        read_image(bytes(huge))


@pytest.mark.parametrize("name", ["missing.png", "."])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="no picture at"):
        read_image(tmp_path / name)


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(FORMATS), place=st.integers(0, 10**6), value=st.integers(0, 255), length=st.integers(0, 99))
def test_damaged_files_give_a_picture_or_one_line(kind, place, value, length):
    content = bytearray(encode(PICTURE, kind))
    content[place % len(content)] = value
    try:
        read = read_image(bytes(content[: len(content) * (length + 1) // 100]))
    except ValueError as error:
        outcome = str(error)
    else:
        outcome = read.mode
    assert outcome == "RGB" or (outcome.startswith("the picture ") and "\n" not in outcome)


# Transforms.

SIZES = st.tuples(st.integers(1, 70), st.integers(1, 70))


def noise(size) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def compose(*stages):
    return transforms.Compose([*stages, transforms.ToTensor(), transforms.Normalize(CLIP_MEAN, CLIP_STD)])


@settings(max_examples=40, deadline=None)
@given(size=SIZES, size_px=st.sampled_from([16, 33]))
def test_the_square_is_torchvisions_on_pictures(size, size_px):
    resize = transforms.Resize((size_px, size_px), interpolation=transforms.InterpolationMode.BICUBIC)
    ours = TRANSFORMS["image-square"](noise(size), size_px)
    torch.testing.assert_close(ours, compose(resize)(noise(size)), rtol=0, atol=1e-6)
    assert torch.equal(TRANSFORMS["image-grounding"](noise(size), size_px), ours)


@settings(max_examples=40, deadline=None)
@given(size=SIZES, size_px=st.sampled_from([16, 33]))
def test_the_centre_is_torchvisions_on_pictures(size, size_px):
    resize = transforms.Resize(size_px, interpolation=transforms.InterpolationMode.BICUBIC)
    theirs = compose(resize, transforms.CenterCrop(size_px))(noise(size))
    ours = TRANSFORMS["image-center"](noise(size), size_px)
    assert ours.shape == (3, size_px, size_px)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_white_and_black_are_the_ends_of_the_range():
    for level, value in ((0, 0.0), (255, 1.0)):
        picture = Image.new("RGB", (5, 9), (level, level, level))
        expected = [(value - mean) / std for mean, std in zip(CLIP_MEAN, CLIP_STD, strict=True)]
        for transform in TRANSFORMS.values():
            torch.testing.assert_close(transform(picture, 7).amax((1, 2)), torch.tensor(expected))
            torch.testing.assert_close(transform(picture, 7).amin((1, 2)), torch.tensor(expected))


@pytest.mark.parametrize("protocol", TRANSFORMS)
def test_transforms_refuse_what_was_not_read(protocol):
    with pytest.raises(ValueError, match="a picture of mode 'L', expected 'RGB'; open it with read_image"):
        TRANSFORMS[protocol](PICTURE.convert("L"), 16)


# Boxes.


@given(
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
    size_px=st.sampled_from([96, 384, 512]),
    shares=st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4),
)
def test_boxes_become_shares_of_width_and_height_and_come_back(width, height, size_px, shares):
    corners = torch.tensor([shares]) * torch.tensor([width, height, width, height])
    scale = BoxScale(width, height, size_px)
    target = scale.to_target(corners)
    torch.testing.assert_close(target, torch.tensor([shares]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(scale.to_pixels(target), corners, rtol=1e-5, atol=1e-6)


# Batches.


def test_a_batch_stacks_pictures_of_one_size():
    pictures = [TRANSFORMS["image-square"](PICTURE, 8) for _ in range(3)]
    assert MODALITY.collate(pictures, {}).shape == (3, 3, 8, 8)


@pytest.mark.parametrize("shapes", [[], [(3, 8, 8), (3, 9, 9)]])
def test_pictures_of_several_sizes_or_none_are_refused(shapes):
    with pytest.raises(ValueError, match="expected one or more of one shape"):
        collate([torch.zeros(shape) for shape in shapes])
