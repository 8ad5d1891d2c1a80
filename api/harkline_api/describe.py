"""The pieces of the OpenAPI description that every protocol shares: schemas, parameters and the shape of an operation.

What is said here is what is done, in both directions: a request that keeps to these schemas is accepted, one that does not is refused.
schemathesis holds the API to it.
"""

from __future__ import annotations

from typing import Any

from harkline.contract import SEVERITIES, SOURCES
from harkline.lines.incoming import MAX_FIELD_CHARS, MAX_LABEL_CHARS, MAX_LABELS
from harkline.lines.timestamps import LAST_SECOND
from harkline_api.refusals import CODES, LINE_CODES

Json = dict[str, Any]

# What a request can run into wherever lines are sent, and wherever something is read.
SEND_STATUSES = (400, 401, 403, 413, 415, 422, 429, 500, 503)
READ_STATUSES = (401, 403, 500)

_SHORT = {"type": ["string", "null"], "maxLength": MAX_FIELD_CHARS}
_NAME_OR_NUMBER = {
    "anyOf": [
        {"type": "string", "maxLength": MAX_FIELD_CHARS},
        {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
        {"type": "null"},
    ]
}
_MESSAGES = ("message", "msg", "log", "line")

LINE: Json = {
    "type": "object",
    "description": "One log line. Fields that are not named here are ignored; null means absent.",
    "properties": {
        "message": {
            "type": ["string", "null"],
            "description": "The text. Not empty, not only white space. Long ones keep their head and tail.",
        },
        "msg": {"type": ["string", "null"], "description": "The same, where `message` is absent."},
        "log": {"type": ["string", "null"], "description": "The same, where those are absent."},
        "line": {"type": ["string", "null"], "description": "The same, where those are absent."},
        "service": {**_SHORT, "description": "What wrote the line."},
        "environment": {**_SHORT, "description": "Where that runs: production, staging ..."},
        "timestamp": {
            "description": "When it happened: RFC 3339, or a number (also as a string) since the epoch; seconds, ms, us or ns by its magnitude.",
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "string", "pattern": "^[0-9]{0,20}$"},
                {"type": "number", "minimum": 0, "maximum": LAST_SECOND * 10**9},
                {"type": "null"},
            ],
        },
        "level": {**_NAME_OR_NUMBER, "description": "As the sender writes it: ERROR, warn, 50 ..."},
        "severity": {**_NAME_OR_NUMBER, "description": "The same, where `level` is absent."},
        "lvl": {**_NAME_OR_NUMBER, "description": "The same, where those are absent."},
        "id": {**_NAME_OR_NUMBER, "description": "The sender's name for the line; handed on, not checked."},
        "labels": {
            "type": ["object", "null"],
            "maxProperties": MAX_LABELS,
            "propertyNames": {"maxLength": MAX_FIELD_CHARS},
            "additionalProperties": {"type": ["string", "number", "boolean", "null"], "maxLength": MAX_LABEL_CHARS},
            "description": "Anything else worth keeping; numbers and booleans become text.",
        },
    },
    "anyOf": [{"required": [name], "properties": {name: {"type": "string", "pattern": r"\S"}}} for name in _MESSAGES],
}
TEXT_LINE: Json = {"type": "string", "pattern": r"\S", "description": "A line that is only a message."}

EXPLANATION: Json = {
    "type": "object",
    "required": ["words", "nearest", "said_by"],
    "description": "Why the verdict is what it is.",
    "properties": {
        "words": {
            "type": "array",
            "description": "The words of the template (of long lines: spans of words) that moved the score, the most telling first.",
            "items": {
                "type": "object",
                "required": ["word", "effect"],
                "properties": {
                    "word": {
                        "type": "string",
                        "description": "`level=error` and the like is the level that the line carries.",
                    },
                    "effect": {
                        "type": ["number", "null"],
                        "description": (
                            "By how much it moved the log-odds of critical, in nats: positive towards critical. Found by taking the word out. "
                            "Null where a rule decided, and these are the words that it went by."
                        ),
                    },
                },
            },
        },
        "nearest": {
            "type": "array",
            "description": "The examples that the line is most like to the model, of those it learned from. Empty where the model has none to compare with.",
            "items": {
                "type": "object",
                "required": ["template", "level", "system", "similarity"],
                "properties": {
                    "template": {"type": "string"},
                    "level": {"type": "string", "description": "What it was labelled."},
                    "system": {"type": "string", "description": "What kind of system would write it."},
                    "similarity": {"type": "number", "minimum": 0, "maximum": 1},
                },
            },
        },
        "said_by": {
            "type": "string",
            "description": "`model`, or the rule or override that decided, in its own words.",
        },
    },
}
VERDICT: Json = {
    "type": "object",
    "required": ["severity", "score", "level", "template", "source", "why", "degraded", "model"],
    "properties": {
        "severity": {"enum": list(SEVERITIES)},
        "score": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "description": "Calibrated probability of critical; 1 or 0 where a rule or an override decided.",
        },
        "level": {
            "type": "string",
            "description": "debug, info, warning, error or critical, as the model reads the line.",
        },
        "template": {"type": "string", "description": "The line with its variable parts masked."},
        "source": {"enum": list(SOURCES)},
        "why": {"type": "string"},
        "degraded": {"type": "boolean", "description": "No model could answer; the rules did."},
        "model": {"type": "string", "description": "Version of the model."},
        "explanation": {
            "$ref": "#/components/schemas/Explanation",
            "description": "Only where it was asked for (see the calls that send), and a worker found the time.",
        },
    },
}
REJECTED: Json = {
    "type": "object",
    "required": ["index", "error"],
    "properties": {
        "index": {
            "type": "integer",
            "minimum": 0,
            "description": "Place in the request, from 0: of an array's item, or of a line that is not blank.",
        },
        "error": {"enum": list(LINE_CODES), "description": "Why; the codes are listed with the statuses below."},
    },
}
ACCEPTED: Json = {
    "type": "object",
    "required": ["accepted", "rejected", "batch"],
    "properties": {
        "accepted": {
            "type": "integer",
            "minimum": 1,
            "description": "Lines that are durable now, and will be counted exactly once.",
        },
        "rejected": {"type": "array", "items": {"$ref": "#/components/schemas/Rejected"}},
        "batch": {"type": "string", "description": "Name of the accepted lines, for GET /batches/{batch}."},
        "verdicts": {
            "type": "array",
            "items": {"$ref": "#/components/schemas/Verdict"},
            "description": "One per accepted line, in order. Only with ?wait=, and only if they came in time.",
        },
    },
}
ERROR: Json = {
    "type": "object",
    "required": ["error", "detail"],
    "properties": {
        "error": {"enum": list(CODES), "description": "Short code, stable."},
        "detail": {"type": "string", "description": "For people: what was wrong and what to do."},
        "rejected": {
            "type": "array",
            "items": {"$ref": "#/components/schemas/Rejected"},
            "description": "The lines, where none of them is good.",
        },
    },
}

WAIT: Json = {
    "name": "wait",
    "in": "query",
    "schema": {"type": "number", "minimum": 0},
    "description": (
        "Seconds to wait for verdicts, cut to HARKLINE_WAIT_MAX_SECONDS. Where too many requests wait already, the answer comes at once and without "
        "them. With any value, 0 too, the verdicts are kept for GET /batches/{batch}."
    ),
}
LINE_PARAMETERS: list[Json] = [
    WAIT,
    *(
        {
            "name": name,
            "in": "query",
            "schema": {"type": "string", "maxLength": MAX_FIELD_CHARS},
            "description": f"The {name} of lines that name none. The header X-{name.capitalize()} says the same; the query wins.",
        }
        for name in ("service", "environment", "level")
    ),
]
# In words and not as a parameter: whether a key is good depends on what it was used for before, which no schema can say, and a generator that
# takes one key for many bodies would be told, rightly, that it must not.
RETRYING = """To make a retry safe, send an `Idempotency-Key` header (1 to 255 visible ASCII characters, new for each request). The same key with the
same body within HARKLINE_IDEMPOTENCY_SECONDS is answered as the first time and not counted again; with another body it is refused."""
# In words for the same reason: it is good only beside another parameter, `wait`.
EXPLAINING = """To learn why a verdict is what it is, say `?wait=SECONDS&explain=true`: each verdict then has an `explanation`, here or in
GET /batches/{batch}. For at most HARKLINE_EXPLAIN_MAX_LINES lines in a request, as each costs a worker about a tenth of a second; without `wait` it is
refused."""
JOIN: Json = {
    "name": "join",
    "in": "query",
    "schema": {"enum": ["true", "false"]},
    "description": "Join the continuation lines of stack traces (indented, Caused by, Traceback, ... 23 more) to their line. Plain lines only.",
}

_LINES: Json = {
    "anyOf": [
        {"$ref": "#/components/schemas/Line"},
        {"$ref": "#/components/schemas/TextLine"},
        {
            "type": "array",
            "contains": {"anyOf": [{"$ref": "#/components/schemas/Line"}, {"$ref": "#/components/schemas/TextLine"}]},
        },
    ],
    "description": "A line, or an array of which at least one item is a line; the other items come back in `rejected`.",
}
LINES_BODY: Json = {
    "required": True,
    "description": (
        "Plain lines, one JSON line, an array, or NDJSON. Content-Encoding: gzip, deflate or zstd. Without a Content-Type, or with that of "
        "`curl -d`, the beginning of the body tells. Plain lines that are not UTF-8 are accepted with replacement characters, blank ones skipped."
    ),
    "content": {
        "application/json": {
            "schema": _LINES,
            "examples": {
                "one": {"value": {"message": "disk /dev/sda1 is failing", "service": "storage", "level": "error"}},
                "several": {"value": [{"message": "user logged in", "service": "web"}, "a line that is only text"]},
            },
        },
        "application/x-ndjson": {"schema": {"type": "string", "pattern": r"\S"}},
        "text/plain": {
            "schema": {"type": "string", "pattern": r"\S"},
            "examples": {"two": {"value": "disk /dev/sda1 is failing\nuser logged in\n"}},
        },
    },
}


def json_response(description: str, schema: Json) -> Json:
    """Return a response with a JSON body."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def ref(name: str) -> Json:
    """Return a reference to a schema of ours."""
    return {"$ref": f"#/components/schemas/{name}"}


def refusals(*statuses: int) -> Json:
    """Return references to the shared error responses of these statuses."""
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses}


def operation(name: str, summary: str, responses: Json, *, parameters: list[Json] | None = None, **more: Any) -> Json:
    """Return one operation; `more` is whatever else OpenAPI allows in it."""
    return {"operationId": name, "summary": summary, "parameters": parameters or [], "responses": responses, **more}


def send_operation(name: str, summary: str, success: int, *, parameters: list[Json], **more: Any) -> Json:
    """Return the operation of a call that takes lines in and answers as our own calls do."""
    accepted = json_response(
        "At least one line is accepted: durable, and about to be counted exactly once.", ref("Accepted")
    )
    responses = {str(success): accepted, **refusals(*SEND_STATUSES)}
    return operation(
        name,
        summary,
        responses,
        parameters=parameters,
        description=f"{RETRYING}\n\n{EXPLAINING}",
        tags=["send"],
        **more,
    )


def probe_operation(name: str, summary: str) -> Json:
    """Return the HEAD operation by which some senders check that an address takes lines."""
    responses = {
        "200": {"description": "Lines may be sent here."},
        **{str(status): {"description": "No, or not with this key."} for status in READ_STATUSES},
    }
    return operation(name, summary, responses, tags=["send"])
