"""The simulated world: calls, participants and measurements as pure functions of a seed and the time."""
