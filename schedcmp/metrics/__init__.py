"""What is measured of finished images, metric by metric, and the table of them. `docs/extending.md` adds one."""

from schedcmp.metrics.metric import Comparison, Metric
from schedcmp.readings import Reading

__all__ = ["Comparison", "Metric", "Reading"]
