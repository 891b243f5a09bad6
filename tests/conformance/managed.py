"""Starts awslambdaric as /var/runtime/bootstrap.py does on AWS's managed runtimes: what is imported here, and what that imports,
is there before the function's folder is on the path. The tests copy it to a folder of its own, under that name.
"""

import json  # noqa: F401
import logging  # noqa: F401
import os
import site
import sys
import time  # noqa: F401
import traceback  # noqa: F401
import warnings  # noqa: F401

import awslambdaric.__main__ as awslambdaricmain  # the name under which error trackers look for it

folders = [os.environ["LAMBDA_TASK_ROOT"]]
if "PYTHONPATH" not in os.environ:
    folders += ["/opt/python/lib/python{}.{}/site-packages".format(*sys.version_info), "/opt/python"]
    os.environ["PYTHONPATH"] = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = folders
for folder in folders:
    site.addsitedir(folder)
awslambdaricmain.main(["bootstrap.py", os.environ["_HANDLER"]])
