"""The commands of `agora-analytics`: a module for each command, or group of commands."""
