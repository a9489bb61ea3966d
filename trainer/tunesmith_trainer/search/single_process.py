"""The spec of a run that one process trains, beside others."""

from tunesmith_api.finetunejob.spec import FineTuneJobSpec


def in_one_process(spec: FineTuneJobSpec) -> FineTuneJobSpec:
    """Without the job's other workers, and without the control run, which compares and chooses not.

    The batch is the same: gradients are summed over it, however many share the work.
    """
    resources = spec.resources.model_copy(update={"workers": 1, "min_workers": None})
    training = spec.training.model_copy(update={"control": None})
    return spec.model_copy(update={"resources": resources, "training": training})
