"""For every lane: tests behave alike in a terminal, in the background and in CI."""

import signal

# A shell starts background jobs with SIGINT ignored, and programs that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
