"""The programs of the Lambda in miniature, as `make` calls them: python3 tests/miniature run ..."""

import os
import sys

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # tests/: the package is `miniature`


def main(program="", *arguments):
    from miniature.process import remove_left_behind

    remove_left_behind()
    if program == "run":
        from miniature.run import main
    elif program == "serve":
        from miniature.serve import main
    else:
        sys.exit("python3 tests/miniature run|serve FOLDER [FILE.FUNCTION]")
    return main(*arguments)


if __name__ == "__main__":
    from miniature.output import exit_with

    exit_with(main, *sys.argv[1:])
