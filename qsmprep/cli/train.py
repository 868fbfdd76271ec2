"""`qsmprep-tools train`: train a deep network on simulated heads or on labels of one's own, as a recipe says."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from qsmprep.app.devices import choose_device
from qsmprep.cli.paths import file_path, folder_path
from qsmprep.cli.program import Parser, add_command
from qsmprep.numerics.threads import available_cores, use_threads

if TYPE_CHECKING:
    from qsmprep.training.joint_pool import Labels
    from qsmprep.training.loop import TrainingState
    from qsmprep.training.pool import Head
    from qsmprep.training.recipe import Recipe


def add_train(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the subcommand."""
    text = "train a deep network on simulated heads, or on maps of several orientations"
    parser = add_command(commands, "train", text, epilog="See docs/training.md.")
    parser.add_argument("recipe", metavar="SPEC.toml", type=file_path, help="recipe: what to train, on what and how")
    parser.add_argument(
        "--out", type=folder_path, required=True, metavar="OUT", help="folder for weights, card, curve and checkpoint"
    )
    parser.add_argument(
        "--heads-dir", type=folder_path, metavar="PATH", help="folder of simulated heads (default: OUT/heads)"
    )
    parser.add_argument(
        "--labels",
        type=folder_path,
        nargs="+",
        default=[],
        metavar="DERIVATIVES",
        help="derivatives of qsmprep --multi-orientation (cosmos, sti, chisep-cosmos), whose joint maps are the labels "
        "of every orientation's tissue field; beside the recipe's simulated heads, if it has any (default: none)",
    )
    parser.add_argument(
        "--validation-participants",
        nargs="+",
        default=[],
        metavar="LABEL",
        help="participants of the labels to validate on, not to train on (default: the last one, if there are several)",
    )
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in OUT")
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where to train; auto: a GPU if there is one (default: auto)",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="processor cores (default: all)")
    parser.add_argument("--half", action="store_true", help="store the weights in half precision")
    parser.add_argument(
        "--stop-after",
        type=int,
        metavar="STEP",
        help="step at which to stop, to continue later with --resume (default: none)",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(run=_train)


def _train(arguments: argparse.Namespace) -> int:
    from qsmprep.training.recipe import read_recipe

    if arguments.validation_participants and not arguments.labels:
        raise ValueError("--validation-participants holds out participants of --labels; give both.")
    recipe = read_recipe(arguments.recipe, labelled=bool(arguments.labels))
    device, reason = choose_device(arguments.device)
    if not arguments.quiet:
        print(f"Training on {device} ({reason}).", flush=True)
    threads = arguments.threads or available_cores()
    if arguments.out.exists() and (arguments.out / "checkpoint.pt").exists() and not arguments.resume:
        raise ValueError(f"{arguments.out} holds a checkpoint; go on from it with --resume, or give another folder.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    import torch

    torch.set_num_threads(threads)
    if device == "cuda":
        torch.backends.cudnn.benchmark = True
    from qsmprep.training.loop import train
    from qsmprep.training.result import write_result

    with use_threads(threads):
        labels = _labels(recipe, arguments) if arguments.labels else None
        heads, checks = _heads(recipe, arguments)
        if labels is not None:
            heads, checks = (*labels.training, *heads), (*labels.validation, *checks)
            recipe = dataclasses.replace(recipe, labels=labels.digest)
        state = _with_bar(
            recipe.training.steps, arguments.quiet,
            lambda tell: train(
                recipe, heads, checks, arguments.out, resume=arguments.resume, device=device,
                until=arguments.stop_after, tell=tell,
            ),
        )  # fmt: skip
    if state.step < recipe.training.steps:
        print(f"Stopped at step {state.step} of {recipe.training.steps}; go on with --resume.", file=sys.stderr)
        return 0
    machine = _machine(device, threads)
    path = write_result(recipe, state, heads, arguments.out, half=arguments.half, machine=machine, labels=labels)
    if not arguments.quiet:
        print(f"Weights: {path}\nLowest validation error: {state.best_score:.2f} % at step {state.best_step}")
    return 0


def _labels(recipe: Recipe, arguments: argparse.Namespace) -> Labels:
    """The heads with labels of one's own."""
    from qsmprep.training.joint_pool import label_pool

    def tell(done: int, total: int) -> None:
        if not arguments.quiet and (sys.stdout.isatty() or done == total):
            print(f"\rlabelled sessions: {done} of {total}", end="\n" if done == total else "", flush=True)

    labels = label_pool(
        arguments.heads_dir or arguments.out / "heads", arguments.labels, recipe.network,
        validation=arguments.validation_participants, simulated=recipe.data.heads, progress=tell,
    )  # fmt: skip
    if not arguments.quiet:
        print(f"Labels: {labels.words}.", flush=True)
    return labels


def _heads(recipe: Recipe, arguments: argparse.Namespace) -> tuple[tuple[Head, ...], tuple[Head, ...]]:
    """Heads to train on and to validate on; those whose B0 is off the axis only where the recipe takes them."""
    from qsmprep.training.pool import FIRST_VALIDATION_HEAD, head_pool

    data = recipe.data
    folder = arguments.heads_dir or arguments.out / "heads"
    upright = not data.tilted and recipe.network.task != "mask"  # masks have no direction of B0

    def numbers(count: int, first: int) -> list[int]:
        taken = [n for n in range(3 * count + 3) if not upright or n % 3 != 2]
        return [first + n for n in taken[:count]]

    def tell(done: int, total: int) -> None:
        if not arguments.quiet and (sys.stdout.isatty() or done == total):
            print(f"\rsimulated heads: {done} of {total}", end="\n" if done == total else "", flush=True)

    def pool(count: int, first: int) -> tuple[Head, ...]:
        return head_pool(
            folder, numbers(count, first), data.seed, anatomy=data.anatomy, textured=data.textured,
            reconstructions=recipe.network.task == "separation", labels=recipe.network.task == "mask",
            beyond=not recipe.network.masked, progress=tell,
        )  # fmt: skip

    return pool(data.heads, 0), pool(data.validation_heads if data.heads else 0, FIRST_VALIDATION_HEAD)


def _with_bar(
    steps: int, quiet: bool, work: Callable[[Callable[[TrainingState], None] | None], TrainingState]
) -> TrainingState:
    """The state at the end of `work(tell)`, with a progress bar, or lines where nobody looks at a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, quiet=quiet)
    if quiet or not console.is_terminal:
        return work(None if quiet else lambda state: _line(state, steps))
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("training", total=steps)

        def tell(state: TrainingState) -> None:
            best = f", validation {state.best_score:.1f} %" if state.best else ""
            bar.update(task, completed=state.step, description=f"loss {state.losses[-1]:.3f}{best}")

        return work(tell)


def _line(state: TrainingState, steps: int) -> None:
    """A line after each validation."""
    if state.scores and state.scores[-1]["step"] == state.step:
        row = state.scores[-1]
        errors = ", ".join(f"{name} {value:.2f} %" for name, value in row.items() if name not in ("step", "loss"))
        pace = state.seconds / state.step
        print(f"step {state.step} of {steps}: loss {row['loss']:.4f}; {errors}; {pace:.2f} s a step", flush=True)


def _machine(device: str, threads: int) -> str:
    import torch

    return torch.cuda.get_device_name(0) if device == "cuda" else f"{threads} of {os.cpu_count()} processor cores"
