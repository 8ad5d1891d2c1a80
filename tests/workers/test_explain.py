"""Explanations: the words that moved a score by how much, what a rule went by, and never more work than was asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from harkline.contract import LogLine, Neighbour, Verdict, WordEffect
from harkline_workers.classify import ClaimLost, Classifier
from harkline_workers.explain import MOST_PIECES, SHOWN_WORDS, level_less, variants
from harkline_workers.metrics import WorkerMetrics
from harkline_workers.normalise import LEVELS, normalise
from tests.workers.fakes import FakeModel


class WeighingModel(FakeModel):
    """Gives every word its own weight: the log-odds of critical are their sum."""

    def __init__(self, **weights: float) -> None:
        super().__init__()
        self.weights = weights

    def predict(self, inputs: Sequence[str], *, exactly: bool = False) -> np.ndarray:
        """Return (n, 5) probabilities."""
        super().predict(inputs, exactly=exactly)
        odds = np.array([sum(self.weights.get(word.strip(",:"), 0.0) for word in line.split()) for line in inputs])
        chances = np.zeros((len(inputs), len(LEVELS)), dtype=np.float32)
        chances[:, LEVELS.index("error")] = 1 / (1 + np.exp(-odds))
        chances[:, LEVELS.index("info")] = 1 - chances[:, LEVELS.index("error")]
        return chances


def classifier_of(model: FakeModel | None, why_not: str = "") -> Classifier:
    return Classifier(model, why_not, 100, None, WorkerMetrics(CollectorRegistry()))


def judged(classifier: Classifier, line: LogLine) -> Verdict:
    return classifier.classify([line]).verdicts[0]


def test_the_effect_of_a_word_is_what_its_absence_changes() -> None:
    """In nats of the log-odds of critical, positive towards it, the most telling first; words that change nothing are not named."""
    model = WeighingModel(refused=1.9, broker=-0.8, giving=0.5)
    line = LogLine("connection to broker refused, giving up")
    classifier = classifier_of(model)
    explanation = classifier.explain(line, judged(classifier, line))
    assert [(word.word, word.effect) for word in explanation.words] == [
        ("refused", 1.9),
        ("broker", -0.8),
        ("giving", 0.5),
    ]
    assert explanation.said_by == "model"


def test_all_variants_are_scored_in_one_exact_call() -> None:
    """The line and its variants go to the model together, unquantised, and the hot path's calls are not touched."""
    model = WeighingModel(refused=1.0)
    classifier = classifier_of(model)
    line = LogLine("broker refused it")
    verdict = judged(classifier, line)
    classifier.explain(line, verdict)
    assert model.calls == [["none | broker refused it"]]
    assert model.exact_calls == [
        ["none | broker refused it", "none |  refused it", "none | broker  it", "none | broker refused "]
    ]


def test_the_level_counts_as_one_word() -> None:
    """A line's level is taken out as a whole and named for what it is; a line without one has no such word."""
    model = WeighingModel(error=2.0)
    classifier = classifier_of(model)
    line = LogLine("it happened", level="ERR")
    assert classifier.explain(line, judged(classifier, line)).words == [WordEffect("level=error", 2.0)]
    assert not any(variant.piece.startswith("level") for variant in variants(normalise("it happened")))


def test_words_keep_together_what_belongs_together() -> None:
    """Punctuation and white space part words; hyphens, dots and slashes inside of one do not."""
    pieces = [variant.piece for variant in variants(normalise('invoked oom-killer: gfp="/var/lib", java.lang.OOM 95%'))]
    assert pieces == ["invoked", "oom-killer", "gfp", "var/lib", "java.lang.OOM", "95%"]


@pytest.mark.parametrize("words", [1, 63, 64, 200])
def test_a_line_has_so_many_pieces_at_most(words: int) -> None:
    """Long lines are taken apart into spans of words, which cover all of them; no more variants than one call holds."""
    line = normalise(" ".join("ab" for _ in range(words)))
    found = variants(line)
    assert len(found) <= MOST_PIECES
    assert sum(variant.piece.count("ab") for variant in found) >= min(words, MOST_PIECES)
    assert all(len(variant.model_input) < len(line.model_input) for variant in found)


def test_a_long_line_costs_about_half_a_second() -> None:
    """The longer the line, the fewer variants of it: their characters together are bounded."""
    line = normalise("the disk of node alpha failed and the volume was remounted read-only " * 100)
    assert sum(len(variant.model_input) for variant in variants(line)) < 15_000


def test_what_is_shown_is_bounded() -> None:
    """However many words moved the score, the answer names so many, each cut to a readable length."""
    names = [f"w{chr(97 + at)}" for at in range(26)]
    model = WeighingModel(**dict.fromkeys(names, 0.3), **{"x" * 100: 5.0})
    classifier = classifier_of(model)
    line = LogLine(" ".join([*names, "x" * 100]))
    words = classifier.explain(line, judged(classifier, line)).words
    assert len(words) == SHOWN_WORDS
    assert max(len(word.word) for word in words) <= 60


def test_effects_are_bounded_however_sure_the_model_is() -> None:
    """Probabilities of exactly 0 and 1 give a finite number."""
    classifier = classifier_of(FakeModel())
    line = LogLine("bad disk")
    [word] = classifier.explain(line, judged(classifier, line)).words
    assert word.word == "bad"
    assert word.effect == pytest.approx(27.63, abs=0.01)


@pytest.mark.parametrize(
    ("message", "word", "said_by"),
    [
        ("kernel panic - not syncing", "kernel panic", "floor: panic"),
        ("FATAL: nothing to see here", "level=critical", "floor: logged as fatal or worse"),
        ("there was Data Loss on shard 3", "Data Loss", "floor: data loss"),
    ],
)
def test_a_floor_is_said_instead(message: str, word: str, said_by: str) -> None:
    """Where a floor decided, the words are those it matched, without an effect; the neighbours are there all the same."""
    model = FakeModel()
    classifier = classifier_of(model)
    line = LogLine(message)
    explanation = classifier.explain(line, judged(classifier, line))
    assert (explanation.words, explanation.said_by) == ([WordEffect(word, None)], said_by)
    assert len(explanation.nearest) == 1
    assert model.exact_calls == []


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("upload failed", [WordEffect("failed", None)]),
        ("WARN cache is cold", [WordEffect("level=warning", None)]),
        ("all is well", []),
    ],
)
def test_without_a_model_the_rules_say_what_they_went_by(message: str, words: list[WordEffect]) -> None:
    """Degraded verdicts are explained too, by the word or the level that the rules found, without neighbours."""
    classifier = classifier_of(None, "weights are missing")
    line = LogLine(message)
    explanation = classifier.explain(line, judged(classifier, line))
    assert (explanation.words, explanation.nearest) == (words, [])
    assert "weights are missing" in explanation.said_by


def test_a_cached_verdict_is_explained_like_a_fresh_one() -> None:
    """It is the model's; nothing of an explanation is cached."""
    model = WeighingModel(refused=1.9)
    classifier = classifier_of(model)
    line = LogLine("broker refused")
    first, again = judged(classifier, line), judged(classifier, line)
    assert (first.source, again.source) == ("model", "cache")
    assert classifier.explain(line, again) == classifier.explain(line, first)
    assert len(model.exact_calls) == 2


def test_neighbours_are_of_the_text_alone() -> None:
    """The claim of a level does not choose the examples, and a line without one is read as the model reads it."""
    model = FakeModel()
    classifier = classifier_of(model)
    line = LogLine("disk 7 is bad", level="debug")
    assert classifier.explain(line, judged(classifier, line)).nearest == [
        Neighbour("none | disk # is bad", "error", "fakes", 1.0)
    ]
    assert level_less(normalise("disk 7 is bad").template) == normalise("disk 7 is bad").model_input


def test_a_model_that_raises_leaves_the_verdict_without_words() -> None:
    """An explanation is never worth an exception."""
    model = FakeModel()
    classifier = classifier_of(model)
    line = LogLine("bad disk")
    verdict = judged(classifier, line)
    model.broken = True
    assert classifier.explain(line, verdict).words == []


def test_a_model_that_was_replaced_meanwhile_does_not_speak_for_the_old_one() -> None:
    """Words and neighbours are of the model that judged, or there are none."""
    classifier = classifier_of(FakeModel())
    line = LogLine("bad disk")
    verdict = judged(classifier, line)
    successor = FakeModel()
    successor.version = "fake-2"
    classifier.serve(successor, None)
    explanation = classifier.explain(line, verdict)
    assert (explanation.words, explanation.nearest, explanation.said_by) == ([], [], "model")


def test_the_caller_speaks_between_calls_and_may_stop_them() -> None:
    """A slow model's calls stay short, `between_calls` comes before each, and what it raises is the caller's own."""
    model = FakeModel()
    model.call_lines = 4
    classifier = classifier_of(model)
    line = LogLine("bad disk in the rack of the hall")
    verdict = judged(classifier, line)
    asked = 0

    def between() -> None:
        nonlocal asked
        asked += 1

    classifier.explain(line, verdict, between)
    assert [len(call) for call in model.exact_calls] == [4, 4, 1]
    assert asked == 3

    def stop() -> None:
        raise ClaimLost

    with pytest.raises(ClaimLost):
        classifier.explain(line, verdict, stop)


@pytest.mark.parametrize(
    "message", ["", " ", "💥" * 300, "!!! ???", "数据库连接失败", "\ud800", "a" * 1_000_000, "\u202eabc"]
)
def test_any_line_can_be_explained(message: str) -> None:
    """Empty, huge, without a word, in any script: an explanation, never an exception."""
    classifier = classifier_of(FakeModel())
    line = LogLine(message)
    assert classifier.explain(line, judged(classifier, line)).said_by == "model"
