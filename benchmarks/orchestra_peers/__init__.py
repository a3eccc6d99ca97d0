"""The orchestra beside Restate, DBOS and Temporal: the same three levels of products on each.

Run by ``make bench-peers``, in an environment of its own. `scenario` says what is measured,
`systems` how each of them is started, `workers` what runs in their processes.
"""
