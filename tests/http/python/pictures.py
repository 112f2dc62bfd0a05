"""Pictures of answers, decoded."""

import base64
import io

from PIL import Image, ImageChops, ImageStat


def opened(picture: str | bytes, form: str, size: str) -> Image.Image:
    """Decodes a file, or its base64 text; checks its format and size, and that it shows something."""
    data = base64.b64decode(picture, validate=True) if isinstance(picture, str) else picture
    image = Image.open(io.BytesIO(data))
    assert image.format == form.upper(), image.format
    assert image.size == tuple(int(side) for side in size.split("x"))
    image.load()
    image = image.convert("RGB")
    assert max(ImageStat.Stat(image).stddev) > 1, "the picture is of one colour"
    return image


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference of two pictures, 0 to 255."""
    means = ImageStat.Stat(ImageChops.difference(one, other)).mean
    return sum(means) / len(means)
