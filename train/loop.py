"""The training loop, read from top to bottom."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from rich.console import Console

from pdn_jax import __version__, files
from pdn_jax import weights as weight_files
from pdn_jax.types import InputError
from train import (
    assembly,
    build,
    checkpoint,
    distributed,
    evaluate,
    metrics,
    nan_debug,
    parallel,
    progress,
    run_dir,
)
from train.data import mixture
from train.preemption import Stopped, Stopping
from train.step import EXPOSURE_EDGES


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
    metrics: metrics.Metrics
    profile: progress.Profile
    bar: progress.Bar
    names: Callable[[int], list[str]]
    replay: Callable


def train(config, stopping: Stopping | None = None) -> Path:
    """Run a config to its end, or on from its newest checkpoint; returns the run folder.

    With `config.parallel.distributed`, within `hosts.joined`. Raises Stopped where it was told to.
    """
    build.validate(config)
    distributed.check_joined(config)
    distributed.check_same("options", config.to_dict(), "start all with the same", distributed.OWN)
    console = progress.Log(quiet=not distributed.is_first())
    distributed.first(lambda: assembly.check(config))
    devices = distributed.together(lambda: assembly.chosen(config))
    distributed.meet(devices)
    distributed.first_then_others(lambda: mixture.prepared(config, console))
    made = distributed.together(lambda: assembly.assembled(config))
    folder = Path(config.run_dir)
    data = run_dir.used(config, [*made.splits, *made.judged])
    distributed.check_same("data", data, "prepare the same for all")
    distributed.first(lambda: run_dir.make(config, data))
    run_dir.check_shared(folder)

    mapped = parallel.STRATEGIES[config.parallel.strategy](made.make_step, devices)
    keep = {"keep": config.checkpoint.keep, "keep_every": config.checkpoint.keep_every}
    with (
        run_dir.full_disk_told(folder),
        distributed.first(lambda: run_dir.held(folder)) or distributed.Silent(),
        contextlib.nullcontext(stopping) if stopping else Stopping(console) as stopping,
        checkpoint.Checkpoints(folder, console=console, **keep) as checkpoints,
    ):
        start, state = checkpoints.restore(made.state) or (0, made.state)
        if start == 0:
            distributed.first(lambda: run_dir.set_aside(folder, console))
        state = mapped.replicate(distributed.agree(state))
        console.print(
            f"{config.model.variant} on {assembly.described(made.splits)}, judged by "
            f"{assembly.described(made.judged)}, with {assembly.described_devices(config, devices)}, "
            f"into {folder}" + (f", resumed at step {start}" if start else "")
        )
        stream = mixture.stream(config, made.parts, start, made.degrade, made.fitted)
        with (
            contextlib.closing(stream),
            distributed.first(lambda: metrics_of(config, start)) or distributed.Silent() as written,
            progress.Profile(
                config.log.profile and distributed.is_first(), folder, start, console
            ) as profile,
            progress.Bar(config.train.steps, start, console) as bar,
        ):
            run = Run(
                *(config, mapped, stream, made.pairs),
                *(checkpoints, stopping, written, profile, bar),
                names=lambda step: mixture.names_at(made.splits, made.parts, step - 1),
                replay=made.make_step(None),
            )
            stopping.begin(console)
            state = run_steps(run, state, start)
        if distributed.is_first():
            finish(
                run, weights_of(config, mapped.collect(state.average), config.train.steps), console
            )
    return folder


def metrics_of(config, start: int) -> metrics.Metrics:
    """What writes the numbers of the run."""
    options = {"project": config.log.wandb, "options": config.to_dict()}
    return metrics.Metrics(Path(config.run_dir), start=start, **options)


def run_steps(run: Run, state, start: int):
    """Steps start + 1 … config.train.steps; returns the last state.

    Raises Stopped, with a checkpoint of the last step, where a stop is asked for, and Diverged.
    """
    config, mapped, total = run.config, run.mapped, run.config.train.steps
    rate, clock = build.rate(config), progress.Clock(start)
    pending, exposures = None, 0
    make_up(run, state, start)
    for step in range(start + 1, total + 1):
        try:
            crops, places = next(run.stream)
        except Exception:
            if not run.stopping.heard or jax.process_count() > 1:
                raise
            # a signal may have ended the readers first
            stop_after(run, state, step - 1, pending, exposures)
        run.checkpoints.check()
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

        stop, (log, judge, save) = run.stopping.asked(), due(config, step)
        if not (stop or log or judge or save):
            continue
        values, pending, scores = check_finite(run, *pending), None, {}
        if log:
            values |= {"learning_rate": float(rate(step - 1))}
            speed = clock.speed(step)
            if speed:
                values |= {"images_per_second": speed * len(places) * jax.process_count()}
            run.bar.show(step, values, (total - step) / speed if speed else math.inf)
        if judge or save or stop:
            weights = weights_of(config, mapped.collect(state.average), step)
        if judge and not stop:
            try:
                scores = evaluation(run, weights, step)
            except Stopped:
                stop = True
        if log or judge:
            run.metrics.write(step, values | scores)
        psnr = scores.get("eval/psnr")
        keep = save or stop or (psnr is not None and psnr > run.checkpoints.best())
        if log or keep:  # no resumption counts again what was before a checkpoint
            run.metrics.histogram(step, "log_exposure", np.asarray(exposures), EXPOSURE_EDGES)
            exposures = 0
        if keep:
            save_all(run, state, step, weights, psnr)
        if stop:
            run.checkpoints.wait()
            raise run.stopping.stopped(f"after step {step} of {total}, with a checkpoint")
        clock.restart(step)
    return state


def due(config, step: int) -> tuple[bool, bool, bool]:
    """Whether a step is one to log, to evaluate, to save after."""
    last, kept = step == config.train.steps, config.checkpoint.keep_every
    log, judge, save = (
        last or step % often == 0
        for often in (config.log.every, config.eval.every, config.checkpoint.every)
    )
    return log, judge, save or bool(kept and step % kept == 0)


def make_up(run: Run, state, start: int) -> None:
    """Evaluate the checkpoint that the run goes on from, where a stop came before that was done."""
    if not start or not due(run.config, start)[1] or run.checkpoints.is_judged(start):
        return
    weights = weights_of(run.config, run.mapped.collect(state.average), start)
    scores = evaluation(run, weights, start)
    run.metrics.write(start, scores)
    run.checkpoints.judge(start, scores["eval/psnr"])


def save_all(run: Run, state, step: int, weights, psnr: float | None = None) -> None:
    """Have a checkpoint written, which counts once what was logged so far is on the disk too."""
    beside = run.metrics.files() or ()  # of process 0 alone
    run.checkpoints.save(step, run.mapped.collect(state), weights, psnr, beside=beside)


def stop_after(run: Run, state, step: int, pending: tuple | None, exposures) -> NoReturn:
    """Write a checkpoint of a step that was taken, and raise Stopped."""
    if pending is not None:
        check_finite(run, *pending)
    run.metrics.histogram(step, "log_exposure", np.asarray(exposures), EXPOSURE_EDGES)
    save_all(run, state, step, weights_of(run.config, run.mapped.collect(state.average), step))
    run.checkpoints.wait()
    raise run.stopping.stopped(f"after step {step} of {run.config.train.steps}, with a checkpoint")


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
        found = nan_debug.first_bad_operation(run.replay, *again)
        own = " on this process's crops" if jax.process_count() > 1 else ""
        advice = found or f"uncompiled, every operation of that step is finite{own}"
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
    if config.log.images and distributed.is_first():
        picture = progress.stages_picture(weights, run.pairs[:1])
        run.metrics.picture(step, "pictures/stages", picture)
        progress.write_picture(Path(config.run_dir) / "stages.png", picture)
    found = distributed.agree({"psnr": scores.mean("psnr"), "ssim": scores.mean("ssim")})
    return {f"eval/{name}": float(value) for name, value in found.items()}


def finish(run: Run, weights: weight_files.Weights, console: Console) -> None:
    """Write the weights, the picture and the table that the run ends with, and print the table."""
    run_dir = Path(run.config.run_dir)
    weight_files.save(run_dir / "weights.safetensors", weights)
    some = run.stopping.watched(progress.some(run.pairs), alone=True)
    progress.write_picture(run_dir / "stages.png", progress.stages_picture(weights, some))
    results = evaluate.comparison(weights, run.stopping.watched(run.pairs, alone=True))
    evaluate.write_table(run_dir / "evaluation.csv", results)
    files.sync_all([run_dir / "stages.png", run_dir / "evaluation.csv", *run.metrics.files()])
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
