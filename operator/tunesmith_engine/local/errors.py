"""Why a job or a deployment cannot run here: said before anything starts, exit code 2.

LocalError              what was given, which rule it breaks, and what to do; carries a Reason
├── JobBusy             another run of the same job goes on in this home folder
├── DeploymentBusy      another `tunesmith deploy` of the same name goes on in this home folder
├── EnvironmentMissing  a stage's libraries are not installed
└── MachineTooSmall     the job is estimated to take more memory or disk than there is
"""

from tunesmith_api.reasons import Reason


class LocalError(Exception):
    """A job or a deployment cannot be run here."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class JobBusy(LocalError):  # noqa: N818 - the name says what is wrong
    """Another run of the same job goes on in this home folder."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.RESOURCES_UNAVAILABLE, message)


class DeploymentBusy(LocalError):  # noqa: N818 - the name says what is wrong
    """Another process runs the same deployment in this home folder."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.RESOURCES_UNAVAILABLE, message)


class EnvironmentMissing(LocalError):  # noqa: N818 - the name is the reason
    """A stage's libraries are not installed."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.ENVIRONMENT_MISSING, message)


class MachineTooSmall(LocalError):  # noqa: N818 - the name says what is wrong
    """The job is estimated to take more memory or disk than there is."""
