"""Everything annotation can refuse or fail at."""


class AnnotationError(Exception):
    """Root of this package's errors."""


class InvalidAnswer(AnnotationError):
    """An answer does not fit the label schema; ask the annotator again."""


class InvalidSchema(AnnotationError):
    """A label schema cannot be asked; correct it before tasks are sent."""


class NotEnoughAnnotations(AnnotationError):
    """Too few annotations, or too few different ones, to say anything about agreement; ask more people."""


class InvalidHook(AnnotationError):
    """A webhook's body is not one that the tool sends; drop it, polling will find what it meant."""


class ToolUnavailable(AnnotationError):
    """The annotation tool did not answer, or answered with a server error; try again later."""


class ToolRefused(AnnotationError):
    """The annotation tool rejected the request; trying again will not help."""


class InvalidRouting(AnnotationError):
    """A rule that chooses a tool cannot be read; the message names it."""
