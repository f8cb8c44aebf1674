"""The training loop, read from top to bottom."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from pdn_jax import __version__
from pdn_jax import weights as weight_files
from pdn_jax.types import InputError
from train import (
    boards,
    build,
    checkpoint,
    datasets,
    debug,
    evaluate,
    folder,
    hosts,
    parallel,
    sources,
    watch,
)
from train.step import EXPOSURE_EDGES, init_state
from train.stopping import Stopped, Stopping


class Diverged(InputError):
    """A loss that is not finite: the run stops with the step, the terms and the last checkpoint."""


@dataclasses.dataclass
class Run:
    """What the steps of a run come from, and where what they find goes to.

    stream: (crops, places) of step after step. names: step -> what its batch was made of.
    replay: the step for one device, uncompiled.
    """

    config: Any
    mapped: parallel.Mapped
    stream: Iterator
    pairs: Sequence
    checkpoints: checkpoint.Checkpoints
    stopping: Stopping
    metrics: watch.Metrics
    profile: watch.Profile
    bar: watch.Bar
    names: Callable[[int], list[str]]
    replay: Callable


class Made(NamedTuple):
    """What a config is turned into before the first step, by every process for itself.

    splits, judged: to train on and to judge by. parts: this process's shares. state: before the
    first step, or any that is shaped like it.
    """

    splits: Sequence[datasets.Split]
    judged: Sequence[datasets.Split]
    parts: Any
    pairs: Sequence
    degrade: Any
    fitted: Any
    make_step: Callable
    state: Any


def train(config, stopping: Stopping | None = None) -> Path:
    """Run a config to its end, or on from its newest checkpoint; returns the run folder.

    With `config.parallel.distributed`, within `hosts.joined`. Raises Stopped where it was told to.
    """
    build.validate(config)
    hosts.check_same(config)
    console = Console(quiet=not hosts.is_first())
    hosts.first(lambda: check(config))
    devices = hosts.together(lambda: chosen(config))
    hosts.meet(devices)
    hosts.first_then_others(lambda: sources.prepared(config, console))
    made = hosts.together(lambda: assembled(config))
    run_dir = Path(config.run_dir)
    hosts.first(lambda: folder.make(config, [*made.splits, *made.judged]))

    mapped = parallel.STRATEGIES[config.parallel.strategy](made.make_step, devices)
    keep = {"keep": config.checkpoint.keep, "keep_every": config.checkpoint.keep_every}
    with (
        contextlib.nullcontext(stopping) if stopping else Stopping(console) as stopping,
        checkpoint.Checkpoints(run_dir, console=console, **keep) as checkpoints,
    ):
        start, state = checkpoints.restore(made.state) or (0, made.state)
        state = mapped.replicate(hosts.agree(state))
        console.print(
            f"{config.model.variant} on {described(made.splits)}, judged by "
            f"{described(made.judged)}, with {described_devices(config, devices)}, "
            f"into {run_dir}" + (f", resumed at step {start}" if start else "")
        )
        stream = sources.stream(config, made.parts, start, made.degrade, made.fitted)
        with (
            contextlib.closing(stream),
            hosts.first(lambda: metrics_of(config, start)) or hosts.Silent() as metrics,
            watch.Profile(
                config.log.profile and hosts.is_first(), run_dir, start, console
            ) as profile,
            watch.Bar(config.train.steps, start, console) as bar,
        ):
            run = Run(
                *(config, mapped, stream, made.pairs),
                *(checkpoints, stopping, metrics, profile, bar),
                names=lambda step: sources.names_at(made.splits, made.parts, step - 1),
                replay=made.make_step(None),
            )
            stopping.begin(console)
            state = run_steps(run, state, start)
        if hosts.is_first():
            finish(
                run, weights_of(config, mapped.collect(state.average), config.train.steps), console
            )
    return run_dir


def assembled(config) -> Made:
    """The data, the network, its step and its state; raises InputError for what cannot be."""
    splits, weights = sources.mixture(config)
    judged = sources.judged(config, splits)
    model, degrade = build.network(config), build.camera(config)
    loss, optimizer = build.loss(config, degrade), build.optimizer(config)
    fitted = sources.fitted(config, splits)
    return Made(
        splits=splits,
        judged=judged,
        parts=sources.parts(config, splits, weights, (jax.process_index(), jax.process_count())),
        pairs=sources.pairs(config, judged, degrade),
        degrade=degrade,
        fitted=fitted,
        make_step=build.step_maker(
            config, model=model, degrade=degrade, loss=loss, optimizer=optimizer, fitted=fitted
        ),
        state=init_state(build.initial_params(config, model), optimizer, loss),
    )


def check(config) -> None:
    """Raise InputError for what would only be found missing once the work has begun."""
    folder.check(config)
    if config.log.wandb:
        boards.wandb_library()


def chosen(config) -> list:
    """The devices; raises InputError for a batch of any part of the training that does not divide."""
    options = config.parallel
    for start, _, count, size in sources.shapes(config):
        batch = f"the batch of crops of {size}, from train.batch_size" if start else ""
        devices = parallel.choose_devices(
            *(options.strategy, options.devices, count, config.train.accumulate),
            batch or "train.batch_size",
        )
    return devices


def metrics_of(config, start: int) -> watch.Metrics:
    """What writes the numbers of the run."""
    options = {"project": config.log.wandb, "options": config.to_dict()}
    return watch.Metrics(Path(config.run_dir), start=start, **options)


def described(splits: Sequence[datasets.Split]) -> str:
    """'lol/train (485)': the splits and how many dark photographs each has."""
    return ", ".join(f"{split.name}/{split.split} ({len(split)})" for split in splits)


def described_devices(config, devices: Sequence) -> str:
    """'8 gpu device(s) of 2 processes, pmap'."""
    processes = jax.process_count()
    several = f" of {processes} processes" if processes > 1 else ""
    return f"{len(devices)} {devices[0].platform} device(s){several}, {config.parallel.strategy}"


def run_steps(run: Run, state, start: int):
    """Steps start + 1 … config.train.steps; returns the last state.

    Raises Stopped, with a checkpoint of the last step, where a stop is asked for, and Diverged.
    """
    config, mapped, total = run.config, run.mapped, run.config.train.steps
    every = config.log.every, config.eval.every, config.checkpoint.every
    rate, clock = build.rate(config), watch.Clock(start)
    pending, exposures = None, 0
    for step in range(start + 1, total + 1):
        crops, places = next(run.stream)
        before = jax.tree.map(np.array, mapped.collect(state)) if config.debug.nan else None
        with run.profile.step(step, state):
            state, (logs, found) = mapped.step(state, *mapped.shard((crops, places)))
        exposures = exposures + mapped.collect(found)
        # The step before is read while this one runs, so that the devices never wait.
        if pending is not None:
            check_finite(run, *pending)
        pending = (step, mapped.collect(logs))
        if config.debug.nan:
            check_finite(run, *pending, again=(before, crops, places))
        run.bar.advance(step)
        if step == start + 1:  # it holds the compilation, which is no measure of speed
            jax.block_until_ready(logs)
            clock.restart(step)

        stop = run.stopping.asked()
        log, judge, save = (step == total or step % often == 0 for often in every)
        if not (stop or log or judge or save):
            continue
        values, pending, scores = check_finite(run, *pending), None, None
        if log:
            values |= {"learning_rate": float(rate(step - 1))}
            speed = clock.speed(step)
            if speed:
                values |= {"images_per_second": speed * len(places) * jax.process_count()}
            run.bar.show(step, values, (total - step) / speed if speed else math.inf)
            run.metrics.histogram(step, "log_exposure", np.asarray(exposures), EXPOSURE_EDGES)
            exposures = 0
        weights = weights_of(config, mapped.collect(state.average), step)
        if judge and not stop:
            try:
                scores = evaluation(run, weights, step)
                values |= {f"eval/{name}": value for name, value in scores.items()}
            except Stopped:
                stop = True
        if log or judge:
            run.metrics.write(step, values)
        if save or stop:
            run.metrics.flush()  # what a checkpoint goes on from is not written again
            run.checkpoints.save(step, mapped.collect(state), weights, scores)
        if stop:
            run.checkpoints.wait()
            raise run.stopping.stopped(f"after step {step} of {total}, with a checkpoint")
        clock.restart(step)
    return state


def check_finite(run: Run, step: int, logs, again: tuple | None = None) -> dict[str, float]:
    """The logs as floats; raises Diverged where any is not finite.

    again: (state before that step, crops, places), to find the operation by.
    """
    values = {name: float(value) for name, value in logs.items()}
    bad = [f"{name} {value:.4g}" for name, value in values.items() if not math.isfinite(value)]
    if not bad:
        return values
    if again is None:
        advice = (
            "resume with --config.debug.nan=true to find the operation, or with a lower "
            "--config.train.learning_rate"
        )
    else:
        found = debug.first_bad_operation(run.replay, *again)
        advice = found or "uncompiled, every operation of that step is finite"
    raise Diverged(
        f"step {step} is not finite: {', '.join(bad)}; its batch: {', '.join(run.names(step))}; "
        f"last good checkpoint: {run.checkpoints.last_good(step)}; {advice}"
    )


def evaluation(run: Run, weights: weight_files.Weights, step: int) -> dict[str, float]:
    """Mean PSNR and SSIM of the averaged weights on the held-out pairs; a picture for the boards.

    Raises Diverged where they are not numbers: the step was finite, but its weights are no good;
    and Stopped where a stop is asked for meanwhile.
    """
    config, method = run.config, evaluate.model_method(weights)
    scores = evaluate.score(method, run.stopping.watched(run.pairs))
    if math.isnan(scores.mean("psnr")):
        raise Diverged(
            f"the weights after step {step} give an image that is not finite; last good checkpoint: "
            f"{run.checkpoints.last_good(step + 1)}; "
            "resume with a lower --config.train.learning_rate"
        )
    if config.log.images and hosts.is_first():
        picture = watch.stages_picture(weights, run.pairs[:1])
        run.metrics.picture(step, "stages", picture)
        watch.write_picture(Path(config.run_dir) / "stages.png", picture)
    found = hosts.agree({"psnr": scores.mean("psnr"), "ssim": scores.mean("ssim")})
    return {name: float(value) for name, value in found.items()}


def finish(run: Run, weights: weight_files.Weights, console: Console) -> None:
    """Write the weights, the picture and the table that the run ends with, and print the table."""
    run_dir = Path(run.config.run_dir)
    weight_files.save(run_dir / "weights.safetensors", weights)
    some = run.stopping.watched(watch.some(run.pairs), alone=True)
    watch.write_picture(run_dir / "stages.png", watch.stages_picture(weights, some))
    results = evaluate.comparison(weights, run.stopping.watched(run.pairs, alone=True))
    evaluate.write_table(run_dir / "evaluation.csv", results)
    console.print(evaluate.comparison_table(results))
    console.print(f"weights, picture, table and checkpoints are in {run_dir}", soft_wrap=True)


def weights_of(config, params, step: int) -> weight_files.Weights:
    """Parameters after `step` steps, with what is needed to use them elsewhere; NumPy arrays."""
    return weight_files.Weights(
        variant=config.model.variant,
        model=build.keywords(config),
        params=jax.tree.map(np.array, params),
        metadata={
            "pdn_jax": __version__,
            "steps": str(step),
            "seed": str(config.seed),
        },
    )
