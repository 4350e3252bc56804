"""Answers that no service should send, at every endpoint, through the public door: only documented errors come out."""
