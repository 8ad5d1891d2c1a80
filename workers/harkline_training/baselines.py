"""What a simpler thing would have scored on the same splits: if one of these is as good as the model, the model is not worth its cost."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from harkline_training.checkpoint import base_directory, load_encoder, load_tokenizer
from harkline_training.dataset import System, training_examples
from harkline_training.kept import KeptRows
from harkline_training.scoring import Answer, Run, weights_digest
from harkline_workers.backends.encoder import batch_rows
from harkline_workers.packing import pack

# A keyword's score is no probability: this is where "error" words begin, and what a trained baseline takes for even odds.
THRESHOLD = 0.5

# What people grep for, in three steps of alarm.
_KEYWORDS = (
    (
        1.0,
        re.compile(
            r"\b(panic|fatal|emerg\w*|corrupt\w*|out of memory|oom|segfault|unrecoverable|data loss|quorum lost)\b",
            re.IGNORECASE,
        ),
    ),
    (
        0.8,
        re.compile(
            r"\b(error|exception|failed|failure|crash\w*|abort\w*|unreachable|denied|refused|no space)\b|\b5xx\b",
            re.IGNORECASE,
        ),
    ),
    (0.4, re.compile(r"\b(warn\w*|timeout|timed out|retry\w*|cannot|could not|unable|lost|invalid)\b", re.IGNORECASE)),
)
_RENDERINGS = 2


class Baselines:
    """The three of them, over one rendering of the corpus, of which each split takes the systems that it may learn from."""

    def __init__(self, systems: Sequence[System], run: Run) -> None:
        self._examples = training_examples(systems, _RENDERINGS, seed=0)
        base = base_directory()
        self._encoder = load_encoder(base, dropout=0.0).eval()
        self._tokenizer = load_tokenizer(base)
        self._vectors = KeptRows(run.keep / f"vectors-{weights_digest(base)}.npz", afresh=run.afresh)
        self._progress = run.progress

    def answers(self, inputs: Sequence[str], learn_from: frozenset[str] | None = None) -> dict[str, Answer]:
        """Score model inputs by each, trained on the systems named, or on all."""
        examples = [
            example for example in self._examples if learn_from is None or example.template.system in learn_from
        ]
        lines = [example.model_input for example in examples]
        critical = np.array([example.template.critical for example in examples])
        vectors = self._vectors_of([*lines, *inputs])
        return {
            "keyword rules": Answer(keyword_scores(inputs)),
            "TF-IDF + regression": Answer(tfidf_scores(lines, critical, inputs)),
            "frozen MiniLM + head": Answer(frozen_scores(vectors[: len(lines)], critical, vectors[len(lines) :])),
        }

    def _vectors_of(self, lines: Sequence[str]) -> NDArray[np.floating]:
        return self._vectors.rows(lines, self._pool, "frozen MiniLM", self._progress)

    @torch.inference_mode()
    def _pool(self, lines: Sequence[str]) -> NDArray[np.float16]:
        rows = pack([encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(lines))])
        vectors = np.zeros((len(lines), self._encoder.config.hidden_size), dtype=np.float16)
        for start in range(0, len(rows), 8):
            batch, places = batch_rows(rows[start : start + 8])
            with torch.autocast("cpu", dtype=torch.bfloat16):
                vectors[places] = self._encoder.pool(*batch).float().numpy()
        return vectors


def keyword_scores(inputs: Sequence[str]) -> NDArray[np.float64]:
    """Score lines by the loudest keyword that they hold."""
    return np.array([next((score for score, pattern in _KEYWORDS if pattern.search(text)), 0.0) for text in inputs])


def tfidf_scores(lines: Sequence[str], critical: NDArray[np.bool_], inputs: Sequence[str]) -> NDArray[np.float64]:
    """Score inputs by logistic regression over word and word-pair weights learned from the training lines."""
    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, tokenizer=str.split, token_pattern=None),
        LogisticRegression(C=10.0, max_iter=1000, class_weight="balanced"),
    )
    pipeline.fit(list(lines), critical)
    chances: NDArray[np.float64] = pipeline.predict_proba(list(inputs))[:, 1]
    return chances


def frozen_scores(
    vectors: NDArray[np.floating], critical: NDArray[np.bool_], of_inputs: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Score inputs by logistic regression over what the encoder says before any fine-tuning."""
    head = LogisticRegression(C=10.0, max_iter=2000, class_weight="balanced")
    head.fit(vectors.astype(np.float32), critical)
    chances: NDArray[np.float64] = head.predict_proba(of_inputs.astype(np.float32))[:, 1]
    return chances
