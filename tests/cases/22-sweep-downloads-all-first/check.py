"""A sweep over a hub repository with four revisions (the hub is replaced inside the process)"""
import pathlib, sys
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from models import *
import evalkit as ek
from evalkit.checkpoints import hub
from evalkit.engines.fake import FakeEngine as E
from evalkit.errors import DataUnavailable
p = build("m"); log = []
hub.reachable = lambda: True
hub.revisions = lambda repo: [f"step{i}000-tokens{i}B" for i in range(1, 5)]
def download(repo, rev, *a, **k):
    if fails and rev.startswith("step3000"): raise DataUnavailable("the hub gave no answer")
    log.append("download " + rev); return pathlib.Path(p)
hub.download = download
load = E.load
E.load = lambda self, c: (log.append("load " + c.name), load(self, c))[1]
kw = dict(revisions="step*", task="arc_easy", limit=3, engine="fake", report=False, data_source="bundle")
fails = False; ek.run("org/model", output="o1", **kw)
at = next((i for i, x in enumerate(log) if x.startswith("load")), 99); before = sum(x.startswith("download") for x in log[:at])
log.clear(); fails = True
try: ek.run("org/model", output="o2", **kw)
except Exception: pass
scored = len(runs("o2"))
say(before < 4 and scored >= 3, f"{before} of 4 downloaded before the first is scored; with one time-out {scored} of 3 others are scored")
