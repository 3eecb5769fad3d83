"""The operator's command with short waits: `python -m tests.support.hasty run …`."""

from __future__ import annotations

import functools

from stackstore_operator import main
from stackstore_operator.reconcile.contest import Patience
from stackstore_operator.reconcile.waits import Waits

WAITS = Waits(contests=Patience(corrections=3, window=8, retry=2, calm=1))

if __name__ == "__main__":
    main.Settings = functools.partial(main.Settings, waits=WAITS)
    main.app()
