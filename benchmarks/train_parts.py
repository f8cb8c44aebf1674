"""What a training step is made of, its memory with and without rematerialisation, and PyTorch's loop."""

import importlib.util
from collections.abc import Generator
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from benchmarks import timing, workers
from benchmarks.count import macs
from pdn_jax import balance, degradation, losses
from pdn_jax.model import VARIANTS
from pdn_jax.types import InputError
from train import build
from train.data import synthesis
from train.step import init_state, make_train_step, rematerialised

AGREE = 1e-3
"""How much PyTorch's first loss and gradient norm may differ from ours, relatively."""


class Setting(NamedTuple):
    """A config put together for one device, and one batch of crops for it."""

    config: Any
    params: Any
    crops: dict[str, Any]

    @property
    def keys(self):
        """The key of each crop."""
        places = np.arange(len(self.crops["normal"]))
        return synthesis.image_keys(jax.random.key(self.config.seed), 0, places)

    def batch(self):
        """The crops, darkened."""
        synthesise = build.synthesiser(self.config, degradation.camera())
        return jax.jit(synthesise)(self.keys, self.crops)

    def score(self):
        """(loss of (params, batch) -> (total, (terms, statistics)), the `Bidirectional`)."""
        loss = build.loss(self.config, degradation.camera())
        apply = rematerialised(build.network(self.config).apply, self.config.train.remat)
        state = loss.init()
        return lambda params, batch: loss.measure(apply(params, batch.low), batch, state), loss

    def step(self):
        """(jitted step of (state, crops), which donates its state; the first state)."""
        _, loss = self.score()
        optimizer = build.optimizer(self.config)
        degrade = degradation.camera()
        step = build.step_maker(
            self.config,
            model=build.network(self.config),
            degrade=degrade,
            loss=loss,
            optimizer=optimizer,
        )(None)
        places = np.arange(len(self.crops["normal"]))
        state = init_state(jax.tree.map(jax.numpy.array, self.params), optimizer, loss)
        return jax.jit(lambda s, c: step(s, c, places), donate_argnums=0), state


def network_macs(setting: Setting) -> tuple[int, int]:
    """Multiply-accumulates of the network for the batch: forward, and in reverse to its parameters."""
    apply, low = build.network(setting.config).apply, jax.eval_shape(setting.batch).low

    def both(params, low):
        output, pull = jax.vjp(lambda params: apply(params, low), params)
        return output, pull(output)

    forward = macs(apply, setting.params, low)
    return forward, macs(both, setting.params, low) - forward


def trainer(setting: Setting):
    """A call that trains on by one step and reads the loss."""
    step, state = setting.step()

    def call():
        nonlocal state
        state, logs = step(state, setting.crops)
        return logs

    return call


def loss_terms(config, degrade) -> dict[str, Any]:
    """Name -> function of (output, batch): each term of the loss, without the others."""
    terms, options = {}, config.loss
    for name in ("restored", "structure", "stages", "levels", "noise"):
        alone = dict.fromkeys(("structure", "stages", "levels", "noise"), 0.0)
        if name != "restored":
            alone[name] = options[name]
        distance = build.DISTANCES[options.distance]()
        direction = losses.positive(distance, **alone, sigma=options.blur)

        def term(output, batch, direction=direction, name=name):
            return direction(output, output.restored, batch)[name].mean()

        terms[name] = term
    residual = losses.whitened(build.DISTANCES[options.distance](), levels=options.pyramid)
    if options.negative == "likelihood":
        residual = losses.likelihood(levels=options.pyramid)
    negative = losses.hinged(residual, degrade)
    terms["negative"] = lambda o, batch: negative(o, o.restored, batch)["negative"].mean()
    return terms


def part_times(setting: Setting, repeats: int) -> dict[str, timing.Timing]:
    """Name -> `Timing` of the whole step and of each of its parts by itself, in turn."""
    config, degrade = setting.config, degradation.camera()
    model, params = build.network(config), setting.params
    optimizer = build.optimizer(config)
    batch = setting.batch()
    forward = jax.jit(model.apply)
    output = jax.block_until_ready(forward(params, batch.low))
    synthesise = jax.jit(build.synthesiser(config, degrade))

    def both(params, low, cotangent):
        output, pull = jax.vjp(lambda params: model.apply(params, low), params)
        return output, pull(cotangent)

    @jax.jit
    def optimise(grads, state, params, average):
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return params, state, optax.incremental_update(params, average, 0.005)

    both, moments = jax.jit(both), optimizer.init(params)
    gather = jax.jit(lambda a, b: balance.gradient_statistics(a.mean(), b.mean(), a, b))
    calls = {
        "whole step": trainer(setting),
        "data, on the device": lambda: synthesise(setting.keys, setting.crops),
        "forward": lambda: forward(params, batch.low),
        "forward and backward": lambda: both(params, batch.low, output),
    }
    for name, term in loss_terms(config, degrade).items():
        slope = jax.jit(jax.value_and_grad(term))
        calls[f"loss: {name}"] = lambda slope=slope: slope(output, batch)
    calls["loss: gradient statistics"] = lambda: gather(output.restored, batch.normal)
    calls["optimiser"] = lambda: optimise(params, moments, params, params)
    return timing.in_turn(calls, repeats)


def rematerialisation(setting: Setting, crops: int, repeats: int):
    """Name -> (bytes of the step's temporary memory, `Timing`), without and with it, in turn."""
    sizes, calls = {}, {}
    for name, count in (("stored", 0), (f"recomputed, {crops} crops at a time", crops)):
        config = setting.config.copy_and_resolve_references()
        config.train.remat = count
        changed = setting._replace(config=config)
        step, state = changed.step()
        compiled = step.lower(state, setting.crops).compile()
        sizes[name] = compiled.memory_analysis().temp_size_in_bytes
        calls[name] = trainer(changed)
    times = timing.in_turn(calls, repeats)
    return {name: (sizes[name], times[name]) for name in sizes}


def loop(setting: Setting, model: dict[str, Any]) -> Generator:
    """A worker, as `torch_loop.loop`: (loss, norm of its gradient), then seconds of steps as asked.

    model: keyword arguments of the network that `config.model.variant` names.
    """
    VARIANTS[setting.config.model.variant] = model
    config, batch = setting.config, setting.batch()
    score, loss = setting.score()
    optimizer = build.optimizer(config)
    value, grads = jax.jit(jax.value_and_grad(score, has_aux=True))(setting.params, batch)
    step = make_train_step(
        build.keys(config)["batches"],
        apply=build.network(config).apply,
        loss=loss,
        optimizer=optimizer,
        synthesise=lambda keys, batch: batch,
        ema_decay=config.train.ema_decay,
    )
    step = jax.jit(step, donate_argnums=0)
    state = init_state(jax.tree.map(jax.numpy.array, setting.params), optimizer, loss)
    places = np.arange(len(batch.low))

    def call():
        nonlocal state
        state, logs = step(state, batch, places)
        return logs

    count = yield float(value[0]), float(optax.tree.norm(grads))
    while True:
        timing.clock(call)
        count = yield tuple(timing.clock(call) for _ in range(count))


def job_of(setting: Setting) -> Any:
    """The same training for `torch_loop.loop`."""
    from benchmarks import torch_loop

    config, batch = setting.config, setting.batch()
    platform = jax.devices()[0].platform
    return torch_loop.Job(
        params=jax.tree.map(np.asarray, setting.params),
        model=dict(VARIANTS[config.model.variant]),
        low=np.asarray(batch.low),
        normal=np.asarray(batch.normal),
        noise=(np.asarray(batch.physics.shot_noise), np.asarray(batch.physics.read_noise)),
        loss={name: config.loss[name] for name in ("structure", "stages", "levels", "noise")}
        | {"sigma": config.loss.blur},
        optimizer={
            "rate": config.train.learning_rate,
            "decay": config.train.weight_decay,
            "clip": config.train.clip_norm,
            "ema": config.train.ema_decay,
        },
        device="cuda" if platform == "gpu" else platform,
        dtype=config.model.dtype,
    )


def against_torch(setting: Setting, rounds: int, count: int) -> dict[str, timing.Timing]:
    """Name -> `Timing` of steps on crops darkened beforehand with the positive loss, in turn.

    Each in a process of its own, with the same allocator and as many threads. Raises InputError
    without PyTorch, and RuntimeError where the two begin with another loss or another gradient.
    """
    if importlib.util.find_spec("torch") is None:
        raise InputError('PyTorch is not installed; pip install -e ".[compare]"')
    from benchmarks import torch_loop

    job = job_of(setting)
    held = setting._replace(params=job.params)
    seconds: dict[str, list[float]] = {"pdn_jax": [], "PyTorch": []}
    with (
        workers.Worker(loop, held, job.model) as ours,
        workers.Worker(torch_loop.loop, job) as theirs,
    ):
        agree = AGREE if setting.config.model.dtype == "float32" else 0.1
        if not np.allclose(ours.answer, theirs.answer, rtol=agree):
            raise RuntimeError(f"loss and gradient norm differ: {ours.answer} and {theirs.answer}")
        turns = [("pdn_jax", ours), ("PyTorch", theirs)]
        for _ in range(rounds):
            for name, worker in turns:
                seconds[name] += worker.ask(count)
            turns.reverse()
    return {name: timing.Timing(tuple(values)) for name, values in seconds.items()}
