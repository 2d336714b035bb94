"""Compares a finished run with its plan: measured beside predicted, by stage; and keeps a line of it for later plans."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.cluster.process_time import tree_cpu_seconds
from pipeline.config.parameters import resolved_params
from pipeline.data.opened_sources import Inputs
from pipeline.planning.audit import KINDS, AuditLine, RunMeasurements, kind_of, ratios_of
from pipeline.planning.forecast import MeasuredTrees
from pipeline.planning.job_size import JobSize, SizeFacts, trees_of_a_round
from pipeline.planning.plan import LayoutPlan
from pipeline.planning.stage_memory import MemoryFacts
from pipeline.planning.work import STAGES, Layout
from pipeline.run.audit_history import fingerprint
from pipeline.run.finish import RunResult
from pipeline.runtime.context import RunContext

ACCOUNT_STAGES = tuple(stage for stage in STAGES if stage != "elsewhere")
STAGE_OF_CLIENT = {"import": "start", "connect": "start"}


def measured(context: RunContext, done: RunResult) -> RunMeasurements:
    """What a run took, by the account, the client's clock and the kernel."""
    account = done.closed_account.account
    cpu = {stage: account.stages[stage].useful for stage in ACCOUNT_STAGES if stage in account.stages}
    clock = context.clock
    total = tree_cpu_seconds() - clock.cpu_begin
    if context.placement.local:
        cpu["elsewhere"] = max(0.0, total - sum(cpu.values()))
    wall: dict[str, float] = {}
    for stage, seconds in clock.close().items():
        name = STAGE_OF_CLIENT.get(stage, stage)
        if name != "total":
            wall[name] = wall.get(name, 0.0) + seconds
    rss: dict[str, float] = {}
    for peaks in account.peak_rss_nbytes.values():
        for stage, nbytes in peaks.items():
            rss[stage] = max(rss.get(stage, 0.0), float(nbytes))
    return RunMeasurements(cpu, wall, rss, leaves_of_a_tree(done.booster))


def leaves_of_a_tree(booster: Any) -> float:
    """The leaves of a booster's trees, on average."""
    splits = sum(booster.get_score(importance_type="weight").values())
    trees = int(json.loads(booster.save_config())["learner"]["gradient_booster"]["gbtree_model_param"]["num_trees"])
    return 1 + splits / max(1, trees)


def size_of_run(context: RunContext, done: RunResult) -> JobSize:
    """How large the job turned out to be, with the rounds that were trained."""
    fitted = done.prepared.fitted
    statistics = fitted.statistics
    planned = done.prepared.inputs.size()
    return dataclasses.replace(
        planned,
        rows=statistics.rows + statistics.validation_rows,
        validation_rows=statistics.validation_rows,
        features=len(fitted.recipe.features),
        bins=int(sum(map(len, fitted.cuts.points))),
        rounds=max(1, done.outcome.trained.result.rounds),
        trees=trees_of_a_round(
            resolved_params(done.prepared.plan.survey.params),
            len(done.prepared.target.classes),
            len(context.job.training.quantiles),
        ),
        report=context.job.output.report,
        device=context.placement.device,
    )


def layout_of(context: RunContext) -> Layout:
    workers = context.placement.workers
    return Layout(len(workers), max(worker.threads for worker in workers))


def memory_of(done: RunResult) -> MemoryFacts:
    plan = done.prepared.plan
    return MemoryFacts(plan.keep_nbytes, plan.survey.missing, plan.worker.matrix == "disk", plan.worker.codes == "disk")


@dataclass(frozen=True)
class RunFacts:
    """What a run really was, and took."""

    size: JobSize
    layout: Layout
    memory: MemoryFacts
    measured: RunMeasurements

    @classmethod
    def of(cls, context: RunContext, done: RunResult) -> "RunFacts":
        return cls(size_of_run(context, done), layout_of(context), memory_of(done), measured(context, done))

    def to_dict(self) -> dict[str, Any]:
        """A dict of JSON values."""
        return {
            "size": self.size.to_dict(),
            "layout": dataclasses.asdict(self.layout),
            "memory": dataclasses.asdict(self.memory),
            "measured": self.measured.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunFacts":
        """The inverse of `to_dict`; other keys are ignored."""
        return cls(
            JobSize.from_dict(values["size"]),
            Layout(**values["layout"]),
            MemoryFacts(**values["memory"]),
            RunMeasurements(**values["measured"]),
        )


@dataclass(frozen=True)
class Audit:
    """A run beside its plan."""

    facts: RunFacts
    planned: LayoutPlan  # for the rounds that were trained: early stopping is not planned
    line: AuditLine

    @classmethod
    def of(cls, context: RunContext, done: RunResult) -> "Audit | None":
        """None for a run without a plan."""
        plan = context.resource_plan
        if plan is None or done.prepared.plan.shape.rows <= 0:
            return None
        facts = RunFacts.of(context, done)
        planned = plan.with_size(rounds=facts.size.rounds).layouts[0]
        taken = facts.measured
        beside = {"rss": (planned.peak, max(taken.rss.values(), default=0.0))}
        if context.placement.local and not context.clock.cpu_begin:  # else the start of the processes is missing
            beside |= {"cpu": (planned.cpu, sum(taken.cpu.values())), "wall": (planned.wall, sum(taken.wall.values()))}
        ratios = ratios_of(facts.size, facts.layout, facts.memory, taken)
        alone = () if "cpu" in beside else ("elsewhere", "start")
        line = AuditLine(
            machine=fingerprint(context.placement.device),
            kind=kind_of_job(done.prepared.inputs),
            cpu={stage: one for stage, one in ratios.cpu.items() if stage not in alone},
            wall={stage: one for stage, one in ratios.wall.items() if stage not in alone},
            rss=ratios.rss,
            trees=MeasuredTrees.of(facts.size, taken.leaves),
            facts=facts_of(done.prepared.inputs.size(), facts.size, missing=facts.memory.missing),
            planned={name: (one.middle, one.low, one.high, measured) for name, (one, measured) in beside.items()},
        )
        return cls(facts, planned, line)

    def to_dict(self) -> dict[str, Any]:
        """A dict of JSON values, as in audit.json: measured beside planned, in all and by stage."""
        return {
            "version": 1,
            **self.facts.to_dict(),
            "planned": {name: list(numbers) for name, numbers in self.line.planned.items()},
            "stages": {name: self.stages(name) for name in KINDS},
        }

    def stages(self, kind: str) -> dict[str, dict[str, float]]:
        """"cpu", "wall" or "rss" -> stage -> planned and measured."""  # fmt: skip
        made, taken = self.planned.forecast, self.facts.measured
        planned: Mapping[str, float] = {
            "cpu": made.cpu,
            "wall": made.wall,
            "rss": {stage: made.memory.of(stage) for stage in made.memory.terms},
        }[kind]
        measured: Mapping[str, float] = getattr(taken, kind)
        return {
            stage: {"planned": expected, "measured": measured[stage]}
            for stage, expected in planned.items()
            if stage in measured
        }


def facts_of(metadata: JobSize, real: JobSize, *, missing: bool) -> SizeFacts:
    """What a run has shown beyond its metadata."""
    kept = real.rows / max(1, metadata.rows)
    return SizeFacts(real.features, real.bins, real.trees, kept, real.validation_rows / max(1, real.rows), missing)


def kind_of_job(inputs: Inputs) -> str:
    """Jobs of one kind differ in the parameters of their trees, in rounds and in rows alone."""
    survey, job = inputs.survey(), inputs.job
    data = job.data.model_dump(mode="json", include={"where", "derive", "function", "validation", "exclude"})
    training = {
        "bins": job.training.max_bin,
        "quantiles": job.training.quantiles,
        "row_sample": job.training.row_sample,
    }
    trees = [job.training.params.get(name) for name in ("num_parallel_tree", "multi_strategy")]
    return kind_of(
        sorted(survey.columns), survey.target, survey.objective, survey.formats, data,
        job.preprocess.model_dump(mode="json"), training, trees,
    )  # fmt: skip
