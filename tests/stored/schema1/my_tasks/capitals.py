"""Which city is the capital? The questions of the stored runs, asked by today's classes."""

from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.records import Document, Metric, Prompt, Scores
from evalkit.registry import task
from evalkit.statistics.metrics import choice_metrics, predict
from evalkit.task import Row, TaskBase, TaskName, TaskOptions

QUESTIONS = [
    ("France", ["Paris", "Lyon", "Nice"], 0),
    ("Japan", ["Osaka", "Tokyo", "Kyoto"], 1),
    ("Peru", ["Cusco", "Arequipa", "Lima"], 2),
    ("Kenya", ["Nairobi", "Mombasa", "Kisumu"], 0),
]


@task("capitals", description="Which city is the capital?")
class Capitals(TaskBase):
    def __init__(self, name: TaskName, options: TaskOptions) -> None:
        self.name = name
        self.count = min(options.limit or len(QUESTIONS), len(QUESTIONS))

    @property
    def limited(self) -> bool:
        return self.count < len(QUESTIONS)

    def protocol(self) -> Mapping[str, Any]:
        return {"version": 1, "documents": self.count}

    def documents(self) -> list[Document]:
        return [
            Document(index, country, {"question": country, "options": cities, "gold": gold})
            for index, (country, cities, gold) in enumerate(QUESTIONS[: self.count])
        ]

    def prompts(self, document: Document) -> list[Prompt]:
        context = f"Question: What is the capital of {document.fields['question']}?\nAnswer:"
        return [Prompt(context, f" {city}", option=place) for place, city in enumerate(document.fields["options"])]

    def score(self, document: Document, scores: Sequence[Scores]) -> Row:
        cities = document.fields["options"]
        row = {
            "index": document.index,
            "native_id": document.native_id,
            "truncated": sum(score.truncated for score in scores),
            "gold": document.fields["gold"],
            "sums": [score.sum for score in scores],
            "tokens": [score.tokens for score in scores],
            "characters": [len(city) for city in cities],
            "bytes": [len(city.encode()) for city in cities],
            "is_greedy": [score.is_greedy for score in scores],
        }
        row["predicted"] = predict(row, "acc")
        return row

    def metrics(self, rows: Sequence[Row]) -> list[Metric]:
        base = Metric(task=str(self.name), metric="", value=0.0, n=0, limited=self.limited)
        return choice_metrics(rows, base=base, names=["acc", "acc_norm", "bits_per_byte"], primary="acc")
