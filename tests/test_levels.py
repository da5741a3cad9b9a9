"""Training levels: the sample is balanced and stays the same; every level is a run of its own from the base."""

from dataclasses import replace

import datasets
import pytest

from storylib.errors import UserError
from storylib.levels import Level, sample, train_levels
from storylib.models import weights_hash
from storylib.training import finetune

ROWS = datasets.Dataset.from_dict({"number": list(range(30)), "label": ["horror"] * 20 + ["fairy_tale"] * 10})


def test_sample_takes_its_share_of_each_genre_and_grows():
    small, large = sample(ROWS, 0.3, 17), sample(ROWS, 0.6, 17)
    assert small["label"].count("horror") == 6 and small["label"].count("fairy_tale") == 3
    assert set(small["number"]) < set(large["number"])
    assert small["number"] == sorted(small["number"]) == sample(ROWS, 0.3, 17)["number"]
    assert small["number"] != sample(ROWS, 0.3, 18)["number"]
    assert sample(ROWS, 1, 17)["number"] == ROWS["number"]
    assert len(sample(ROWS.remove_columns("label"), 0.5, 17)) == 15


def test_levels_train_as_long_as_they_say(tiny_recipe, rows, tmp_path):
    recipe = replace(tiny_recipe, train=replace(tiny_recipe.train, evaluations=1))
    levels = (Level("none", 0, 0), Level("half", 0.5, 1), Level("all-twice", 1, 2))
    runs = train_levels(recipe, tmp_path, levels, rows)
    steps = {name: run and max(row["step"] for row in run.log) for name, run in runs.items()}
    assert steps == {"none": None, "half": 2, "all-twice": 8}  # of four stories, one a step
    assert (tmp_path / "half" / "adapter").is_dir() and not (tmp_path / "none").exists()
    alone = finetune(replace(recipe, train=replace(recipe.train, epochs=2)), tmp_path / "alone", rows)
    assert weights_hash(str(runs["all-twice"].run.adapter)) == weights_hash(str(alone.run.adapter))  # from the base


def test_level_that_makes_no_sense_is_refused():
    with pytest.raises(UserError, match="share"):
        Level("odd", 0.5, 0)
