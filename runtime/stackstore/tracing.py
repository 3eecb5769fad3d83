"""Spans of SQL statements, where OpenTelemetry's instrumentation of SQLAlchemy is installed.

The pools look `create_async_engine` up when they first need an engine, so the instrumentation finds
each one, also those that a rotation makes later. Whoever has called it already (or runs under
`opentelemetry-instrument`) needs nothing of this module. Spans show statements as they are sent,
with placeholders, and of an error its class and SQLSTATE (`pools.postgres` sees to that).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
except ImportError as error:
    raise ImportError(
        "stackstore.tracing needs OpenTelemetry: install opentelemetry-instrumentation-sqlalchemy"
    ) from error

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider


def instrument(tracer_provider: TracerProvider | None = None) -> None:
    """Trace all SQLAlchemy engines of this process that are made from now on.

    Call it before a store is used for the first time; engines that are there stay as they are.

    Args:
        tracer_provider: where spans go; the process's own by default.
    """
    instrumentor = SQLAlchemyInstrumentor()
    if not instrumentor.is_instrumented_by_opentelemetry:
        # It says of itself that it is for SQLAlchemy before 2.1; a test of ours shows that it works.
        instrumentor.instrument(tracer_provider=tracer_provider, skip_dep_check=True)
