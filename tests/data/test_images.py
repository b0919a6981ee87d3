import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medrft.data import images
from medrft.data.images import BadImageError, blank_like, inspect_image, open_image, sha256_of, thumbnail_png, write_png
from medrft.errors import DataError


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_png_of_any_mode_becomes_rgb(tmp_path, image_file, mode):
    path = image_file(tmp_path / "a.png", 90, mode=mode)
    opened = open_image(path)
    assert (opened.mode, opened.size, inspect_image(path)) == ("RGB", (12, 9), None)
    if mode in ("L", "RGB", "LA", "RGBA"):
        assert opened.getpixel((5, 5)) == (90, 90, 90)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "YCbCr"])
def test_jpeg_of_any_mode_keeps_its_colours(tmp_path, mode):
    Image.new("RGB", (16, 16), (200, 40, 40)).convert(mode).save(tmp_path / "a.jpg", quality=95)
    opened = open_image(tmp_path / "a.jpg")
    expected = (88, 88, 88) if mode == "L" else (200, 40, 40)
    assert opened.mode == "RGB"
    assert np.abs(np.array(opened.getpixel((8, 8))) - expected).max() <= 6


def test_transparent_pixels_become_white(tmp_path):
    Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(tmp_path / "a.png")
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(tmp_path / "p.png", transparency=1)
    assert open_image(tmp_path / "a.png").getpixel((0, 0)) == (255, 255, 255)
    assert open_image(tmp_path / "p.png").getpixel((0, 0)) == (255, 255, 255)


def test_exif_rotation_is_applied(tmp_path):
    image = Image.new("RGB", (8, 4), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 2, 4))  # a white left edge
    exif = Image.Exif()
    exif[274] = 6  # turn by 90 degrees clockwise to show
    image.save(tmp_path / "a.png", exif=exif)
    opened = open_image(tmp_path / "a.png")
    assert opened.size == (4, 8)
    assert opened.getpixel((2, 0)) == (255, 255, 255)  # the left edge came to the top
    assert opened.getpixel((2, 7)) == (0, 0, 0)


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that declares any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "missing image"),
        (b"", "unreadable image"),
        (b"GIF89a", "unreadable image"),  # cut after its first bytes
        (b"<svg></svg>", "unreadable image"),
        (png_header(12, 9), "unreadable image"),  # fewer pixels than declared
        (png_header(9_000, 9_000), "image too large"),  # above our limit
        (png_header(40_000, 40_000), "image too large"),  # above Pillow's own limit too
    ],
)
@pytest.mark.filterwarnings("error")
def test_unusable_files_have_a_reason(tmp_path, content, reason):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    assert inspect_image(path)[0] == reason
    with pytest.raises(BadImageError, match=reason) as caught:
        open_image(path)
    assert isinstance(caught.value, DataError)
    assert str(path) in str(caught.value)


def test_cut_jpeg_is_unreadable(tmp_path):
    Image.effect_noise((200, 200), 80).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    assert inspect_image(tmp_path / "a.jpg")[0] == "unreadable image"


def test_16_bit_is_refused_and_not_clipped_to_white(tmp_path):
    Image.fromarray(np.full((4, 4), 1000, dtype=np.uint16)).save(tmp_path / "a.png")
    assert inspect_image(tmp_path / "a.png")[0] == "image not 8-bit"
    with pytest.raises(BadImageError, match="window"):
        open_image(tmp_path / "a.png")


def test_a_folder_is_no_image(tmp_path):
    assert inspect_image(tmp_path)[0] == "missing image"


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 20_000))
def test_shrink_keeps_to_the_limit_and_the_aspect(width, height, limit):
    shrunk = images.shrink_image(Image.new("L", (width, height)), max_pixels=limit)
    assert shrunk.width * shrunk.height <= limit or (shrunk.size == (width, height) and width * height <= limit)
    if width * height <= limit:
        assert shrunk.size == (width, height)
    elif min(shrunk.size) > 30:
        assert shrunk.width / shrunk.height == pytest.approx(width / height, rel=0.05)


def test_open_image_shrinks_itself(tmp_path, image_file):
    path = image_file(tmp_path / "a.png", 90, size=(400, 200))
    assert open_image(path, max_pixels=5_000).size == (100, 50)
    assert open_image(path, max_pixels=80_000).size == (400, 200)


def test_sha256_sees_content_and_not_names(tmp_path, image_file):
    first, second = image_file(tmp_path / "a.png", 1), image_file(tmp_path / "b.png", 1)
    assert sha256_of(first) == sha256_of(second)
    image_file(second, 2, size=(20, 20))
    assert sha256_of(first) != sha256_of(second)  # a changed file is read again


def test_blank_and_thumbnail(tmp_path, image_file):
    path = image_file(tmp_path / "a.png", 90, size=(400, 200))
    blank = blank_like(open_image(path))
    assert (blank.size, blank.getextrema()) == ((400, 200), ((127, 127),) * 3)
    small = Image.open(io.BytesIO(thumbnail_png(path, 64)))
    assert (small.format, small.size, small.mode) == ("PNG", (64, 32), "L")


def test_materialise_is_content_addressed(tmp_path):
    buffer = io.BytesIO()
    Image.new("CMYK", (6, 5), (0, 90, 90, 0)).save(buffer, "JPEG")
    path = write_png(buffer.getvalue(), tmp_path)
    before = path.stat().st_mtime_ns
    assert write_png(buffer.getvalue(), tmp_path) == path
    assert path.stat().st_mtime_ns == before  # kept, not written again
    assert (Image.open(path).format, Image.open(path).mode) == ("PNG", "RGB")
    with pytest.raises(BadImageError, match="unreadable"):
        write_png(b"not an image", tmp_path)
    assert list(tmp_path.rglob("*.png")) == [path]


def test_inspect_images_counts_progress(tmp_path, image_file):
    paths = [image_file(tmp_path / f"{n}.png", n) for n in range(3)]
    seen = []
    bad = images.inspect_images([*paths, paths[0], Path("nowhere.png")], on_progress=lambda *n: seen.append(n))
    assert {path.name: reason for path, (reason, _) in bad.items()} == {"nowhere.png": "missing image"}
    assert seen == [(1, 3), (2, 3), (3, 3)]
