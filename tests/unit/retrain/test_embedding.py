"""The bundled encoder: alike meanings are near, and equal texts have equal vectors."""

import numpy as np
import pytest

from retrain.embedding import encode


def test_other_words_for_the_same_are_nearer_than_the_same_words_for_something_else():
    vectors = encode(["The car broke down", "My automobile has a breakdown", "The car park is full"])
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_vectors_have_unit_length_and_do_not_hang_on_their_neighbours():
    alone, beside = (
        encode(["a claim"]),
        encode(["a claim", "a much longer sentence about something else " * 20]),
    )
    assert np.linalg.norm(beside, axis=1) == pytest.approx(1)
    assert alone[0] == pytest.approx(beside[0], abs=1e-5)


def test_no_texts_have_no_vectors():
    assert encode([]).shape == (0, 384)
