"""`--processes 1` on a machine that shows eight GPUs (stood for by mocks; no GPU is needed)"""
import pathlib, sys
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from models import *
from unittest import mock
try:
    from evalkit.train.batches import Batches
    from evalkit.train.devices import pick_recipe_device
    from evalkit.train.recipe import make_recipe
    from evalkit.train import setup
except ImportError: say(False, "the set-up of training is elsewhere now: adapt this check")
r = make_recipe(dict(name="mg", model="olmo-tiny", data=["basics"], batch=128, micro_batch=4, max_length=2048)).complete()
names = ["torch.cuda.is_available", "torch.cuda.is_bf16_supported", "transformers.utils.import_utils.is_torch_bf16_gpu_available", "transformers.training_args.is_torch_bf16_gpu_available"]
with contextlib.ExitStack() as s:
    for n in names: s.enter_context(mock.patch(n, return_value=True))
    s.enter_context(mock.patch("torch.cuda.device_count", return_value=8)); s.enter_context(mock.patch("torch.cuda.set_device"))
    a = setup.training_arguments(r, WORK / "mg", Batches(10000), pick_recipe_device(r), True)
    each = a.train_batch_size * a.gradient_accumulation_steps
    r3 = r.model_copy(update={"device": "cuda:3"}); third = str(setup.training_arguments(r3, WORK / "mg", Batches(10000), pick_recipe_device(r3), True).device)
say(each == 128 and third == "cuda:3", f"{each} sequences a step where the recipe says 128; cuda:3 trains on {third}")
