"""The weights of the third checkpoint of a sweep are exchanged after the sweep has begun and before they are loa"""
import pathlib, sys
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from models import *
TASK = """
from evalkit.statistics.metrics import choice_metrics, predict
from evalkit.records import Document, Metric, Prompt
from evalkit.registry import task
from evalkit.task import TaskBase
ROWS = [("France", ["Paris", "Lyon", "Nice"], 0), ("Japan", ["Osaka", "Tokyo", "Kyoto"], 1), ("Peru", ["Cusco", "Arequipa", "Lima"], 2)]
FIRST = []

@task("capitals", description="Which city is the capital?")
class Capitals(TaskBase):
    kind = "choice"; max_length = None
    def __init__(self, name, options): self.name = name
    def protocol(self): return {"version": 1, "documents": 3}
    def documents(self): return [Document(i, c, {"question": c, "options": o, "gold": g}) for i, (c, o, g) in enumerate(ROWS)]
    def prompts(self, d): return [Prompt(f"QUESTION {d.fields['question']}?\\nAnswer:", " " + o, option=i) for i, o in enumerate(d.fields["options"])]
    def score(self, d, scores):
        HOOK
        o = d.fields["options"]
        row = {"index": d.index, "native_id": d.native_id, "truncated": 0, "gold": d.fields["gold"], "sums": [s.sum for s in scores], "tokens": [s.tokens for s in scores],
               "characters": [len(x) for x in o], "bytes": [len(x.encode()) for x in o], "is_greedy": [s.is_greedy for s in scores]}
        row["predicted"] = predict(row, "acc")
        return row
    def metrics(self, rows): return choice_metrics(rows, base=Metric(task=str(self.name), metric="", value=0.0, n=0), names=["acc", "bits_per_byte"], primary="acc")
"""

for k in (1, 2, 3): build(f"sweep/step{k}0", seed=k)
shutil.copytree("sweep", "keep")
os.makedirs("tasks")
def write(hook): pathlib.Path("tasks/capitals.py").write_text(TASK.replace("QUESTION", "What is the capital of").replace("HOOK", hook))
write("pass")
args = ["run", "--model", "sweep", "--revisions", "step*", "--task", "capitals", "--tasks-dir", "tasks", "--no-report", "--output"]
def bits(o): return {info(f)["checkpoint"]["revision"]: value(f, "bits_per_byte") for f in runs(o)}
evalkit(*args, "right"); want = bits("right")
write(f"if not FIRST: FIRST.append(1); import shutil; shutil.copy('{WORK}/keep/step10/model.safetensors', '{WORK}/sweep/step30/model.safetensors')")
r = evalkit(*args, "out", check=False)
f = [x for x in runs("out") if info(x)["checkpoint"]["revision"] == "step30"]
prints = {info(x)["checkpoint"]["revision"]: info(x)["checkpoint"]["fingerprint"] for x in runs("right")}
noticed = r.returncode != 0 or not f or bool(info(f[0])["warnings"]) or info(f[0])["checkpoint"]["fingerprint"] != prints["step30"]
shutil.copy("keep/step30/model.safetensors", "sweep/step30/model.safetensors")
write("pass")
evalkit(*args, "out", check=False)
got = bits("out").get("step30", math.nan)
say(noticed and abs(got - want["step30"]) < 1e-6, f"swap {'noticed' if noticed else 'not noticed'}; after the original is back {got:.4f}, right is {want['step30']:.4f} bits per byte")
