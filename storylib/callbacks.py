"""What happens between the steps of a run: numbers and samples are written down, Ctrl-C is heard."""

import json
import math
import signal
import time
from dataclasses import asdict

from tqdm.auto import tqdm
from transformers import TrainerCallback

from storylib.config import GenerationSettings
from storylib.errors import UserError
from storylib.generation import generate
from storylib.parallel import any_of_them
from storylib.runs import Run
from storylib.runtime import sharded

LOGGED = ("loss", "grad_norm", "learning_rate", "eval_loss")
OVERFLOWS = 25  # fp16 steps in a row that may be skipped: the scale falls from 2^16 to below 1 by then


class LogSteps(TrainerCallback):
    """Appends each step's numbers to the run's log, moves the progress bar, stops at the first that is not finite."""

    def __init__(self, run: Run) -> None:
        self.run, self.overflows = run, 0

    def on_train_begin(self, args, state, control, model, **kwargs) -> None:
        self.hopeless = 2 * math.log(model.config.vocab_size)  # nats per token: as bad as guessing, squared
        main = state.is_world_process_zero
        bar = {"total": state.max_steps, "initial": state.global_step, "unit": "step", "disable": not main}
        self.bar = tqdm(desc="fine-tuning", **bar)
        self.tokens = 0

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self.started = time.monotonic()  # samples, evaluation and saving before it don't count

    def on_log(self, args, state, control, logs, **kwargs) -> None:
        row = {"step": state.global_step, "epoch": round(logs.get("epoch", 0), 4)}
        row |= {key: logs[key] for key in LOGGED if key in logs}
        if "loss" in row:
            seconds, new = time.monotonic() - self.started, logs["num_tokens"] - self.tokens
            row["tokens_per_second"], self.tokens = round(new / seconds, 1), logs["num_tokens"]  # padding not counted
            self.bar.set_postfix(loss=f"{row['loss']:.2f}")
            self.bar.update(state.global_step - self.bar.n)
        if len(row) > 2 and state.is_world_process_zero:
            append(self.run.log, row)
        self.refuse_broken(row, args)

    def refuse_broken(self, row: dict[str, float], args) -> None:
        """UserError at the first number that tells of a run gone wrong, before the state it belongs to is saved."""
        wrong = [key for key in ("loss", "grad_norm", "eval_loss") if not math.isfinite(row.get(key, 0.0))]
        wrong += [key for key in ("loss", "eval_loss") if row.get(key, 1.0) == 0.0 or row.get(key, 1.0) > self.hopeless]
        if args.fp16 and wrong == ["grad_norm"] and self.overflows < OVERFLOWS:
            self.overflows += 1  # part of the game: the scaler skips the step and halves its scale
        elif wrong:
            self.bar.close()
            raise UserError(
                f"{wrong[0]} is {row[wrong[0]]:.4g} at step {row['step']}: training stopped, and the checkpoint before "
                f"it is kept; train anew in another folder with a lower learning rate than {args.learning_rate:g}"
            )
        elif "grad_norm" in row:
            self.overflows = 0

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self.bar.close()


class TellSamples(TrainerCallback):
    """Tells the same few stories before the first step and at each evaluation, so that learning can be read."""

    def __init__(self, run: Run, tokenizer, prompts: list[str], settings: GenerationSettings, seed: int) -> None:
        self.run, self.tokenizer, self.prompts, self.settings, self.seed = run, tokenizer, prompts, settings, seed

    def on_train_begin(self, args, state, control, model, **kwargs) -> None:
        if state.global_step == 0:
            self.tell(state, model)

    def on_evaluate(self, args, state, control, model, **kwargs) -> None:
        self.tell(state, model)

    def tell(self, state, model) -> None:
        main = state.is_world_process_zero
        stories = generate(model, self.tokenizer, self.prompts, self.settings, self.seed) if main or sharded() else []
        for story in stories if main else []:
            append(self.run.samples, {"step": state.global_step} | asdict(story))


class StopAtStepEnd(TrainerCallback):
    """As a context: Ctrl-C lets the running step end and saves a checkpoint; a second one stops at once."""

    stopped = False

    def __enter__(self) -> "StopAtStepEnd":
        self.before = signal.signal(signal.SIGINT, self.stop)
        return self

    def __exit__(self, *_) -> None:
        signal.signal(signal.SIGINT, self.before)

    def stop(self, *_) -> None:
        self.stopped = True
        signal.signal(signal.SIGINT, self.before)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.stopped = any_of_them(self.stopped)
        if self.stopped:
            control.should_save = control.should_training_stop = True


class SaveByTime(TrainerCallback):
    """Asks for a checkpoint as soon as the last one is `minutes` old."""

    def __init__(self, minutes: float) -> None:
        self.seconds = 60 * minutes

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.saved = time.monotonic()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if any_of_them(time.monotonic() - self.saved >= self.seconds):
            control.should_save = True

    def on_save(self, args, state, control, **kwargs) -> None:
        self.saved = time.monotonic()


def append(path, row: dict) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
