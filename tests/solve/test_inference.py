"""Rank and covariance read off an information matrix."""

import numpy as np
import pytest

from bimixjax.solve import infer


def test_covariance_is_the_inverse_information():
    jacobian = np.random.default_rng(0).normal(size=(30, 3)) * [1.0, 1e4, 1e-3]
    information = jacobian.T @ jacobian
    known = infer(information, 0.25, np.zeros(3, bool))
    np.testing.assert_allclose(known.covariance, 0.25 * np.linalg.inv(information), rtol=1e-9)
    assert known.rank == 3
    assert known.identified.all()


def test_a_held_unknown_has_no_error_and_leaves_the_others():
    jacobian = np.random.default_rng(1).normal(size=(30, 3))
    information = jacobian.T @ jacobian
    known = infer(information, 1.0, np.array([False, True, False]))
    rest = np.ix_([0, 2], [0, 2])
    np.testing.assert_allclose(known.covariance[rest], np.linalg.inv(information[rest]), rtol=1e-9)
    assert np.isnan(known.standard_errors[1])


def test_confounded_unknowns_are_named_and_others_kept():
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=20), rng.normal(size=20)
    jacobian = np.stack([one, 2 * one, other], axis=1)
    known = infer(jacobian.T @ jacobian, 1.0, np.zeros(3, bool))
    assert known.identified.tolist() == [False, False, True]
    assert known.rank == 2
    assert np.isfinite(known.standard_errors).tolist() == [False, False, True]


def test_an_unknown_without_any_effect_is_not_identified():
    known = infer(np.diag([4.0, 0.0]), 1.0, np.zeros(2, bool))
    assert known.identified.tolist() == [True, False]
    assert known.standard_errors[0] == pytest.approx(0.5)


def test_lanes_side_by_side_are_those_apart():
    rng = np.random.default_rng(3)
    jacobians = rng.normal(size=(6, 20, 3))
    jacobians[1, :, 2] = 0.0
    jacobians[2, :, 1] = 2 * jacobians[2, :, 0]
    information = jacobians.swapaxes(-2, -1) @ jacobians
    information[3, 0, 0] = np.nan
    held = np.zeros((6, 3), bool)
    held[4, 1], held[5] = True, True
    variance = rng.uniform(size=6)
    together = infer(information, variance, held)
    assert together.rank.tolist() == [3, 2, 2, 0, 2, 0]
    assert np.isnan(together.condition).tolist() == [False, False, False, True, False, True]
    assert together.identified[2:4].tolist() == [[False, False, True], [False, False, False]]
    for lane in range(6):
        one = infer(information[lane], variance[lane], held[lane])
        for name in ("identified", "covariance", "condition", "rank"):
            np.testing.assert_allclose(getattr(together, name)[lane], getattr(one, name), rtol=1e-9)
