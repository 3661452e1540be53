"""Everything the service can refuse: each class names one problem, each `code` is stable for clients."""


class ServiceError(Exception):
    """Root of this package's errors."""

    code = "service_error"


def code_of(error: Exception) -> str:
    """Return an error's stable code: its own, or its name in snake case."""
    if isinstance(error, ServiceError):
        return error.code
    name = type(error).__name__
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


class ConfigurationError(ServiceError):
    """A setting is missing or wrong; the message names it."""

    code = "configuration"


class NotFound(ServiceError):
    """There is no such row."""

    code = "not_found"


class AlreadyExists(ServiceError):
    """A row of this name is there already; choose another name."""

    code = "already_exists"


class WrongState(ServiceError):
    """The thing exists, but what was asked does not fit the state it is in."""

    code = "wrong_state"


class Invalid(ServiceError):
    """What was given cannot be used; the message names the field and the reason."""

    code = "invalid"


class AddressRefused(ServiceError):
    """A URL leads to a private, local or unknown address, to which nothing is sent; name a public one."""

    code = "address_refused"


class EventConflict(ServiceError):
    """This id was used before with another body; send a fresh id."""

    code = "event_conflict"


class ResponseMismatch(ServiceError):
    """The feedback token is for another text than the response has: sign the text that was logged."""

    code = "response_mismatch"


class TooMany(ServiceError):
    """More requests than are allowed; `Retry-After` says when the next one is taken."""

    code = "too_many_requests"


class CriteriaMissing(ServiceError):
    """Success is defined before training: set the project's criteria first."""

    code = "success_criteria_missing"


class ApprovalStale(ServiceError):
    """The approval names something that has changed since; look again, then approve anew."""

    code = "approval_stale"


class AlreadyDecided(ServiceError):
    """Somebody else decided while this person still looked; look again at what they said."""

    code = "already_decided"


class ApprovalMissing(ServiceError):
    """Nobody approved this model version; approve it first."""

    code = "approval_missing"


class SamePerson(ServiceError):
    """The project wants two persons: who asked for the training does not approve it."""

    code = "two_persons_needed"


class OnHold(ServiceError):
    """Somebody must keep this person's words for now; lift the legal hold first, or wait until it is over."""

    code = "legal_hold"


class PreviewStale(ServiceError):
    """What would be erased has changed since it was shown; look again, then confirm anew."""

    code = "preview_stale"


class AuditBlocked(ServiceError):
    """The audit found something that must not be trained on; settle it or waive it."""

    code = "audit_blocked"


class DifferentProjects(ServiceError):
    """Two model versions of different projects cannot be compared; name two of one."""

    code = "different_projects"


class NoCommonAncestor(ServiceError):
    """Two model versions have nothing in common to go from one to the other; compare others."""

    code = "no_common_ancestor"


class RowsGone(ServiceError):
    """Rows that would be trained on were erased, or may not be learned from any more; compare later versions."""

    code = "rows_gone"


class Unauthenticated(ServiceError):
    """The request carries no valid credential."""

    code = "unauthenticated"


class TokenInvalid(Unauthenticated):
    """A token is forged, damaged or for something else."""

    code = "token_invalid"


class TokenExpired(Unauthenticated):
    """A token was valid once; ask for a fresh one."""

    code = "token_expired"


class Forbidden(ServiceError):
    """The credential is valid, but not for this."""

    code = "forbidden"


class ResponderUnavailable(ServiceError):
    """The process that answers with the champion is not up; try again in a few seconds."""

    code = "responder_unavailable"


class LeaseLost(ServiceError):
    """Another worker has taken this job over, or it was cancelled; stop without writing."""

    code = "lease_lost"


class JobFailed(ServiceError):
    """A job ended without doing its work; its row says why."""

    code = "job_failed"


class TryAgain(ServiceError):
    """Something outside is not there at the moment; the same call may work later."""

    code = "try_again"
