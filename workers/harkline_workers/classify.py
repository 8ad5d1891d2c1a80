"""The way from lines to verdicts: normalise -> caches -> model -> floors. Knows no Celery and no model runtime.

Lines with the same model input share one verdict object, and a process remembers the last ones it gave, floors included: most lines cost no more
than being normalised and looked up. When the model cannot answer, the rules do, and the verdict says `degraded`: nothing is dropped.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import msgspec

from harkline.contract import Severity, Source, Verdict
from harkline.logs import get_logger
from harkline_workers import rules
from harkline_workers.cache import Judgement
from harkline_workers.explain import explain
from harkline_workers.normalise import LEVELS, Normalised, normalise
from harkline_workers.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from harkline.contract import Explanation, LogLine, Neighbour
    from harkline_workers.cache import SharedCache
    from harkline_workers.metrics import WorkerMetrics

log = get_logger(__name__)

# Distinct lines per model call: a fraction of a second of one core, long lines on a busy one included a few seconds, so that a long batch can say
# between calls that it is alive.
CALL_LINES = 64
_NORMALISE_LINES = 1024
_CANARY = "info | started"
_CRITICAL_LEVELS = frozenset(("error", "critical"))
_CRITICAL_COLUMNS = [LEVELS.index("error"), LEVELS.index("critical")]


class ClaimLost(Exception):
    """Everything claimed was taken over by another process while we worked on it: it will be counted there."""


class Scorer(Protocol):
    """What `classify` needs of a model."""

    version: str
    threshold: float
    call_lines: int  # most lines of one call, so that it ends in about a second

    def predict(self, inputs: Sequence[str], *, exactly: bool = False) -> NDArray[np.float32]:
        """Return calibrated probabilities over LEVELS, (n, 5) float32; `exactly` without quantisation, however much slower."""

    def nearest(self, inputs: Sequence[str], most: int) -> list[list[Neighbour]]:
        """Return for each input the corpus examples most like it, at most `most`; only explanations ask."""


class Classified(NamedTuple):
    """Verdicts in the order of the lines, and the positions of lines on which the model raised."""

    verdicts: list[Verdict]
    poison: dict[int, str]  # position -> what was raised

    def part(self, start: int, end: int) -> Classified:
        """Return the same of the lines from `start` to before `end`, which begin at 0 there."""
        poison = {at - start: raised for at, raised in self.poison.items() if start <= at < end}
        return Classified(self.verdicts[start:end], poison)


class Classifier:
    """Turns lines into verdicts. One per process; not thread-safe, as its process works on one batch at a time."""

    def __init__(
        self,
        model: Scorer | None,
        why_not: str,
        remembered_lines: int,
        shared_cache: SharedCache | None,
        metrics: WorkerMetrics,
    ) -> None:
        self._model = model
        self._why_not = why_not  # why there is no model
        # By model input, as the same line is told when it comes again. Never of another model, never a degraded one.
        self._remembered: Recent[str, Verdict] = Recent(remembered_lines)
        self._shared_cache = shared_cache
        self._metrics = metrics

    @property
    def degraded(self) -> str:
        """Why the rules judge alone, or "" while the model does."""
        return self._why_not

    def serve(self, model: Scorer, shared_cache: SharedCache | None) -> None:
        """Judge with this model from the next call on. Judgements of another version are forgotten."""
        if self._model is None or self._model.version != model.version:
            self._remembered.clear()
        self._model, self._why_not, self._shared_cache = model, "", shared_cache

    def do_without(self, why: str) -> None:
        """Let the rules judge alone from the next call on, because of `why`."""
        self._model, self._why_not = None, why

    def classify(self, lines: Sequence[LogLine], between_calls: Callable[[], None] = lambda: None) -> Classified:
        """Judge every line. `between_calls` is called between model calls, so that the caller can keep its claim on a long batch."""
        normalised: list[Normalised] = []
        for start in range(0, len(lines), _NORMALISE_LINES):
            if start:
                between_calls()
            normalised += [normalise(line.message, line.level) for line in lines[start : start + _NORMALISE_LINES]]
        if self._model is None:
            known: list[Verdict | None] = [None] * len(normalised)
        else:
            remembered = self._remembered.get
            known = [remembered(line.model_input) for line in normalised]
        new = {line.model_input: line for line, verdict in zip(normalised, known, strict=True) if verdict is None}
        if not new:
            self._metrics.cache_hits.labels("process").inc(len(known))
            return Classified(cast("list[Verdict]", known), {})
        fresh: dict[str, Verdict] = {}
        raised: dict[str, str] = {}
        if self._model is not None:
            self._metrics.cache_hits.labels("process").inc(len(known) - known.count(None))
            self._judge_by_model(self._model, new, fresh, raised, between_calls)
        for model_input, line in new.items():
            if model_input not in fresh:
                why = raised.get(model_input) or self._why_not
                fresh[model_input] = _ruled(rules.judge(line), line, degraded=True, because=why)
        verdicts = [verdict or fresh[line.model_input] for line, verdict in zip(normalised, known, strict=True)]
        poison = {
            at: raised[line.model_input] for at, line in enumerate(normalised) if raised and line.model_input in raised
        }
        return Classified(verdicts, poison)

    def explain(self, line: LogLine, verdict: Verdict, between_calls: Callable[[], None] = lambda: None) -> Explanation:
        """Say what made the verdict of a line that was just judged; costs as much as judging some sixty new lines. Nothing of it is cached."""
        return explain(self._model, normalise(line.message, line.level), verdict, between_calls)

    def judge_by_rules(self, line: LogLine, because: str) -> Verdict:
        """Judge one line without the model: a line that kills its process must never meet it again."""
        normalised = normalise(line.message, line.level)
        return _ruled(rules.judge(normalised), normalised, degraded=True, because=because)

    def _judge_by_model(
        self,
        model: Scorer,
        new: dict[str, Normalised],
        verdicts: dict[str, Verdict],
        raised: dict[str, str],
        between_calls: Callable[[], None],
    ) -> None:
        """Fill in the verdicts of inputs that this process does not remember; those that the model could not judge stay out."""
        misses = list(new)
        if self._shared_cache is not None:
            shared = self._shared_cache.get_many(misses)
            self._metrics.cache_hits.labels("redis").inc(len(shared))
            for model_input, judgement in shared.items():
                verdicts[model_input] = self._said(judgement, new[model_input], "cache", model)
            misses = [model_input for model_input in misses if model_input not in shared]
        self._metrics.cache_misses.inc(len(misses))
        call_lines = min(CALL_LINES, model.call_lines)
        for start in range(0, len(misses), call_lines):
            between_calls()
            judged = self._predict(model, misses[start : start + call_lines], raised)
            for model_input, judgement in judged.items():
                verdicts[model_input] = self._said(judgement, new[model_input], "model", model)
            if self._shared_cache is not None:
                self._shared_cache.put_many(judged)

    def _said(self, judgement: Judgement, line: Normalised, source: Source, model: Scorer) -> Verdict:
        """Return a verdict, and remember it as it will be told from now on."""
        verdict = _verdict(judgement, line, source, model)
        again = msgspec.structs.replace(verdict, source="cache") if verdict.source == "model" else verdict
        self._remembered.put(line.model_input, again)
        return verdict

    def _predict(self, model: Scorer, inputs: list[str], raised: dict[str, str]) -> dict[str, Judgement]:
        """Score inputs; where the model raises, take the call apart by halves until the culprits stand alone in `raised`."""
        try:
            started = time.perf_counter()
            probabilities = model.predict(inputs)
            self._metrics.model_seconds.observe(time.perf_counter() - started)
            self._metrics.model_lines.inc(len(inputs))
            self._metrics.model_degraded.set(0)
        except Exception as error:  # noqa: BLE001 - a runtime may raise anything; the line must be judged all the same
            return self._take_apart(model, inputs, raised, error)
        scores = probabilities[:, _CRITICAL_COLUMNS].sum(axis=1).tolist()
        levels = probabilities.argmax(axis=1).tolist()
        return {
            model_input: Judgement(min(1.0, score), LEVELS[level])
            for model_input, score, level in zip(inputs, scores, levels, strict=True)
        }

    def _take_apart(
        self, model: Scorer, inputs: list[str], raised: dict[str, str], error: Exception
    ) -> dict[str, Judgement]:
        reason = f"{type(error).__name__}: {error}"
        if len(inputs) == 1:
            raised[inputs[0]] = reason
            log.error("model_raised_on_line", error=reason)
            return {}
        try:
            model.predict([_CANARY])
        except Exception as canary:  # noqa: BLE001 - the same edge
            # Not these lines: the model itself is broken. The rules judge them, without blaming any.
            self._metrics.model_degraded.set(1)
            log.error("model_broken", error=f"{type(canary).__name__}: {canary}")
            return {}
        half = len(inputs) // 2
        return self._predict(model, inputs[:half], raised) | self._predict(model, inputs[half:], raised)


def _verdict(judgement: Judgement, line: Normalised, source: Source, model: Scorer) -> Verdict:
    critical = judgement.score >= model.threshold
    if not critical and (ruling := rules.floor(line)) is not None:
        return _ruled(ruling, line, model=model.version)
    severity: Severity = "critical" if critical else "not_critical"
    level = judgement.level
    if critical != (level in _CRITICAL_LEVELS):
        # The likeliest single level and the sum that decides can fall on two sides of the threshold: the severity rules.
        level = "error" if critical else "warning"
    relation = "at or above" if critical else "below"
    return Verdict(
        severity,
        round(judgement.score, 4),
        level,
        line.template,
        source,
        f"model: {level}, {judgement.score:.2f} {relation} {model.threshold:.2f}",
        degraded=False,
        model=model.version,
    )


def _ruled(
    ruling: rules.Ruling, line: Normalised, *, degraded: bool = False, because: str = "", model: str = ""
) -> Verdict:
    critical = ruling.level in _CRITICAL_LEVELS
    why = f"{ruling.why} (no model: {because})" if because else ruling.why
    return Verdict(
        "critical" if critical else "not_critical",
        float(critical),
        ruling.level,
        line.template,
        "rule",
        why,
        degraded=degraded,
        model=model,
    )
