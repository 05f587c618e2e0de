"""The text of a user's task changes and its version does not; another model is scored with the new text into the"""
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

os.makedirs("tasks"); a, b = build("a", seed=1), build("b", seed=2)
def go(model, question):
    pathlib.Path("tasks/capitals.py").write_text(TASK.replace("QUESTION", question).replace("HOOK", "pass"))
    evalkit("run", "--model", model, "--task", "capitals", "--tasks-dir", "tasks", "--no-report", "--output", "o")
go(a, "What is the capital of"); go(b, "Name the city that governs")
import evalkit as ek
rs = {info(f)["model"]: f for f in runs("o")}
shown = prompts(rs["b"])[0]
c = ek.compare_runs([rs["a"], rs["b"]])
compared = c.table["comparable"].any() and not any(k in " ".join(map(str, c.marks)).lower() for k in ("prompt", "asked", "not alike", "differ"))
say("governs" in shown and not compared, f"the second's prompt is shown as {shown[:40]!r}; {'compared without a word' if compared else 'not compared as alike'}")
