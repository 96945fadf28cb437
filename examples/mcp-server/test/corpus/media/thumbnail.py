from pathlib import Path

from PIL import Image, ImageOps

EDGE = 320


def shrink(source: Path, target: Path) -> None:
    """Writes a small preview of a photo, turned the right way up, without its GPS position."""
    with Image.open(source) as image:
        upright = ImageOps.exif_transpose(image)
        upright.thumbnail((EDGE, EDGE))
        upright.convert("RGB").save(target, "JPEG", quality=82)
