"""What all launchers share: a user's mistake ends in one readable line, not in a traceback."""

import sys
from collections.abc import Callable

from absl import app, flags, logging


def run(main: Callable[[], None]) -> None:
    """Parse absl flags and call ``main``; a user's mistake ends in status 1, Ctrl-C in 130."""

    def parse(argv: list[str]) -> list[str]:
        try:
            rest = flags.FLAGS(argv)
        except (flags.Error, KeyError, ValueError, OSError) as error:
            # A KeyError's own text is the repr of its message, with quotes and line breaks escaped.
            message = error.args[0].replace("\n", ": ") if isinstance(error, KeyError) else str(error)
            if "Traceback" in message:  # of a configuration file, whole
                message = message.strip().splitlines()[-1]
            _fail(f"{message}; --help lists the flags")
        if len(rest) > 1:
            _fail(f"unexpected arguments {rest[1:]}; flags are written --name=value")
        return rest

    def checked(_: list[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # libraries tell a page of details at INFO
        try:
            main()
        except (ValueError, OSError) as error:
            _fail(error)
        except KeyboardInterrupt:
            print("interrupted; the same command goes on where it was", file=sys.stderr)
            sys.exit(130)

    app.run(checked, flags_parser=parse)


def _fail(message: object) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)
