"""The letters that Azerbaijani has and foreign keyboards lack: how it is told by them, and what it is without them.

`missing_diacritics.py` restores them.
"""

import re

AZERBAIJANI_LETTERS = re.compile("[əğışçöüƏĞİŞÇÖÜ]")
_NO_DIACRITICS = str.maketrans("əğışçöüƏĞİŞÇÖÜ", "egiscouEGISCOU")


def without_diacritics(text: str) -> str:
    """Azerbaijani as it is typed on a foreign keyboard: qırmızı maşın → qirmizi masin."""
    return text.translate(_NO_DIACRITICS)
