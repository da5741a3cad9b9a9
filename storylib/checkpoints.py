"""Checkpoints that are whole or not there: written aside, sealed by a hash of each file, then moved into place."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

from storylib.errors import UserError
from storylib.parallel import processes

MANIFEST = "manifest.json"  # file -> sha256, and nothing of a checkpoint is missing in it
ASIDE = ".saving"  # where a checkpoint is written; never read
KEPT = 2


class SafeCheckpoints:
    """To be inherited before a trainer of transformers: its checkpoints are finite, whole, sealed, and the last two.

    A run that goes on from one takes the batches that it was given, and from the last one no step at all.
    """

    def _save_checkpoint(self, model, trial) -> None:
        refuse_broken(self.model, f"after step {self.state.global_step}")
        folder, aside = Path(self.args.output_dir), Path(self.args.output_dir) / ASIDE
        name = f"checkpoint-{self.state.global_step}"
        if processes().is_main_process:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
        processes().wait_for_everyone()
        self.args.output_dir = str(aside)
        try:
            with full_disk_named(folder):  # here: what is written aside is gone, and the disk free, a moment later
                super()._save_checkpoint(model, trial)
                processes().wait_for_everyone()  # each has written the state of its own random numbers
                if processes().is_main_process:
                    (aside / name / "training_args.bin").unlink(missing_ok=True)  # a pickle that nobody reads
                    seal(aside / name)
                    (aside / name).rename(folder / name)
        finally:
            self.args.output_dir = str(folder)
            if processes().is_main_process:
                shutil.rmtree(aside, ignore_errors=True)
        if processes().is_main_process:
            for old in saved(folder)[:-KEPT]:
                shutil.rmtree(old)
        processes().wait_for_everyone()

    def _inner_training_loop(self, batch_size: int | None = None, **rest):
        """transformers 5.0 hands over the batch size of the checkpoint, which memory may have made another one."""
        return super()._inner_training_loop(batch_size=self.args.train_batch_size, **rest)

    def get_batch_samples(self, epoch_iterator: Iterator, *rest):
        over = self.state.global_step >= self.state.max_steps  # an epoch in parts has batches left
        return super().get_batch_samples(iter(()) if over else epoch_iterator, *rest)


def refuse_broken(model: torch.nn.Module, when: str) -> None:
    """UserError where a trained weight is not finite, so that it is never saved."""
    broken = [name for name, p in model.named_parameters() if p.requires_grad and not torch.isfinite(p).all()]
    if broken:
        raise UserError(
            f"{len(broken)} weights are not finite {when}, the first is {broken[0]}: nothing more was saved; "
            "train anew in another folder with a lower learning rate"
        )


def seal(folder: Path) -> None:
    """Write the manifest, and see to it that every file is on the disk itself."""
    sums = {name: file_hash(folder / name) for name in files_of(folder)}
    (folder / MANIFEST).write_text(json.dumps(sums, indent=1), encoding="utf-8")
    for name in (*sums, MANIFEST):
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())


def fault(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None where each byte is as it was written."""
    try:
        sums = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        wrong = [name for name in sums if not (folder / name).is_file() or file_hash(folder / name) != sums[name]]
    except (FileNotFoundError, ValueError, TypeError) as error:  # a disk that cannot be read is no damage: raised
        return f"{MANIFEST}: {error}"
    return f"{wrong[0]} is not as it was written" if wrong else None


def newest_whole(folder: Path, say: Callable[[str], None] = print) -> Path | None:
    """The newest checkpoint of `folder` without a fault; those with one are named and removed, as is a half-written."""
    shutil.rmtree(folder / ASIDE, ignore_errors=True)
    for checkpoint in reversed(saved(folder)):
        if (wrong := fault(checkpoint)) is None:
            return checkpoint
        say(f"{checkpoint.name} is damaged ({wrong}) and left out")
        shutil.rmtree(checkpoint)
    return None


def saved(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    return sorted(folder.glob("checkpoint-[0-9]*"), key=step_of)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def file_hash(path: Path) -> str:
    """sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Say that the disk is full where torch and safetensors only say that writing failed."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        full = getattr(error, "errno", None) == errno.ENOSPC or "os error 28" in str(error)
        if full or shutil.disk_usage(folder).free < 2**20:
            advice = f"free some and give the same command again: it goes on in {folder}"
            raise OSError(errno.ENOSPC, f"the disk is full; {advice}") from error
        raise
