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
from tokenizers import Tokenizer

from harkline_training.dataset import Example
from harkline_workers.backends.encoder import PackedEncoder, batch_rows
from harkline_workers.packing import pack

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


def keyword_scores(inputs: Sequence[str]) -> NDArray[np.float64]:
    """Score lines by the loudest keyword that they hold."""
    return np.array([next((score for score, pattern in _KEYWORDS if pattern.search(text)), 0.0) for text in inputs])


def tfidf_scores(train: Sequence[Example], inputs: Sequence[str]) -> NDArray[np.float64]:
    """Score lines by logistic regression over word and word-pair weights learned from the same training lines."""
    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, tokenizer=str.split, token_pattern=None),
        LogisticRegression(C=10.0, max_iter=1000, class_weight="balanced"),
    )
    pipeline.fit([example.model_input for example in train], [example.template.critical for example in train])
    chances: NDArray[np.float64] = pipeline.predict_proba(list(inputs))[:, 1]
    return chances


def frozen_scores(
    encoder: PackedEncoder, tokenizer: Tokenizer, train: Sequence[Example], inputs: Sequence[str]
) -> NDArray[np.float64]:
    """Score lines by logistic regression over what the encoder says before any fine-tuning."""
    head = LogisticRegression(C=10.0, max_iter=2000, class_weight="balanced")
    head.fit(
        _vectors(encoder, tokenizer, [example.model_input for example in train]),
        [example.template.critical for example in train],
    )
    chances: NDArray[np.float64] = head.predict_proba(_vectors(encoder, tokenizer, inputs))[:, 1]
    return chances


@torch.inference_mode()
def _vectors(encoder: PackedEncoder, tokenizer: Tokenizer, inputs: Sequence[str]) -> NDArray[np.float32]:
    encoder.eval()
    rows = pack([encoding.ids for encoding in tokenizer.encode_batch_fast(list(inputs))])
    vectors = np.zeros((len(inputs), encoder.config.hidden_size), dtype=np.float32)
    for start in range(0, len(rows), 8):
        batch, lines = batch_rows(rows[start : start + 8])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            vectors[lines] = encoder.pool(*batch).float().numpy()
    return vectors
