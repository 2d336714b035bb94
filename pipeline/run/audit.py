"""Compares a finished run with its plan: measured beside predicted, by stage; and keeps a line of it for later plans."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from pipeline.cluster.memory import counted
from pipeline.cluster.process_time import tree_cpu_seconds
from pipeline.planning.audit import Measured
from pipeline.planning.job_size import JobSize
from pipeline.planning.stage_memory import MemoryFacts
from pipeline.planning.work import Layout
from pipeline.run.finish import RunResult
from pipeline.runtime.context import RunContext

ACCOUNT_STAGES = ("reading", "statistics", "blocks", "matrix", "rounds", "evaluation")
STAGE_OF_CLIENT = {"import": "start", "connect": "start"}


def measured(context: RunContext, done: RunResult) -> Measured:
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
    return Measured(cpu, wall, rss, leaves_of_a_tree(done.booster))


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
        trees=done.prepared.plan.survey.trees,
        report=context.job.output.report,
        device=context.placement.device,
    )


def layout_of(context: RunContext) -> Layout:
    workers = context.placement.workers
    return Layout(len(workers), max(worker.threads for worker in workers))


def memory_of(done: RunResult) -> MemoryFacts:
    plan = done.prepared.plan
    return MemoryFacts(plan.keep_nbytes, plan.survey.missing, plan.worker.matrix == "disk", plan.worker.codes == "disk")


def facts(context: RunContext, done: RunResult) -> Mapping[str, Any]:
    """The run as a dict of JSON values: its size, layout and what was measured."""
    return {
        "size": size_of_run(context, done).to_dict(),
        "layout": dataclasses.asdict(layout_of(context)),
        "memory": dataclasses.asdict(memory_of(done)),
        "measured": measured(context, done).to_dict(),
        "cpu_of": counted(context.placement.local),
    }
