"""Models of scikit-learn as files for Outrider, and the features that the gateway computes, for training on the same numbers."""

from .evaluation import evaluate
from .features import FEATURES, rows, window
from .writer import CannotExport, describe, export

__all__ = ["FEATURES", "CannotExport", "describe", "evaluate", "export", "rows", "window"]
