"""The training loop, read from top to bottom."""

import contextlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

from pdn_jax import __version__
from pdn_jax import weights as weight_files
from pdn_jax.types import InputError
from train import boards, build, checkpoint, datasets, evaluate, parallel, sources, watch
from train.step import EXPOSURE_EDGES, init_state

FREE = (
    *("resume", "run_dir", "log", "checkpoint", "parallel", "train.learning_rate"),
    *("data.threads", "data.workers", "data.cache"),
)
"""Options that may differ between a run and its resumption. Resuming is exact with any of these but
the learning rate, which is there for a run that diverged."""


class Diverged(InputError):
    """A loss that is not finite: the run stops with the step, the terms and the last checkpoint."""


def train(config) -> Path:
    """Run a config to its end, or on from its newest checkpoint; returns the run folder."""
    console = Console()
    build.validate(config)
    check_run(config)
    if config.log.wandb:
        boards.wandb_library()
    for start, _, count, size in sources.shapes(config):
        devices = parallel.choose_devices(
            config.parallel.strategy,
            config.parallel.devices,
            count,
            config.train.accumulate,
            f"the batch of crops of {size}, from train.batch_size" if start else "train.batch_size",
        )
    sources.prepared(config, console)
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
    with checkpoint.Checkpoints(run_dir, keep=config.checkpoint.keep) as checkpoints:
        start, state = checkpoints.restore(state) or (0, state)
        state = mapped.replicate(state)
        console.print(
            f"{config.model.variant} on {described(splits)}, judged by {described(judged)}, with "
            f"{len(devices)} {devices[0].platform} device(s), {config.parallel.strategy}, into "
            f"{run_dir}" + (f", resumed at step {start}" if start else "")
        )
        with (
            contextlib.closing(sources.stream(config, parts, start, degrade, fitted)) as stream,
            watch.Metrics(
                run_dir, start=start, project=config.log.wandb, options=config.to_dict()
            ) as metrics,
            watch.Profile(config.log.profile, run_dir, start, console) as profile,
            watch.Bar(config.train.steps, start, console) as bar,
        ):
            state = run_steps(
                config, state, start, stream, mapped, pairs, checkpoints, metrics, profile, bar
            )
        finish(config, weights_of(config, mapped.collect(state.average)), pairs, console)
    return run_dir


def described(splits: Sequence[datasets.Split]) -> str:
    """'lol/train (485)': the splits and how many dark photographs each has."""
    return ", ".join(f"{split.name}/{split.split} ({len(split)})" for split in splits)


def run_steps(
    config, state, start, stream: Iterator, mapped, pairs, checkpoints, metrics, profile, bar
):
    """Steps start + 1 … config.train.steps; returns the last state."""
    total, rate = config.train.steps, build.rate(config)
    pending, exposures = None, 0
    clock, counted, left = time.perf_counter(), start, math.inf
    for step in range(start + 1, total + 1):
        crops, places = next(stream)
        with profile.step(step, state):
            state, (logs, found) = mapped.step(state, *mapped.shard((crops, places)))
        exposures = exposures + mapped.collect(found)
        # The step before is read while this one runs, so that the devices never wait.
        if pending is not None:
            check_finite(*pending, checkpoints)
        pending = (step, mapped.collect(logs))
        bar.advance(step)
        if step == start + 1:  # it holds the compilation, which is no measure of speed
            jax.block_until_ready(logs)
            clock, counted = time.perf_counter(), step

        due = {
            name: step == total or step % every == 0
            for name, every in (
                ("log", config.log.every),
                ("eval", config.eval.every),
                ("save", config.checkpoint.every),
            )
        }
        if not any(due.values()):
            continue
        values = check_finite(*pending, checkpoints)
        pending = None
        if due["log"]:
            values |= {"learning_rate": float(rate(step - 1))}
            if step > counted:
                speed = (step - counted) / (time.perf_counter() - clock)
                values |= {"images_per_second": speed * len(places) * jax.process_count()}
                left = (total - step) / speed
            bar.show(step, values, left)
            metrics.histogram(step, "log_exposure", np.asarray(exposures), EXPOSURE_EDGES)
            exposures = 0
        if due["eval"] or due["save"]:
            average = mapped.collect(state.average)
            scores = evaluation(config, average, step, pairs, metrics, checkpoints)
            values |= {f"eval/{name}": value for name, value in scores.items()}
        metrics.write(step, values)
        if due["save"]:
            checkpoints.save(step, mapped.collect(state), scores)
        clock, counted = time.perf_counter(), step
    return state


def check_finite(step: int, logs, checkpoints) -> dict[str, float]:
    """The logs as floats; raises Diverged where any is not finite."""
    values = {name: float(value) for name, value in logs.items()}
    if all(math.isfinite(value) for value in values.values()):
        return values
    terms = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    raise Diverged(
        f"step {step} is not finite ({terms}); last good checkpoint: {checkpoints.last_good(step)}; "
        "resume with a lower --config.train.learning_rate, or look at the data"
    )


def evaluation(config, average, step: int, pairs, metrics, checkpoints) -> dict[str, float]:
    """Mean PSNR and SSIM of the averaged weights on the held-out pairs; a picture for TensorBoard.

    Raises Diverged where they are not numbers: the step was finite, but its weights are no good.
    """
    weights = weights_of(config, average)
    scores = evaluate.score(evaluate.model_method(weights), pairs)
    if math.isnan(scores.mean("psnr")):
        raise Diverged(
            f"the weights after step {step} give an image that is not finite; last good checkpoint: "
            f"{checkpoints.last_good(step + 1)}; resume with a lower --config.train.learning_rate"
        )
    if config.log.images:
        metrics.picture(step, "stages", watch.stages_picture(weights, pairs[:1]))
    return {"psnr": scores.mean("psnr"), "ssim": scores.mean("ssim")}


def finish(config, weights: weight_files.Weights, pairs, console: Console) -> None:
    """Write the weights, the picture and the table that the run ends with, and print the table."""
    run_dir = Path(config.run_dir)
    weight_files.save(run_dir / "weights.safetensors", weights)
    watch.write_picture(run_dir / "stages.png", watch.stages_picture(weights, watch.some(pairs)))
    results = evaluate.comparison(weights, pairs)
    evaluate.write_table(run_dir / "evaluation.csv", results)
    console.print(evaluate.comparison_table(results))
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
    return run_dir


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
