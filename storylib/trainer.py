"""The trainer of stories: which rows a step sees, how the held-out loss is taken, and in which precision."""

import math
import random
from collections.abc import Iterator, Sequence

import torch
from accelerate.utils import reduce
from datasets import Dataset, concatenate_datasets
from torch.nn.functional import cross_entropy
from torch.utils.data import Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback, TrainingArguments
from trl import SFTConfig, SFTTrainer

from storylib.checkpoints import SafeCheckpoints
from storylib.config import Recipe, TrainSettings
from storylib.models import trainable_in_fp32
from storylib.parallel import processes, shared_out
from storylib.runs import Run
from storylib.runtime import compute_dtype, device
from storylib.window import story_rows

WHOLE_LOGITS = 2**26  # numbers: with more, TRL's loss, which makes them a tile at a time


class LengthGrouped(Sampler[int]):
    """Each epoch's own shuffle, with rows of like lengths in one batch; the same again for the same seed and epoch.

    The trainer's own length grouping draws from the global generator, so a run that is resumed within an epoch would go
    on in another order. The order is filled up to a multiple of `whole` with the number behind the last row.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, whole: int = 1) -> None:
        self.lengths, self.batch_size, self.seed, self.whole, self.epoch = lengths, batch_size, seed, whole, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    @property
    def steps(self) -> int:
        """Batches of an epoch, each of them an optimizer step."""
        return math.ceil(len(self.lengths) / self.batch_size)

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.whole) * self.whole

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self.seed}-{self.epoch}")
        shuffled = rng.sample(range(len(self.lengths)), len(self.lengths))
        cut = len(shuffled) % self.batch_size  # the small last batch: any rows, or it would always be the longest story
        rows = sorted(shuffled[cut:], key=lambda row: self.lengths[row] // 8)  # tokens; shuffled within a length
        batches = [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
        rng.shuffle(batches)
        filling = [len(self.lengths)] * (len(self) - len(self.lengths))
        return iter([row for batch in batches for row in batch] + shuffled[:cut] + filling)


class EpochByEpoch(TrainerCallback):
    """Gives each epoch its own order, and the last step an evaluation.

    Accelerate does not reach the sampler when several processes go on within an epoch, and transformers 5.0 evaluates
    the last step only where it is a multiple of `eval_steps`.
    """

    order: LengthGrouped  # of the trainer, once it has its batches

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        self.order.set_epoch(state.global_step // self.order.steps)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = True


class SameOrder(SafeCheckpoints):
    """To be inherited before a trainer of TRL: batches of like lengths, in an order that a resumed run keeps."""

    def __init__(self, *args, **kwargs) -> None:
        self.epochs = EpochByEpoch()
        super().__init__(*args, **kwargs)
        self.add_callback(self.epochs)

    def in_order(self, lengths: Sequence[int], whole: int = 1) -> LengthGrouped:
        together = self.args.train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps
        self.epochs.order = LengthGrouped(lengths, together, self.args.seed, whole)
        return self.epochs.order


class StoryTrainer(SameOrder, SFTTrainer):
    """TRL's trainer, with batches in an order that a resumed run keeps, however many processes it has.

    Several processes need as many batches each. Accelerate would repeat rows for that; here a row without loss, the
    last of each data set, fills up, so that steps and held-out loss are those of one process.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.args.world_size > 1:
            self.train_dataset, self.eval_dataset = with_filler(self.train_dataset), with_filler(self.eval_dataset)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler[int]:
        return self.in_order(*self.share_out(train_dataset or self.train_dataset, self.args.train_batch_size))

    def _get_eval_sampler(self, eval_dataset: Dataset) -> Sequence[int]:
        lengths, whole = self.share_out(eval_dataset, self.args.eval_batch_size)
        number = len(lengths)
        return [*range(number), *[number] * (-number % whole)]

    def share_out(self, dataset: Dataset, batch_size: int) -> tuple[list[int], int]:
        """Tokens of each row but the filler, and the number of rows that the processes take at a time."""
        lengths = [len(ids) for ids in dataset["input_ids"]]
        several = self.args.world_size > 1
        return (lengths[:-1], batch_size * self.args.world_size) if several else (lengths, 1)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Nats per story token. TRL's own takes each token's entropy and accuracy too: a third of a step on a CPU."""
        labels = inputs["labels"][:, 1:]  # (B, T-1)
        if return_outputs or labels.is_cuda or labels.numel() * self.model.config.vocab_size > WHOLE_LOGITS:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        told = (labels != -100).any(dim=0).int()
        first = int(told.argmax())  # position where the first story of the batch begins
        kept = labels.shape[1] - first
        texts = {key: inputs[key] for key in ("input_ids", "attention_mask")}
        logits = model(**texts, use_cache=False, logits_to_keep=kept + 1).logits[:, :-1]  # (B, kept, V)
        nats = cross_entropy(logits.flatten(0, 1).float(), labels[:, first:].flatten(), reduction="sum")
        tokens = (labels != -100).sum() if num_items_in_batch is None else num_items_in_batch
        if num_items_in_batch is not None:  # counted over all processes, whose gradients will be averaged
            nats = nats * self.accelerator.num_processes
        if self.model.training:
            self._total_train_tokens += int(self.accelerator.gather(inputs["attention_mask"].sum()).sum())
            self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        return nats / torch.as_tensor(tokens).clamp(min=1)

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """Nats per token over all held-out stories, logged as `eval_loss`.

        The library's mean over batches of their means weighs tokens by the batch they happen to be in.
        """
        self.model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)  # nats, tokens
        one = torch.tensor(self.args.world_size, device=self.args.device)  # the loss is multiplied by it
        with torch.no_grad(), self.compute_loss_context_manager():
            for batch in self.get_eval_dataloader():
                batch = self._prepare_inputs(batch)
                tokens = (batch["labels"][:, 1:] != -100).sum()
                sums += torch.stack([self.compute_loss(self.model, batch, num_items_in_batch=one), tokens])
        nats, tokens = reduce(sums, "sum").tolist()
        scores = {"eval_loss": nats / tokens}
        self.log(scores)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, scores)
        return scores


def with_filler(rows: Dataset) -> Dataset:
    """`rows` and a last one that has no loss."""
    filler = {"input_ids": rows[0]["input_ids"][:2], "labels": [-100, -100]}
    rows = rows.select_columns(list(filler))
    return concatenate_datasets([rows, Dataset.from_list([filler], features=rows.features)])


def as_tokens(rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """`input_ids` and `labels` of prompts and completions: only the story and its EOS have labels.

    TRL's own would leave out the end of a prompt whose last token the two together don't have.
    """

    def tokenise(batch: dict[str, list]) -> dict[str, list]:
        told = story_rows(tokenizer, batch["prompt"], batch["completion"])
        return {
            "input_ids": [ids for ids, _ in told],
            "labels": [[-100] * start + ids[start:] for ids, start in told],
        }

    return rows.map(tokenise, batched=True, remove_columns=rows.column_names)


def one_gpu(args: TrainingArguments) -> None:
    """Leave all GPUs but the first alone: one process would deal batches out to them, which TRL refuses to do.

    Several processes have one each as it is.
    """
    args._n_gpu = min(args.n_gpu, 1)  # as the library itself does for a model that lies on several


def story_trainer(
    recipe: Recipe,
    run: Run,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Dataset,
    held_out: Dataset,
) -> StoryTrainer:
    """A trainer with loss on the story only, EOS learnt, and precision by machine."""
    args = SFTConfig(**arguments(run, shared_out(recipe.train, processes().num_processes), len(train)))
    one_gpu(args)
    train, held_out = (as_tokens(rows, tokenizer) for rows in (train, held_out))
    trainer = StoryTrainer(model, args, train_dataset=train, eval_dataset=held_out, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    trainable_in_fp32(model)  # the trainer has cast them to bf16
    return trainer


def arguments(run: Run, settings: TrainSettings, rows: int) -> dict[str, object]:
    """What TRL's trainers are told alike, by the settings of each process and the number of rows to train on."""
    steps = math.ceil(math.ceil(rows / (settings.effective_batch * processes().num_processes)) * settings.epochs)
    every = max(1, math.ceil(steps / settings.evaluations))
    return dict(
        output_dir=str(run.checkpoints),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=round(settings.warmup * steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim=settings.optimizer,
        max_length=settings.window,
        use_cpu=device().type == "cpu",
        bf16=compute_dtype() == torch.bfloat16,
        fp16=compute_dtype() == torch.float16,
        gradient_checkpointing=device().type == "cuda",
        gradient_checkpointing_kwargs={"use_reentrant": False},
        ddp_find_unused_parameters=False,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would replace a NaN by the running mean
        report_to="none",
        disable_tqdm=True,  # LogSteps has the one progress bar
        dataloader_pin_memory=device().type == "cuda",
        seed=settings.seed,
    )
