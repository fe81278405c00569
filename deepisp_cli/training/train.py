"""Train a model: the loop around `Trainer`, its log and its pictures (``deepisp train``)."""

import csv
import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from deepisp_cli.errors import OutputError, UsageError
from deepisp_cli.files import output_errors
from deepisp_cli.interrupts import ending_signals, interrupt
from deepisp_cli.training.config import TrainConfig
from deepisp_cli.training.pictures import some
from deepisp_cli.training.trainer import Trainer
from deepisp_cli.training.validation import Validation, dead_features

CHECKPOINT = "checkpoint.pt"
LOG = "log.csv"
FIRST_REPORT = 10  # steps
REPORT_EVERY = 200  # steps
SHEET_EVERY = 2000  # steps
SAVE_EVERY = 120  # seconds
log = logging.getLogger(__name__)


def train(
    config: TrainConfig,
    folder: Path,
    *,
    device: torch.device,
    resume: bool = False,
    initial: Path | None = None,
    steps: int | None = None,
    minutes: float | None = None,
) -> Path:
    """Train to the end of the last stage.

    Parameters
    ----------
    config : what to train, and on what.
    folder : where the checkpoint, the log and the validation pictures go; made if missing.
    device : to train on.
    resume : continue from the folder's checkpoint.
    initial : a model folder, or another run's checkpoint, to take the weights from when a run begins.
    steps, minutes : stop after so many steps in total, or minutes of this call. The schedule stays, so that a
        run continued later is the same run.

    Returns
    -------
    The checkpoint's path.

    Raises
    ------
    UsageError
        If the folder holds a run that is not to be continued, or none that could be; or if there is no
        restoration for a stage that needs one.
    KeyboardInterrupt
        After Ctrl-C or a signal that is handled like it, once the running step is done and saved; after a
        second one at once.
    """
    check_folder(folder, resume)
    if config.stages[0].parts == "high" and not (resume or initial):
        raise UsageError(
            "the first stage trains the parts 'high' alone, which need a restoration that is trained: give"
            " --initial with a model's folder or a checkpoint"
        )
    if not config.restores and any(stage.parts == "separate" for stage in config.stages):
        raise UsageError(
            "without a restoration loss (restoration_weight, restoration_scales) the parts 'separate' leave"
            " the restoration untrained: use 'joint', or 'high' to keep the one that --initial brings"
        )
    checkpoint = folder / CHECKPOINT
    trainer = Trainer(config, device)
    validation = Validation(config, device)
    trained = {path.resolve() for source in trainer.sources for path in source.sides}
    if both := sorted(map(str, trained & validation.files)):
        log.warning("trained on and validated on, so psnr flatters: %s", some(both))
    if resume:
        trainer.load(checkpoint)
        log.info("resumed at stage %d, step %d", trainer.stage + 1, trainer.step)
    elif initial:
        trainer.start_from(initial)
    else:
        trainer.set_w0()
    folder.mkdir(parents=True, exist_ok=True)
    log.info(
        "%d pictures, %d for validation; stage %d of %d; into %s",
        trainer.pictures, len(validation.pairs), trainer.stage + 1, len(config.stages), folder,
    )  # fmt: skip
    if trainer.finished:
        log.info("the run is finished, after %d steps; there is nothing to resume", trainer.total)
        return checkpoint
    started = saved = time.monotonic()
    reporter = _Reporter(trainer, validation, folder)
    with _interrupts_held() as interrupts:
        while True:
            while trainer.progress() < 1:
                over = minutes is not None and time.monotonic() - started > 60 * minutes
                if over or (steps is not None and trainer.total >= steps):
                    trainer.save(checkpoint)
                    return checkpoint
                reporter.add(trainer.train_step())
                if interrupts:
                    trainer.save(checkpoint)
                    log.info(
                        "saved at stage %d, step %d; continue with --resume", trainer.stage + 1, trainer.step
                    )
                    return checkpoint
                if time.monotonic() - saved > SAVE_EVERY:
                    trainer.save(checkpoint)
                    saved = time.monotonic()
            trainer.save(checkpoint)
            if not trainer.advance_stage():
                return checkpoint


def check_folder(folder: Path, resume: bool) -> None:
    """Look, before pictures are read, whether a run can begin or, with ``resume``, continue in a folder.

    Raises
    ------
    UsageError
        If it cannot.
    """
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists() and not resume:
        raise UsageError(
            f"{folder} already holds a run: continue it with --resume, or give -o another folder"
        )
    if not resume and _is_of_others(folder / LOG):
        raise UsageError(f"{folder / LOG}: exists already; move it away, or give -o another folder")
    if resume and not checkpoint.exists():
        raise UsageError(
            f"{checkpoint}: there is no checkpoint to continue from;"
            " leave out --resume to start a run, or give -o the run's folder"
        )


def _is_of_others(path: Path) -> bool:
    """Whether a file is no log: that of a run which ended before its first checkpoint may be replaced."""
    return path.exists() and not path.read_bytes().startswith(b"stage,step")


@contextmanager
def _interrupts_held() -> Iterator[list[int]]:
    """Signals that would raise KeyboardInterrupt are listed instead, and come when the block ends: in the
    middle of a step the state is not one to continue from. A second one comes at once."""
    interrupts: list[int] = []
    handlers: dict[int, Any] = {}

    def hold(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        if len(interrupts) > 1:
            raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():  # signals reach no other
        handlers = {number: signal.getsignal(number) for number in ending_signals()}
    raising = (signal.default_int_handler, interrupt)
    held = {number: handler for number, handler in handlers.items() if handler in raising}
    for number in held:
        signal.signal(number, hold)
    try:
        yield interrupts
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        if interrupts:
            signal.raise_signal(interrupts[0])


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """A report that cannot be written (Excel may hold the log) ends no run: the next one is complete."""
    try:
        with output_errors(path):
            yield
    except OutputError as error:
        log.warning("%s", error)


class _Reporter:
    """At intervals, a line in the log, a row in the CSV, a sheet of validation pictures."""

    def __init__(self, trainer: Trainer, validation: Validation, folder: Path) -> None:
        self.trainer, self.validation, self.folder = trainer, validation, folder
        self.losses: list[Tensor] = []
        self.since = (time.monotonic(), trainer.total)
        self.first = trainer.total + FIRST_REPORT  # soon, to see that it works

    def add(self, loss: Tensor) -> None:
        self.losses.append(loss)
        last = self.trainer.progress() >= 1
        if last or self.trainer.total == self.first or self.trainer.total % REPORT_EVERY == 0:
            self._report()
        if self.validation.pairs and (self.trainer.total % SHEET_EVERY == 0 or last):
            sheet = self.validation.sheet(self.trainer.average)
            path = self.folder / f"sheet-{self.trainer.total:07d}.jpg"
            with _told(path):
                sheet.save(path, quality=92)

    def _report(self) -> None:
        trainer = self.trainer
        now = time.monotonic()
        seconds = (now - self.since[0]) / max(1, trainer.total - self.since[1])
        progress = trainer.progress()
        left = trainer.elapsed / progress - trainer.elapsed if progress else math.nan
        pictures = [pairs.picture for pairs in self.validation.pairs[:3]]
        row = {
            "stage": trainer.stage + 1,
            "step": trainer.step,
            "minutes": round(trainer.elapsed / 60, 2),
            "left": round(left / 60, 1),  # minutes of the stage
            "per_second": round(1 / seconds, 2),  # steps, reports included
            "loss": round(float(torch.stack(self.losses).mean()), 5),
            "psnr": round(self.validation.psnr(trainer.average), 3),
            "dead": round(dead_features(trainer.average, pictures), 3),
        }
        self.losses.clear()
        trainer.history.append(row)
        known = {key: value for key, value in row.items() if not math.isnan(value)}
        log.info("  ".join(f"{key} {value}" for key, value in known.items()))
        path = self.folder / LOG
        with _told(path), path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerows(trainer.history)
        self.since = (now, trainer.total)
