"""Numbers of people that carry a check of their own: payment cards (Luhn, and the prefixes of issuers), IBANs (mod 97), and US social security numbers.

Most long numbers in logs are ids, a tenth of which pass Luhn by chance. So digits in a row count as a card only with an issuer's prefix at that
issuer's length, standing alone, and not behind a name that says `id`. Digits in groups, as cards are printed, need the prefix and the check.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    Span = tuple[int, int]

# ISO/IEC 7812 prefixes: Visa, Mastercard (both series), American Express, Diners Club, JCB, Discover, UnionPay. No 19 digits of Visa: no such card is
# in use, and a ninth of all 64-bit ids begin with a 4.
_IN_A_ROW = (
    r"4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}|3[47][0-9]{13}"
    r"|3(?:0[0-5]|[689][0-9])[0-9]{11}|35(?:2[89]|[3-8][0-9])[0-9]{12}|6(?:011|5[0-9]{2}|4[4-9][0-9])[0-9]{12}(?:[0-9]{3})?|62[0-9]{14,17}"
)
_IN_GROUPS = (
    r"(?:4[0-9]{3}|5[1-5][0-9]{2}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)|35(?:2[89]|[3-8][0-9])|6(?:011|5[0-9]{2}|4[4-9][0-9]|2[0-9]{2}))"
    r"[ -][0-9]{4}[ -][0-9]{4}[ -][0-9]{4}(?:[ -]?[0-9]{3})?"
    r"|4[0-9]{3}[ -][0-9]{3}[ -][0-9]{3}[ -][0-9]{3}|3[47][0-9]{2}[ -][0-9]{6}[ -][0-9]{5}|3(?:0[0-5]|[689][0-9])[0-9][ -][0-9]{6}[ -][0-9]{4}"
)
CARD_SCREEN = rf"(?:^|[^A-Za-z0-9_+])(?:{_IN_A_ROW}|{_IN_GROUPS})(?:$|[^A-Za-z0-9_])"
_CARD = re.compile(
    rf"(?<![A-Za-z0-9_+])(?<![0-9]\.)(?<![0-9_]-)(?:(?P<row>{_IN_A_ROW})|{_IN_GROUPS})(?![A-Za-z0-9_]|\.[0-9])"
)
# Cheap to search for, and one may begin within another that is none: `4000 4111 1111 1111 1111`.
_CARD_BEGINS = re.compile(r"[2-6](?=[0-9]{12}|[0-9]{3}[ -][0-9]{3})")
_NAMED_ID = re.compile(
    r"""(?i)(?:id|block|blk|seq|offset|lsn|cursor|hash|inode|time|timestamp|ts|ns|us|bytes)["']?[ ]?[=:#][ ]?["']?$"""
)
_NAMED_ID_CHARS = 24
_FOUR_GROUPS_CHARS = 19
_DIGITS = bytes(max(0, byte - ord("0")) for byte in range(256))
_DOUBLED = bytes(2 * digit - 9 * (digit > 4) if digit < 10 else 0 for digit in range(256))

# Lengths by country (SWIFT's IBAN registry).
_IBAN_CHARS = {
    length: countries.split()
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
}
_CHARS_OF = {country: length for length, countries in _IBAN_CHARS.items() for country in countries}
IBAN_SCREEN = r"[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4} ?[A-Z0-9]{4} ?[A-Z0-9]{3}"
_IBAN_BEGINS = re.compile(r"[A-Z](?=[A-Z][0-9]{2} ?[A-Z0-9]{4})")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?")

SSN_SCREEN = r"(?:^|[^A-Za-z0-9_.-])[0-8][0-9]{2}-[0-9]{2}-[0-9]{4}(?:$|[^A-Za-z0-9_-])"
_SSN = re.compile(r"(?<![A-Za-z0-9_.-])(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![A-Za-z0-9_-])")


def cards(text: str) -> Iterator[Span]:
    """Yield payment card numbers, in a row or in groups."""
    done = 0
    for begun in _CARD_BEGINS.finditer(text):
        found = _CARD.match(text, begun.start()) if begun.start() >= done else None
        end = _end_of_card(text, found) if found else None
        if found and end:
            yield found.start(), end
            done = end


def social_security_numbers(text: str) -> Iterator[Span]:
    """Yield US social security numbers as they are written, with dashes, in the ranges that are issued."""
    for found in _SSN.finditer(text):
        yield found.span()


def ibans(text: str) -> Iterator[Span]:
    """Yield International Bank Account Numbers (ISO 13616), in a row or in groups of four."""
    done = 0
    for begun in _IBAN_BEGINS.finditer(text):
        found = _IBAN.match(text, begun.start()) if begun.start() >= done else None
        end = _end_of_iban(text, found) if found else None
        if found and end:
            yield found.start(), end
            done = end


def _end_of_card(text: str, found: re.Match[str]) -> int | None:
    if _passes_luhn(found[0]):
        named_id = found["row"] and _NAMED_ID.search(text[max(0, found.start() - _NAMED_ID_CHARS) : found.start()])
        return None if named_id else found.end()
    # Three digits behind four groups may be another number: `4111 1111 1111 1111 100 EUR`.
    if not found["row"] and len(found[0]) > _FOUR_GROUPS_CHARS and _passes_luhn(found[0][:_FOUR_GROUPS_CHARS]):
        return found.start() + _FOUR_GROUPS_CHARS
    return None


def _end_of_iban(text: str, found: re.Match[str]) -> int | None:
    """Return where the country's length ends, or None where the number does not end there or fails its check."""
    missing = _CHARS_OF.get(found[0][:2])
    if missing is None:
        return None
    chars = []
    for end, char in enumerate(found[0], found.start() + 1):
        if char != " ":
            chars.append(char)
            missing -= 1
        if not missing:
            after = text[end : end + 1]
            return None if after.isalnum() or not _passes_mod_97("".join(chars)) else end
    return None


def _passes_luhn(number: str) -> bool:
    digits = number.encode().translate(_DIGITS, b" -")
    return (sum(digits[::-2]) + sum(digits[-2::-2].translate(_DOUBLED))) % 10 == 0


def _passes_mod_97(iban: str) -> bool:
    return int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 == 1
