"""The bidirectional loss: distances, the two directions, the traps, the balances."""

import functools
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

from pdn_jax import balance, degradation, losses, metrics, physics
from pdn_jax import image as im
from pdn_jax.types import Batch

CAMERA = degradation.camera()
SINGLE = losses.positive(structure=0, stages=0, levels=0)
"""A positive direction of one term: a balance knows the gradient alone, and it compiles soonest."""


@pytest.fixture(scope="module")
def batch():
    photo = jnp.asarray(skimage.data.astronaut()[:128, 64:256], jnp.float32) / 255
    normal = jnp.stack([photo[:96, :96], photo[32:, 96:]])
    draw = functools.partial(physics.sample_physics, brightness=(0.06, 0.1), snr=(14, 20))
    theta = jax.jit(draw)(jax.random.key(0), normal)
    low = jax.jit(CAMERA.sample)(jax.random.key(1), normal, theta)
    return Batch(low=low, normal=normal, physics=theta)


def output(restored, *, stages=3, levels=3):
    """A network's output that a loss can score, with every stage made from one image."""
    return SimpleNamespace(
        enhanced=tuple(restored for _ in range(stages)),
        denoised=(*(im.pool(restored, 2**level) for level in range(levels - 1, 0, -1)), restored),
        restored=restored,
    )


@chex.dataclass(frozen=True)
class Output:
    enhanced: tuple
    denoised: tuple
    restored: jax.Array


def make(restored, **options):
    return Output(**vars(output(restored, **options)))


def scored(direction, result, batch):
    """A direction's terms, compiled: op by op it takes ten times as long."""
    return jax.jit(direction)(result, result.restored, batch)


@functools.cache
def compiled(function, *options):
    """`function(*options)`, compiled once for all tests."""
    return jax.jit(function(*options))


# --- distances ---------------------------------------------------------------------------------


def test_distances_by_hand():
    a, b = jnp.asarray([0.0, 3.0]), jnp.asarray([0.0, -1.0])
    np.testing.assert_allclose(losses.l1()(a, b), [0, 4])
    np.testing.assert_allclose(losses.charbonnier(3.0)(a, b), [0, 2], atol=1e-6)
    np.testing.assert_allclose(
        losses.gaussian_nll(jnp.asarray([2.0]), jnp.asarray([4.0])),
        0.5 * (1 + np.log(4)),
        rtol=1e-6,
    )


def test_distances_do_not_reduce_and_do_not_broadcast(batch):
    for distance in (losses.l1(), losses.charbonnier()):
        assert distance(batch.low, batch.normal).shape == batch.low.shape
        with pytest.raises(ValueError, match="shapes differ"):
            distance(batch.low, batch.normal[:1])
    assert jax.jit(losses.ssim_loss())(batch.low, batch.normal).shape == (2, 86, 86, 3)


def test_ssim_loss_is_one_minus_ssim(batch):
    ours = losses.per_image(losses.ssim_loss()(batch.low, batch.normal))
    np.testing.assert_allclose(ours, 1 - metrics.ssim(batch.low, batch.normal), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_gradients_are_finite_at_the_ends(batch, value):
    flat = Batch(
        low=jnp.full_like(batch.low, value),
        normal=jnp.full_like(batch.normal, value),
        physics=batch.physics,
    )
    loss = losses.bidirectional(CAMERA)

    def total(restored):
        return loss(make(restored), flat, loss.init())[0]

    gradient = jax.jit(jax.grad(total))
    for restored in (flat.normal, jnp.full_like(flat.normal, 1 - value)):
        assert bool(jnp.isfinite(gradient(restored)).all())


# --- positive direction --------------------------------------------------------------------------


def test_stage_targets_walk_from_dark_to_the_truth(batch):
    targets = losses.stage_targets(batch.low, batch.normal, 4)
    means = [float(target.mean()) for target in targets]
    assert means == sorted(means)
    assert float(batch.low.mean()) < means[0]
    np.testing.assert_array_equal(targets[-1], batch.normal)
    kappa = im.match_exposure(batch.low, batch.normal)
    back = im.expose_curve(targets[1], im.broadcast(kappa * -0.5, batch.normal))
    np.testing.assert_allclose(back, jnp.maximum(batch.normal, im.FLOOR), atol=2e-2)


def test_stage_targets_are_the_real_exposures_between(batch):
    """Frames exactly on the path, marked by a tint, are found where they belong."""
    low = im.expose_curve(batch.normal, jnp.log(jnp.full((2, 1, 1, 1), 0.05)))
    plain = losses.stage_targets(low, batch.normal, 4)
    tint = jnp.asarray([1.02, 1.0, 0.98]).reshape(1, 1, 1, 3)
    between = jnp.stack([plain[0] * tint, plain[2]], axis=1)
    targets = losses.stage_targets(low, batch.normal, 4, between)
    np.testing.assert_allclose(targets[0], plain[0] * tint, atol=0.01)
    assert float(jnp.abs(targets[0] - plain[0]).mean()) > 0.5 * float(
        jnp.abs(plain[0] * (tint - 1.0)).mean()
    )
    np.testing.assert_allclose(targets[2], plain[2], atol=0.01)
    np.testing.assert_array_equal(targets[3], batch.normal)
    # the second stage has no frame of its own: the nearest is moved along the path
    np.testing.assert_allclose(targets[1].mean(), plain[1].mean(), atol=0.01)


def test_the_truth_between_changes_nothing(batch):
    """As for pairs in a mixture with brackets: x itself stands in for frames that are not there."""
    between = jnp.stack([batch.normal] * 3, axis=1)
    ours = losses.stage_targets(batch.low, batch.normal, 4, between)
    for mine, other in zip(ours, losses.stage_targets(batch.low, batch.normal, 4), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-3)


@pytest.mark.slow
def test_positive_scores_against_the_frames_between(batch):
    dark = make(batch.normal * 0.5)
    between = jnp.stack([batch.normal[:, ::-1] * 0.5] * 2, axis=1)  # turned over
    without = scored(losses.positive(), dark, batch)["stages"]
    within = scored(losses.positive(), dark, batch.replace(between=between))["stages"]
    assert float(jnp.abs(within - without).min()) > 1e-4


def test_positive_is_zero_at_the_truth_and_grows_with_the_error(batch):
    direction = jax.jit(losses.positive())
    truth = make(batch.normal, stages=1)
    for name, value in direction(truth, truth.restored, batch).items():
        np.testing.assert_allclose(value, 0, atol=2e-6, err_msg=name)
    sums = []
    for error in (0.05, 0.1, 0.2):
        wrong = make(batch.normal + error, stages=1)
        sums.append(float(sum(v.mean() for v in direction(wrong, wrong.restored, batch).values())))
    assert 0 < sums[0] < sums[1] < sums[2]


def test_positive_counts_each_term_as_weighed(batch):
    wrong = make(batch.normal * 0.8)
    terms = scored(losses.positive(structure=0.5, stages=0.2, levels=0.4), wrong, batch)
    double = scored(losses.positive(structure=1.0, stages=0.4, levels=0.8), wrong, batch)
    for name in ("structure", "stages", "levels"):
        np.testing.assert_allclose(double[name], 2 * terms[name], rtol=1e-6)
    rho = losses.charbonnier()
    by_hand = [
        losses.per_image(rho(im.pool(batch.normal * 0.8, f), im.pool(batch.normal, f)))
        for f in (4, 2)
    ]
    np.testing.assert_allclose(terms["levels"], 0.4 * sum(by_hand) / 2, rtol=1e-5)
    only = losses.positive(structure=0, stages=0, levels=0)(wrong, wrong.restored, batch)
    assert set(only) == {"restored"}


def test_a_blind_share_does_not_count_one_gain(batch):
    dim = make(0.8 * batch.normal, stages=1, levels=1)
    options = {"stages": 0, "levels": 0, "noise": 0}
    plain, half, blind = (
        scored(losses.positive(blind=share, **options), dim, batch) for share in (0.0, 0.5, 1.0)
    )
    assert float(plain["restored"].min()) > 0.03
    for name in ("restored", "structure"):
        np.testing.assert_allclose(blind[name], 0, atol=2e-3)
        np.testing.assert_allclose(half[name], 0.5 * (plain[name] + blind[name]), rtol=1e-4)


def test_a_gain_has_no_slope_where_all_is_blind(batch):
    """What is left of the slope is of the structure alone: noise is to go, the mean may stay."""
    direction = losses.gain_blind(losses.restored_term(losses.l1()), 1.0)
    noise = 0.05 * jax.random.normal(jax.random.key(3), batch.normal.shape)

    @jax.jit
    @jax.grad
    def slope(gains):
        dim = 0.7 * batch.normal + gains[0] * noise
        return direction(None, gains[1] * dim, batch)["restored"].sum()

    by_noise, by_gain = slope(jnp.ones(2))
    assert abs(by_gain) < 1e-5 < 0.02 < by_noise


@pytest.mark.slow
def test_a_new_term_is_one_function(batch):
    """By hand: ½·(mean of x̂ − mean of x)² beside the usual terms, in the total and its gradient."""

    def brightness(output, restored, batch):
        gap = losses.per_image(restored) - losses.per_image(batch.normal)
        return {"brightness": 0.5 * gap**2}

    dark = make(batch.normal * 0.8)
    together = losses.combine(losses.positive(), brightness)
    terms = scored(together, dark, batch)
    assert set(terms) == {"restored", "structure", "stages", "levels", "brightness"}
    gap = 0.2 * batch.normal.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(terms["brightness"], 0.5 * gap**2, rtol=1e-5)

    def measured(positive, restored):
        loss = losses.bidirectional(CAMERA, positive=positive, balance=losses.positive_only())
        return loss(make(restored), batch, loss.init())[0]

    with_it, without = (
        jax.jit(jax.value_and_grad(functools.partial(measured, direction)))(dark.restored)
        for direction in (together, losses.positive())
    )
    np.testing.assert_allclose(with_it[0] - without[0], (0.5 * gap**2).mean(), rtol=1e-3)
    slope = -gap[:, None, None, None] / (batch.normal[0].size * 2)
    np.testing.assert_allclose(
        with_it[1] - without[1], jnp.broadcast_to(slope, batch.normal.shape), rtol=0.02
    )


def test_terms_of_one_name_are_refused(batch):
    twice = losses.combine(losses.positive(), losses.positive())
    with pytest.raises(ValueError, match="'levels'"):
        twice(make(batch.normal), batch.normal, batch)
    assert losses.combine()(None, batch.normal, batch) == {}


def test_stages_are_scored_without_their_noise(batch):
    """White noise on a stage costs little; as much of a smooth error costs it all."""
    noise = 0.1 * jax.random.normal(jax.random.key(2), batch.normal.shape)
    direction = jax.jit(losses.positive())

    def cost(image):
        return float(direction(make(image, stages=1), batch.normal, batch)["stages"].mean())

    assert cost(batch.normal + noise) < 0.15 * cost(batch.normal + 0.1)


def test_noise_error_by_hand(batch):
    estimate = SimpleNamespace(shot=2 * batch.physics.shot_noise, read=batch.physics.read_noise)
    error = losses.noise_error(estimate, batch.physics)
    np.testing.assert_allclose(error, 0.5 * np.log(2) ** 2, rtol=1e-4)
    without = batch.physics.replace(shot_noise=jnp.zeros(2))
    np.testing.assert_allclose(losses.noise_error(estimate, without), 0, atol=1e-6)


# --- negative direction ------------------------------------------------------------------------

MEAN, SLOPE = jax.jit(CAMERA.mean), jax.jit(CAMERA.slope)
RESIDUALS = {"whitened": losses.whitened(), "likelihood": losses.likelihood()}


@pytest.mark.parametrize("residual", RESIDUALS.values(), ids=RESIDUALS)
class TestNegative:
    def score(self, residual, image, batch, degrade=CAMERA):
        return compiled(losses.hinged, residual, degrade)(None, image, batch)["negative"]

    def test_is_nothing_at_the_truth(self, residual, batch):
        # Not compiled: a program may round the two sides of the hinge each in its own way.
        score = losses.hinged(residual, CAMERA)(None, batch.normal, batch)["negative"]
        np.testing.assert_array_equal(score, 0)

    def test_counts_only_images_whose_physics_is_known(self, residual, batch):
        every = self.score(residual, batch.normal * 0.7, batch)
        some = self.score(
            residual, batch.normal * 0.7, batch.replace(known=jnp.asarray([0.0, 1.0]))
        )
        np.testing.assert_array_equal(some, every * jnp.asarray([0.0, 1.0]))

    @pytest.mark.parametrize("factor", [0.7, 0.9, 1.1, 1.3])
    def test_sees_wrong_brightness(self, residual, batch, factor):
        assert self.score(residual, batch.normal * factor, batch).min() > 1e-3

    def test_sees_wrong_colour(self, residual, batch):
        tinted = batch.normal * jnp.asarray([1.15, 1.0, 0.85]).reshape(1, 1, 1, 3)
        assert self.score(residual, tinted, batch).min() > 1e-3

    def test_sees_a_wrong_colour_of_the_right_brightness(self, residual, batch):
        """Only a θ of its own can: a re-darkening by the network's own path is blind to it."""
        swapped = batch.normal[..., ::-1]
        assert self.score(residual, swapped, batch).min() > 1e-3

    def test_grows_with_the_error(self, residual, batch):
        scores = [
            float(self.score(residual, batch.normal * f, batch).mean()) for f in (0.9, 0.8, 0.6)
        ]
        assert scores == sorted(scores)

    @pytest.mark.slow
    def test_gives_no_reward_for_noise_put_back(self, residual, batch):
        """An image that explains the observation's noise better than the truth scores 0, flat."""
        difference = batch.low - MEAN(batch.normal, batch.physics)
        slope = SLOPE(batch.normal, batch.physics)
        noisy = batch.normal + 0.3 * jnp.where(slope > 0.02, difference / slope, 0.0)
        plain = compiled(functools.partial, residual, CAMERA)
        assert (plain(noisy, batch) < plain(batch.normal, batch)).all()
        score, gradient = jax.value_and_grad(lambda z: self.score(residual, z, batch).sum())(noisy)
        assert float(score) == 0
        np.testing.assert_array_equal(gradient, 0)

    def test_never_moves_the_physics(self, residual, batch):
        def total(theta):
            return self.score(residual, batch.normal * 0.8, batch.replace(physics=theta)).sum()

        chex.assert_trees_all_equal(
            jax.grad(total)(batch.physics), jax.tree.map(jnp.zeros_like, batch.physics)
        )

    def test_pulls_the_brightness_the_right_way(self, residual, batch):
        slope = jax.grad(lambda f: self.score(residual, batch.normal * f, batch).sum())
        assert slope(0.8) < 0 < slope(1.2)


def test_redarkening_by_its_own_path_is_empty(batch):
    """The trap: with θ made from the result itself any result explains the observation."""
    own = degradation.chain(degradation.exposure_curve())
    for wrong in (0.6, 0.9):
        path = jnp.log(wrong)
        restored = im.expose_curve(batch.low, -path)
        theta = degradation.neutral_physics(jnp.full(2, wrong))
        circular = losses.whitened()(own, restored, batch.replace(physics=theta))
        assert circular.max() < 0.02
        independent = losses.hinged(losses.whitened(), CAMERA)(None, restored, batch)
        assert independent["negative"].min() > 0.1


def by_level(residual, degrade, batch, levels=4):
    """The score of each level by itself, mean over the batch: means of more and more, taken apart."""
    means = [
        float(residual(levels=n)(degrade, batch.normal, batch).mean()) for n in range(1, levels + 1)
    ]
    return np.diff([n * mean for n, mean in enumerate([0.0, *means])])


def noisy(deviation, shape=(2, 256, 256, 3)):
    """A grey photograph with white noise of that σ on it, neither clipped nor rounded."""
    theta = degradation.neutral_physics(jnp.ones(2)).replace(
        read_noise=jnp.full(2, deviation**2, jnp.float32)
    )
    degrade, grey = degradation.shot_read_noise(), jnp.full(shape, 0.5)
    low = degrade.sample(jax.random.key(3), grey, theta)
    return degrade, Batch(low=low, normal=grey, physics=theta)


def test_whitened_residuals_of_white_noise_are_unit_gaussians_at_every_level():
    """E|z| = sqrt(2/π) = 0.80 where the noise is far above the floor ε, σ/8 = 16 ε here."""
    degrade, batch = noisy(0.5)
    levels = by_level(lambda levels: losses.whitened(losses.l1(), levels=levels), degrade, batch)
    np.testing.assert_allclose(levels, (2 / np.pi) ** 0.5, rtol=0.02)


def test_whitened_residuals_below_the_floor_count_less():
    """E|z| = 0.80·sqrt(v/(v + ε²)), v the variance of a block mean, σ²/4^level."""
    deviation = 2 * losses.EPSILON
    degrade, batch = noisy(deviation)
    levels = by_level(lambda levels: losses.whitened(losses.l1(), levels=levels), degrade, batch)
    variance = deviation**2 / 4.0 ** np.arange(4)
    expected = (2 / np.pi) ** 0.5 * np.sqrt(variance / (variance + losses.EPSILON**2))
    np.testing.assert_allclose(levels, expected, rtol=0.02)
    np.testing.assert_allclose(expected, [0.714, 0.564, 0.357, 0.194], atol=1e-3)


def smeared(correlation, deviation, side=256):
    """As `noisy`, with noise that `shot_read_noise` would have left with that correlation."""
    degrade, batch = noisy(deviation, (2, side, side, 3))
    noise = np.asarray(batch.low - batch.normal)
    weight = (1 - (1 - 2 * correlation**2) ** 0.5) / (2 * correlation)
    for axis in (1, 2):
        noise = noise + weight * (np.roll(noise, 1, axis) + np.roll(noise, -1, axis))
        noise /= (1 + 2 * weight**2) ** 0.5
    beside = np.mean(noise * np.roll(noise, 1, 1)) / noise.var()
    np.testing.assert_allclose(beside, correlation, atol=0.01)
    return degrade, batch.replace(low=batch.normal + noise)


@pytest.mark.parametrize("correlation", [0.25, 0.5])
def test_whitened_residuals_of_correlated_noise_are_unit_gaussians_where_it_is_known(correlation):
    degrade, batch = smeared(correlation, 0.5, 512)
    known = by_level(
        lambda levels: losses.whitened(losses.l1(), levels=levels, correlation=correlation),
        degrade,
        batch,
    )
    np.testing.assert_allclose(known, (2 / np.pi) ** 0.5, rtol=0.03)
    white = by_level(lambda levels: losses.whitened(losses.l1(), levels=levels), degrade, batch)
    scales = [losses.block_variance(2**level, correlation) ** 0.5 for level in range(4)]
    np.testing.assert_allclose(white / known, scales, rtol=2e-3)


def test_variance_of_block_means_by_hand():
    """ρ₁ = 2g/(1 + 2g²) = 0.25 at g = 0.1292, ρ₂ = 0.0161; Var of the mean of two is (1 + ρ₁)/2."""
    assert losses.block_variance(8, 0.0) == losses.block_variance(1, 0.25) == 1.0
    np.testing.assert_allclose(losses.block_variance(2, 0.25), 1.25**2)
    np.testing.assert_allclose(losses.block_variance(4, 0.25), 1.93, atol=0.01)
    np.testing.assert_allclose(losses.block_variance(8, 0.25), 2.14, atol=0.01)
    with pytest.raises(ValueError, match=r"0\.8"):
        losses.block_variance(2, 0.8)


def test_low_resolution_alone_does_not_see_pixels(batch):
    """An error of opposite signs within every block of 4×4 is nothing there."""
    degrade, batch = noisy(0.1, (2, 32, 32, 3))
    checks = 0.2 * jnp.asarray((-1.0) ** np.indices((32, 32)).sum(0))[None, ..., None]
    coarse, fine = (losses.whitened(levels=3, finest=finest) for finest in (2, 0))
    same = batch.replace(low=batch.normal)
    assert fine(degrade, batch.normal + checks, same).min() > 0.5
    assert coarse(degrade, batch.normal + checks, same).max() < 0.01
    assert coarse(degrade, batch.normal + 0.1, same).min() > 0.5


@pytest.mark.parametrize("correlation", [0.0, 0.25])
def test_expected_is_what_noise_leaves_in_the_mean(correlation):
    """Far above ε and near it, at all levels together."""
    for deviation in (0.5, 2 * losses.EPSILON):
        degrade, batch = smeared(correlation, deviation) if correlation else noisy(deviation)
        options = {"levels": 4, "correlation": correlation}
        least = losses.expected(**options)(degrade, batch.normal, batch)
        left = losses.whitened(losses.l1(), **options)(degrade, batch.normal, batch)
        np.testing.assert_allclose(left, least, rtol=0.03)


def test_a_floor_of_noise_asks_no_truth(batch):
    """Whatever stands in the truth's place, a result that explains the observation costs next to nothing."""
    without = batch.replace(normal=jnp.zeros_like(batch.normal))
    direction = losses.hinged(losses.whitened(), CAMERA, losses.expected())
    right = direction(None, batch.normal, without)["negative"]
    wrong = direction(None, 0.7 * batch.normal, without)["negative"]
    assert right.max() < 0.1
    assert (wrong > 5 * right + 0.2).all()


def test_images_without_a_truth_have_no_positive_direction(batch):
    result = make(batch.normal * 0.9)
    every = scored(losses.where_true(losses.positive()), result, batch)
    some = scored(
        losses.where_true(losses.positive()), result, batch.replace(truth=jnp.array([0.0, 1]))
    )
    for name, value in every.items():
        np.testing.assert_allclose(some[name], value * np.array([0.0, 1.0]), rtol=1e-6)


def test_likelihood_knows_the_variance_of_block_means():
    """E[½(r²/Σ + ln Σ)] = ½(1 + ln(σ²/4^level))."""
    degrade, batch = noisy(0.5)
    levels = by_level(lambda levels: losses.likelihood(levels=levels), degrade, batch)
    variance = 0.25 / 4.0 ** np.arange(4)
    np.testing.assert_allclose(levels, 0.5 * (1 + np.log(variance)), atol=0.02)


@pytest.mark.parametrize("level", [0.1, 0.9])
def test_an_error_counts_by_the_noise_that_is_there(batch, level):
    """Two standard deviations off costs two, in the dark as in the light."""
    normal = jnp.full((1, 32, 32, 3), level)
    theta = jax.tree.map(lambda x: x[:1], batch.physics)
    sigma = jnp.sqrt(CAMERA.variance(normal, theta) + losses.EPSILON**2)
    one = Batch(low=MEAN(normal, theta) + 2 * sigma, normal=normal, physics=theta)
    score = losses.whitened(losses.l1(), levels=1)(CAMERA, normal, one)
    np.testing.assert_allclose(score, 2, rtol=1e-4)


def test_pyramid_levels_stop_at_eight_pixels():
    assert losses.pyramid_levels(jnp.zeros((1, 32, 64, 3)), 6) == [0, 1, 2]
    assert losses.pyramid_levels(jnp.zeros((1, 5, 5, 3)), 6) == [0]
    assert losses.pyramid_levels(jnp.zeros((1, 32, 64, 3)), 6, 1) == [1, 2]


# --- both directions and the balance -----------------------------------------------------------


def run(loss, batch, restored, steps):
    state, history = loss.init(), []
    call = jax.jit(loss.__call__)
    for _ in range(steps):
        total, terms, state = call(make(restored), batch, state)
        history.append((float(total), {name: float(v) for name, v in terms.items()}))
    return history


def test_total_is_the_weighted_sum(batch):
    loss = losses.bidirectional(CAMERA, balance=losses.fixed(0.3))
    total, terms, _ = jax.jit(loss.__call__)(make(batch.normal * 0.8), batch, loss.init())
    assert {"restored", "structure", "stages", "levels", "negative", "positive"} <= set(terms)
    parts = sum(terms[name] for name in ("restored", "structure", "stages", "levels"))
    np.testing.assert_allclose(terms["positive"], parts, rtol=1e-5)
    np.testing.assert_allclose(total, terms["positive"] + 0.3 * terms["negative"], rtol=1e-5)


def test_positive_only_leaves_the_negative_out(batch):
    loss = losses.bidirectional(CAMERA, balance=losses.positive_only())
    total, terms, _ = jax.jit(loss.__call__)(make(batch.normal * 0.8), batch, loss.init())
    assert "negative" not in terms
    np.testing.assert_allclose(total, terms["positive"], rtol=1e-6)


def test_gradient_ratio_reaches_its_target(batch):
    loss = losses.bidirectional(
        CAMERA,
        positive=SINGLE,
        balance=losses.gradient_ratio(0.1, ramp_steps=1, decay=0.5, maximum=1e3),
    )
    history = run(loss, batch, batch.normal * 0.8, 12)
    assert history[0][1]["balance/weight"] == 0
    assert history[-1][1]["balance/ratio"] == pytest.approx(0.1, rel=0.02)


@pytest.mark.slow
def test_gradient_ratio_measures_what_it_says(batch):
    """The logged ratio and cosine, against gradients taken by hand."""
    weight = 0.2
    loss = losses.bidirectional(CAMERA, balance=losses.fixed(weight))
    restored = batch.normal * 0.8
    held = make(restored)
    _, terms, _ = jax.jit(loss.__call__)(held, batch, loss.init())

    def positive(x):
        return sum(v.mean() for v in losses.positive()(held, x, batch).values())

    def negative(x):
        return losses.hinged(losses.whitened(), CAMERA)(held, x, batch)["negative"].mean()

    a, b = jax.jit(jax.grad(positive))(restored), jax.jit(jax.grad(negative))(restored)
    norm = jnp.linalg.norm
    np.testing.assert_allclose(
        terms["balance/ratio"], weight * norm(b.ravel()) / norm(a.ravel()), rtol=1e-4
    )
    cosine = (a * b).sum() / norm(a.ravel()) / norm(b.ravel())
    np.testing.assert_allclose(terms["balance/cosine"], cosine, rtol=1e-4)


@pytest.mark.slow
def test_gradient_ratio_ramps_and_clips(batch):
    slow = losses.bidirectional(
        CAMERA,
        positive=SINGLE,
        balance=losses.gradient_ratio(0.1, ramp_steps=10, decay=0.0, maximum=1e3),
    )
    weights = [terms["balance/weight"] for _, terms in run(slow, batch, batch.normal * 0.8, 13)]
    np.testing.assert_allclose(np.diff(weights[:11]), weights[1], rtol=1e-3)
    np.testing.assert_allclose(weights[11], weights[12], rtol=1e-5)
    capped = losses.bidirectional(
        CAMERA,
        positive=SINGLE,
        balance=losses.gradient_ratio(0.1, ramp_steps=1, decay=0.0, maximum=1e-4),
    )
    assert run(capped, batch, batch.normal * 0.8, 3)[-1][1]["balance/weight"] == pytest.approx(1e-4)


def test_gradient_ratio_holds_while_the_hinge_is_shut(batch):
    dynamic = losses.gradient_ratio(0.1, ramp_steps=1, decay=0.5)
    loss = losses.bidirectional(CAMERA, positive=SINGLE, balance=dynamic)
    call = jax.jit(loss.__call__)
    _, _, state = call(make(batch.normal * 0.8), batch, loss.init())
    before = float(state.average)
    assert before > 0
    worse = batch.replace(normal=batch.normal * 0.8)  # a truth that explains less than x̂ does
    total, _, state = call(make(batch.normal), worse, state)
    assert float(state.average) == before
    assert np.isfinite(float(total))


def test_uncertainty_weights_follow_the_losses():
    learned = losses.uncertainty(0.5)
    state = learned.init()
    one = jnp.ones(())
    for _ in range(200):
        state, _ = learned.update(
            state, balance.GradientStatistics(2 * one, 2 * 0.25 * one, 2 * 4.0 * one, one, one, one)
        )
    weights = learned.weights(state)
    np.testing.assert_allclose(weights.positive, 1 / 0.25, rtol=1e-3)
    np.testing.assert_allclose(weights.negative, 1 / 4.0, rtol=1e-3)


@pytest.mark.slow
def test_uncertainty_stays_bounded_where_the_hinge_is_shut(batch):
    loss = losses.bidirectional(CAMERA, balance=losses.uncertainty(1.0, maximum=5.0))
    history = run(loss, batch, batch.normal, 30)
    assert np.isfinite([total for total, _ in history]).all()


BALANCES = {
    "gradient_ratio": losses.gradient_ratio(ramp_steps=2),
    "fixed": losses.fixed(),
    "positive_only": losses.positive_only(),
    "uncertainty": losses.uncertainty(),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BALANCES.values(), ids=BALANCES)
def test_gradient_statistics_add_up_over_micro_batches(batch, kind):
    """Two halves measured apart and added make the same step as the whole."""
    positive = losses.positive() if kind is BALANCES["gradient_ratio"] else SINGLE
    loss = losses.bidirectional(CAMERA, positive=positive, balance=kind)
    _, _, state = jax.jit(loss.__call__)(make(batch.normal * 0.7), batch, loss.init())
    restored = batch.normal * jnp.asarray([0.8, 1.2])[:, None, None, None]
    measure = jax.jit(loss.measure)
    whole, (_, statistics) = measure(make(restored), batch, state)
    parts = [
        measure(make(restored[i : i + 1]), jax.tree.map(lambda x, i=i: x[i : i + 1], batch), state)
        for i in range(2)
    ]
    np.testing.assert_allclose(whole, (parts[0][0] + parts[1][0]) / 2, rtol=1e-5)
    summed = jax.tree.map(jnp.add, parts[0][1][1], parts[1][1][1])
    together, apart = loss.update(state, statistics)[0], loss.update(state, summed)[0]
    chex.assert_trees_all_close(together, apart, rtol=1e-4)


@pytest.mark.parametrize("kind", BALANCES.values(), ids=BALANCES)
@pytest.mark.slow
def test_loss_is_the_same_jitted_and_its_gradient_finite(batch, kind):
    loss = losses.bidirectional(CAMERA, balance=kind)

    def total(restored, state):
        value, _, state = loss(make(restored), batch, state)
        return value, state

    gradient = jax.value_and_grad(total, has_aux=True)
    (plain, _), slope = gradient(batch.normal * 0.8, loss.init())
    (jitted, _), _ = jax.jit(gradient)(batch.normal * 0.8, loss.init())
    np.testing.assert_allclose(plain, jitted, rtol=1e-5)
    assert bool(jnp.isfinite(slope).all())
    assert float(jnp.abs(slope).max()) > 0


@pytest.mark.slow
def test_no_gradient_flows_through_the_balance(batch):
    """The gradient is that of L_pos + λ·L_neg with λ a number."""
    loss = losses.bidirectional(CAMERA, balance=losses.gradient_ratio(ramp_steps=1, decay=0.0))
    restored = batch.normal * 0.8
    _, _, state = jax.jit(loss.__call__)(make(restored), batch, loss.init())
    weight = float(state.average)
    assert weight > 0
    plain = losses.bidirectional(CAMERA, balance=losses.fixed(weight))

    def slope(loss, state):
        return jax.jit(jax.grad(lambda x: loss(make(x), batch, state)[0]))(restored)

    np.testing.assert_allclose(slope(loss, state), slope(plain, plain.init()), rtol=1e-4, atol=1e-9)


@jax.jit
@jax.value_and_grad
def plain_sum(result, part, positive, negative):
    """w₊·L_pos + w₋·L_neg written out, compiled for all balances at once."""
    terms = losses.positive()(result, result.restored, part).values()
    hinged = losses.hinged(losses.whitened(), CAMERA)(result, result.restored, part)["negative"]
    return positive * sum(v.mean() for v in terms) + negative * hinged.mean()


@pytest.mark.parametrize("size", [(96, 96), (37, 45)])
@pytest.mark.parametrize("kind", ["gradient_ratio", "fixed", "uncertainty"])
@pytest.mark.slow
def test_one_differentiation_is_that_of_the_plain_sum(batch, kind, size):
    """Total and gradient, to every stage of an output, against w₊·L_pos + w₋·L_neg written out."""
    height, width = size
    part = batch.replace(low=batch.low[:, :height, :width], normal=batch.normal[:, :height, :width])
    loss = losses.bidirectional(CAMERA, balance=BALANCES[kind])
    _, _, state = jax.jit(loss.__call__)(make(part.normal * 0.7, levels=1), part, loss.init())
    weights = BALANCES[kind].weights(state)
    assert float(weights.negative) > 0

    def ours(result):
        return loss.measure(result, part, state)[0] ** 2

    result = make(part.normal * 0.8, levels=1)
    total, slopes = jax.jit(jax.value_and_grad(ours))(result)
    expected, wanted = plain_sum(result, part, weights.positive, weights.negative)
    np.testing.assert_allclose(total, expected**2, rtol=1e-5)
    for mine, theirs in zip(jax.tree.leaves(slopes), jax.tree.leaves(wanted), strict=True):
        theirs = 2 * expected * theirs
        size = float(jnp.abs(theirs).max())
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5 * size + 1e-9)


def test_a_step_of_a_users_own_enters_the_loss(batch):
    haze = degradation.step(lambda image, theta: 0.9 * image + 0.05)
    degrade = degradation.chain(CAMERA, haze)
    loss = losses.bidirectional(degrade, positive=SINGLE, balance=losses.fixed(1.0))
    hazy = batch.replace(low=0.9 * batch.low + 0.05)
    call = jax.jit(loss.__call__)
    assert float(call(make(batch.normal), hazy, loss.init())[1]["negative"]) < 1e-6
    assert float(call(make(batch.normal * 0.8), hazy, loss.init())[1]["negative"]) > 1e-3
