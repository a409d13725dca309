import numpy as np
import pytest

from models.evaluation import intervals
from models.evaluation.calibration import bin_of, calibration_error, resampled_errors
from models.evaluation.intervals import between, difference, generator, interval, resampled_share, resampled_sums
from models.evaluation.per_class import class_mean, resampled_class_means

RNG = np.random.default_rng(0)


def copied(values, replicates=20_000):
    """The plain bootstrap: means of copies drawn one by one."""
    return np.array([values[row].mean() for row in RNG.integers(0, len(values), (replicates, len(values)))])


def test_counting_distinct_rows_scatters_as_copies_do():
    values = RNG.choice([0.0, 0.25, 1.0], 40)
    drawn = resampled_sums(values[:, None], generator("a"), 20_000)[:, 0] / 40
    plain = copied(values)
    assert between(drawn) == pytest.approx(between(plain), abs=0.01)
    assert drawn.std() == pytest.approx(plain.std(), rel=0.03)


def test_columns_are_drawn_together():
    rows = np.stack([np.arange(5.0), 10 - 2 * np.arange(5.0)], axis=1)
    first, second = resampled_sums(rows, generator("a")).T
    assert np.allclose(second, 50 - 2 * first)
    assert first.std() > 0


def test_cutting_the_work_changes_no_digit(monkeypatch):
    rows = RNG.normal(size=(30, 2))
    whole = resampled_sums(rows, generator("a"))
    monkeypatch.setattr(intervals, "CELLS_AT_ONCE", 100)
    assert (resampled_sums(rows, generator("a")) == whole).all()


def test_equal_names_draw_equally_and_others_do_not():
    values = RNG.normal(size=50)
    assert interval(values, "set", "metric") == interval(values[::-1], "set", "metric")
    assert interval(values, "set", "metric") != interval(values, "other", "metric")


def test_an_interval_covers_the_truth_as_often_as_it_says():
    covered = [low <= 0.7 <= high for low, high in (interval(RNG.random(100) < 0.7, str(i)) for i in range(400))]
    assert 0.91 < np.mean(covered) < 0.98


def test_an_interval_leaves_out_as_much_below_as_above():
    assert between(np.arange(1001.0)) == pytest.approx((25, 975))


def test_a_share_scatters_as_its_hits_and_misses_do():
    drawn = resampled_share(30, 100, generator("a"), 20_000)
    assert drawn.std() == pytest.approx(np.sqrt(0.3 * 0.7 / 100), rel=0.03)


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="at least one image"):
        interval([], "a")


def test_pairing_shows_what_the_means_alone_hide():
    a = RNG.random(2000) < 0.5
    b = a.copy()
    b[np.flatnonzero(a)[:12]] = False  # twelve images fewer, of two thousand
    paired = difference(a, b, "set")
    assert paired.value == pytest.approx(12 / 2000)
    assert 0 < paired.low < paired.value < paired.high
    assert paired.p < 0.01
    assert difference(a, np.roll(b, 1), "set").p > 0.1


def test_the_p_value_of_hits_is_that_of_mcnemar():
    a, b = np.repeat([1, 0, 1, 0], [9, 2, 40, 40]), np.repeat([0, 1, 1, 0], [9, 2, 40, 40])
    exact = 2 * (1 + 11 + 55) / 2**11  # two-sided binomial: at most 2 of 11
    assert difference(a, b, "set").p == pytest.approx(exact, abs=0.005)


def test_equal_checkpoints_do_not_differ():
    assert difference([1, 0, 1], [1, 0, 1], "set") == (0, 0, 0, 1)


def test_differences_that_sum_to_nothing_but_rounding_prove_nothing():
    a, b = [0.675, 0.35, 0, 0.675, 0.675, 0.35, 0.85], [0.675, 0.7, 0, 0.5, 0.5, 1.025, 0.175]
    assert sum(a) - sum(b) == pytest.approx(0) and np.subtract(a, b).sum() != 0
    assert difference(a, b, "set").p == 1


def test_p_values_are_uniform_where_nothing_differs():
    p = [difference(RNG.random(60) < 0.5, RNG.random(60) < 0.5, str(i)).p for i in range(200)]
    assert 0.02 < np.mean(np.array(p) < 0.1) < 0.17


def test_values_of_other_images_are_refused():
    with pytest.raises(ValueError, match="cannot be paired"):
        difference([1, 0], [1], "set")


def test_calibration_error_equals_a_plain_loop_over_bins():
    confidence = RNG.random(500).astype(np.float32)
    confidence[:3] = 0, 1, np.float32(0.2)
    hit = np.ceil(confidence * 15) % 2 == 0  # too sure and too unsure by turns, which merged bins would hide
    error = 0
    for i in range(15):
        inside = [k for k in range(500) if i / 15 < float(confidence[k]) <= (i + 1) / 15 or i == confidence[k] == 0]
        error += abs(sum(float(confidence[k]) - bool(hit[k]) for k in inside)) / 500
    assert calibration_error(confidence, hit) == pytest.approx(error)


def test_calibration_error_of_limits():
    assert calibration_error(np.ones(4), np.ones(4, bool)) == 0
    assert calibration_error(np.ones(4), np.zeros(4, bool)) == 1
    assert bin_of(np.array([0.0, 1e-9, 0.1, 1.0])).tolist() == [0, 0, 1, 14]
    with pytest.raises(ValueError, match="softmax or sigmoid"):
        calibration_error(np.array([1.2]), np.array([True]))


@pytest.mark.parametrize("images, sharpness, accuracy", [(300, 2, 0.8), (60, 2, 0.8), (200, 99, 1.0)])
def test_resampled_calibration_errors_scatter_as_those_of_copies(images, sharpness, accuracy):
    random = np.random.default_rng(images)
    confidence = random.beta(2 * sharpness, 2, images).astype(np.float32)
    hit = random.random(images) < (confidence * accuracy if accuracy < 1 else 1)
    drawn = resampled_errors(confidence, hit, generator("a"), 5000)
    rows = random.integers(0, images, (5000, images))
    plain = np.array([calibration_error(confidence[row], hit[row]) for row in rows])
    assert drawn.mean() == pytest.approx(plain.mean(), rel=0.02)
    assert drawn.std() == pytest.approx(plain.std(), rel=0.05)


def test_class_means_scatter_as_images_resampled_within_their_class():
    target = np.repeat([0, 1, 2, 5], [3, 3, 10, 40])
    hit = RNG.random(56) < 0.6
    drawn = resampled_class_means(target, hit, generator("a"), 20_000)
    means = {c: copied(hit[target == c].astype(float)) for c in (0, 1, 2, 5)}
    found = {c: hit[target == c].mean() for c in means}
    plain = sum((means[c] - found[c]) * np.sqrt(n / (n - 1)) for c, n in zip(means, (3, 3, 10, 40), strict=True)) / 4
    assert class_mean(target, hit) == pytest.approx(np.mean(list(found.values())))
    assert drawn.mean() == pytest.approx(class_mean(target, hit), abs=0.005)
    assert drawn.std() == pytest.approx(plain.std(), rel=0.03)


@pytest.mark.parametrize("images", [1, 2, 3, 20])
def test_class_means_cover_the_truth_as_often_however_few_images_a_class_has(images):
    classes, covered = 120 // images, []
    for i in range(200):
        truth, target = RNG.beta(2, 1, classes), np.repeat(np.arange(classes), images)
        low, high = between(resampled_class_means(target, RNG.random(len(target)) < truth[target], generator(str(i))))
        covered.append(low <= truth.mean() <= high)
    assert 0.89 < np.mean(covered) <= 1


@pytest.mark.parametrize("target, hit, ends", [
    ([4], [True], (1, 1)),
    ([0, 1], [False, False], (0, 0)),
    ([0, 0, 3], [True, False, True], ((3 - 2**0.5) / 4, 1)),
])  # fmt: skip
def test_class_means_of_hardly_any_image_stay_within_0_and_1(target, hit, ends):
    drawn = resampled_class_means(np.array(target), np.array(hit), generator("a"))
    assert (drawn.min(), drawn.max()) == pytest.approx(ends)
