"""What `harkline classify --explain` adds: explanations from the worker's own classifier, one a distinct line, and the line that shows one to a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from rich.text import Text

from harkline.screen import inert
from harkline_workers.normalise import normalise

if TYPE_CHECKING:
    from harkline.contract import Explanation, LogLine, Verdict
    from harkline_workers.classify import Classifier

# Which lines are explained.
Explaining = Literal["all", "critical"]

_MOST_KEPT = 2048
_SHOWN_WORDS = 5
_WORD_CHARS = 32
_EXAMPLE_CHARS = 100


class Explainer:
    """Explains verdicts, and remembers the last few thousand: lines that differ in their numbers alone have the same explanation."""

    def __init__(self, classifier: Classifier, explaining: Explaining) -> None:
        self._classifier = classifier
        self._explaining = explaining
        self._kept: dict[str, Explanation] = {}

    def explained(self, line: LogLine, verdict: Verdict) -> Verdict:
        """Return the verdict of a line, with its explanation where it is to have one; takes a tenth of a second where the line is a new one."""
        if self._explaining == "critical" and verdict.severity != "critical":
            return verdict
        model_input = normalise(line.message, line.level).model_input
        if model_input not in self._kept:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[model_input] = self._classifier.explain(line, verdict)
        return msgspec.structs.replace(verdict, explanation=self._kept[model_input])


def shown(explanation: Explanation) -> Text:
    """Return one line for a person: the words that moved the score, and what the line is most like."""
    result = Text()
    for word in explanation.words[:_SHOWN_WORDS]:
        effect = "by " if word.effect is None else f"{word.effect:+.1f} "
        style = "" if word.effect is None or word.effect > 0 else "dim"
        result.append(f"{effect}{inert(word.word, _WORD_CHARS)}  ", style=style)
    if explanation.nearest:
        like = explanation.nearest[0]
        result.append(f"like: {like.system} '{inert(like.template, _EXAMPLE_CHARS)}' ({like.level})", style="dim")
    return result
