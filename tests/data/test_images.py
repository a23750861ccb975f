from __future__ import annotations

import struct
import sys
import warnings
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image, ImageCms
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from sat2map.data import images as module
from sat2map.data.images import (
    in_bands,
    list_images,
    natural_order,
    read_image,
    resize_square,
    write_image,
)
from sat2map.errors import DataError, OutputError, UsageError

GREY = np.arange(0, 240, 5, dtype=np.uint8).reshape(6, 8)


def rgb(height: int = 6, width: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def tiff(
    path: Path, bands: NDArray[Any], kinds: tuple[ColorInterp, ...] = (), **options: Any
) -> Path:
    """Write bands, [C,H,W], as a TIFF that GDAL would write."""
    count, height, width = bands.shape
    facts = {"width": width, "height": height, "count": count, "dtype": bands.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **facts, **options) as file:
            if kinds:
                file.colorinterp = kinds
            file.write(bands)
    return path


def png(width: int, height: int, depth: int, kind: int, rows: bytes) -> bytes:
    """A PNG made by hand, of depths that Pillow does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def refused(path: Path, what: str, **options: Any) -> None:
    """Check that one line names the file, says what is wrong and what to do."""
    with pytest.raises(DataError, match=what) as caught:
        read_image(path, **options)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert len(line.splitlines()) == 1
    assert caught.value.remedy in line
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".TIFF"])
def test_what_is_written_is_read_again(tmp_path: Path, suffix: str) -> None:
    pixels, alpha = rgb(), GREY
    write_image(tmp_path / f"plain{suffix}", pixels)
    plain = read_image(tmp_path / f"plain{suffix}")
    assert np.array_equal(plain.pixels, pixels)
    assert plain.pixels.dtype == np.uint8
    assert plain.alpha is None
    alpha = np.maximum(GREY, 1)  # WebP may change what cannot be seen
    write_image(tmp_path / f"alpha{suffix}", pixels, alpha)
    clear = read_image(tmp_path / f"alpha{suffix}")
    assert np.array_equal(clear.pixels, pixels)
    assert np.array_equal(clear.alpha, alpha)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG"])
def test_jpeg_is_of_high_quality_and_has_no_alpha(tmp_path: Path, suffix: str) -> None:
    pixels = np.repeat(np.repeat(rgb(), 8, 0), 8, 1)
    write_image(tmp_path / f"a{suffix}", pixels, np.zeros(pixels.shape[:2], np.uint8))
    read = read_image(tmp_path / f"a{suffix}")
    assert read.alpha is None
    assert np.abs(read.pixels.astype(int) - pixels).mean() < 2


def test_grey_palette_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    grey = np.repeat(GREY[..., None], 3, 2)
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    Image.fromarray(GREY).save(tmp_path / "grey.jpg", quality=100)
    Image.fromarray(np.dstack([GREY, GREY])).save(tmp_path / "grey_alpha.png")
    assert np.array_equal(read_image(tmp_path / "grey.png").pixels, grey)
    assert np.abs(read_image(tmp_path / "grey.jpg").pixels.astype(int) - grey).max() <= 2
    both = read_image(tmp_path / "grey_alpha.png")
    assert np.array_equal(both.pixels, grey)
    assert np.array_equal(both.alpha, GREY)  # type: ignore[arg-type]

    palette = Image.fromarray(rgb()).quantize(16)
    palette.save(tmp_path / "palette.png")
    colours = np.asarray(palette.convert("RGB"))
    assert np.array_equal(read_image(tmp_path / "palette.png").pixels, colours)
    palette.save(tmp_path / "clear.png", transparency=3)
    clear = read_image(tmp_path / "clear.png")
    assert np.array_equal(clear.alpha == 0, np.asarray(palette) == 3)  # type: ignore[operator]
    assert np.array_equal(clear.pixels, colours)


def test_cmyk_jpeg_becomes_rgb(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (200, 60, 20)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    pixels = read_image(tmp_path / "a.jpg").pixels
    assert pixels.shape == (16, 16, 3)
    assert np.abs(pixels.astype(int) - (200, 60, 20)).max() <= 6


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_the_exif_orientation_is_applied(tmp_path: Path, suffix: str) -> None:
    image = Image.new("RGB", (32, 16), (250, 250, 250))
    image.paste((0, 0, 0), (0, 0, 8, 16))  # dark on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    image.save(tmp_path / f"a{suffix}", exif=exif)
    pixels = read_image(tmp_path / f"a{suffix}").pixels
    assert pixels.shape == (32, 16, 3)
    assert pixels[:6].max() < 60  # what was on the left is on top
    assert pixels[10:].min() > 200


def test_a_png_named_jpg_is_read_by_its_content(tmp_path: Path) -> None:
    Image.fromarray(rgb()).save(tmp_path / "a.jpg", format="PNG")
    assert np.array_equal(read_image(tmp_path / "a.jpg").pixels, rgb())


def test_sixteen_bits_and_one_bit_are_shown_as_other_programs_do(tmp_path: Path) -> None:
    wide = GREY.astype(np.uint16) * 257
    Image.fromarray(wide).save(tmp_path / "grey16.png")
    right = np.repeat(GREY[..., None], 3, 2)
    assert np.array_equal(read_image(tmp_path / "grey16.png").pixels, right)
    colours = rgb()[:2, :4].astype(np.uint16) * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
    (tmp_path / "rgb16.png").write_bytes(png(4, 2, 16, 2, rows))
    assert np.array_equal(read_image(tmp_path / "rgb16.png").pixels, rgb()[:2, :4])
    Image.fromarray(GREY > 99).save(tmp_path / "bit.png")
    right = np.repeat(np.where(GREY > 99, 255, 0)[..., None], 3, 2)
    assert np.array_equal(read_image(tmp_path / "bit.png").pixels, right)
    for kind, values in (("u2", wide), ("u1", (GREY > 99).astype(np.uint8))):
        path = tiff(
            tmp_path / f"{kind}.tif", values[None], **({"nbits": 1} if kind == "u1" else {})
        )
        shown = np.repeat(GREY[..., None], 3, 2) if kind == "u2" else right
        assert np.array_equal(read_image(path).pixels, shown)


def test_sixteen_bits_that_would_be_nearly_black_are_refused(tmp_path: Path) -> None:
    """What a sensor of 12 bits measured is not an image, and no map comes of it."""
    dim = GREY.astype(np.uint16) * 11
    assert dim.max() < 4096
    Image.fromarray(dim).save(tmp_path / "grey16.png")
    refused(tmp_path / "grey16.png", "16 bits per channel .* nearly black.*gdal_translate")
    refused(tiff(tmp_path / "grey16.tif", dim[None]), "16 bits per channel .* nearly black")
    row = b"\0" + bytes([1, 0] * 12)
    (tmp_path / "rgb16.png").write_bytes(png(4, 2, 16, 2, row * 2))
    refused(tmp_path / "rgb16.png", "nearly black")


def swapped() -> bytes:
    """A profile of a screen whose green and blue are exchanged, so that sRGB differs much."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    green, blue = profile.index(b"gXYZ"), profile.index(b"bXYZ")
    profile[green : green + 4], profile[blue : blue + 4] = b"bXYZ", b"gXYZ"
    return bytes(profile)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.avif", "a.tif"])
def test_colours_of_another_profile_become_those_of_srgb(tmp_path: Path, name: str) -> None:
    smooth = np.full((32, 32, 3), (200, 120, 60), np.uint8)
    Image.fromarray(smooth).save(tmp_path / name, icc_profile=swapped(), quality=100)
    read = read_image(tmp_path / name).pixels.astype(int)
    assert np.abs(read - (200, 60, 120)).max() <= 3


def test_a_profile_of_srgb_and_one_that_is_broken_change_nothing(tmp_path: Path) -> None:
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for number, profile in enumerate((plain, b"no profile", swapped()[:200])):
        Image.fromarray(rgb()).save(tmp_path / f"{number}.png", icc_profile=profile)
        assert np.array_equal(read_image(tmp_path / f"{number}.png").pixels, rgb())


def test_grey_and_transparency_with_a_profile(tmp_path: Path) -> None:
    """A profile of colours holds for grey too, which stays grey, and leaves alpha alone."""
    Image.fromarray(GREY).save(tmp_path / "grey.png", icc_profile=swapped())
    right = np.repeat(GREY[..., None], 3, 2).astype(int)
    assert np.abs(read_image(tmp_path / "grey.png").pixels - right).max() <= 2
    clear = np.dstack([rgb(), np.full(rgb().shape[:2], 77, np.uint8)])
    Image.fromarray(clear).save(tmp_path / "clear.png", icc_profile=swapped())
    read = read_image(tmp_path / "clear.png")
    assert (read.alpha == 77).all()
    assert np.abs(read.pixels.astype(int) - rgb()[..., [0, 2, 1]]).max() <= 3


def test_avif_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (200, 120, 60)).save(tmp_path / "a.avif", quality=100)
    read = read_image(tmp_path / "a.avif").pixels
    assert read.shape == (10, 20, 3)
    assert np.abs(read.astype(int) - (200, 120, 60)).max() <= 2


HEIC = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(40)


@pytest.mark.parametrize("name", ["a.heic", "a.jpg"])
def test_heic_is_named_where_nothing_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / name).write_bytes(HEIC)
    refused(tmp_path / name, "is a HEIC image, which is not read.*pip install pillow-heif")
    (tmp_path / name).write_bytes(b"\xff\x0a" + bytes(40))
    refused(tmp_path / name, "is a JPEG XL image, which is not read")


def test_heic_is_read_where_pillow_heif_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Opened:
        size = (rgb().shape[1], rgb().shape[0])

        def to_pillow(self) -> Image.Image:
            return Image.fromarray(rgb())

    opened: list[Path] = []

    def open_heif(path: Path) -> Opened:
        opened.append(path)
        return Opened()

    stand_in = SimpleNamespace(open_heif=open_heif)
    monkeypatch.setitem(sys.modules, "pillow_heif", stand_in)  # type: ignore[arg-type]
    (tmp_path / "a.heic").write_bytes(HEIC)
    assert np.array_equal(read_image(tmp_path / "a.heic").pixels, rgb())
    assert opened == [tmp_path / "a.heic"]
    refused(tmp_path / "a.heic", "are more than the 1 ", max_pixels=1)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bomb.png").write_bytes(png(100_000, 100_000, 8, 2, b""))
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("it was decoded"))
    refused(tmp_path / "bomb.png", r"100000 x 100000 pixels are more than the 500,000,000")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_the_bound_on_pixels_can_be_set(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(path, rgb())
    assert read_image(path, max_pixels=48).pixels.shape == (6, 8, 3)
    refused(path, "8 x 6 pixels are more than the 47.*`max_pixels`", max_pixels=47)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    for suffix in (".jpg", ".png", ".webp"):
        (tmp_path / f"text{suffix}").write_text("This is not an image.")
        refused(tmp_path / f"text{suffix}", "is not a PNG, JPEG, WebP or AVIF image")
        (tmp_path / f"empty{suffix}").touch()
        refused(tmp_path / f"empty{suffix}", "is not a PNG, JPEG, WebP or AVIF image")
    # Formats that only hide behind such a suffix are not opened at all.
    Image.fromarray(rgb()).save(tmp_path / "deep.png", format="TIFF")
    refused(tmp_path / "deep.png", "is not a PNG, JPEG, WebP or AVIF image")
    refused(tmp_path / "none.png", "there is no such file")
    (tmp_path / "folder.png").mkdir()
    refused(tmp_path / "folder.png", "there is no such file")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_truncated_images_are_refused(tmp_path: Path, suffix: str) -> None:
    write_image(tmp_path / f"whole{suffix}", rgb(64, 64))
    content = (tmp_path / f"whole{suffix}").read_bytes()
    (tmp_path / f"cut{suffix}").write_bytes(content[: len(content) // 2])
    refused(tmp_path / f"cut{suffix}", "cannot be decoded .*broken")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_damage_anywhere_gives_an_image_or_one_clear_error(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(rgb(16, 16))
    exif = Image.Exif()
    exif[0x0112] = 3
    image.save(tmp_path / f"whole{suffix}", exif=exif)
    content = (tmp_path / f"whole{suffix}").read_bytes()
    random = np.random.default_rng(0)
    path = tmp_path / f"damaged{suffix}"
    errors = 0
    for _ in range(150):
        damaged = bytearray(content)
        for place in random.integers(0, min(len(damaged), 250), 2):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(damaged)
        try:
            assert read_image(path, max_pixels=10_000).pixels.dtype == np.uint8
        except DataError as error:
            errors += 1
            assert error.where == str(path)
    assert errors


def test_a_file_that_may_not_be_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "somewhere")

    write_image(tmp_path / "a.png", rgb())
    monkeypatch.setattr(Path, "open", denied)
    refused(tmp_path / "a.png", r"cannot be decoded \(Permission denied\)")


def test_tiffs_of_several_kinds(tmp_path: Path) -> None:
    bands = np.random.default_rng(1).integers(0, 256, (5, 6, 8), dtype=np.uint8)
    three = read_image(tiff(tmp_path / "3.tif", bands[:3], photometric="rgb"))
    assert np.array_equal(three.pixels, bands[:3].transpose(1, 2, 0))
    assert three.alpha is None
    four = read_image(tiff(tmp_path / "4.tif", bands[:4], photometric="rgb", alpha="no"))
    assert np.array_equal(four.pixels, bands[:4].transpose(1, 2, 0))
    assert four.alpha is None
    five = read_image(tiff(tmp_path / "5.tif", bands))
    assert five.pixels.shape == (6, 8, 5)
    clear = read_image(tiff(tmp_path / "rgba.tif", bands[:4], photometric="rgb", alpha="yes"))
    assert np.array_equal(clear.pixels, bands[:3].transpose(1, 2, 0))
    assert np.array_equal(clear.alpha, bands[3])  # type: ignore[arg-type]
    grey = read_image(tiff(tmp_path / "1.tif", bands[:1]))
    assert np.array_equal(grey.pixels, np.repeat(bands[0][..., None], 3, 2))
    both = (ColorInterp.gray, ColorInterp.alpha)
    grey = read_image(tiff(tmp_path / "2.tif", bands[:2], both))
    assert grey.pixels.shape == (6, 8, 3)
    assert np.array_equal(grey.alpha, bands[1])  # type: ignore[arg-type]


def test_a_palette_tiff_becomes_rgb(tmp_path: Path) -> None:
    palette = Image.fromarray(rgb()).quantize(16)
    palette.save(tmp_path / "palette.tif")
    read = read_image(tmp_path / "palette.tif")
    assert np.array_equal(read.pixels, np.asarray(palette.convert("RGB")))
    assert read.alpha is None


def test_tiffs_that_cannot_be_used(tmp_path: Path) -> None:
    ones = np.ones((3, 64, 64))
    for kind in ("int16", "uint32", "float32"):
        path = tiff(tmp_path / f"{kind}.tif", ones.astype(kind))
        refused(path, f"has the type {kind}, not 8 bits per channel.*gdal_translate")
    (tmp_path / "text.tif").write_text("This is not an image.")
    refused(tmp_path / "text.tif", "cannot be decoded .*broken or not a TIFF")
    whole = tiff(tmp_path / "whole.tif", np.resize(rgb(), (3, 64, 64)), compress="deflate")
    (tmp_path / "cut.tif").write_bytes(whole.read_bytes()[:-2000])
    refused(tmp_path / "cut.tif", "cannot be decoded .*broken or not a TIFF")
    Image.fromarray(rgb()).save(tmp_path / "png.tif", format="PNG")
    refused(tmp_path / "png.tif", "cannot be decoded .*broken or not a TIFF")


def test_a_tiff_that_only_points_elsewhere_is_refused(tmp_path: Path) -> None:
    other = tiff(tmp_path / "other.tif", np.ones((1, 4, 4), np.uint8))
    (tmp_path / "link.tif").write_text(
        '<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1">'
        f"<SimpleSource><SourceFilename>{other}</SourceFilename><SourceBand>1</SourceBand>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    refused(tmp_path / "link.tif", "cannot be decoded")


def test_a_suffix_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for name in ("a.gif", "a", "a.jp2"):
        with pytest.raises(UsageError, match=f"{name}: .* not an image format that can be"):
            write_image(tmp_path / name, rgb())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "limit"), [(".jpg", 65_500), (".webp", 16_383)])
def test_the_formats_own_bounds(tmp_path: Path, suffix: str, limit: int) -> None:
    write_image(tmp_path / f"a{suffix}", np.zeros((1, limit, 3), np.uint8))
    with pytest.raises(UsageError, match=rf"holds at most {limit} pixels a side.*\.png"):
        write_image(tmp_path / f"b{suffix}", np.zeros((limit + 1, 1, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("bands", [2, 4])
def test_only_one_or_three_bands_make_an_image(tmp_path: Path, bands: int) -> None:
    with pytest.raises(UsageError, match=rf"a\.png: the result has {bands} bands"):
        write_image(tmp_path / "a.png", np.zeros((4, 4, bands), np.uint8))


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/a\.png: cannot be written"):
        write_image(tmp_path / "file" / "a.png", rgb())


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_a_full_disk_leaves_the_old_image(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(path, rgb())
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sat2map.atomic.os.fsync", full)
    with pytest.raises(OutputError, match=r"No space left on device.*Free some space"):
        write_image(path, 255 - rgb())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_natural_order() -> None:
    names = ["10.png", "a10b2.png", "2.png", "a2.png", "1.png", "a10b10.png", "b.png", "02.png"]
    ordered = [path.name for path in sorted(map(Path, names), key=natural_order)]
    assert ordered == [
        "1.png", "02.png", "2.png", "10.png", "a2.png", "a10b2.png", "a10b10.png", "b.png"
    ]  # fmt: skip


def test_images_of_a_folder(tmp_path: Path) -> None:
    for name in ("10.png", "2.JPG", "1.tif", ".3.png", "notes.txt", "4.gif"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["1.tif", "2.JPG", "10.png"]
    with pytest.raises(DataError, match="no: there is no such folder"):
        list_images(tmp_path / "no")


def test_a_large_orthophoto_is_no_bomb(tmp_path: Path) -> None:
    """Pillow alone would warn above 89 million pixels and give up above 179 million."""
    assert module.MAX_PIXELS > 200_000_000
    assert Image.MAX_IMAGE_PIXELS is not None  # nobody here has changed Pillow's own bound
    for height in (5_000, 10_000):  # only the header is whole, so it is seen to be decoded
        (tmp_path / "large.png").write_bytes(png(20_000, height, 8, 0, b""))
        refused(tmp_path / "large.png", "cannot be decoded")


@pytest.mark.parametrize("guard", [1500, 100])
def test_past_pillows_guard_pixels_are_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guard: int
) -> None:
    """Between the guard and twice as much Pillow would warn, and above that refuse."""
    image = Image.fromarray(rgb(40, 50))
    turned = Image.Exif()
    turned[0x0112] = 6
    grey, few = image.convert("L"), image.quantize(32)
    clear = Image.merge("RGBA", [*image.split(), grey])
    first = tuple(int(value) for value in rgb(40, 50)[0, 0])
    images: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "colour.png": (image, {}),
        "grey.png": (grey, {}),
        "alpha.png": (clear, {}),
        "grey_alpha.png": (clear.convert("LA"), {}),
        "palette.png": (few, {}),
        "palette_alpha.png": (few, {"transparency": bytes([0, 9, 200])}),
        "one_clear.png": (image, {"transparency": first}),
        "one_clear_grey.png": (grey, {"transparency": 77}),
        "turned.png": (clear, {"exif": turned}),
        "colour.jpg": (image, {"quality": 95}),
        "grey.jpg": (grey, {}),
        "turned.jpg": (image, {"exif": turned}),
        "colour.webp": (image, {"lossless": True}),
        "alpha.webp": (clear, {"lossless": True, "exact": True}),
        "turned.webp": (clear, {"lossless": True, "exact": True, "exif": turned}),
    }
    for name, (content, options) in images.items():
        content.save(tmp_path / name, **options)
    expected = {name: read_image(tmp_path / name) for name in images}
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", guard)
    for name, wanted in expected.items():
        found = read_image(tmp_path / name)
        assert found.pixels.shape == wanted.pixels.shape, name
        off = np.abs(found.pixels.astype(int) - wanted.pixels)
        assert off.max() == 0, name
        assert (found.alpha is None) == (wanted.alpha is None), name
        if found.alpha is not None:
            assert np.array_equal(found.alpha, wanted.alpha), name
    refused(tmp_path / "colour.png", "50 x 40 pixels", max_pixels=1999)
    refused(tmp_path / "colour.webp", "50 x 40 pixels", max_pixels=1999)
    assert guard == Image.MAX_IMAGE_PIXELS


def test_resizing_does_each_band_like_the_colours() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 5), np.uint8)
    small = resize_square(pixels, 8)
    assert small.shape == (8, 8, 5)
    for first in (0, 1, 2):
        colours = resize_square(pixels[..., first : first + 3], 8)
        assert np.array_equal(small[..., first : first + 3], colours)
    expected = Image.fromarray(pixels[..., :3]).resize((8, 8), Image.Resampling.BICUBIC)
    assert np.array_equal(small[..., :3], expected)
    square = pixels[:20, :20]
    assert resize_square(square, 20) is square


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
@pytest.mark.parametrize("alpha", [False, True])
def test_grey_is_written_as_three_equal_bands(tmp_path: Path, name: str, alpha: bool) -> None:
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8, 1) * 5
    opaque = np.full((6, 8), 255, np.uint8) if alpha else None
    write_image(tmp_path / name, grey, opaque)
    found = read_image(tmp_path / name).pixels
    assert np.abs(found.astype(int) - grey).max() <= (2 if name.endswith("jpg") else 0)


def test_a_model_of_one_band_gets_the_luma() -> None:
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8, 1) * 5
    assert np.array_equal(in_bands(np.repeat(grey, 3, 2), 1), grey)
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 200
    assert in_bands(red, 1).tolist() == [[[60]]], "0.299 of it"
    for count in (3, 4):
        assert in_bands(red, count) is red
    four = np.zeros((2, 2, 4), np.uint8)
    assert in_bands(four, 1) is four, "nobody knows which of them"
