"""The simulated service: the REST API over a simulated world.

`service.py` has `Service`. It authenticates a request, counts it (`rate_limits.py`), validates its parameters
(`params.py`) and calls the handler of its endpoint with a `context.py`. The handlers are in `call_inspector.py`,
`call_statistics.py`, `insights.py` and `realtime.py`. `variants.py` has the switches of behaviour, `call_changes.py`
the calls that are deleted, endless or moved, `other_programs.py` the other consumers of the quota.
"""
