"""Say why a verdict is what it is: take a line's words out one at a time and see how far the model changes its mind, and what the line is like.

Only for lines whose sender asks: a line costs as much as the variants of it that are scored, some sixty new lines at most. Knows no Celery and no
model runtime.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

from harkline.contract import Explanation, WordEffect
from harkline.logs import get_logger
from harkline_workers import rules
from harkline_workers.normalise import LEVELS

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from harkline.contract import Neighbour, Verdict
    from harkline_workers.classify import Scorer
    from harkline_workers.normalise import Normalised

log = get_logger(__name__)

# What is taken out one at a time: words, or spans of words where a line has more. With the line itself they are one full call of the model.
MOST_PIECES = 63
# Long lines are taken apart into fewer and longer spans, so that no line costs more than about half a second of one core. In characters of all variants.
_MOST_CHARS = 6_000
# So are those of a slow model, which scores few lines in a call. With fewer spans than this an explanation would say nothing.
_FEWEST_PIECES = 12
SHOWN_WORDS = 16
NEIGHBOURS = 3
_WORD_CHARS = 60

# A score nearer to 0 or 1 than this is told apart by rounding alone. So no effect is larger than 28 nats, whatever a model says.
_CERTAIN = 1e-6
# A word that moves the odds by less than a twentieth decided nothing.
_LEAST_EFFECT = 0.05

_CRITICAL_FROM = LEVELS.index("error")

# A word holds together what belongs together: oom-killer, java.lang.OutOfMemoryError, /var/lib, 95%. `#` stands for a number.
_WORD = re.compile(r"[\w#%]+(?:[.'’@/+-]+[\w#%]+)*")


class Variant(NamedTuple):
    """A line without one piece of it."""

    piece: str
    model_input: str


def explain(
    model: Scorer | None, line: Normalised, verdict: Verdict, between_calls: Callable[[], None] = lambda: None
) -> Explanation:
    """Return what made the verdict of a line. Raises nothing but what `between_calls` raises, which is called before each call of the model.

    Where a rule decided, the words are those it went by; where the model that judged is not there any more, there are none.
    """
    words: list[WordEffect] = []
    nearest: list[Neighbour] = []
    said_by = verdict.why
    by_model = verdict.source in ("model", "cache")
    if by_model:
        said_by = "model"
    elif verdict.source == "rule":
        ruling = rules.judge(line) if verdict.degraded else rules.floor(line)
        told = (ruling.words if ruling is not None else "") or (f"level={line.level}" if line.level else "")
        words = [WordEffect(told[:_WORD_CHARS], None)] if told else []
    if model is None or verdict.degraded or verdict.model != model.version:
        return Explanation(words, nearest, said_by)
    if by_model:
        words = _effects(model, line, between_calls)
    return Explanation(words, _nearest(model, line), said_by)


def _nearest(model: Scorer, line: Normalised) -> list[Neighbour]:
    try:
        # Of the text alone: what a line's level claims would make it like others that claim it.
        return model.nearest([level_less(line.template)], NEIGHBOURS)[0]
    except Exception as error:  # noqa: BLE001 - a runtime may raise anything, and the verdict stands without an explanation
        log.warning("line_not_compared", error=f"{type(error).__name__}: {error}")
        return []


def _effects(model: Scorer, line: Normalised, between_calls: Callable[[], None]) -> list[WordEffect]:
    call_lines = min(MOST_PIECES + 1, model.call_lines)
    taken_out = variants(line, call_lines - 1)
    inputs = [line.model_input, *(variant.model_input for variant in taken_out)]
    odds: list[float] = []
    for start in range(0, len(inputs), call_lines):
        between_calls()
        try:
            odds += _log_odds(model.predict(inputs[start : start + call_lines], exactly=True))
        except Exception as error:  # noqa: BLE001 - the same edge
            log.warning("line_not_explained", error=f"{type(error).__name__}: {error}")
            return []
    with_all, *without = odds
    effects = [
        WordEffect(variant.piece, round(with_all - other, 2))
        for variant, other in zip(taken_out, without, strict=True)
        if abs(with_all - other) >= _LEAST_EFFECT
    ]
    return sorted(effects, key=lambda word: -abs(word.effect or 0.0))[:SHOWN_WORDS]


def variants(line: Normalised, most: int = MOST_PIECES) -> list[Variant]:
    """Return the line without its level, if it has one, then without each word in turn; without spans of words where it has more, or is long."""
    most = max(_FEWEST_PIECES, min(most, _MOST_CHARS // max(1, len(line.template))))
    found = [Variant(f"level={line.level}", level_less(line.template))] if line.level else []
    head = line.model_input[: len(line.model_input) - len(line.template)]
    for start, end in _spans(line.template, most - len(found)):
        without = line.template[:start] + line.template[end:]
        found.append(Variant(_shown(line.template[start:end]), head + without))
    return found


def _spans(text: str, most: int) -> list[tuple[int, int]]:
    words = [match.span() for match in _WORD.finditer(text)] or [match.span() for match in re.finditer(r"\S+", text)]
    size = -(-len(words) // most)
    return [(words[at][0], words[min(at + size, len(words)) - 1][1]) for at in range(0, len(words), size or 1)]


def _shown(piece: str) -> str:
    return piece if len(piece) <= _WORD_CHARS else f"{piece[: _WORD_CHARS - 3]}..."


def level_less(template: str) -> str:
    """Return the model's input for a text that carries no level."""
    return f"none | {template}"


def _log_odds(chances: NDArray[np.float32]) -> list[float]:
    """Return the log-odds of P(error) + P(critical), n of them, of probabilities (n, 5)."""
    return [
        math.log(max(sum(row[_CRITICAL_FROM:]), _CERTAIN)) - math.log(max(sum(row[:_CRITICAL_FROM]), _CERTAIN))
        for row in chances.tolist()
    ]
