"""Lists the modules that the processes of a cluster import by name."""

PRELOADS = ("pipeline.dashboard.lazy",)  # for the scheduler of a local cluster that has a dashboard
WARM_UP = ("pipeline.training.xgboost.boost",)  # what the first tasks of a local worker need
TASKS = ("pipeline.training.xgboost.boost", "pipeline.preprocess.passes", "pipeline.runtime.recorder")  # for all
