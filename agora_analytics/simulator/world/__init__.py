"""The simulated world: calls, participants and metrics as pure functions of a seed and the time.

`world.py` has `World`, the public view. `calls.py` draws calls and incidents, `participants.py` their sessions (with
users of `population.py`), `metric_samples.py` the samples of a session. `concurrency.py`, `quality.py` and `usage.py`
derive what Real-time Monitoring and Data Insights report. `entities.py` has the values that they return. All randomness
comes from `rng.py`.
"""
