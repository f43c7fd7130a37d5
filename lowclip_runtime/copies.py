"""Which of the photos that a run of `lowclip index` adds or updates are copies of another one."""

from collections.abc import Collection, Set


class Copies:
    """Told of the photos one by one, it calls as many of each content copies as there are beside one.

    Args:
        leaving: ids of photos whose places are gone, or may have another content by now.
    """

    def __init__(self, *leaving: Set[str]) -> None:
        self._leaving = leaving
        self._first: set[str] = set()  # contents of which one was no copy
        self._kept: set[str] = set()  # contents that places among `leaving` still have

    def is_copy(self, one: str, content_hash: str, others: Collection[str]) -> bool:
        """Whether the photo `one`, whose place did not have this content before, is a copy.

        Args:
            others: ids of some other photos that have this content, or had it.
        """
        known = content_hash in self._first or content_hash in self._kept
        if known or not all(map(self._leaves, others)):
            return True
        if others or self._leaves(one):  # else it stays, and is among the others of those to come
            self._first.add(content_hash)
        return False

    def keep(self, content_hash: str) -> bool:
        """Told of a place among `leaving` that still has this content; whether that makes a photo before it a copy."""
        is_late = content_hash in self._first and content_hash not in self._kept
        self._kept.add(content_hash)
        return is_late

    def _leaves(self, one: str) -> bool:
        return any(one in ids for ids in self._leaving)
