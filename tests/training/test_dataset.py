"""The corpus keeps its rules, no system is learned from and judged by, and the same seed gives the same lines."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from harkline_training.dataset import (
    CorpusError,
    System,
    evaluation_examples,
    fingerprint,
    load_corpus,
    render,
    split_systems,
    training_examples,
    without_level,
)
from harkline_training.slots import SLOTS, fill
from harkline_workers.normalise import LEVELS, normalise

HEAD = {"system": "pump", "domain": "iot", "envelopes": ["{ts} {host} pump[{pid}]: {level} {message}"]}
GOOD = {"template": "pump {n} lost pressure", "logged": "ERR", "level": "error", "category": "iot", "reason": "lost"}


@pytest.fixture(scope="module")
def corpus() -> list[System]:
    return load_corpus()


def test_the_corpus_is_valid(corpus: list[System]) -> None:
    """Every file of the repository's corpus loads, and together they hold every level and both sides of the pager."""
    templates = [template for system in corpus for template in system.templates]
    assert len(corpus) >= 80
    assert {template.level for template in templates} == set(LEVELS)
    assert 0.2 < sum(template.critical for template in templates) / len(templates) < 0.6
    assert sum(template.contrast is not None for template in templates) / len(templates) > 1 / 3


def test_every_template_renders_in_every_envelope(corpus: list[System]) -> None:
    """No rendered line keeps a slot, and none is empty for the model."""
    rng = Random(3)
    for system in corpus:
        for template in system.templates:
            line = render(template, system, rng, show_level=True)
            assert line.strip()
            assert normalise(line).model_input.split(" | ", 1)[1]


@pytest.mark.parametrize("slot", sorted(SLOTS))
def test_every_slot_is_drawn_from_the_seed_alone(slot: str) -> None:
    """A slot's values follow from the generator, and are never empty."""
    first, second = ([fill(f"{{{slot}}}", Random(seed)) for seed in range(20)] for _ in range(2))
    assert first == second
    assert all(first)


def test_splits_are_by_system_and_cover_every_fold(corpus: list[System]) -> None:
    """Each system is held out exactly once over the folds, and never in its own fold's training part."""
    held_out: list[str] = []
    for fold in range(3):
        split = split_systems(corpus, folds=3, fold=fold)
        names = [system.name for system in split.held_out]
        assert not set(names) & {system.name for system in split.train}
        assert len(split.train) + len(names) == len(corpus)
        held_out += names
    assert sorted(held_out) == sorted(system.name for system in corpus)


def test_a_system_keeps_its_fold_when_the_corpus_grows(corpus: list[System]) -> None:
    """Half the corpus is split as it is within the whole."""
    whole = {system.name for system in split_systems(corpus).held_out}
    half = corpus[::2]
    assert {system.name for system in split_systems(half).held_out} == whole & {system.name for system in half}


def test_rendering_is_deterministic(corpus: list[System]) -> None:
    """The same seed gives the same examples, another seed others."""
    few = corpus[:3]
    assert training_examples(few, 2, seed=5) == training_examples(few, 2, seed=5) != training_examples(few, 2, seed=6)
    assert evaluation_examples(few) == evaluation_examples(few)


def test_training_levels_are_shown_hidden_and_lied_about(corpus: list[System]) -> None:
    """Many lines carry no level, and every level comes with every truth, so that none can be the answer."""
    examples = training_examples(corpus, 2, seed=0)
    shown = [example.model_input.split(" | ", 1)[0] for example in examples]
    assert 0.4 < shown.count("none") / len(shown) < 0.75
    pairs = {(level, example.template.level) for level, example in zip(shown, examples, strict=True)}
    assert {(level, truth) for level in LEVELS for truth in LEVELS} <= pairs


def test_evaluation_hides_every_level(corpus: list[System]) -> None:
    """No evaluation line shows its level, not even one that is written into the line itself."""
    assert all(example.model_input.startswith("none | ") for example in evaluation_examples(corpus[:20]))
    assert without_level("2026-11-22 10:00:00 ERROR disk full") == "none | disk full"


def test_the_fingerprint_follows_the_corpus(corpus: list[System]) -> None:
    """Another corpus has another fingerprint."""
    assert fingerprint(corpus) == fingerprint(load_corpus()) != fingerprint(corpus[1:])


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([], "no \\*.jsonl"),
        ([GOOD], "first row must hold system"),
        ([HEAD | {"system": "valve"}, GOOD], "describes 'valve'"),
        ([HEAD | {"envelopes": ["{ts} nothing"]}, GOOD], "must hold {message} once"),
        ([HEAD, GOOD | {"level": "fatal"}], "pump.jsonl:2: level is 'fatal'"),
        ([HEAD, GOOD | {"category": "pumps"}], "category is 'pumps'"),
        ([HEAD, GOOD | {"contrast": "odd"}], "contrast is 'odd'"),
        ([HEAD, GOOD | {"colour": "red"}], "unknown field 'colour'"),
        ([HEAD, {"template": "x"}], "lacks category, level, logged, reason"),
        ([HEAD, GOOD | {"template": "{pressure} low"}], "unknown slot {pressure}"),
        ([HEAD, GOOD | {"template": '{"a": 1}'}], "double"),
        ([HEAD, GOOD, GOOD | {"level": "info"}], "pump says info, pump said error"),
    ],
)
def test_a_fault_in_the_corpus_is_named(tmp_path: Path, rows: list[dict[str, Any]], problem: str) -> None:
    """Each broken rule is reported with its file, and none goes unseen."""
    if rows:
        (tmp_path / "pump.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n", "utf-8")
    with pytest.raises(CorpusError, match=problem):
        load_corpus(tmp_path)
