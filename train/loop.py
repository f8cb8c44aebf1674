"""The training loop, read from top to bottom."""

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from pdn_jax import __version__
from pdn_jax import weights as weight_files
from pdn_jax.types import InputError
from train import build, checkpoint, datasets, debug, evaluate, hosts, parallel, report, sources
from train.step import init_state
from train.stopping import Stopped, Stopping

FREE = (
    *("resume", "run_dir", "log", "checkpoint", "parallel", "train.learning_rate"),
    *("data.threads", "data.workers", "data.cache", "debug"),
)
"""Options that may differ between a run and its resumption. Resuming is exact with any of these but
the learning rate, which is there for a run that diverged."""


class Diverged(InputError):
    """A loss that is not finite: the run stops with the step, the terms and the last checkpoint."""


def train(config) -> Path:
    """Run a config to its end, or on from its newest checkpoint; returns the run folder.

    With `config.parallel.distributed`, within `hosts.joined`.
    """
    build.validate(config)
    hosts.check_same(config)
    console = Console(quiet=not hosts.is_first())
    hosts.first(lambda: check_run(config))
    for start, _, count, size in sources.shapes(config):
        devices = parallel.choose_devices(
            config.parallel.strategy,
            config.parallel.devices,
            count,
            config.train.accumulate,
            f"the batch of crops of {size}, from train.batch_size" if start else "train.batch_size",
        )
    hosts.meet(devices)
    hosts.first_then_others(lambda: sources.prepared(config, console))
    splits, weights = sources.mixture(config)
    judged = sources.judged(config, splits)
    model = build.network(config)
    degrade = build.camera(config)
    loss = build.loss(config, degrade)
    optimizer = build.optimizer(config)
    fitted = sources.fitted(config, splits)
    process = jax.process_index(), jax.process_count()
    parts = sources.parts(config, splits, weights, process)
    pairs = sources.pairs(config, judged, degrade)
    state = init_state(build.initial_params(config, model), optimizer, loss)
    run_dir = open_run(config)

    make_step = build.step_maker(
        config, model=model, degrade=degrade, loss=loss, optimizer=optimizer, fitted=fitted
    )
    mapped = parallel.STRATEGIES[config.parallel.strategy](make_step, devices)
    keep = {"keep": config.checkpoint.keep, "keep_every": config.checkpoint.keep_every}
    with (
        Stopping(console) as stopping,
        checkpoint.Checkpoints(run_dir, console=console, **keep) as checkpoints,
    ):
        start, state = checkpoints.restore(state) or (0, state)
        metrics = report.Metrics(run_dir, start=start) if hosts.is_first() else hosts.Silent()
        state = mapped.replicate(hosts.agree(state))
        console.print(
            f"{config.model.variant} on {described(splits)}, judged by {described(judged)}, with "
            f"{len(devices)} {devices[0].platform} device(s)"
            + (f" of {jax.process_count()} processes" if jax.process_count() > 1 else "")
            + f", {config.parallel.strategy}, into "
            f"{run_dir}" + (f", resumed at step {start}" if start else "")
        )
        run = Run(config, checkpoints, metrics, stopping, pairs)
        run.names = lambda step: sources.names_at(splits, parts, step - 1)
        run.replay = make_step(None)
        with (
            contextlib.closing(sources.stream(config, parts, start, degrade, fitted)) as stream,
            report.Bar(config.train.steps, start, console) as bar,
        ):
            state = run_steps(run, state, start, stream, mapped, bar)
        if hosts.is_first():
            finish(run, weights_of(config, mapped.collect(state.average)), console)
    return run_dir


@dataclasses.dataclass
class Run:
    """What a run writes to and asks, from its first step to its last.

    names: step -> what its batch was made of. replay: the step for one device, uncompiled.
    """

    config: Any
    checkpoints: checkpoint.Checkpoints
    metrics: report.Metrics
    stopping: Stopping
    pairs: Sequence
    names: Callable[[int], list[str]] = list
    replay: Callable | None = None


def described(splits: Sequence[datasets.Split]) -> str:
    """'lol/train (485)': the splits and how many dark photographs each has."""
    return ", ".join(f"{split.name}/{split.split} ({len(split)})" for split in splits)


def run_steps(run: Run, state, start, stream: Iterator, mapped, bar):
    """Steps start + 1 … config.train.steps; returns the last state.

    Raises Stopped, with a checkpoint of the last step, where a stop is asked for, and Diverged.
    """
    config = run.config
    total, rate = config.train.steps, build.rate(config)
    pending = None
    clock, counted, left = time.perf_counter(), start, math.inf
    for step in range(start + 1, total + 1):
        crops, places = next(stream)
        before = jax.device_get(mapped.collect(state)) if config.debug.nan else None
        state, logs = mapped.step(state, *mapped.shard((crops, places)))
        # The step before is read while this one runs, so that the devices never wait.
        if pending is not None:
            check_finite(run, *pending)
        pending = (step, mapped.collect(logs))
        if config.debug.nan:
            check_finite(run, *pending, again=(before, crops, places))
        bar.advance(step)
        if step == start + 1:  # it holds the compilation, which is no measure of speed
            jax.block_until_ready(logs)
            clock, counted = time.perf_counter(), step

        stop = run.stopping.asked(step)
        due = {
            name: step == total or step % every == 0
            for name, every in (
                ("log", config.log.every),
                ("eval", config.eval.every),
                ("save", config.checkpoint.every),
            )
        }
        if not stop and not any(due.values()):
            continue
        values, scores = check_finite(run, *pending), None
        pending = None
        if due["log"]:
            values |= {"learning_rate": float(rate(step - 1))}
            if step > counted:
                speed = (step - counted) / (time.perf_counter() - clock)
                values |= {"images_per_second": speed * len(places) * jax.process_count()}
                left = (total - step) / speed
            bar.show(step, values, left)
        weights = weights_of(config, mapped.collect(state.average))
        if due["eval"] and not stop:
            try:
                scores = evaluation(run, weights, step)
                values |= {f"eval/{name}": value for name, value in scores.items()}
            except Stopped:
                stop = True
        if due["log"] or due["eval"]:
            run.metrics.write(step, values)
        if due["save"] or stop:
            run.checkpoints.save(step, mapped.collect(state), weights, scores)
        if stop:
            run.checkpoints.wait()
            raise Stopped(
                f"{run.stopping.reason}: stopped after step {step} of {total}, with a checkpoint; "
                f"go on with the same command and --config.resume=true"
            )
        clock, counted = time.perf_counter(), step
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
    """Mean PSNR and SSIM of the averaged weights on the held-out pairs; a picture for TensorBoard.

    Raises Diverged where they are not numbers: the step was finite, but its weights are no good;
    and Stopped where a stop is asked for meanwhile.
    """
    method = evaluate.model_method(weights)
    scores = evaluate.score(method, run.stopping.watched(run.pairs))
    if math.isnan(scores.mean("psnr")):
        raise Diverged(
            f"the weights after step {step} give an image that is not finite; last good checkpoint: "
            f"{run.checkpoints.last_good(step + 1)}; "
            "resume with a lower --config.train.learning_rate"
        )
    if run.config.log.images and hosts.is_first():
        run.metrics.picture(step, "stages", report.stages_picture(weights, run.pairs[:1]))
    found = hosts.agree({"psnr": scores.mean("psnr"), "ssim": scores.mean("ssim")})
    return {name: float(value) for name, value in found.items()}


def finish(run: Run, weights: weight_files.Weights, console: Console) -> None:
    """Write the weights, the picture and the table that the run ends with, and print the table."""
    run_dir = Path(run.config.run_dir)
    weight_files.save(run_dir / "weights.safetensors", weights)
    report.write_picture(
        run_dir / "stages.png", report.stages_picture(weights, report.some(run.pairs))
    )
    results = evaluate.comparison(weights, run.pairs)
    evaluate.write_table(run_dir / "evaluation.csv", results)
    console.print(evaluate.comparison_table(results))
    run.metrics.close()
    console.print(f"weights, picture, table and checkpoints are in {run_dir}", soft_wrap=True)


def weights_of(config, params) -> weight_files.Weights:
    """Parameters with what is needed to use them elsewhere; NumPy arrays."""
    return weight_files.Weights(
        variant=config.model.variant,
        model=build.keywords(config),
        params=jax.tree.map(np.asarray, params),
        metadata={
            "pdn_jax": __version__,
            "steps": str(config.train.steps),
            "seed": str(config.seed),
        },
    )


def check_run(config) -> None:
    """Raise InputError for a run folder that exists without config.resume, or is of another run.

    With config.resume a folder that does not exist is a run that has yet to begin, so that the
    same command starts and goes on.
    """
    run_dir = Path(config.run_dir)
    path = run_dir / "config.json"
    if not run_dir.exists():
        return
    if not config.resume:
        raise InputError(
            f"run folder {run_dir} exists; go on with --config.resume=true, "
            "or name another with --config.run_dir=…"
        )
    try:
        old = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read, so {run_dir} is no run to resume; "
            "name another with --config.run_dir=…"
        ) from error
    changed = differences(old, json.loads(config_text(config)))
    if changed:
        raise InputError(
            f"{path} was written with other options ({', '.join(changed)}); "
            "resume with the same, or start a new run with --config.run_dir=…"
        )


def open_run(config) -> Path:
    """The run folder, made by process 0 with config.json, and seen by all.

    Raises InputError where that cannot be.
    """
    run_dir = Path(config.run_dir)
    hosts.first(lambda: write_config(config))

    def look():
        if not (run_dir / "config.json").exists():
            raise InputError(
                f"process {jax.process_index()} does not see the run folder {run_dir} that process 0 "
                "made; name one on a disk that all share with --config.run_dir=…"
            )

    hosts.together(look)
    return run_dir


def write_config(config) -> None:
    """Make the run folder and write config.json; raises InputError where that cannot be."""
    run_dir = Path(config.run_dir)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        draft = run_dir / "config.json.new"
        draft.write_text(config_text(config))
        draft.replace(run_dir / "config.json")
    except OSError as error:
        raise InputError(
            f"run folder {run_dir} cannot be written ({error.strerror}); "
            "name another with --config.run_dir=…"
        ) from error


def config_text(config) -> str:
    """The config as JSON, as the run folder keeps it."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """Keys whose values differ, those of `FREE` aside."""
    changed = []
    for key in sorted(old.keys() | new.keys()):
        if prefix + key in FREE:
            continue
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            changed += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            changed.append(f"{prefix}{key}: {a} there, {b} here")
    return changed
