"""The training loop, read from top to bottom in `train`."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from pdn_jax import __version__, files, photo
from pdn_jax import weights as weight_files
from pdn_jax.places import Location
from pdn_jax.places import place as located
from pdn_jax.types import InputError
from train import (
    build,
    checkpoint,
    distributed,
    evaluate,
    metrics,
    mirror,
    nan_debug,
    parallel,
    progress,
    run_dir,
)
from train.config import validate
from train.data import mixture, store
from train.preemption import Preemption, Stopped
from train.step import init_state

LOWER = "with a lower --config.train.learning_rate"


class Diverged(InputError):
    """A loss that is not finite: the run stops with the step, the terms and the last checkpoint."""


def train(config, preemption: Preemption | None = None) -> Location:
    """Run a config to its end, or on from its newest checkpoint; returns the run folder.

    With `config.parallel.distributed`, within `distributed.joined`. Raises InputError for what cannot
    be, Diverged, and Stopped where a stop was asked for, with a checkpoint of the last step.
    """
    # What is asked for, the same of all processes, and refused before anything is made; network,
    # loss and optimiser with it, since they may hold functions of the person's own.
    validate(config)
    if config.parallel.distributed and not jax.distributed.is_initialized():
        raise RuntimeError("parallel.distributed: train within distributed.joined(config)")
    distributed.check_same("options", config.to_dict(), "start all with the same", distributed.OWN)
    console = progress.Log(quiet=not distributed.is_first())
    distributed.first(lambda: run_dir.check(config))
    distributed.first(lambda: config.log.wandb and metrics.wandb_library())
    with distributed.same_outcome():
        devices = chosen_devices(config)
    distributed.connect_devices(devices)
    with distributed.same_outcome():
        model, degrade = build.network(config), build.camera(config)
        loss, optimizer = build.loss(config, degrade), build.optimizer(config)
    distributed.first_then_others(lambda: mixture.prepared(config, console))

    # The data: every process makes its own.
    with distributed.same_outcome():
        splits, proportions = mixture.mixture(config)
        judged = mixture.judged(config, splits)
        process = jax.process_index(), jax.process_count()
        parts = mixture.parts(config, splits, proportions, process)
        fitted, pairs = mixture.fitted(config, splits), mixture.pairs(config, judged)
        state = init_state(build.initial_params(config, model), optimizer, loss)
    make_step = build.step_maker(
        config, model=model, degrade=degrade, loss=loss, optimizer=optimizer, fitted=fitted
    )
    mapped = parallel.STRATEGIES[config.parallel.strategy](make_step, devices)
    rate, total = build.rate(config), config.train.steps

    # The run folder, held against others; one in a store is worked on here.
    place, used = located(config.run_dir), run_dir.used(config, [*splits, *judged])
    distributed.check_same("data", used, "prepare the same for all")
    distributed.first(lambda: run_dir.make(config, used))
    run_dir.check_shared(place)
    with contextlib.ExitStack() as stack:
        folder, carrier = mirror.opened(place, stack, console)
        preemption = preemption or stack.enter_context(Preemption(console))
        keep = {"keep": config.checkpoint.keep, "keep_every": config.checkpoint.keep_every}
        keep |= {"console": console, "carrier": carrier}
        checkpoints = stack.enter_context(checkpoint.Checkpoints(folder, **keep))
        start, state = checkpoints.restore(state) or (0, state)
        if start == 0:
            distributed.first(lambda: run_dir.set_aside(folder, console))
        state = mapped.replicate(distributed.broadcast(state))
        recorder = stack.enter_context(progress.Recorder(config, folder, start, console))
        batches = mixture.stream(config, parts, start, degrade, fitted)
        stack.enter_context(contextlib.closing(batches))
        console.print(described(config, splits, judged, devices, start), soft_wrap=True)

        def finite(step, scalars, advice=None):
            return check_finite(step, scalars, (splits, parts), checkpoints, advice)

        def judge(step, weights):
            return evaluation(config, step, weights, pairs, preemption, recorder, checkpoints)

        # A stop may have dropped the evaluation of the checkpoint that the run goes on from.
        if start and due(config, start)[1] and not checkpoints.is_judged(start):
            scores = judge(start, weights_of(config, mapped.collect(state.average), start))
            if scores:
                recorder.log(start, scores)
                checkpoints.judge(start, scores["eval/psnr"])

        step, stop, pending = start, False, None
        for step, (crops, places) in enumerate(until_stopped(batches, preemption), start + 1):
            checkpoints.check()
            before = jax.tree.map(np.array, mapped.collect(state)) if config.debug.nan else None
            with recorder.step(step, state):
                state, logs = mapped.step(state, *mapped.shard((crops, places)))
            recorder.count(mapped.collect(logs.exposures))
            # The step before is read while this one runs, so that the devices never wait.
            if pending:
                finite(*pending)
            pending = step, mapped.collect(logs.scalars)
            if config.debug.nan:
                finite(*pending, replay(make_step, before, crops, places))
            if step == start + 1:  # it holds the compilation, which is no measure of speed
                jax.block_until_ready(state)
                recorder.restart_clock(step)
                preemption.begin(console)

            stop, (log, evaluate_now, save) = preemption.asked(), due(config, step)
            if not (stop or log or evaluate_now or save):
                continue
            values, pending, scores = finite(*pending), None, {}
            if log or evaluate_now:
                images = len(places) * jax.process_count()
                recorder.log(step, values | {"learning_rate": float(rate(step - 1))}, images)
            if evaluate_now or save:
                weights = weights_of(config, mapped.collect(state.average), step)
            if evaluate_now and not stop:
                scores = judge(step, weights)
                stop = not scores
            if scores:
                recorder.log(step, scores)
            psnr = scores.get("eval/psnr")
            beside = recorder.flush(step)  # what a resumption goes on from is not counted again
            if save or (psnr is not None and psnr > checkpoints.best()):
                checkpoints.save(step, mapped.collect(state), weights, psnr, beside)
            if stop:
                break
            recorder.restart_clock(step)

        weights = weights_of(config, mapped.collect(state.average), step)
        if stop or step < total:  # a signal may have ended the readers before it was asked for
            if pending:
                finite(*pending)
            checkpoints.save(step, mapped.collect(state), weights, beside=recorder.flush(step))
            checkpoints.wait()
            raise preemption.stopped(f"after step {step} of {total}, with a checkpoint")
        if distributed.is_first():
            finish(folder, weights, pairs, preemption, console, recorder.flush(step))
    return place


def chosen_devices(config) -> list[jax.Device]:
    """The devices; raises InputError for a batch of any part of the training that does not divide."""
    options, accumulate = config.parallel, config.train.accumulate
    devices = parallel.choose_devices(
        options.strategy, options.devices, config.train.batch_size, accumulate
    )
    shares = len(devices) * accumulate
    for _, _, crops, side in mixture.shapes(config):
        if crops % shares:
            fits = (size for size in itertools.count(shares, shares))
            least = next(size for size in fits if mixture.last_batch(config, size) % shares == 0)
            raise InputError(
                f"train.batch_size={config.train.batch_size} makes {crops} crop(s) of {side} pixels "
                f"in the last part (data.final_size), which do not divide into "
                f"{parallel.described(devices, accumulate)}; use train.batch_size={least}"
            )
    return devices


def described(
    config, splits: Sequence[store.Split], judged: Sequence[store.Split], devices, start: int
) -> str:
    """'tiny on lol/train (485), judged by lol/dev (15), with 8 gpu device(s), pmap, into runs/lol'."""

    def names(splits):
        return ", ".join(f"{split.name}/{split.split} ({len(split)})" for split in splits)

    processes = jax.process_count()
    several = f" of {processes} processes" if processes > 1 else ""
    resumed = f", resumed at step {start}" if start else ""
    return (
        f"{config.model.variant} on {names(splits)}, judged by {names(judged)}, with {len(devices)} "
        f"{devices[0].platform} device(s){several}, {config.parallel.strategy}, "
        f"into {config.run_dir}{resumed}"
    )


def until_stopped(batches: Iterator, preemption: Preemption) -> Iterator:
    """The same batches, to their end, or to where a signal has ended the processes that read them.

    Where several processes train, an error stays one: all have to stop after the same step.
    """
    try:
        yield from batches
    except Exception:
        if not preemption.heard or jax.process_count() > 1:
            raise


def due(config, step: int) -> tuple[bool, bool, bool]:
    """Whether a step is one to log, to evaluate, to save after."""
    last, rare = step == config.train.steps, config.checkpoint.keep_every
    log, evaluate_now = (last or step % n == 0 for n in (config.log.every, config.eval.every))
    save = last or step % config.checkpoint.every == 0 or bool(rare and step % rare == 0)
    return log, evaluate_now, save


def check_finite(
    step: int, scalars, source: tuple, checkpoints, advice: Callable[[], str] | None = None
) -> dict[str, float]:
    """The scalars of a step as floats; raises Diverged where any is not finite.

    source: (splits, parts), to name its batch by. advice: what to say of how it came about.
    """
    values = {name: float(value) for name, value in scalars.items()}
    bad = [f"{name} {value:.4g}" for name, value in values.items() if not math.isfinite(value)]
    if not bad:
        return values
    names = ", ".join(mixture.names_at(*source, step - 1))
    then = (
        advice()
        if advice
        else f"resume with --config.debug.nan=true to find the operation, or {LOWER}"
    )
    raise Diverged(
        f"step {step} is not finite: {', '.join(bad)}; its batch: {names}; "
        f"last good checkpoint: {checkpoints.last_good(step)}; {then}"
    )


def replay(make_step, *arguments) -> Callable[[], str]:
    """() -> which operation of one step first gives NaN or infinity, uncompiled on one device."""

    def advice():
        operation = nan_debug.first_bad_operation(make_step(None), *arguments)
        own = " on this process's crops" if jax.process_count() > 1 else ""
        return operation or f"uncompiled, every operation of that step is finite{own}"

    return advice


def evaluation(
    config, step: int, weights: weight_files.Weights, pairs, preemption, recorder, checkpoints
) -> dict[str, float]:
    """Mean PSNR and SSIM of the averaged weights on the held-out pairs; {} where a stop is asked for.

    Raises Diverged where they are not numbers: the step was finite, but its weights are no good.
    """
    try:
        scores = evaluate.score(evaluate.model_method(weights), preemption.watched(pairs))
    except Stopped:
        return {}
    if math.isnan(scores.mean("psnr")):
        raise Diverged(
            f"the weights after step {step} give an image that is not finite; last good checkpoint: "
            f"{checkpoints.last_good(step + 1)}; resume {LOWER}"
        )
    recorder.picture(step, weights, pairs)
    means = {f"eval/{name}": scores.mean(name) for name in ("psnr", "ssim")}
    return {name: float(value) for name, value in distributed.broadcast(means).items()}


def finish(folder: Path, weights, pairs, preemption, console, beside: Sequence[Path]) -> None:
    """Write the weights, the picture and the table that the run ends with, and print the table."""
    weight_files.save(folder / "weights.safetensors", weights)
    some = preemption.watched(progress.some(pairs), alone=True)
    photo.write(folder / "stages.png", progress.stages_picture(weights, some), overwrite=True)
    results = evaluate.comparison(weights, preemption.watched(pairs, alone=True))
    evaluate.write_table(folder / "evaluation.csv", results)
    files.sync_all([folder / "stages.png", folder / "evaluation.csv", *beside])
    console.print(evaluate.comparison_table(results))
    console.print(f"weights, picture, table and checkpoints are in {folder}", soft_wrap=True)


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
