"""Shared by the checks: a scratch folder, the evalkit command from PATH, small random models that are built from a seed.

`from models import *` starts the check again under the Python of the evalkit command, in a temporary folder that is
removed at the end. A check ends with `say(right, line)`: one line, exit 0 when right and 1 when wrong.
"""

import atexit, contextlib, hashlib, json, math, os, pathlib, random, shutil, signal, subprocess, sys, tempfile, time, warnings

COMMAND = shutil.which("evalkit")
if not COMMAND:
    sys.exit("wrong: there is no evalkit command on PATH")
_PYTHON = os.path.join(os.path.dirname(COMMAND), "python")
if os.path.exists(_PYTHON) and os.path.realpath(os.path.dirname(os.path.dirname(_PYTHON))) != os.path.realpath(
    sys.prefix
):
    os.execv(_PYTHON, [_PYTHON, *sys.argv])
PYTHON = sys.executable
CASE = pathlib.Path(sys.argv[0]).resolve().parent
os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1", NO_COLOR="1", COLUMNS="200", TOKENIZERS_PARALLELISM="false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.simplefilter("ignore")
WORK = pathlib.Path(tempfile.mkdtemp(prefix="case-"))
os.chdir(WORK)
_OWNER = os.getpid()


@atexit.register
def _clean():
    if os.getpid() == _OWNER:
        os.chdir("/")
        shutil.rmtree(WORK, ignore_errors=True)


def say(right, line):
    line = " ".join(str(line).split())
    print(("right: " if right else "wrong: ") + line[:400], flush=True)
    sys.exit(0 if right else 1)


def _hook(kind, value, _trace):
    if os.environ.get("CASE_DEBUG"):
        import traceback

        traceback.print_exception(kind, value, _trace)
    print(f"wrong: the check stopped: {kind.__name__}: {' '.join(str(value).split())[:300]}")


sys.excepthook = _hook


class Stopped(Exception):
    pass


def evalkit(*args, check=True, timeout=240, env=None, cwd=None, spawn=False, before=None):
    """Run the command; with `check`, an exit code other than 0 ends the check as wrong.

    It runs in a fork of this process, which spares importing everything again; `spawn` (or CASE_SPAWN=1) starts the
    command on PATH instead. `before` is called in the fork, before the command."""
    args = [str(a) for a in args]
    if spawn or os.environ.get("CASE_SPAWN"):
        r = subprocess.run(
            [COMMAND, *args],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=cwd or WORK,
            env={**os.environ, **(env or {})},
            errors="replace",
        )
    else:
        r = _forked(args, timeout, env or {}, cwd or WORK, before)
    if check and r.returncode:
        raise Stopped(f"evalkit {' '.join(args)[:80]}: exit {r.returncode}: {(r.stderr or r.stdout).strip()[-220:]}")
    return r


def start(*args, env=None, cwd=None, before=None):
    """Start the command in a fork: its process id and the file of what it says."""
    import torch, evalkit.cli, evalkit.api, evalkit.scoring.runner  # noqa: F401  (once, before the fork)

    torch.set_num_threads(1)
    fd, said = tempfile.mkstemp(dir=WORK, prefix=".out-")
    sys.stdout.flush(), sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.close(fd)
        return pid, pathlib.Path(said)
    code = 99
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(fd, 1), os.dup2(fd, 2)
        os.environ.update(env or {})
        os.chdir(cwd or WORK)
        if before:
            before()
        sys.argv = ["evalkit", *map(str, args)]
        code = evalkit.cli.main([str(a) for a in args])
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush(), sys.stderr.flush()
        os._exit(code or 0)


def wait(pid, timeout=240):
    """The exit code of a started command; minus the signal that ended it; None when it had to be killed."""
    end = time.time() + timeout
    while time.time() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _forked(args, timeout, env, cwd, before):
    pid, said = start(*args, env=env, cwd=cwd, before=before)
    code = wait(pid, timeout)
    text = said.read_text(errors="replace")
    if code is None:
        raise Stopped(f"evalkit {' '.join(args)[:80]}: not at its end after {timeout} s")
    return subprocess.CompletedProcess(args, code, text, text)


def unforeseen(r):
    """Whether a command ended in a traceback, a signal or in words for what nobody foresaw."""
    both = r.stdout + r.stderr
    return (
        r.returncode == 99
        or r.returncode < 0
        or r.returncode >= 128
        or "Traceback (most recent" in both
        or "did not foresee" in both
        or "Unexpected error" in both
    )


def last(r):
    """The end of what a command said."""
    return " ".join((r.stderr or r.stdout).split())[-220:]


def runs(folder):
    return sorted(p.parent for p in pathlib.Path(folder).rglob("run.json"))


def info(folder):
    return json.loads((pathlib.Path(folder) / "run.json").read_text())


def metrics(folder):
    rows = json.loads((pathlib.Path(folder) / "metrics.json").read_text())
    return rows["metrics"] if isinstance(rows, dict) else rows


def value(folder, metric, **want):
    hits = [r for r in metrics(folder) if r["metric"] == metric and all(r.get(k) == v for k, v in want.items())]
    if not hits:
        raise Stopped(f"no metric {metric} {want}")
    return hits[0]["value"]


def documents(folder):
    """All rows of a run's documents."""
    import pyarrow.parquet as pq

    return [
        r
        for p in sorted((pathlib.Path(folder) / "documents").glob("*.parquet"))
        for r in pq.read_table(p, partitioning=None).to_pylist()
    ]


def prompts(folder):
    """The contexts of the questions of a run, as stored beside its results."""
    import evalkit as ek

    run = ek.load_run(folder)
    return [c for task in run.tasks for c in run.prompts(task)["context"]]


def home():
    """A home of evalkit of the check's own (registry of models); the offline bundle stays where it is found today."""
    place = WORK / "home"
    if not place.exists():
        place.mkdir()
        if os.environ.get("EVALKIT_HOME"):
            old = pathlib.Path(os.environ["EVALKIT_HOME"]).expanduser() / "cache"
        else:
            import platformdirs

            old = pathlib.Path(platformdirs.user_cache_path("evalkit", appauthor=False))
        if old.exists():
            (place / "cache").symlink_to(old.resolve())
    return str(place)


def write_lines(path, rows):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def edit_json(path, **changes):
    d = json.loads(pathlib.Path(path).read_text())
    d.update(changes)
    pathlib.Path(path).write_text(json.dumps(d))


# ---------------------------------------------------------------- texts and tokenizers
WORDS = (
    "the model reads each text once and tells how sure it was about every token of a report while rivers carry sand "
    "to a quiet harbour where people score answers what is an old question that nobody asked before winter came"
).split()


def sentence(rng, n):
    return " ".join(rng.choice(WORDS) for _ in range(n))


def corpus(n=400, seed=0):
    rng = random.Random(seed)
    return [sentence(rng, rng.randint(4, 14)).capitalize() + rng.choice([".", "?", ":", "!"]) for _ in range(n)] + [
        "Question: What is scored?\nAnswer: the answer",
        "<|user|>\nsay\n<|assistant|>\nyes\n",
    ] * 3


SPECIAL = ["<unk>", "<s>", "</s>", "<|pad|>"]


def bytelevel(prefix_space=False, size=600):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=SPECIAL,
            show_progress=False,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        ),
    )
    return t


def sentencepiece(first=False, size=700):
    """Like a SentencePiece model with a dummy prefix: in front of every piece of text (legacy), or of the first alone."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    under = "\u2581"
    norm = normalizers.Sequence([normalizers.Prepend(under), normalizers.Replace(" ", under)])
    learn = Tokenizer(models.BPE())
    learn.normalizer = norm
    learn.pre_tokenizer = pre_tokenizers.Split(under, "merged_with_next")
    learn.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=size, show_progress=False, special_tokens=SPECIAL + [f"<0x{i:02X}>" for i in range(256)]
        ),
    )
    d = json.loads(learn.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in d["merges"]]
    t = Tokenizer(models.BPE(vocab=d["vocab"], merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if first:
        t.pre_tokenizer = pre_tokenizers.Metaspace(replacement=under, prepend_scheme="first", split=False)
    else:
        t.normalizer = norm
    t.decoder = decoders.Sequence(
        [decoders.Replace(under, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    t.add_special_tokens(SPECIAL)
    return t


def ends(t, bos=False, eos=False):
    """Let a tokenizer put <s> in front and </s> behind by default."""
    from tokenizers import processors

    seq = " ".join((["<s>"] if bos else []) + ["$A"] + (["</s>"] if eos else []))
    t.post_processor = processors.TemplateProcessing(
        single=seq, pair=seq + " $B", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return t


CHAT = (
    "{% for m in messages %}{{ '<|'+m['role']+'|>\\n'+m['content']+eos_token+'\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


def save_tokenizer(place, t=None, chat=None, **names):
    from transformers import PreTrainedTokenizerFast

    opts = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<|pad|>", **names)
    tok = PreTrainedTokenizerFast(tokenizer_object=t or bytelevel(), **{k: v for k, v in opts.items() if v})
    if chat:
        tok.chat_template = chat
    tok.save_pretrained(place)
    return tok


SMALL = dict(
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=3,
)


def shake(model, scale=0.2):
    import torch

    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.copy_(torch.randn_like(p) * scale)
    return model


def build(place, kind="llama", t=None, chat=None, seed=0, scale=0.2, plain=False, **config):
    """A random model of a kind of transformers, with a tokenizer, saved to `place`; the folder.

    `plain` leaves out the common sizes (for kinds that name them otherwise)."""
    import torch, transformers
    from transformers import AutoConfig, AutoModelForCausalLM

    transformers.logging.set_verbosity_error()
    place = pathlib.Path(place)
    tok = save_tokenizer(place, t, chat)
    torch.manual_seed(seed)
    base = dict(vocab_size=len(tok), **({} if plain else SMALL))
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**base, **config})).float()
    shake(model, scale).save_pretrained(place)
    return place


def alone(place, texts, prefix=None):
    """Sum of log-probabilities of each text, one plain forward pass a text, <eos> (or `prefix`) in front."""
    import torch, transformers

    transformers.logging.set_verbosity_error()
    model = transformers.AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()
    tok = transformers.AutoTokenizer.from_pretrained(place)
    sums = []
    for text in texts:
        ids = [tok.eos_token_id if prefix is None else prefix] + tok(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            lp = model(torch.tensor([ids[:-1]]), use_cache=False).logits[0].float().log_softmax(-1)
        sums.append(lp.gather(1, torch.tensor(ids[1:])[:, None]).double().sum().item())
    return sums


# ---------------------------------------------------------------- results made from a real run
def made(source, place, *, name=None, revision=None, sums=None, task=None, **checkpoint):
    """A copy of a finished run with other scores: `sums(row, place)` gives the new sums of a row; metrics are made again."""
    import pyarrow as pa, pyarrow.parquet as pq
    import evalkit as ek

    place = pathlib.Path(place)
    shutil.copytree(source, place)
    d = info(place)
    c = d["checkpoint"]
    c["model"] = d["model"] = name or c["model"]
    if revision:
        c["revision"] = revision
    c["name"] = c["model"] if c["revision"] == "main" else f"{c['model']}@{c['revision']}"
    c["fingerprint"] = f"s64:{hashlib.sha256(str(place).encode()).hexdigest()[:40]}"
    c.update(checkpoint)
    (place / "run.json").write_text(json.dumps(d))
    if sums:
        for p in sorted((place / "documents").glob("*.parquet")):
            if task and not p.name.startswith(task):
                continue
            table = pq.read_table(p, partitioning=None)
            rows = table.to_pylist()
            for i, row in enumerate(rows):
                new = sums(row, i)
                if "sums" in row:
                    row["sums"] = new
                    row["predicted"] = max(range(len(new)), key=new.__getitem__)
                else:
                    row["sum"] = new
            pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), p)
    ek.recompute_metrics(place)
    return place


def right_or_not(row, hit):
    """Sums that make a question right or wrong under every normalisation."""
    new = [-60.0 - i for i in range(len(row["sums"]))]
    new[row["gold"] if hit else (row["gold"] + 1) % len(new)] = -0.5
    return new
