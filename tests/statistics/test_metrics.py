"""Every metric by hand, and against lm-evaluation-harness where it has the same one."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evalkit.records import Metric
from evalkit.statistics import metrics
from evalkit.statistics.estimates import estimate_ratio
from evalkit.statistics.metric_names import CHOICE_METRICS
from evalkit.statistics.metrics import (
    choice_metrics,
    option_scores,
    predict,
    suite_text_metrics,
    text_metrics,
)

BASE = Metric("arc_easy", "", math.nan, 0, form="rc", regime="olmes", shots=5, split="test", limited=True)
TEXT = Metric("texts", "", math.nan, 0, split="validation")

ROW: dict[str, Any] = {
    "index": 0,
    "gold": 1,
    "sums": [-6.0, -8.0, -9.0],
    "characters": [2, 8, 3],
    "bytes": [2, 6, 12],
    "tokens": [2, 3, 6],
    "is_greedy": [False, False, False],
    "unconditional_sums": [-5.0, -12.0, -9.5],
}


def named(found: list[Metric]) -> dict[str, Metric]:
    return {metric.metric: metric for metric in found}


@pytest.mark.parametrize(
    ("name", "scores", "choice"),
    [
        ("acc", [-6, -8, -9], 0),
        ("acc_norm", [-3, -1, -3], 1),
        ("acc_bytes", [-3, -8 / 6, -0.75], 2),
        ("acc_per_token", [-3, -8 / 3, -1.5], 2),
        ("acc_pmi", [-1, 4, 0.5], 1),
    ],
)
def test_option_scores_by_hand(name: str, scores: list[float], choice: int) -> None:
    """Each normalisation of one document, worked out with a pencil."""
    assert option_scores(ROW, name) == pytest.approx(scores)
    assert predict(ROW, name) == choice


def test_pmi_is_a_difference_and_not_a_quotient() -> None:
    """Divided, the second option (−8 / −12) would be the worst instead of the best."""
    assert predict(ROW, "acc_pmi") == int(np.argmax([-6 + 5, -8 + 12, -9 + 9.5]))
    assert np.argmin(np.divide(ROW["sums"], ROW["unconditional_sums"])) == 1


def test_ties_go_to_the_lowest_index() -> None:
    """Equal options: the first is chosen."""
    assert predict({"sums": [-3.0, -1.0, -1.0]}) == 1


def test_an_empty_option_never_wins_a_length_normalisation() -> None:
    """Length 0 is worth −∞ (lm-evaluation-harness divides by zero to the same end)."""
    row = {"sums": [-0.5, -9.0], "characters": [0, 3]}
    assert option_scores(row, "acc_norm").tolist() == [-math.inf, -3.0]


def test_an_unscored_option_makes_no_prediction() -> None:
    """NaN is neither right nor wrong: −1, and the document leaves n."""
    row = {"index": 4, "gold": 0, "sums": [math.nan, -1.0]}
    assert predict(row) == -1
    metric = choice_metrics(
        [row, {"index": 5, "gold": 0, "sums": [-1.0, -2.0]}], base=BASE, names=["acc"], primary="acc"
    )
    assert (metric[0].value, metric[0].n) == (1.0, 1)


def test_a_row_without_what_a_metric_needs_is_an_error() -> None:
    """No silent fallback: the message names the document and the list."""
    with pytest.raises(ValueError, match="document 7 has no 'unconditional_sums'"):
        predict({"index": 7, "sums": [-1.0, -2.0]}, "acc_pmi")
    with pytest.raises(ValueError, match="document 7 has 1 'characters' for 2 options"):
        predict({"index": 7, "sums": [-1.0, -2.0], "characters": [3]}, "acc_norm")
    with pytest.raises(ValueError, match="is not an accuracy"):
        predict(ROW, "accuracy")
    with pytest.raises(ValueError, match="not among"):
        choice_metrics([ROW], base=BASE, names=["acc"], primary="acc_norm")


def test_choice_metrics_by_hand() -> None:
    """Four documents: accuracy 3/4, error sqrt(3/16 · 4/3 / 4), chance of options 2, 2, 4, 4 = 3/8."""
    rows = [
        {"index": 0, "gold": 0, "sums": [-1.0, -2.0], "bytes": [4, 4]},
        {"index": 1, "gold": 1, "sums": [-3.0, -2.0], "bytes": [4, 2]},
        {"index": 2, "gold": 3, "sums": [-1.0, -2.0, -3.0, -4.0], "bytes": [1, 1, 1, 4]},
        {"index": 3, "gold": 0, "sums": [-4.0, -5.0, -6.0, -7.0], "bytes": [2, 1, 1, 1]},
    ]
    found = named(choice_metrics(rows, base=BASE, names=["acc", "bits_per_byte"], primary="acc"))
    acc, bits = found["acc"], found["bits_per_byte"]
    assert (acc.value, acc.n, acc.chance, acc.primary, acc.higher_is_better) == (0.75, 4, 0.375, True, True)
    assert acc.stderr == pytest.approx(0.25)  # sd = 1/2, sqrt(4) = 2
    # nats a byte of the gold options: 1/4, 2/2, 4/4, 4/2; their mean is 17/16
    assert bits.value == pytest.approx(17 / 16 / math.log(2))
    assert (bits.n, bits.chance, bits.primary, bits.higher_is_better) == (4, None, False, False)
    assert bits.stderr == pytest.approx(np.std([0.25, 1, 1, 2], ddof=1) / 2 / math.log(2))
    # Wilson at 3 of 4, from scipy.stats.binomtest(3, 4).proportion_ci(method="wilson")
    assert (acc.ci_low, acc.ci_high) == (pytest.approx(0.30064, abs=1e-5), pytest.approx(0.95441, abs=1e-5))


def test_bits_per_byte_is_olmess() -> None:
    """A record that OLMES itself wrote: sum −0.09184452891349792 of " A" (2 bytes) is 0.06625182319819083 bits a byte."""
    row = {"gold": 0, "sums": [-0.09184452891349792], "bytes": [2]}
    assert metrics.gold_bits_per_byte(row) == pytest.approx(0.06625182319819083, rel=1e-8)


def test_metrics_keep_what_the_base_says() -> None:
    """Task, form, regime, shots, split and the limited mark reach every line, in the order asked."""
    found = choice_metrics([ROW], base=BASE, names=CHOICE_METRICS, primary="acc_norm")
    assert [metric.metric for metric in found] == list(CHOICE_METRICS)
    assert [metric.metric for metric in found if metric.primary] == ["acc_norm"]
    for metric in found:
        assert (metric.task, metric.form, metric.regime, metric.shots, metric.split, metric.limited) == (
            "arc_easy", "rc", "olmes", 5, "test", True,
        )  # fmt: skip


def test_without_documents_there_is_no_number() -> None:
    """No rows: NaN and n = 0, no error and no chance."""
    (metric,) = choice_metrics([], base=BASE, names=["acc"], primary="acc")
    assert math.isnan(metric.value)
    assert (metric.n, metric.stderr, metric.ci_low, metric.chance) == (0, None, None, None)
    assert text_metrics([], base=TEXT) == []


def test_documents_without_gold_are_unscored() -> None:
    """A missing label (None, or −1) leaves the document out."""
    rows = [{"gold": None, "sums": [-1.0, -2.0]}, {"gold": -1, "sums": [-1.0, -2.0]}, {"gold": 1, "sums": [-1.0, -2.0]}]
    (metric,) = choice_metrics(rows, base=BASE, names=["acc"], primary="acc")
    assert (metric.value, metric.n) == (0.0, 1)


def test_clusters_widen_the_error() -> None:
    """Two passages of two questions, one all right and one all wrong: error 1/2, not 0.29."""
    rows = [{"gold": 0, "sums": [-1.0, -2.0] if i < 2 else [-2.0, -1.0], "cluster": "ab"[i // 2]} for i in range(4)]
    (metric,) = choice_metrics(rows, base=BASE, names=["acc"], primary="acc")
    assert metric.stderr == pytest.approx(0.5)
    (plain,) = choice_metrics([{**row, "cluster": None} for row in rows], base=BASE, names=["acc"], primary="acc")
    assert plain.stderr == pytest.approx(math.sqrt(1 / 3) / 2)


def test_accuracies_are_lm_evals() -> None:
    """acc, acc_norm, acc_bytes and acc_mutual_info of 300 random documents: ``ConfigurableTask.process_results`` itself."""
    from lm_eval.api.task import ConfigurableTask

    class Task(ConfigurableTask):
        OUTPUT_TYPE = "multiple_choice"
        multiple_input = multiple_target = 0

        def __init__(self) -> None:
            self._metric_fn_list = dict.fromkeys(["acc", "acc_norm", "acc_bytes", "acc_mutual_info"])
            self._config = type("Config", (), {"process_results": None})()

        def doc_to_choice(self, doc: Any, *_: Any) -> Any:
            return doc["choices"]

        def doc_to_target(self, doc: Any, *_: Any) -> Any:
            return doc["gold"]

    rng, task = np.random.default_rng(0), Task()
    rows, expected = [], []
    for index in range(300):
        choices = ["né" * int(k) + "x" * int(j) for k, j in rng.integers(1, 6, (int(rng.integers(2, 6)), 2))]
        sums = [
            -float(len(choice)) - float(noise) for choice, noise in zip(choices, rng.exponential(3, 9), strict=False)
        ]
        twins = [-float(value) for value in rng.exponential(5, len(choices))]
        doc = {"choices": choices, "gold": int(rng.integers(len(choices)))}
        expected.append(task.process_results(doc, [(value, False) for value in sums + twins]))
        lengths = {"characters": [len(c) for c in choices], "bytes": [len(c.encode()) for c in choices]}
        rows.append({"index": index, "gold": doc["gold"], "sums": sums, "unconditional_sums": twins, **lengths})
    names = {"acc": "acc", "acc_norm": "acc_norm", "acc_bytes": "acc_bytes", "acc_pmi": "acc_mutual_info"}
    for metric in choice_metrics(rows, base=BASE, names=list(names), primary="acc"):
        theirs = [result[names[metric.metric]] for result in expected]
        assert metric.value == np.mean(theirs)
        from lm_eval.api.metrics import mean_stderr

        assert metric.stderr == pytest.approx(mean_stderr(theirs), rel=1e-12)


def text_row(
    source: str, domain: str, nats: float, tokens: int, size: int, words: int = 1, **more: Any
) -> dict[str, Any]:
    return {"source": source, "domain": domain, "sum": -nats, "tokens": tokens, "bytes": size, "words": words, **more}


def test_text_metrics_of_a_domain_by_hand() -> None:
    """Ratios of sums, never means over documents: 2 + 10 nats over 4 tokens, 12 bytes, 3 words."""
    rows = [text_row("s", "d", 2.0, 3, 4, 2), text_row("s", "d", 10.0, 1, 8, 1)]
    found = {metric.metric: metric for metric in text_metrics(rows, base=TEXT) if metric.domain == "d"}
    assert found["token_perplexity"].value == pytest.approx(math.exp(3))
    assert found["bits_per_byte"].value == pytest.approx(1 / math.log(2))
    assert found["byte_perplexity"].value == pytest.approx(math.e)
    assert found["word_perplexity"].value == pytest.approx(math.exp(4))
    assert (found["tokens"].value, found["bytes"].value) == (4, 12)
    assert [metric.n for metric in found.values()] == [2] * 6
    assert not any(found[name].higher_is_better for name in metrics.TEXT_METRICS)


def test_text_metrics_are_lm_evals() -> None:
    """byte_perplexity, word_perplexity and bits_per_byte as lm-eval's own aggregations make them."""
    from lm_eval.api import metrics as theirs

    rng = np.random.default_rng(1)
    rows = [text_row("s", "d", float(a), int(b), int(c), int(d)) for a, b, c, d in rng.integers(5, 900, (40, 4))]
    found = {metric.metric: metric.value for metric in text_metrics(rows, base=TEXT) if metric.domain == "d"}
    byte_pairs = [(row["sum"], row["bytes"]) for row in rows]
    assert found["byte_perplexity"] == pytest.approx(theirs.weighted_perplexity(byte_pairs), rel=1e-12)
    assert found["bits_per_byte"] == pytest.approx(theirs.bits_per_byte(byte_pairs), rel=1e-12)
    assert found["word_perplexity"] == pytest.approx(
        theirs.weighted_perplexity([(row["sum"], row["words"]) for row in rows]), rel=1e-12
    )


def test_aggregates_by_hand() -> None:
    """Two sources, four domains: macro is the mean over domains, median theirs, ordinary the pooled ratio."""
    rows = [
        text_row("web", "a", 1.0, 1, 1), text_row("web", "a", 3.0, 3, 3),   # 1 nat a token
        text_row("web", "b", 2.0, 1, 1), text_row("web", "b", 4.0, 2, 2),   # 2
        text_row("web", "c", 9.0, 1, 1), text_row("web", "c", 9.0, 1, 1),   # 9
        text_row("fringe", "f", 4.0, 1, 2), text_row("fringe", "f", 4.0, 1, 2),  # 4 a token, 2 a byte
    ]  # fmt: skip
    found = text_metrics(rows, base=TEXT, ordinary=lambda source, domain: source != "fringe")
    value = {(metric.source, metric.metric): metric.value for metric in found if not metric.domain}
    e = math.e
    assert value["web", "macro_token_perplexity"] == pytest.approx((e + e**2 + e**9) / 3)
    assert value["web", "median_token_perplexity"] == pytest.approx(e**2)
    assert value["web", "macro_bits_per_byte"] == pytest.approx(4 / math.log(2))
    assert value["", "macro_bits_per_byte"] == pytest.approx(14 / 4 / math.log(2))
    assert value["", "median_bits_per_byte"] == pytest.approx(2 / math.log(2))
    # pooled without the fringe: 28 nats over 9 tokens and 9 bytes
    assert value["", "ordinary_token_perplexity"] == pytest.approx(math.exp(28 / 9))
    assert value["", "ordinary_bits_per_byte"] == pytest.approx(28 / 9 / math.log(2))
    (primary,) = [metric for metric in found if metric.primary]
    assert (primary.source, primary.domain, primary.metric, primary.n) == ("", "", "macro_bits_per_byte", 8)


def test_outliers_by_hand() -> None:
    """Logarithms 0, 1, 2, 3 and 20: quartiles 1 and 3, so above 3 + 1.5 · 2 = 6 there is one; the macro is swamped by it,
    the median is not."""
    assert metrics.outliers([math.exp(x) for x in (0, 1, 2, 3, 20)]) == [4]
    assert metrics.outliers([math.exp(x) for x in (0, 1, 2, 3, 6)]) == []
    assert metrics.outliers([math.exp(x) for x in (-20, 0, 1, 2, 3)]) == []  # one that is far better is no fault
    assert metrics.outliers([]) == []
    rows = [text_row("s", str(x), float(x) or 1e-9, 1, 1) for x in (0, 1, 2, 3, 20)]
    value = {metric.metric: metric.value for metric in text_metrics(rows, base=TEXT) if not metric.domain}
    assert value["outliers"] == 1
    assert value["median_token_perplexity"] == pytest.approx(math.exp(2))
    assert value["macro_token_perplexity"] > 9e7


def test_counts_of_tokens_bytes_and_windows() -> None:
    """Sums a domain and in all; windows only where every row tells them."""
    rows = [{**text_row("s", "a", 1.0, 3, 5), "windows": 2}, {**text_row("s", "b", 1.0, 4, 6), "windows": 1}]
    told = {(metric.domain, metric.metric): metric.value for metric in text_metrics(rows, base=TEXT)}
    assert (told["a", "tokens"], told["a", "bytes"], told["a", "windows"]) == (3, 5, 2)
    assert (told["", "total_tokens"], told["", "total_bytes"], told["", "total_windows"]) == (7, 11, 3)
    del rows[0]["windows"]
    told = {(metric.domain, metric.metric): metric.value for metric in text_metrics(rows, base=TEXT)}
    assert ("a", "windows") not in told
    assert ("", "total_windows") not in told
    assert told["b", "windows"] == 1


def test_a_suite_of_sources_is_one_task_of_sources() -> None:
    """Sources as tasks of their own give the overall metrics that they have as one task, errors included."""
    rng = np.random.default_rng(11)
    rows = [
        {**text_row(source, domain, float(rng.integers(50, 90)), 30, 100), "windows": 1}
        for source in ("web", "code", "fringe")
        for domain in ("a", "b")
        for _ in range(12)
    ]
    together = text_metrics(rows, base=TEXT, ordinary=lambda source, domain: source == "web")
    parts = [
        (TEXT.task, [row for row in rows if row["source"] == source], rule)
        for source, rule in (("web", None), ("code", lambda *_: False), ("fringe", lambda source, domain: False))
    ]
    suite = suite_text_metrics(parts, base=TEXT)
    assert suite == [metric for metric in together if not metric.source]
    assert [metric.metric for metric in suite if metric.primary] == ["macro_bits_per_byte"]
    assert {metric.n for metric in suite if metric.metric.startswith("ordinary_")} == {24}


def test_one_source_has_its_own_macro_as_primary_and_no_overall_rows() -> None:
    """A source of one domain: the macro is the domain's value; there is nothing to pool."""
    found = text_metrics([text_row("c4", "c4", 2.0, 1, 4), text_row("c4", "c4", 1.0, 1, 4)], base=TEXT)
    (primary,) = [metric for metric in found if metric.primary]
    assert (primary.source, primary.metric) == ("c4", "macro_bits_per_byte")
    assert primary.value == pytest.approx(3.0 / 8 / math.log(2))
    assert not [metric for metric in found if not metric.source]


def test_the_error_of_a_macro_is_that_of_independent_domains() -> None:
    """sqrt(Σ se²) / D for many domains."""
    rng = np.random.default_rng(3)
    rows = [text_row("s", f"d{d}", float(100 * rng.normal(1, 0.2)), 30, 100) for d in range(30) for _ in range(25)]
    found = text_metrics(rows, base=TEXT)
    errors = [metric.stderr for metric in found if metric.domain and metric.metric == "bits_per_byte"]
    (macro,) = [metric for metric in found if metric.metric == "macro_bits_per_byte"]
    assert macro.stderr == pytest.approx(math.sqrt(sum(error**2 for error in errors if error)) / 30, rel=1e-9)


def test_clusters_over_domains_are_sampled_together() -> None:
    """The same problem in five languages, all alike: five times the domains tell nothing more about the macro."""
    rng = np.random.default_rng(4)
    problems = 100 * rng.normal(1, 0.2, 60)
    rows = [
        text_row("code", f"l{d}", float(p), 30, 100, cluster=f"p{i}") for d in range(5) for i, p in enumerate(problems)
    ]
    found = text_metrics(rows, base=TEXT)
    (macro,) = [metric for metric in found if metric.metric == "macro_bits_per_byte"]
    expected = np.std(problems / 100 / math.log(2)) / math.sqrt(60)
    assert macro.stderr == pytest.approx(expected, rel=0.1)
    loose = text_metrics([{**row, "cluster": None} for row in rows], base=TEXT)
    (macro,) = [metric for metric in loose if metric.metric == "macro_bits_per_byte"]
    assert macro.stderr == pytest.approx(expected / math.sqrt(5), rel=0.15)


def test_a_domain_of_one_document_has_a_value_and_no_error() -> None:
    """What cannot be known is None, also in the aggregate that holds the domain."""
    rows = [text_row("s", "a", 2.0, 1, 4), text_row("s", "b", 2.0, 1, 4), text_row("s", "b", 3.0, 1, 4)]
    found = {(metric.domain, metric.metric): metric for metric in text_metrics(rows, base=TEXT)}
    assert found["a", "bits_per_byte"].stderr is None
    assert found["b", "bits_per_byte"].stderr is not None
    assert found["", "macro_bits_per_byte"].ci_low is None


def test_unscored_texts_leave_the_count() -> None:
    """A text without a sum is not a text of 0 nats; a domain without any is NaN and leaves the macro."""
    rows = [text_row("s", "a", 2.0, 1, 4), {**text_row("s", "a", 9.0, 1, 4), "sum": None}]
    rows.append(text_row("s", "b", math.nan, 1, 4))
    found = {(metric.domain, metric.metric): metric for metric in text_metrics(rows, base=TEXT)}
    assert found["a", "bits_per_byte"].value == pytest.approx(0.5 / math.log(2))
    assert found["a", "bits_per_byte"].n == 1
    assert math.isnan(found["b", "bits_per_byte"].value)
    assert found["", "macro_bits_per_byte"].value == found["a", "bits_per_byte"].value


def test_rows_from_parquet_give_the_same(tmp_path: Path) -> None:
    """Written and read back (through arrow, and through pandas with its arrays and NaN): the same metrics."""
    rows = [
        {**ROW, "native_id": None, "gold": g, "cluster": c} for g, c in ((0, "x"), (1, None), (2, "x"), (None, None))
    ]
    texts = [text_row("s", "ab"[i % 2], 2.0 + i, 3, 9, 2, cluster=None if i < 4 else "c") for i in range(8)]
    expected = choice_metrics(rows, base=BASE, names=CHOICE_METRICS, primary="acc")
    for name, plain in (("choice", rows), ("text", texts)):
        pq.write_table(pa.Table.from_pylist(plain), tmp_path / f"{name}.parquet")
    frames = {name: pq.read_table(tmp_path / f"{name}.parquet") for name in ("choice", "text")}
    for read in (lambda table: table.to_pylist(), lambda table: table.to_pandas().to_dict("records")):
        assert choice_metrics(read(frames["choice"]), base=BASE, names=CHOICE_METRICS, primary="acc") == expected
        assert text_metrics(read(frames["text"]), base=TEXT) == text_metrics(texts, base=TEXT)


def test_metrics_do_not_depend_on_chance() -> None:
    """Twice the same, to the last bit, and under another task's name."""
    rng = np.random.default_rng(5)
    rows = [text_row("s", d, float(x), 3, 9) for d in "abc" for x in rng.exponential(9, 30)]
    found = text_metrics(rows, base=TEXT)
    assert text_metrics(rows, base=TEXT) == found
    assert text_metrics(rows, base=replace(TEXT, task="others")) == [replace(one, task="others") for one in found]


def test_a_perplexity_has_the_interval_of_its_logarithm() -> None:
    """exp of nats per token: its interval is exp of that of the rate, its error the rate's times the value."""
    rng = np.random.default_rng(6)
    sums, counts = rng.normal(60, 9, 25), rng.integers(20, 40, 25)
    found = {
        m.metric: m
        for m in text_metrics(
            [text_row("s", "d", float(x), int(n), 99) for x, n in zip(sums, counts, strict=True)], base=TEXT
        )
    }
    rate = estimate_ratio(sums, counts)
    one = found["token_perplexity"]
    assert (one.value, one.ci_low, one.ci_high) == pytest.approx(
        tuple(map(math.exp, (rate.value, rate.low, rate.high)))
    )
    assert one.stderr == pytest.approx(rate.stderr * one.value)


def test_pooled_and_weighted_errors_by_hand() -> None:
    """Two domains of equal texts: the pooled rate's variance is that of a stratified mean, the mixture's that of the weighted
    sum."""
    rng = np.random.default_rng(7)
    a, b = rng.normal(50, 5, 40), rng.normal(80, 8, 20)
    rows = [text_row("s", "a", float(x), 9, 100) for x in a] + [text_row("u", "b", float(x), 9, 100) for x in b]
    suite = suite_text_metrics([("t", rows, None)], base=TEXT, shares={("s", "a"): 0.25, ("u", "b"): 0.75})
    found = {m.metric: m for m in suite}
    errors = np.std(a, ddof=1) / math.sqrt(40), np.std(b, ddof=1) / math.sqrt(20)
    scale = 100 * math.log(2)
    assert found["ordinary_bits_per_byte"].stderr == pytest.approx(
        math.hypot(40 * errors[0], 20 * errors[1]) / 60 / scale, rel=0.03
    )
    assert found["reweighted_bits_per_byte"].stderr == pytest.approx(
        math.hypot(0.25 * errors[0], 0.75 * errors[1]) / scale, rel=1e-9
    )
    assert found["macro_bits_per_byte"].stderr == pytest.approx(math.hypot(*errors) / 2 / scale, rel=1e-9)
    # of two values the median is their mean
    assert found["median_bits_per_byte"].stderr == pytest.approx(found["macro_bits_per_byte"].stderr, rel=0.08)
