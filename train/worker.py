"""One of several processes that train together: ``torchrun -m evalkit.train.worker FOLDER``, or ``accelerate launch``.

The folder is a run's, with recipe and prepared rows; `evalkit.train.finetune` starts the processes, and scores before and
after in its own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(folder: str) -> None:
    """Train the run of a folder to its end."""
    from evalkit.errors import EvalkitError
    from evalkit.train import setup
    from evalkit.train.finetune import DATA, find_start
    from evalkit.train.prepare import find_prepared
    from evalkit.train.recipe import make_recipe
    from evalkit.train.shipped import WRITTEN, read_fields
    from evalkit.train.trainer import train

    setup.be_quiet()
    place = Path(folder)
    recipe = make_recipe(read_fields(place / WRITTEN), WRITTEN)
    recipe = recipe.model_copy(update={"folder": str(place.parent), "name": place.name})
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world != recipe.processes:  # the batch would be another than the recipe's
        raise EvalkitError(f"{world} processes were started and the recipe asks for {recipe.processes}.")
    prepared = find_prepared(place / DATA)
    if prepared is None:
        raise EvalkitError(f"{place} has no prepared data. Start training with 'evalkit train --from {place}'.")
    train(recipe, find_start(recipe), prepared)


if __name__ == "__main__":
    main(sys.argv[1])
