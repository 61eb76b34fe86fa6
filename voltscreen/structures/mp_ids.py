"""Ids of the Materials Project: old numbers, new letters, `mvc-`; one spelling for each."""

from __future__ import annotations

import re
from collections.abc import Sequence

LAST_NUMERIC_ID = 3347529
"""The last id that the Materials Project writes as a number."""
_LETTERS = re.compile(r"(mp|mvc)-([a-z]+)")
_NUMBER = re.compile(r"(mp|mvc)-(\d+)")


def plain_id(name: str) -> str:
    """An id in the spelling that voltscreen stores; what is no such id stays as it is.

    `mp-aaaaaaft`, `mp-ft` and `mp-149` are one id (base 26, a is 0) and become `mp-149`. Ids above
    `LAST_NUMERIC_ID` have letters only, and lose the leading ones that mean nothing.
    """
    if digits := _NUMBER.fullmatch(name):
        return _spelled(digits[1], int(digits[2]))
    if not (letters := _LETTERS.fullmatch(name)):
        return name
    number = 0
    for letter in letters[2]:
        number = 26 * number + ord(letter) - ord("a")
    return _spelled(letters[1], number)


def plain_battery_id(name: str) -> str:
    """The same of an electrode's id: that of a material and, behind an underscore, an ion."""
    material_id, underscore, ion = name.partition("_")
    return plain_id(material_id) + underscore + ion


def battery_id(material_ids: Sequence[str], ion: str) -> str:
    """An electrode's id as the Materials Project forms it, of the plain ids of its materials: the
    lowest one that does not begin with mvc, if there is such a one, and the ion.
    """
    ids = [each for each in material_ids if not each.startswith("mvc")] or material_ids
    return f"{min(ids, key=lambda each: (len(each), each))}_{ion}"


def is_material_id(name: str) -> bool:
    """Whether a name has the form of a Materials Project id, in any spelling."""
    return bool(_NUMBER.fullmatch(name) or _LETTERS.fullmatch(name))


def _spelled(prefix: str, number: int) -> str:
    if number <= LAST_NUMERIC_ID:
        return f"{prefix}-{number}"
    letters = ""
    while number:
        number, digit = divmod(number, 26)
        letters = chr(ord("a") + digit) + letters
    return f"{prefix}-{letters}"
