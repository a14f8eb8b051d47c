"""Numbers of bytes as people write them: "40KB" is 40,000, "40KiB" is 40,960."""

import re
from decimal import Decimal

from diffcodec.errors import InputError

UNITS = {
    "": 1,
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KIB": 1024,
    "MIB": 1024**2,
    "GIB": 1024**3,
}
PATTERN = re.compile(r"\s*(\d{1,15}(?:\.\d{1,15})?)\s*([A-Za-z]*)\s*", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes that a text such as "4096", "40KB", "40KiB" or "1.5 MB" means, rounded down.

    Raises:
        InputError: the text is something else, or means less than one byte.
    """
    match = PATTERN.fullmatch(text)
    unit = UNITS.get(match[2].upper()) if match else None
    size = int(Decimal(match[1]) * unit) if match and unit else 0
    if size < 1:
        raise InputError(f"expected a size such as 4096, 40KB, 40KiB or 1.5MB, found {text!r}")
    return size
