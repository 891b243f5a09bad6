"""The example: greets who calls its HTTP API or function URL, `?name=` if there is one."""

import json
import logging

logger = logging.getLogger()
logger.setLevel(logging.INFO)


def handler(event, context):
    name = (event.get("queryStringParameters") or {}).get("name", "world")
    logger.info("greeting %s, %d ms left", name, context.get_remaining_time_in_millis())
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json"},
        "body": json.dumps({"hello": name}),
    }
