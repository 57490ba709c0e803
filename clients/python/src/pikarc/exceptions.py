"""Where the published client keeps its exceptions. New code imports from `pikarc`."""

from pikarc._errors import PikarcBlockedError, PikarcReviewDeniedError, PikarcReviewTimeoutError

__all__ = ["PikarcBlockedError", "PikarcReviewDeniedError", "PikarcReviewTimeoutError"]
