"""An installed package announces tasks and cannot be imported"""
import pathlib, sys
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from models import *
d = pathlib.Path("site/broken-1.0.dist-info"); d.mkdir(parents=True)
(d / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
(d / "entry_points.txt").write_text("[evalkit.tasks]\na_broken = no_such_module_at_all\n")
PATHS = {**os.environ, "PYTHONPATH": os.pathsep.join([str(WORK / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])}
CODE = """
import evalkit.registry as R
for i in range(2):
    try: print(len(list(R.tasks)))
    except Exception as e: print(type(e).__name__)
"""
r = subprocess.run([PYTHON, "-c", CODE], capture_output=True, text=True, env=PATHS)
got = r.stdout.split()
c = subprocess.run([COMMAND, "list", "tasks"], capture_output=True, text=True, env=PATHS)
say(len(got) == 2 and got[0] == got[1] != "0" and (c.returncode == 0 and "broken" in c.stdout + c.stderr), f"two calls in one process: {got}; `evalkit list tasks`: exit {c.returncode}")
