"""The Lambda in miniature: its Runtime API on a port of this machine, and the real `bootstrap` as a process that talks to it.

    with function(function="def handler(event, context): return event") as root, Lambda(root) as aws:
        assert aws.invoke({"k": 1}).json == {"k": 1}

The variable is `aws`: what it does is AWS's part (it queues events, answers the runtime, signals and kills its process),
and `function` is the task root's. `Fault` says how the API answers otherwise than it should.
Where `tests` is on the path, `import miniature` finds it.
"""

from .api import LIMIT, SPLIT, STREAMED_HTTP, Fault, head
from .process import (
    FUNCTION_PYTHON,
    FUNCTION_VERSION,
    REPO,
    Lambda,
    bounded,
    count_processors,
    function,
    tell,
    until,
    until_asleep,
    until_gone,
)

__all__ = [
    "FUNCTION_PYTHON", "FUNCTION_VERSION", "IMPORTLIBS_OWN", "LIMIT", "REPO", "SPLIT", "STREAMED_HTTP",
    "Fault", "Lambda", "Served", "bounded", "count_processors", "function", "head", "keeps_connections", "tell", "until", "until_asleep", "until_gone",
]


def __getattr__(name):
    """What case.py has is imported by who asks for it: unittest takes longer to import than all else that `make run` needs of Python."""
    if name not in ("IMPORTLIBS_OWN", "Served", "keeps_connections"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import case

    return getattr(case, name)
