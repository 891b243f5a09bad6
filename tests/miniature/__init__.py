"""The Lambda in miniature: its Runtime API on a port of this machine, and the real `bootstrap` as a process that talks to it.

    with function(function="def handler(event, context): return event") as root, Lambda(root) as aws:
        assert aws.invoke({"k": 1}).json == {"k": 1}

The variable is `aws`: what it does is AWS's part (it queues events, answers the runtime, signals and kills its process),
and `function` is the task root's. `Fault` says how the API answers otherwise than it should.
Where `tests` is on the path, `import miniature` finds it.
"""

from .api import LIMIT, SPLIT, STREAMED_HTTP, Fault, head
from .case import Served
from .process import (
    FUNCTION_PYTHON,
    FUNCTION_VERSION,
    REPO,
    Lambda,
    function,
    keeps_connections,
    tell,
    until,
    until_asleep,
    until_gone,
)

__all__ = [
    "FUNCTION_PYTHON", "FUNCTION_VERSION", "LIMIT", "REPO", "SPLIT", "STREAMED_HTTP",
    "Fault", "Lambda", "Served", "function", "head", "keeps_connections", "tell", "until", "until_asleep", "until_gone",
]
