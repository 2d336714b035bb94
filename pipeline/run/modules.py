"""The modules that processes of a cluster load by their names."""

PRELOADS = ("pipeline.dashboard.lazy",)  # of the scheduler of a cluster of our own that has a dashboard
WARM_UP = ("pipeline.training.xgboost.boost",)  # what the first tasks of a worker of our own need
TASKS = ("pipeline.training.xgboost.boost", "pipeline.preprocess.passes", "pipeline.runtime.recorder")  # what all need
