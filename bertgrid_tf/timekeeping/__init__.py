"""A study held to its time: its first epoch chooses what fits the budget, and what no longer fits is left out."""

from bertgrid_tf.timekeeping.deadline import OutOfTimeError, TimedOracle
from bertgrid_tf.timekeeping.timekeeper import Timekeeper

__all__ = ["OutOfTimeError", "TimedOracle", "Timekeeper"]
