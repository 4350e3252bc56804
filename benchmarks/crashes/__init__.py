"""Exports that are killed, damaged, out of disk, or carried on by another machine: row for row what they should be."""
