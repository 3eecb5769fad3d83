"""Which processes are there, and with which login each reaches its backends: rows in the databases."""

from stackstore.instances.process import Instances
from stackstore.instances.reading import Instance, living

__all__ = ["Instance", "Instances", "living"]
