"""The two pages for people: `/`, what this is and how to send a line, and `/docs`, the API's description. Both stand alone: no script, no other request."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

from flask import Response, request
from markupsafe import Markup

from harkline import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Json = dict[str, Any]

_STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1b2430, #dbe2ea); --quiet: light-dark(#5b6775, #93a1b0);
  --paper: light-dark(#fbfbf9, #14181d); --panel: light-dark(#f0efe9, #1e242b); --rule: light-dark(#d8d6cc, #323b45);
  --mark: light-dark(#b3261e, #ff8a7a); }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 5rem; max-width: 60rem; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.9rem; margin: 0 0 .25rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; border-bottom: 1px solid var(--rule); padding-bottom: .3rem; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--mark); }
code, pre { font: .875em/1.5 ui-monospace, monospace; }
pre { background: var(--panel); border: 1px solid var(--rule); border-radius: 6px; padding: .8rem 1rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92em; }
th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--rule); }
th { color: var(--quiet); font-weight: 500; white-space: nowrap; }
details { border: 1px solid var(--rule); border-radius: 6px; margin: .5rem 0; padding: .5rem .9rem; }
summary { cursor: pointer; }
summary code { font-weight: 600; }
.method { display: inline-block; min-width: 3.6rem; color: var(--mark); }
.quiet { color: var(--quiet); }
"""
# The hash lets this one style through, and nothing else (CSP level 3, section 8.4).
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

_PAGE = Markup(
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    '<title>{title}</title><link rel="icon" href="data:,"><style>{style}</style></head>\n<body>\n{body}\n</body></html>\n'
)
_FRONT = Markup("""<h1>harkline <span class="quiet">{version}</span></h1>
<p>Reads every log line you send, counts what a person on call would want to be told of, and raises an alert for it.</p>
<h2>Send a line</h2>
<pre>curl '{url}logs?wait=5'{key} -H 'Content-Type: application/json' \\
  -d '{{"message": "kernel: Out of memory: Killed process 4242 (postgres)", "service": "db"}}'</pre>
<p>Without <code>?wait=</code> the answer comes as soon as the line is safe on disk. A whole file, one line each:</p>
<pre>curl '{url}logs?service=web'{key} -H 'Content-Type: text/plain' --data-binary @app.log</pre>
<p>Critical lines, as they are found:</p>
<pre>curl -N '{url}stream'{key}</pre>
<h2>Look around</h2>
<table>
<tr><td><a href="/docs">/docs</a></td><td>every call, every answer, every error</td></tr>
<tr><td><a href="/openapi.json">/openapi.json</a></td><td>the same for programs</td></tr>
<tr><td><a href="/readiness">/readiness</a></td><td>the state of Redis, the backlog, the workers and the model</td></tr>
<tr><td><a href="/metrics">/metrics</a></td><td>numbers for Prometheus</td></tr>
</table>""")
_KEY = Markup(' -H "Authorization: Bearer $HARKLINE_KEY"')
_OPERATION = Markup(
    '<details id="{id}"><summary><code><span class="method">{method}</span> {path}</code> <span class="quiet">{summary}</span></summary>\n{parts}</details>\n'
)
_TABLE = Markup("<h4>{title}</h4><table>{rows}</table>\n")
_ROW = Markup("<tr><th><code>{name}</code></th><td>{text}</td></tr>")
_SCHEMA = Markup('<details id="schema-{name}"><summary><code>{name}</code></summary><pre>{text}</pre></details>\n')


def front_view(*, keys_required: bool) -> Callable[[], Response]:
    """Return the view of `/`."""

    def front() -> Response:
        return _html(
            "harkline", _FRONT.format(version=__version__, url=request.host_url, key=_KEY if keys_required else "")
        )

    return front


def docs_view(document: Json) -> Callable[[], Response]:
    """Return the view of `/docs`, made once."""
    body = [
        Markup("<h1>{} <span class='quiet'>{}</span></h1>").format(
            document["info"]["title"], document["info"]["version"]
        )
    ]
    body += [Markup("<p>{}</p>").format(_prose(part)) for part in document["info"]["description"].split("\n\n")]
    for tag in document["tags"]:
        body.append(Markup("<h2>{}</h2><p class='quiet'>{}</p>").format(tag["name"].capitalize(), tag["description"]))
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if operation["tags"] == [tag["name"]]:
                    body.append(_operation(method, path, operation, document))
    body.append(Markup("<h2>Shapes</h2>"))
    body += [
        _SCHEMA.format(name=name, text=json.dumps(schema, indent=2))
        for name, schema in document["components"]["schemas"].items()
    ]
    whole = Markup("\n").join(body)
    return lambda: _html("harkline: the API", whole)


def _operation(method: str, path: str, operation: Json, document: Json) -> Markup:
    parts = [Markup("<p>{}</p>").format(_prose(operation["description"]))] if "description" in operation else []
    if operation["parameters"]:
        rows = (
            _ROW.format(name=parameter["name"], text=_prose(f"{parameter['in']}: {parameter['description']}"))
            for parameter in operation["parameters"]
        )
        parts.append(_table("Parameters", rows))
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]
        parts.append(
            Markup("<h4>Body</h4><p>{}</p><p class='quiet'>{}</p>").format(
                _prose(operation["requestBody"]["description"]), ", ".join(content)
            )
        )
    answers = (
        _ROW.format(name=status, text=_prose(_resolved(response, document)["description"]))
        for status, response in operation["responses"].items()
    )
    parts.append(_table("Answers", answers))
    return _OPERATION.format(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        parts=Markup("").join(parts),
    )


def _table(title: str, rows: Iterable[Markup]) -> Markup:
    return _TABLE.format(title=title, rows=Markup("").join(rows))


def _prose(text: str) -> Markup:
    """Turn `words` between backticks into code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


def _resolved(response: Json, document: Json) -> Json:
    if "$ref" in response:
        found: Json = document["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
        return found
    return response


def _html(title: str, body: Markup) -> Response:
    # The style is ours and must reach the browser byte for byte, or its hash would not fit.
    page = _PAGE.format(title=title, style=Markup(_STYLE), body=body)  # noqa: S704 - a constant of this file
    return Response(
        page, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY}, content_type="text/html; charset=utf-8"
    )
