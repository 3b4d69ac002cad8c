"""For every lane: tests behave alike in a terminal, in the background, under nohup and in CI."""

import signal

# Shells start background jobs with SIGINT ignored, nohup ignores SIGHUP, and programs that tests start inherit that.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
