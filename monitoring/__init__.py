"""Drift monitoring: the service's prediction log against the reference in the released bundle.

It runs offline in the full environment; the serving environment has none of its dependencies. Commands are `drift`,
`rebase`, `feedback` and `power`; `make_reference` is a stage of `dvc.yaml`.
"""

import os

os.environ.setdefault("DO_NOT_TRACK", "1")  # read by Evidently at import: no usage statistics
