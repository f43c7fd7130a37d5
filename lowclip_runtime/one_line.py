"""Text of others, such as a file's name or a manifest's words, as it may be shown to people."""

import re

# the last ones turn the direction of what follows, in the next columns too, or begin a line
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def on_one_line(text: str) -> str:
    """Control characters as `\\n` or `\\x1b`: what others wrote shall neither break a table nor steer a terminal."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
