"""Opens the inputs of a job's [data] section: decided from metadata, before a row is read."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.types as pt

from pipeline.config.job import Data, Job, Validation
from pipeline.config.metric_registry import round_metrics
from pipeline.config.parameters import resolved_params
from pipeline.data.files.links import shared_files
from pipeline.data.formats.text import TEXT_FORMATS, compression
from pipeline.data.fragments import Fragment
from pipeline.data.schema.derive import Derivation, DerivedSchema, check
from pipeline.data.schema.differences import check_in_every_file, files_lack
from pipeline.data.schema.hints import ColumnHints, hints_of
from pipeline.data.schema.roles import Roles, assign_roles, with_built_in
from pipeline.data.schema.schema_merge import is_text, zones_differ
from pipeline.data.skipped import SkippedFragment
from pipeline.data.source import Source, open_source
from pipeline.data.valueless import with_types
from pipeline.errors import DataError
from pipeline.events.findings import Finding, UserNote
from pipeline.planning.job_size import TIME_PARTS, JobSize, bounded_sample, shares_of_columns, trees_of_a_round, whole
from pipeline.planning.storage_plan import BYTES_PER_VALUE, FragmentSize, Survey

MOST_DEPTH = 64  # of a tree that can be: 2^64 rows
FEW_BINS = 64  # of a column that is no fraction, about: whole numbers, texts, times
HELD_OUT_SHARE = 0.2  # of the rows, where a column decides and its values are not known yet


@dataclass(frozen=True)
class Inputs:
    """The sources of a run, and what their columns are for."""

    job: Job  # with the target and the group that LIBSVM files have built in
    training: Source
    validation: Source | None  # where the job names other files to validate on
    derivation: Derivation
    schema: pa.Schema  # after the derivations
    roles: Roles
    skipped: tuple[SkippedFragment, ...] = ()  # fragments left out because they cannot be read

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.training,) if self.validation is None else (self.training, self.validation)

    def with_sources(self, sources: Sequence[Source]) -> "Inputs":
        """The same with other fragments; those of the validation source are numbered after the others again."""
        first = max(fragment.index for fragment in sources[0].fragments) + 1
        validation = _renumber(sources[1], first=first) if len(sources) > 1 else None
        return dataclasses.replace(self, training=sources[0], validation=validation)

    def without(self, bad: Sequence[SkippedFragment]) -> "Inputs":
        """The same without these fragments; the others keep their numbers, and with them their row ids.

        DataError where nothing is left of a source.
        """
        out = {item.fragment for item in bad}
        kept = []
        for source, name in zip(self.sources, ("source", "validation source"), strict=False):
            fragments = tuple(fragment for fragment in source.fragments if fragment.index not in out)
            if not fragments:
                of = {fragment.index for fragment in source.fragments}
                first = next(item.reason for item in bad if item.fragment in of)
                raise DataError(f"none of the {len(of)} fragments of the {name} can be read; the first: {first}")
            kept.append(dataclasses.replace(source, fragments=fragments))
        return dataclasses.replace(
            self,
            training=kept[0],
            validation=kept[1] if len(kept) > 1 else None,
            skipped=(*self.skipped, *bad),
        )

    @property
    def notes(self) -> tuple[UserNote, ...]:
        return tuple(dict.fromkeys(note for source in self.sources for note in source.notes)) + self.roles.notes

    @property
    def rows(self) -> int | None:
        """Rows of all sources; None where a format has no counts."""
        counts = [fragment.rows for source in self.sources for fragment in source.fragments]
        return None if None in counts else sum(count for count in counts if count is not None)

    def survey(self) -> Survey:
        """What a plan is made of, from metadata alone."""
        training, target = self.job.training, str(self.job.data.target)
        return Survey(
            formats=tuple(source.format for source in self.sources),
            files=sum(len(source.files) for source in self.sources),
            fragments=tuple(
                FragmentSize(fragment.nbytes, fragment.rows) for source in self.sources for fragment in source.fragments
            ),
            columns=tuple((name, str(self.schema.field(name).type)) for name in self.roles.features),
            target=(target, str(self.schema.field(target).type)),
            objective=training.objective,
            matrix=training.matrix,
            row_order=training.row_order,
            ranking=self.roles.group is not None,
            bins=training.max_bin,
            params=dict(training.params),
            compressed=tuple(
                piece.nbytes
                for source in self.sources
                for fragment in source.fragments
                for piece in fragment.pieces
                if source.format in TEXT_FORMATS and compression(piece.path) is not None
            ),
        )

    def size(self) -> JobSize:
        """How large the job is, as metadata show it: rows without counts are estimated from bytes.

        The trees of a round, and rows that a filter drops, are known only after the survey.
        """
        training, validation = self.job.training, self.job.data.validation
        fragments = [fragment for source in self.sources for fragment in source.fragments]
        types = [self.schema.field(name).type for name in self.roles.features]
        texts = sum(map(is_text, types))
        features = len(types) + (TIME_PARTS - 1) * sum(map(pt.is_temporal, types))
        rows = sum(_rows(fragment, len(types)) for fragment in fragments)
        held = sum(_rows(fragment, len(types)) for source in self.sources[1:] for fragment in source.fragments)
        params = resolved_params(training.params)
        measured = self.job.data.validation is not None and training.objective != "auto"
        return JobSize(
            rows=rows,
            validation_rows=held or round(rows * _held_out(validation)),
            numeric_columns=len(types) - texts,
            text_columns=texts,
            features=features,
            bins=sum(training.max_bin if pt.is_floating(kind) else min(training.max_bin, FEW_BINS) for kind in types),
            files=sum(len(source.files) for source in self.sources),
            fragment_nbytes=tuple(fragment.nbytes for fragment in fragments),
            text_nbytes=sum(
                fragment.nbytes
                for source in self.sources
                for fragment in source.fragments
                if source.format in TEXT_FORMATS
            ),
            rounds=training.rounds,
            trees=trees_of_a_round(params, quantiles=len(training.quantiles)),
            depth=min(MOST_DEPTH, whole(params["max_depth"], 6)),
            growth="lossguide" if params.get("grow_policy") == "lossguide" else "depthwise",
            max_leaves=whole(params.get("max_leaves"), 0),
            column_share=shares_of_columns(params),
            metrics=len(round_metrics(training.objective, training.metrics, params)) if measured else 2,
            sample_rows=bounded_sample(self.job.preprocess.sample_rows, len(types)),
            derived=bool(self.derivation.derive or self.derivation.where or self.derivation.function),
            report=self.job.output.report,
        )


def _rows(fragment: Fragment, columns: int) -> int:
    return fragment.nbytes // (BYTES_PER_VALUE * max(1, columns)) if fragment.rows is None else fragment.rows


def _held_out(validation: Validation | None) -> float:
    """The share of a source's rows that validate, as far as the job says it."""
    if validation is None or validation.source is not None:
        return 0.0
    return HELD_OUT_SHARE if validation.share is None else validation.share


def open_inputs(
    job: Job, source: object | None = None, *, names: Sequence[str] | None = None, allow_code: bool = False
) -> Inputs:
    """Opens the job's sources; `source` (rows in memory, a Dask collection) replaces `data.source`.

    Fragments of the validation source are numbered after those of the training source, so that row ids stay unique.
    """
    hints = hints_of(job.data, job.preprocess)
    training = open_data(job.data, job.data.source if source is None else source, hints, names)
    job = with_built_in(job, training)
    data = job.data
    derivation = Derivation(
        derive=tuple(data.derive.items()), where=data.where, function=data.function, allow_code=allow_code
    )
    # A column without a value this time keeps its name: expressions that use it must not fail.
    derived = check(derivation, training.with_empty(training.empty).schema)
    roles = assign_roles(data, derived, training.left_out)
    used = {*roles.read, *roles.predict}
    training = training.with_empty(used)
    check_in_every_file(training.drift, _parts(roles), len(training.files))
    training = dataclasses.replace(training, notes=(*training.notes, *_absent_inputs(training, derived, roles)))
    validation = None
    if data.validation is not None and data.validation.source is not None:
        hints = dataclasses.replace(hints, types=training.schema)
        validation = open_data(data, data.validation.source, hints).with_empty(used)
        validation = _renumber(validation, first=len(training.fragments))
        check_in_every_file(validation.drift, _parts(roles), len(validation.files))
        validation = with_types(validation, _misfits(training, validation, roles))
        _check_same(training, validation, roles)
        validation = dataclasses.replace(validation, notes=(*validation.notes, *_check_apart(training, validation)))
    known = {*training.schema.names, *derived.inputs}
    schema = pa.schema([item for item in derived.schema if item.name in known])
    return Inputs(job, training, validation, derivation, schema, roles)


def _parts(roles: Roles) -> dict[str, str | None]:
    """The columns that every file must have, by the settings that name them."""
    parts = {"data.target": roles.target, "data.weight": roles.weight, "data.group": roles.group}
    return parts | {"data.validation": roles.validation} | {f"data.id {name}": name for name in roles.id}


def _absent_inputs(source: Source, derived: DerivedSchema, roles: Roles) -> list[Finding]:
    """The notes on files that lack a column which a derived target, weight or filter is made from."""
    made = {f"data.derive.{name}": derived.inputs[name] for name in _parts(roles).values() if name in derived.inputs}
    made["data.where"] = derived.where
    found = []
    for item in source.drift:
        settings = [setting for setting, names in made.items() if item.column in names]
        if item.absent is None or not settings:
            continue
        count, first = item.absent
        message = (
            f"{settings[0]} is made from the column {item.column!r}, which "
            f"{files_lack(count, len(source.files))}, e.g. {first}: it counts as missing there"
        )
        found.append(Finding("absent_input", message, item.column, count, first, settings[0]))
    return found


def reader(source: Source) -> Source:
    """The source in the form tasks need, without its fragments; small however many files there are."""
    return dataclasses.replace(source, fragments=(), files=(), notes=(), digests={}, left_out={}, frame=None)


def open_data(
    data: Data, source: object, hints: ColumnHints | None = None, names: Sequence[str] | None = None
) -> Source:
    """Opens files as the job specifies; the types in the hints are those of the training source, for files to
    validate on.

    `names`: of the columns of a source that is an array.
    """
    return open_source(
        source,
        format=data.format,
        csv=data.csv,
        fragment_nbytes=data.fragment_mib * 2**20,
        exclude=data.exclude,
        skip_bad=data.skip_bad_fragments,
        hints=hints_of(data) if hints is None else hints,
        names=names,
    )


def _renumber(source: Source, first: int) -> Source:
    fragments = (Fragment(first + place, fragment.pieces) for place, fragment in enumerate(source.fragments))
    return dataclasses.replace(source, fragments=tuple(fragments))


def _check_apart(training: Source, validation: Source) -> tuple[Finding, ...]:
    """DataError where a file is in both sources, under any name; a finding where one looks like a copy."""
    if shared := shared_files(training.files, validation.files):
        trains, validates = shared[0]
        name = validates if trains == validates else f"{validates} (in data.source: {trains})"
        raise DataError(
            f"data.validation.source holds files that are trained on: {len(shared)} of its {len(validation.files)} files "
            f"are among the {len(training.files)} of data.source, e.g. {name}; leave them out of one of the two"
        )
    known = set(training.digests.values())
    copies = [name for name, digest in validation.digests.items() if digest in known]
    if not copies:
        return ()
    many = f"{len(copies)} of {len(validation.files)} validation files have"
    return (
        Finding(
            "validation_copy",
            f"{many} the size and the metadata of a training file, as copies have: {copies[0]}; "
            "metrics on training rows do not measure how the model predicts new rows (data.validation.source)",
            count=len(copies),
            where=copies[0],
            setting="data.validation.source",
        ),
    )


def _check_same(training: Source, validation: Source, roles: Roles) -> None:
    """The validation files need the columns that the training files are read for: texts where those are texts, and
    times with a zone where those have one."""
    known = set(validation.schema.names)
    missing = [name for name in roles.read if name not in known]
    if missing:
        raise DataError(f"the validation source lacks the column {missing[0]!r} that the training source has")
    for name, here in _misfits(training, validation, roles).items():
        there = validation.schema.field(name).type
        raise DataError(f"the validation source has {there} in the column {name!r}, the training source {here}")


def _misfits(training: Source, validation: Source, roles: Roles) -> dict[str, pa.DataType]:
    """The columns that are texts, or times with a zone, in one of the sources only; with their types in training."""
    known = {item.name: item.type for item in validation.schema}
    pairs = [(name, training.schema.field(name).type, known[name]) for name in roles.read if name in known]
    return {name: here for name, here, there in pairs if is_text(here) != is_text(there) or zones_differ(here, there)}
