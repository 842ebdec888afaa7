"""Whether traces are told, and where to. What they look like: spans.py, which alone loads OpenTelemetry.

They are off unless an endpoint is named: by the setting `otel_endpoint`, or by the variables that OpenTelemetry has for
it. Its other variables hold too, because it reads them itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from holdfast.errors import SettingInvalid
from holdfast.service.app import Service
from holdfast.service.routes import Route
from holdfast.settings import Settings

TRACES: Final = "/v1/traces"
VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def endpoint(settings: Settings, env: Mapping[str, str]) -> str | None:
    """Where traces go; "": where OpenTelemetry's own variables say; None: nowhere."""
    if env.get("OTEL_SDK_DISABLED", "").lower() == "true" or env.get("OTEL_TRACES_EXPORTER", "").lower() == "none":
        return None
    if settings.otel_endpoint is not None:
        return settings.otel_endpoint.rstrip("/").removesuffix(TRACES) + TRACES
    return "" if any(env.get(name) for name in VARIABLES) else None


def routes(service: Service) -> list[Route]:
    """None; it listens to what is asked of the others. Raises: SettingInvalid: the library is missing."""
    to = endpoint(service.settings, os.environ)
    if to is not None:
        try:
            from holdfast.service.spans import Spans, exporter
        except ImportError as error:
            raise SettingInvalid(
                f"traces are wanted, but {error.name} is not installed: pip install 'holdfast[tracing]'"
            ) from error
        spans = Spans(service.hold, exporter(to))
        service.seen.append(spans.seen)
        service.at_start(spans.start)
        service.at_stop(spans.stop)
    return []
