"""Question sets of a user's own in YAML: read, checked as a whole, registered; what is wrong is one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evalkit import registry
from evalkit.errors import EvalkitError
from evalkit.task import TaskOptions

SET = {"data": "rows.jsonl", "question": "Question: {{ q }}", "options": "{{ o }}", "gold": "{{ g }}"}
ROW = {"q": "Which is red?", "o": ["Mars", "Venus"], "g": 0}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Write a set and its rows, and load their folder; its names are forgotten afterwards."""

    def put(values: Any = None, *, row: Any = None, name: str = "mine", text: str | None = None, **more: Any) -> Path:
        content = text if text is not None else json.dumps({**SET, **(values or {}), **more})
        (tmp_path / f"{name}.yaml").write_text(content)
        (tmp_path / "rows.jsonl").write_text(row if isinstance(row, str) else json.dumps(row or ROW) + "\n")
        registry.load_tasks_dir(tmp_path)
        return tmp_path

    yield put
    for names in (registry.tasks, registry.suites):
        for entry in list(names):
            if entry.where.startswith(str(tmp_path)):
                names.remove(entry.name)


def asked(name: str = "mine", **options: Any) -> list[tuple[str, str]]:
    """The prompts of a task, as context and continuation."""
    task = registry.make_task(name, TaskOptions(**options))
    found = [(prompt.context, prompt.continuation) for d in task.documents() for prompt in task.prompts(d)]
    described = task.protocol()["data"]
    assert {one["source"] for one in (described if isinstance(described, list) else [described])} == {"files"}
    return found


def test_four_lines_are_a_set(write: Write) -> None:
    """Question, options, right answer, and a file beside the description."""
    write()
    assert asked() == [("Question: Which is red?\nAnswer:", " Mars"), ("Question: Which is red?\nAnswer:", " Venus")]


def test_forms_parts_and_aliases(write: Write) -> None:
    """All that evalkit's own sets have: forms, parts with files of their own, groups, other names, examples in the file."""
    folder = write(
        data={"files": {"test": "{part}.jsonl"}},
        parts=["inner", "outer"],
        groups={"all_of_them": ["inner", "outer"]},
        aliases=["the_planets"],
        examples={"rows": [{"q": "Which is hot?", "o": ["Mars", "Venus"], "g": 1}]},
        forms={"rc": None, "mc": None, "bpb": None},
    )
    for part in ("inner", "outer"):
        (folder / f"{part}.jsonl").write_text(json.dumps({**ROW, "q": f"{part}?"}) + "\n")
    assert asked("the_planets_outer:bpb") == [("Question: outer?\nAnswer:", " Mars")]
    assert [context for context, _ in asked("mine/all_of_them:bpb")] == [
        "Question: inner?\nAnswer:",
        "Question: outer?\nAnswer:",
    ]
    assert asked("mine:outer", shots=1)[0][0] == "Question: Which is hot?\nAnswer: Venus\n\nQuestion: outer?\nAnswer:"
    assert asked("mine/inner:mc")[0] == ("Question: inner?\n A. Mars\n B. Venus\nAnswer:", " A")


def test_a_suite_beside_it(write: Write) -> None:
    """A file with ``tasks`` is a suite; one whose name begins with _ is neither."""
    folder = write()
    (folder / "both.yml").write_text("tasks: [mine, arc_easy]\noptions: {limit: 1}\n")
    (folder / "_notes.yaml").write_text("anything")
    registry.load_tasks_dir(folder)
    assert registry.suite_entry("both").tasks == ("mine", "arc_easy")
    assert registry.suite_entry("both").options == {"limit": 1}


def test_a_file_may_change(write: Write) -> None:
    """A program that loads its folder again has what the file says now."""
    write()
    write(question="{{ q }}")
    assert asked()[0][0] == "Which is red?\nAnswer:"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"optons": []}, "there is no setting 'optons'. Did you mean 'options'?"),
    ({"data": {"filse": {}}}, "there is no setting 'data.filse'. Did you mean 'data.files'?"),
    ({"forms": {"rc": {"optiosn": 1}}}, "form 'rc': there is no setting 'optiosn'. Did you mean 'options'?"),
    ({"regimes": {"olmes": {"forms": {"mc": {"glod": 1}}}}}, "regime 'olmes', form 'mc': there is no setting 'glod'"),
    ({"kind": "chioce"}, "kind should be 'choice'"),
    ({"kind": "schema"}, "mine is of the kind 'schema' and needs 'contexts'."),
    ({"kind": "continuation"}, "mine is of the kind 'continuation' and needs 'answer'."),
    ({"kind": "generation"}, "mine is of the kind 'generation' and needs 'answer' or 'accepted' or 'program'."),
    ({"kind": "generation", "answer": "x", "extract": "nothing"}, "there is no 'nothing'"),
    ({"kind": "generation", "answer": "x", "judge": "me"}, "there is no 'me'"),
    (
        {"kind": "generation", "answer": "x", "generation": {"stop": [""]}},
        "an empty stop string would end every text immediately",
    ),
    ({"kind": "generation", "answer": "x", "generation": {"cap": 3}}, "there is no setting 'generation.cap'"),
    ({"kind": "generation", "accepted": [1]}, "accepted"),
    (
        {
            "kind": "generation",
            "accepted": "{{ a",
        },
        "accepted: The template",
    ),
    ({"kind": "generation", "answer": "x", "judge": "program"}, "needs both 'judge: program' and 'program'"),
    ({"kind": "generation", "answer": "x", "program": {"after": "{{"}}, "needs both 'judge: program' and 'program'"),
    ({"kind": "generation", "answer": "x", "metrics": ["acc"]}, "for generated texts it takes pass@k and maj@k"),
    (
        {"kind": "generation", "answer": "x", "metrics": ["pass@1"]},
        "pass@1 is not a result of 'judge: exact_match'",
    ),
    (
        {"kind": "generation", "answer": "x", "metrics": ["maj@4"]},
        "maj@4 needs 4 texts per prompt or more, but there are 1",
    ),
    ({"kind": "generation", "answer": "x", "also": {"capped": "whole"}}, "is called exact_match_"),
    ({"kind": "generation", "answer": "x", "judge": "math", "also": {"exact_match_x": "whole"}}, "does not support"),
    ({"options": []}, "needs 'options'."),
    ({"question": ""}, "needs 'question' or 'context'."),
    ({"gold": "g"}, "gold 'g' is not a position counted from 0. For a column write '{{ g }}'"),
    ({"gold": True}, "it takes neither true nor false"),
    ({"where": "q == 'x'"}, "is always true"),
    ({"let": {"a b": "x"}}, "let has the name 'a b'"),
    ({"primary": "accc"}, "the primary metric 'accc' is not one of acc"),
    ({"metrics": ["f1"]}, "There is no metric 'f1'"),
    ({"columns": {"q": "strr"}}, "'strr' is not a column type"),
    ({"rows": {"files": "nope"}}, "there is no function 'nope'"),
    ({"examples": {"begin": "("}}, "examples.begin is not a valid regular expression"),
    ({"sample": {"above": -1, "size": 5}}, "greater than or equal to 0"),
    ({"data": "/etc/passwd"}, "data names '/etc/passwd', which is not next to this file"),
    ({"data": "../rows.jsonl"}, "data names '../rows.jsonl', which is not next to this file"),
    ({"data": "a\0b"}, r"data names 'a\x00b', which is not next to this file"),
    ({"columns": {"q": [["str", "int"]]}}, "is not a column type"),
    ({"gold": "g" * 5000}, "is not a position counted from 0"),
    ({"data": "other.jsonl"}, "other.jsonl cannot be read"),
    ({"data": {"repo": "a/b", "config": {"x": "y"}}, "parts": ["z"]}, "no configuration of the part 'z'"),
    ({"split": "train"}, "mine has no split 'train'; it has test."),
    ({"regimes": {"olmex": None}}, "no regime 'olmex'. Did you mean 'olmes'"),
    ({"regimes": ["olmes"]}, "regimes should be a mapping"),
    ({"forms": {"a/b": None}}, "'a/b' under forms is not a valid name"),
    ({"forms": {"a::b": None}}, "'a::b' under forms is not a valid name"),
    ({"parts": [".."]}, "'..' under parts is not a valid name"),
    ({"parts": ["a/b"]}, "'a/b' under parts is not a valid name"),
    ({"parts": ["\x1b[31m"]}, r"'\x1b[31m' under parts is not a valid name"),
    ({"parts": ["a"], "groups": {"a": ["a"]}}, "two parts or groups with the same name"),
    ({"parts": ["a"], "groups": {"g": ["b"]}}, "the group 'g' has 'b', which is not among the parts"),
    ({"aliases": ["arc_easy"]}, "the name 'arc_easy' is already taken by another task"),
    ({"aliases": ["mmlu_anatomy"]}, "the name 'mmlu_anatomy' is already taken by 'mmlu/anatomy'"),
    ({"options": "{{ o", "gold": 0}, "options: The template '{{ o' is not valid"),
    ({"question": "{% include '/etc/passwd' %}"}, "a macro, a block or an import"),
    ({"question": "{% for a in q %}{% for b in q %}x{% endfor %}{% endfor %}"}, "a loop inside a loop"),
    ({"question": "x" * 20_000}, "more than 10,000 characters"),
    ({"question": "{{ " + "(" * 500 + "1" + ")" * 500 + " }}"}, "nested too deeply"),
    ({"question": "{{ q|random }}"}, "No filter named 'random'"),
]


@pytest.mark.parametrize(("values", "told"), WRONG)
def test_what_is_wrong_with_a_file(write: Write, values: dict[str, Any], told: str) -> None:
    """One sentence with the file, the key and, where one is near, the key that was meant."""
    with pytest.raises(EvalkitError) as error:
        write(values) and asked()
    assert told in str(error.value)
    assert "mine" in str(error.value) or "other.jsonl" in told
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("arc_easy", "The task 'arc_easy' is registered twice"),
        ("mmlu_anatomy", "already taken by 'mmlu/anatomy'"),
        ("commonsense_qa", "already taken by 'csqa'"),
        ("arc_easy_rc_5shot", "already taken by a label of OLMo-core"),
        ("a:b", "is not a valid name"),
        ("a::b", "is not a valid name"),
        ("..a", "is not a valid name"),
        ("a,b", "is not a valid name"),
        ("a*", "is not a valid name"),
        ("a\nb", r"'a\nb' is not a valid name"),
        ("x" * 100, "at most 80"),
    ],
)
def test_names_that_files_cannot_have(write: Write, name: str, told: str) -> None:
    """Names that mean something already, or that a task's name, a glob or a path would take apart."""
    with pytest.raises(EvalkitError) as error:
        write(name=name)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is neither a question set"),
        ("- a", "is neither a question set"),
        ("question: x", "it needs 'data'"),
        ("a: [", "is not YAML"),
        ("5: x\ndata: rows.jsonl", "there is no setting '5'"),
        ("data: !!python/object/apply:os.system ['true']", "is not YAML"),
        ("a: &a [x,x,x,x,x,x,x,x]\n" + "".join(f"{c}: &{c} [{','.join([f'*{p}'] * 8)}]\n" for p, c in zip("abcdef", "bcdefg", strict=True)) + "data: *g", "more than 200,000 values"),
        ("tasks: []", "it needs 'tasks'"),
    ],
)  # fmt: skip
def test_files_that_are_no_sets(write: Write, text: str, told: str) -> None:
    """Nothing in a file is executed, and none of them takes long to refuse."""
    with pytest.raises(EvalkitError) as error:
        write(text=text)
    assert told in str(error.value)


@pytest.mark.parametrize(
    "attack",
    [
        "{{ [].__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ q.__init__.__globals__ }}",
        "{{ '{0.__class__}'.format(q) }}",
        "{{ '{:>1000000000}'.format(q) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ q.ljust(1000000000) }}",
        "{{ q.zfill(1000000000) }}",
        "{{ q * 1000000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ ('a' * 1000000)|replace('a', 'b' * 1000000) }}",
        "{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}",
        "{{ ('a' * 1000000).replace('', 'b' * 1000000) }}",
        "{{ ('b' * 1000000).join(('a' * 1000000)|list) }}",
        "{{ (('a' * 1000000)|list)|join('b' * 1000000) }}",
        "{{ [[0] * 1000000] * 1000000 }}",
        "{{ (['a' * 1000000] * 3)|map('upper')|list|length }}",
        "{% for a in 'a' * 1000000 %}{{ 'b' * 1000 }}{% endfor %}",
        "{{ cycler }}",
        "{{ nothing }}",
        "{{ 1 / 0 }}",
        "{{ q() }}",
        "{{ self }}",
    ],
)
def test_templates_cannot_reach_out_or_take_all_memory(write: Write, attack: str) -> None:
    """Each is one sentence that names the row and the template, at once."""
    write(question=attack)
    began = time.process_time()
    with pytest.raises(EvalkitError) as error:
        asked()
    assert "rows.jsonl, line 1, does not fit mine" in str(error.value)
    assert repr(attack)[1:60] in str(error.value)
    assert time.process_time() - began < 5


def test_names_that_double_one_another(write: Write) -> None:
    """Thirty steps would make a gigabyte out of a letter."""
    steps = {f"a{i}": f"{{{{ a{i - 1} ~ a{i - 1} }}}}" if i else "{{ q }}" for i in range(30)}
    write(let=steps, question="{{ a29 }}")
    with pytest.raises(EvalkitError, match="it produces more than 4,000,000 characters"):
        asked()


ROWS: list[tuple[Any, str]] = [
    ({"q": "Q", "o": ["a"], "g": 2}, "no gold answer"),
    ({"q": "Q", "o": ["a"], "g": True}, "the position of the right answer is True"),
    ({"q": "Q", "o": ["a", 1], "g": 0}, "a list of texts is needed"),
    ({"q": None, "o": ["a"], "g": 0}, "text is needed"),
    ({"o": ["a"], "g": 0}, "'q' is undefined"),
    ('[1]\n', "each row must be a JSON object"),
    ('{\n', "is not JSON"),
    ('\n', "is empty"),
    ('{"q": "\\ud800", "o": ["a"], "g": 0}\n', "unpaired surrogate"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "told"), ROWS)
def test_rows_that_do_not_fit(write: Write, row: Any, told: str) -> None:
    """The file, and the line where there is one."""
    write(row=row)
    with pytest.raises(EvalkitError, match=r"mine|rows\.jsonl") as error:
        asked()
    assert told in str(error.value)


def test_columns_called_like_pythons_own(write: Write) -> None:
    """Rows may have any names."""
    write(row={**ROW, "self": 1, "context": 2, "values": 3, "a b": 4, "__class__": 5})
    assert asked()[0][0] == "Question: Which is red?\nAnswer:"


def test_a_package_brings_yaml(tmp_path: Path) -> None:
    """An installed package whose entry point calls `evalkit.tasks.register_folder` adds a set and a suite to every command."""
    source, site = tmp_path / "source", tmp_path / "site"
    package = source / "planets_of_mine"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "from pathlib import Path\nfrom evalkit.tasks import register_folder\nregister_folder(Path(__file__).parent)\n"
    )
    (package / "planets.yaml").write_text(json.dumps({**SET, "description": "Planets, from a package"}))
    (package / "rows.jsonl").write_text(json.dumps(ROW) + "\n")
    (package / "school.yaml").write_text("description: Of a package\ntasks: [planets, arc_easy]\n")
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "planets-of-mine"\nversion = "1"\n'
        '[project.entry-points."evalkit.tasks"]\nmine = "planets_of_mine"\n'
        '[project.entry-points."evalkit.suites"]\nmine = "planets_of_mine"\n'
        '[tool.setuptools]\npackages = ["planets_of_mine"]\n'
        '[tool.setuptools.package-data]\n"*" = ["*.yaml", "*.jsonl"]\n'
    )
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", site, source], check=True, capture_output=True, text=True)
    code = f"""
import sys
sys.path.append({str(site)!r})
from evalkit import registry
from evalkit.task import TaskOptions
task = registry.make_task("planets")
print([prompt.continuation for document in task.documents() for prompt in task.prompts(document)])
print(registry.suite_entry("school").tasks, registry.plugin_problems)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[' Mars', ' Venus']", "('planets', 'arc_easy') []"]
