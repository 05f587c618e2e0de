"""Step 3: train olmo-tiny on the packed rows. The same command resumes.

Muon for the hidden matrices, AdamW for the embedding; warm-up, constant rate, then a linear decay to zero (warm-up, stable, decay), so
the end can be moved while the training runs: every checkpoint before the decay fits any end. Weights, gradients, optimisers and cross
entropy are float32; the matrix products of the forward and backward pass are bfloat16 (half again as fast on the CPU that trained it).
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import OlmoConfig, OlmoForCausalLM

WINDOW = 2048


def config() -> OlmoConfig:
    """The architecture: OLMo 1 (non-parametric norms, rotary positions, SwiGLU, tied embeddings), 1.9 M parameters."""
    return OlmoConfig(
        vocab_size=4096, hidden_size=160, intermediate_size=416, num_hidden_layers=4, num_attention_heads=5, max_position_embeddings=WINDOW,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=0, pad_token_id=1, use_cache=True,
    )  # fmt: skip


def optimisers(model: OlmoForCausalLM, muon_rate: float, adam_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the (tied) embedding; ``muon_rate`` 0 means AdamW for all."""
    embedding = model.model.embed_tokens.weight
    matrices = [parameter for parameter in model.parameters() if parameter is not embedding]
    adam: dict[str, Any] = {"lr": adam_rate, "betas": (0.9, 0.95), "weight_decay": 0.0, "fused": True}
    if not muon_rate:
        return [torch.optim.AdamW([embedding, *matrices], **adam)]
    muon = torch.optim.Muon(matrices, lr=muon_rate, weight_decay=0.02, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW([embedding], **adam)]


def rate(step: int, steps: int, warm: int, decay: int) -> float:
    """Factor on the learning rate: up over ``warm`` steps, 1, then linearly to zero over the last ``decay`` steps."""
    return min(1.0, (step + 1) / warm, max(0.0, (steps - step) / decay))


def batch_at(rows: np.ndarray, first: int, size: int) -> torch.Tensor:
    """The batch that starts at row ``first``: rows in order, again from the start after the last."""
    at = np.arange(first, first + size) % len(rows)
    return torch.from_numpy(rows[at].astype(np.int64))


def loss_of(model: Any, batch: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy in nats a token."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=batch[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


class Workers:
    """Threads of one core each, with a view of the model's weights and gradients of their own, that take rows from one queue.

    A core that other programs use then slows its own rows only; two threads inside one matrix product would wait for each other.
    """

    def __init__(self, model: OlmoForCausalLM, count: int) -> None:
        torch.set_num_threads(1)
        self.model = model
        self.idle = [self._view() for _ in range(count)]
        self.views = list(self.idle)
        self.pool = ThreadPoolExecutor(count)

    def _view(self) -> OlmoForCausalLM:
        view = OlmoForCausalLM(config())
        view.train()
        for own, shared in zip(view.parameters(), self.model.parameters(), strict=True):
            own.data = shared.data
        return view

    def gradients(self, batch: torch.Tensor, micro: int) -> float:
        """Set the model's gradients for a batch, ``micro`` rows a forward pass; the mean loss in nats a token."""
        parts = torch.split(batch, micro)
        total = sum(self.pool.map(self._backward, parts, [len(part) / len(batch) for part in parts]))
        for parameter, *copies in zip(
            self.model.parameters(), *(view.parameters() for view in self.views), strict=True
        ):
            found = [copy.grad for copy in copies if copy.grad is not None]
            parameter.grad = found[0] if len(found) == 1 else sum(found[1:], found[0])
            for copy in copies:
                copy.grad = None
        return total

    def _backward(self, part: torch.Tensor, weight: float) -> float:
        view = self.idle.pop()
        loss = loss_of(view, part) * weight
        torch.autograd.backward(loss)
        self.idle.append(view)
        return loss.item()


def save(path: Path, model: OlmoForCausalLM, optims: list[torch.optim.Optimizer], state: dict[str, Any]) -> None:
    """Write a checkpoint in one move, so that a killed training never leaves half a file."""
    content = {
        "model": model.state_dict(),
        "optimisers": [o.state_dict() for o in optims],
        "state": state,
        "rng": torch.get_rng_state(),
    }
    torch.save(content, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def train(arguments: argparse.Namespace) -> None:
    """Run to the last step; log a line every ten steps, keep weights every ``--keep`` steps."""
    torch.manual_seed(arguments.seed)
    rows = np.load(arguments.work / "rows.npy", mmap_mode="r")
    run: Path = arguments.work / arguments.run
    (run / "weights").mkdir(parents=True, exist_ok=True)
    model = OlmoForCausalLM(config())
    optims = optimisers(model, arguments.muon_rate, arguments.adam_rate)
    base = [[group["lr"] for group in optimiser.param_groups] for optimiser in optims]
    state: dict[str, Any] = {"step": 0, "row": 0, "seconds": 0.0}
    checkpoint = run / "checkpoint.pt"
    if checkpoint.exists():
        held = torch.load(checkpoint, weights_only=False)
        model.load_state_dict(held["model"])
        for optimiser, content in zip(optims, held["optimisers"], strict=True):
            optimiser.load_state_dict(content)
        state = held["state"]
        torch.set_rng_state(held["rng"])
    model.train()
    workers = Workers(model, arguments.threads)
    began, saved, losses = time.time() - state["seconds"], time.time(), []
    first, per_step = state["step"], arguments.batch * WINDOW
    session = time.time()
    step = first
    while True:
        plan = json.loads((run / "plan.json").read_text()) if (run / "plan.json").exists() else {}
        steps, decay = plan.get("steps", arguments.steps), plan.get("decay", arguments.decay)
        if step >= steps:
            break
        factor = rate(step, steps, arguments.warm, decay)
        for optimiser, rates in zip(optims, base, strict=True):
            for group, value in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = value * factor
        batch = batch_at(rows, state["row"], arguments.batch)
        total = workers.gradients(batch, arguments.micro)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optims:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step += 1
        losses.append(total)
        state.update(step=step, row=state["row"] + arguments.batch, seconds=time.time() - began)
        if step % 10 == 0 or step == steps:
            speed = (step - first) * per_step / (time.time() - session)
            line = {"step": step, "of": steps, "tokens": state["row"] * WINDOW, "loss": round(float(np.mean(losses)), 4), "rate": round(factor, 4),
                    "tokens_per_second": round(speed), "minutes_left": round((steps - step) * per_step / speed / 60, 1)}  # fmt: skip
            losses.clear()
            with (run / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
        if arguments.keep and (step % arguments.keep == 0 or step == steps):
            torch.save(
                model.state_dict(), run / "weights" / f"step{step}-tokens{round(state['row'] * WINDOW / 1e6)}M.pt"
            )
        if time.time() - saved > arguments.save_seconds or step == steps:
            save(checkpoint, model, optims, state)
            saved = time.time()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="cache folder")
    parser.add_argument(
        "--run",
        default="run",
        help="folder of this training inside --work; its plan.json may move the end: steps, decay",
    )
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--decay", type=int, default=420)
    parser.add_argument("--warm", type=int, default=40)
    parser.add_argument("--batch", type=int, default=4, help="rows of 2,048 tokens a step")
    parser.add_argument("--micro", type=int, default=1, help="rows a forward pass")
    parser.add_argument("--muon-rate", type=float, default=0.01)
    parser.add_argument("--adam-rate", type=float, default=0.005)
    parser.add_argument("--keep", type=int, default=60, help="keep weights every N steps; 0 keeps none")
    parser.add_argument("--save-seconds", type=float, default=180)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=22)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
