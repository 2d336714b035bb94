"""Lists the modules that the processes of a cluster import by name."""

PRELOADS = ("pipeline.dashboard.lazy",)  # for the scheduler of a local cluster that has a dashboard
WARM_UP = ("pipeline.training.xgboost.trainer",)  # what the first tasks of a local worker need
TASKS = ("pipeline.training.xgboost.trainer", "pipeline.preprocess.prepare", "pipeline.runtime.recorder")  # for all
