"""One of several processes that train together: ``torchrun -m evalkit.train.worker FOLDER``, or ``accelerate launch``.

FOLDER is a run folder with recipe and prepared rows. `evalkit.train.finetune` starts the processes, and scores before and
after in its own process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(folder: str) -> None:
    """Train the run in `folder` to its last step."""
    from evalkit.errors import EvalkitError
    from evalkit.train import setup
    from evalkit.train.finetune import DATA, find_start
    from evalkit.train.prepare import find_prepared
    from evalkit.train.recipe import make_recipe
    from evalkit.train.shipped import RECIPE_FILE, read_fields
    from evalkit.train.trainer import train

    setup.silence_libraries()
    run_folder = Path(folder)
    recipe = make_recipe(read_fields(run_folder / RECIPE_FILE), RECIPE_FILE)
    recipe = recipe.model_copy(update={"folder": str(run_folder.parent), "name": run_folder.name})
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size != recipe.processes:  # the effective batch would differ from the recipe's
        raise EvalkitError(f"{world_size} processes were started, but the recipe asks for {recipe.processes}.")
    prepared = find_prepared(run_folder / DATA)
    if prepared is None:
        raise EvalkitError(
            f"{run_folder} has no prepared data. Start training with 'evalkit train --from {run_folder}'."
        )
    train(recipe, find_start(recipe), prepared)


if __name__ == "__main__":
    main(sys.argv[1])
