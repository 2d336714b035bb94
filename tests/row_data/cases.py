"""Everything that is known to be wrong with data, each made of secret values."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

from tests.row_data.secrets import DAY, FRACTION, ROWS, TEXT, WHOLE, at, good, put

CLASSES = ("data.target=label", "data.exclude=['kind','value','grade','name','written']")
NUMBERS = ("data.target=value", "data.exclude=['kind','label','grade','name','written']")
GRADES = (
    "data.target=grade",
    "data.group=query",
    "training.objective=rank:ndcg",
    "data.exclude=['kind','label','value','name','written']",
)


@dataclass(frozen=True)
class Case:
    """Data, a job, and what the error has to say; "": it trains."""

    says: str
    make: Callable[[Path], Any]  # writes into a folder; what it returns, if anything, is the source
    settings: tuple[str, ...] = CLASSES
    verb: str = "train"  # or predict, evaluate, with the model of the good data; or frame, in one process
    allow_code: bool = False


def table(**columns: object) -> Callable[[Path], None]:
    """One Parquet file of the good rows with some columns replaced."""
    return lambda folder: pq.write_table(put(good(), **columns), folder / "0.parquet")


def raw(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def frame(**columns: object) -> Callable[[Path], Any]:
    """A table in memory."""
    return lambda folder: put(good(), **columns)


def pandas_frame(name: str, values: list[Any]) -> Callable[[Path], Any]:
    def make(folder: Path) -> Any:
        made = good().to_pandas()
        made[name] = values
        return made

    return make


def drift(folder: Path) -> None:
    pq.write_table(good(), folder / "0.parquet")
    pq.write_table(put(good(), whole=[f"{TEXT}"] * ROWS), folder / "1.parquet")


def pages(kind: str) -> Callable[[Path], None]:
    """Files whose footers are whole and whose contents are not."""

    def make(folder: Path) -> None:
        path = folder / f"0.{kind}"
        if kind == "parquet":
            pq.write_table(good(), path, compression="none", use_dictionary=False)
        else:
            feather.write_feather(good(), path, compression="lz4")
        content = bytearray(path.read_bytes())
        for place in range(200, len(content) // 2, 7):
            content[place] ^= 0x55
        path.write_bytes(bytes(content))

    return make


def truncated(folder: Path) -> None:
    pq.write_table(good(), folder / "0.parquet")
    (folder / "0.parquet").write_bytes((folder / "0.parquet").read_bytes()[:-50])


def csv_text(extra: str = "", rows: int = ROWS, header: bool = True) -> bytes:
    lines = ["x,whole,carrier,day,label"] if header else []
    lines += [
        f"{FRACTION + i},{WHOLE + i},{TEXT}-{i % 5},{DAY}T{i % 24:02d}:05:06,{TEXT} {'yes' if i % 2 else 'no'}"
        for i in range(rows)
    ]
    return ("\n".join(lines) + "\n" + extra).encode()


CSV = ("data.target=label",)
SVM = "".join(f"{i % 2} 1:{FRACTION} 2:{WHOLE + i}\n" for i in range(ROWS))


def svm(extra: str) -> Callable[[Path], None]:
    return raw("0.svm", (SVM + extra).encode())


def with_queries(sizes: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "0.svm").write_text(SVM)
        (folder / "0.svm.query").write_text(sizes)

    return make


def on(*settings: str, base: tuple[str, ...] = CLASSES) -> tuple[str, ...]:
    return (*base, *settings)


def to(objective: str) -> tuple[str, ...]:
    return on(f"training.objective={objective}", base=NUMBERS)


def function(text: str) -> Callable[[Path], None]:
    """The good data, and the user's module next to them."""

    def make(folder: Path) -> None:
        pq.write_table(good(), folder / "0.parquet")
        (folder / f"{folder.name}_code.py").write_text(f"import pyarrow as pa\ndef change(table):\n    {text}\n")

    return make


BIG = WHOLE * 1e290  # beyond float32
TARGETS = {
    "text for regression": Case("is text", table(), on("training.objective=reg:squarederror")),
    "one class": Case("same value in every row", table(label=[f"{TEXT} yes"] * ROWS)),
    "all missing": Case("is missing in all", table(label=pa.nulls(ROWS, pa.string()))),
    "infinite": Case("is infinite in 1 rows", table(value=at(7, np.inf)), NUMBERS),
    "beyond float32": Case("float32", table(value=at(7, BIG)), NUMBERS),
    "too close": Case("float32", table(value=[FRACTION + i / 1e6 for i in range(ROWS)]), NUMBERS),
    "below zero": Case("count:poisson", table(value=at(7, -FRACTION)), to("count:poisson")),
    "above one": Case("reg:logistic", table(), to("reg:logistic")),
    "not above zero": Case("reg:gamma", table(value=at(7, -FRACTION)), to("reg:gamma")),
    "high grades": Case("grades up to 31", table(grade=lambda old: [WHOLE + one for one in old]), GRADES),
    "too many classes": Case("more than 1000 distinct values", lambda folder: pq.write_table(good(1_100), folder / "0.parquet"), on("data.target=name", "data.exclude=[]")),
    "many classes for two": Case("needs two", table(), on("data.target=name", "data.exclude=[]", "training.objective=binary:logistic")),
    "three classes for two": Case("needs two", table(), on("data.target=kind", "data.exclude=['label']", "training.objective=binary:logistic")),
    "positive is none": Case("data.positive", table(), on("data.positive=maybe")),
    "class weight of none": Case("class_weights", table(), on("training.class_weights={'Zq7Secr yes'=2.0}")),
    "large decimals": Case(
        "cannot be distinguished",
        table(label=pa.array([f"{WHOLE}{i % 2}1234567.89" for i in range(ROWS)]).cast(pa.decimal128(30, 2))),
        on("training.objective=binary:logistic"),
    ),
    "dates": Case("is timestamp", table(), on("data.target=day")),
    "nested": Case("nested", table(label=[{"part": TEXT}] * ROWS)),
    "bytes": Case("binary", table(label=[TEXT.encode()] * ROWS)),
    "typing error": Case("no such column", table(), on("data.target=labl")),
}  # fmt: skip
ROLES = {
    "negative weight": Case("negative", table(weight=at(7, -FRACTION)), on("data.weight=weight")),
    "missing weight": Case("missing", table(weight=at(7, None)), on("data.weight=weight")),
    "infinite weight": Case("infinite", table(weight=at(7, np.inf)), on("data.weight=weight")),
    "text weight": Case("weights are numbers", table(), on("data.weight=carrier")),
    "time weight": Case("weights are numbers", table(), on("data.weight=day")),
    "weights of no weight": Case("weights", table(weight=[0.0] * ROWS), on("data.weight=weight")),
    "weight within a query": Case("changes within a query", table(weight=[FRACTION + i for i in range(ROWS)]), on("data.weight=weight", base=GRADES)),
    "scattered queries": Case("next to each other", table(query=[i % 7 + WHOLE for i in range(ROWS)]), GRADES),
    "missing query": Case("is missing", table(query=at(7, None)), GRADES),
    "text queries scattered": Case("next to each other", table(query=[f"{TEXT}{i % 7}" for i in range(ROWS)]), GRADES),
    "fractions as queries": Case("", table(query=[FRACTION + i // 10 for i in range(ROWS)]), GRADES),
    "text id": Case("", table(), on("data.id=['name']", "data.exclude=['kind','value','grade']")),
    "validation by a wrong type": Case("does not fit", table(), on("data.validation={column='whole', values=['eleven']}")),
    "validation by an absent value": Case("no row has one of them", table(), on("data.validation={column='carrier', values=['none']}")),
    "validation by a constant time": Case("same in every row", table(day=pa.array([f"{DAY}T00:00:00"] * ROWS).cast(pa.timestamp("s"))), on("data.validation={time='day', share=0.2}")),
    "validation by a time that is text": Case("expected a timestamp", table(), on("data.validation={time='carrier', share=0.2}")),
    "validation by a missing time": Case("missing in every row", table(day=pa.nulls(ROWS, pa.timestamp("s"))), on("data.validation={time='day', share=0.2}")),
    "validation takes a class": Case("all of one class", table(carrier=[f"{TEXT}"] * ROWS, flag=[0, 1] * (ROWS // 2), label=[f"{TEXT} yes", f"{TEXT} no"] * (ROWS // 2)), on("data.validation={column='flag', values=[1]}")),
}  # fmt: skip
FEATURES = {
    "infinite feature": Case("infinite values", table(x=at(7, np.inf))),
    "feature beyond float32": Case("infinite values", table(x=at(7, BIG))),
    "text that is no time": Case("cannot be read as", table(), on("preprocess.columns={carrier={kind='time'}}")),
    "one text that is no time": Case("cannot be read as", table(written=at(7, f"{DAY} {TEXT}")), on("data.exclude=['kind','value','grade','name']", "preprocess.columns={written={kind='time'}}")),
    "text that is no number": Case("cannot be read as", table(), on("preprocess.columns={carrier={kind='number'}}")),
    "one text that is no number": Case("cannot be read as", table(carrier=[f"{WHOLE}{'' if i else TEXT}" for i in range(ROWS)]), on("preprocess.columns={carrier={kind='number'}}")),
    "a time as number": Case("no number", table(), on("preprocess.columns={day={kind='number'}}")),
    "extreme times": Case("", frame(day=pa.array([-(2**62) + i for i in range(ROWS)]).cast(pa.timestamp("s")))),
    "a duration": Case("duration|no feature", table(x=pa.array([WHOLE] * ROWS).cast(pa.duration("s")))),
    "close numbers": Case("", table(whole=[WHOLE * 1000 + i for i in range(ROWS)])),
    "many levels": Case("", table(), on("data.exclude=['kind','value','grade','written']", "preprocess.tracked_levels=254", "preprocess.max_levels=2")),
    "nothing left": Case("no feature is left", lambda folder: pq.write_table(put(good(), x=[FRACTION] * ROWS).select(["x", "label"]), folder / "0.parquet"), ("data.target=label",)),
    "drift": Case("no type holds both", drift),
    "nested feature": Case("nested", table(x=[[FRACTION]] * ROWS)),
    "mixed objects": Case("0.parquet|DataFrame|frame|x", pandas_frame("x", [FRACTION, f"{TEXT}"] * (ROWS // 2))),
    "huge objects": Case("too large", pandas_frame("x", [10**30 + WHOLE] * ROWS)),
    "wrong objects": Case("frame|x", pandas_frame("x", [{TEXT}] * ROWS)),
}  # fmt: skip
SQL = {
    "cast of text": Case("fails on a value", table(), on("data.derive={y='CAST(carrier AS INTEGER)'}")),
    "cast beyond a type": Case("fails on a value", table(), on("data.derive={y='CAST(whole AS TINYINT)'}")),
    "cast of one row": Case("fails on a value", table(carrier=[f"{i}{TEXT if i == 299 else ''}" for i in range(ROWS)]), on("data.derive={y='CAST(carrier AS INTEGER)'}")),
    "strptime": Case("fails on a value", table(), on("data.derive={y=\"strptime(carrier, '%Y')\"}")),
    "error()": Case("data.derive.y", table(), on("data.derive={y='error(carrier)'}")),
    "in where": Case("fails on a value", table(), on("data.where='CAST(carrier AS INTEGER) > 3'")),
    "overflow": Case("fails on a value", table(), on("data.derive={y='whole * whole * whole'}")),
    "dates beyond": Case("fails on a value|data.derive", table(), on("data.derive={y='make_timestamp(whole, whole, whole, 0, 0, 0)'}")),
    "where leaves none": Case("every row", table(), on("data.where=\"carrier = 'x'\"")),
    "a list": Case("list_value is refused", table(), on("data.derive={y='[carrier]'}")),
    "literal beside": Case("fails on a value", table(), on("data.derive={y=\"CAST(carrier || 'x' AS DATE)\"}")),
}  # fmt: skip
CODE = {
    "raises a row": Case("failed on a fragment", function("if table.num_rows: raise ValueError(table.to_pylist()[0])\n    return table"), allow_code=True),
    "raises from a row": Case("failed on a fragment", function("return table.append_column('y', pa.array([int(str(one) + 'x') for one in table.column(0).to_pylist()], 'int64'))"), allow_code=True),
    "gives text": Case("other columns or types|failed", function("return table.append_column('y', pa.array(['Zq7Secret'] * table.num_rows, 'string' if table.num_rows else 'int64'))"), allow_code=True),
    "gives fewer rows": Case("rows of", function("return table.slice(0, 3)"), allow_code=True),
}  # fmt: skip
FILES = {
    "ragged line": Case("3 values where 5 columns", raw("0.csv", csv_text(f"{TEXT},{WHOLE},{FRACTION}\n")), CSV),
    "long line": Case("7 values where 5 columns", raw("0.csv", csv_text(f"{TEXT},{WHOLE},{FRACTION},1,2,{TEXT},4\n")), CSV),
    "not UTF-8": Case("not UTF-8", raw("0.csv", csv_text() + f"{FRACTION},{WHOLE},{TEXT}".encode() + b"\xe9,x,y\n"), CSV),
    "open quote": Case("quote", raw("0.csv", csv_text(f'{FRACTION},{WHOLE},"{TEXT}\n' * 3)), CSV),
    "zero bytes": Case("", raw("0.csv", csv_text(f"{FRACTION},{WHOLE},{TEXT}\0,{DAY},{TEXT} yes\n")), CSV),
    "texts among numbers": Case("", raw("0.csv", csv_text(f"{TEXT},{TEXT},{TEXT},{TEXT},{TEXT} yes\n")), CSV),
    "cut gzip": Case("damaged", raw("0.csv.gz", gzip.compress(csv_text(rows=3000))[:-40]), CSV),
    "no gzip": Case("damaged|gzip", raw("0.csv.gz", csv_text()), CSV),
    "UTF-16": Case("UTF-16", raw("0.csv", csv_text().decode().encode("utf-16")), CSV),
    "names that do not fit": Case("names in data.csv.columns", raw("0.csv", csv_text(header=False)), ("data.target=a", "data.csv={header=false, columns=['a','b']}")),
    "LIBSVM text value": Case("line 301: a value that is no number", svm(f"1 1:{TEXT}\n"), ()),
    "LIBSVM text label": Case("no number", svm(f"{TEXT} 1:2\n"), ()),
    "LIBSVM text index": Case("no number", svm(f"1 {TEXT}:2\n"), ()),
    "LIBSVM no colon": Case("line 301: expected", svm(f"1 1:2 {TEXT}\n"), ()),
    "LIBSVM large index": Case(".", svm(f"1 {WHOLE}{WHOLE}:2\n"), ()),
    "LIBSVM huge feature": Case(".", svm("1 99999:2\n"), ()),
    "LIBSVM negative index": Case("negative", svm(f"1 -{WHOLE}:2\n"), ()),
    "LIBSVM some qid": Case("qid", svm(f"1 qid:{WHOLE} 1:2\n"), ("training.objective=rank:ndcg",)),
    "LIBSVM text qid": Case(".", svm(f"1 qid:{TEXT} 1:2\n"), ("training.objective=rank:ndcg",)),
    "LIBSVM query of text": Case("whole number", with_queries(f"{TEXT}\n"), ("training.objective=rank:ndcg",)),
    "LIBSVM query too large": Case("add up", with_queries("5\n6\n"), ("training.objective=rank:ndcg",)),
    "damaged Parquet": Case("damaged", pages("parquet"), CLASSES),
    "damaged Feather": Case("damaged|Feather", pages("feather"), CLASSES),
    "truncated Parquet": Case("truncated", truncated, CLASSES),
    "no Parquet": Case("not a Parquet", raw("0.parquet", csv_text()), CLASSES),
    "no Feather": Case("Feather", raw("0.feather", csv_text()), CLASSES),
}  # fmt: skip


def two_files(second: Callable[[Path], None], name: str) -> Callable[[Path], None]:
    """The good data, and a bad file next to them."""

    def make(folder: Path) -> None:
        second(folder)
        ((bad,),) = (tuple(folder.iterdir()),)
        bad.rename(folder / name)
        pq.write_table(good(), folder / "a.parquet")

    return make


SKIPPED = {
    "skipped pages": Case("", two_files(pages("parquet"), "b.parquet"), on("data.skip_bad_fragments=true")),
    "skipped file": Case("", two_files(raw("x", csv_text()), "b.parquet"), on("data.skip_bad_fragments=true")),
}
PREDICTING = {
    "text in a number": Case("string", table(x=[TEXT] * ROWS), verb="predict"),
    "infinity": Case("infinite", table(x=at(7, np.inf)), verb="predict"),
    "lacking": Case("lack", lambda folder: pq.write_table(good().drop_columns(["x"]), folder / "0.parquet"), verb="predict"),
    "damaged": Case("damaged", pages("parquet"), verb="predict"),
    "a number in a text": Case(".", table(carrier=[WHOLE] * ROWS), verb="predict"),
    "unknown classes": Case("none of its 2 classes", table(label=at(7, f"{TEXT} maybe")), verb="evaluate"),
    "no target": Case("label", lambda folder: pq.write_table(good().drop_columns(["label"]), folder / "0.parquet"), verb="evaluate"),
    "no value of the target": Case("no row", table(label=pa.nulls(ROWS, pa.string())), verb="evaluate"),
    "one row, text in a number": Case(".", lambda folder: {name: [f"{TEXT}"] for name in good().column_names}, verb="frame"),
    "one row, infinite": Case("infinite", lambda folder: put(good().slice(0, 1), x=[np.inf]), verb="frame"),
    "mixed objects of a frame": Case(".", pandas_frame("x", [FRACTION, f"{TEXT}"] * (ROWS // 2)), verb="frame"),
    "rows of different length": Case(".", lambda folder: {"x": [FRACTION], "whole": [WHOLE, WHOLE], "carrier": [TEXT]}, verb="frame"),
}  # fmt: skip
CASES: dict[str, Case] = {
    f"{group}: {name}": case
    for group, cases in {
        "target": TARGETS, "roles": ROLES, "features": FEATURES, "SQL": SQL, "code": CODE, "files": FILES,
        "skipped": SKIPPED, "predicting": PREDICTING,
    }.items()
    for name, case in cases.items()
}  # fmt: skip
