"""Fuzzing: responses that no service should send, at every endpoint; only documented errors may come out."""
