"""One small page that tells how the server is."""

import datetime
import html
import time

from tfsac.serving.models import State
from tfsac.serving.service import Service

__all__ = ["render"]

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="2">
<title>tfsac serve</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50em;
         margin: 2em auto; padding: 0 1em; color: #222 }}
  table {{ border-collapse: collapse; width: 100%; margin-bottom: 1.5em }}
  th, td {{ text-align: left; padding: .2em 1em .2em 0;
           border-bottom: 1px solid #ddd }}
  th:first-child {{ width: 40% }}
  .AVAILABLE {{ color: #0a7d33 }}
  .END, .UNLOADING {{ color: #888 }}
  .error {{ color: #b00020 }}
</style>
<h1>tfsac serve</h1>
<p>Up for {uptime}.
<a href="/monitoring/prometheus/metrics">Metrics</a>,
<a href="/healthz">health</a>.</p>
{models}
</html>
"""
_MODEL = """<h2>{name}</h2>
<p>{folder}</p>
<table>
<tr><th>version</th><th>state</th><th></th></tr>
{versions}
</table>
<table>
<tr><th>latency, last 1,000</th><th>{latency}</th></tr>
{counts}
</table>
"""


def render(service: Service) -> str:
    """Writes the page.

    Args:
        service: What it tells of.

    Returns:
        HTML.
    """
    seconds = int(time.time() - service.metrics.started)
    models = (_model(service, name) for name in sorted(service.models))
    return _PAGE.format(
        uptime=datetime.timedelta(seconds=seconds), models="".join(models)
    )


def _model(service: Service, name: str) -> str:
    model = service.models[name]
    versions = []
    for number in sorted(model.versions, reverse=True):
        version = model.versions[number]
        state = State.Name(version.state)
        error = html.escape(version.error.message) if version.error else ""
        versions.append(
            f'<tr><td>{number}</td><td class="{state}">{state}</td>'
            f'<td class="error">{error}</td></tr>'
        )
    latencies = service.metrics.latencies(name)
    latency = "no answers yet"
    if latencies:
        latency = "p50 {:.2f} ms, p99 {:.2f} ms".format(
            *(1_000 * each for each in latencies)
        )
    counts = sorted(service.metrics.counts[name].items())
    return _MODEL.format(
        name=html.escape(name),
        folder=html.escape(str(model.folder)),
        versions="\n".join(versions),
        latency=latency,
        counts="\n".join(
            f"<tr><td>{code}</td><td>{count:,}</td></tr>"
            for code, count in counts
        ),
    )
