"""Crash recovery of exports: killed, damaged, on full disks, resumed by another machine; compared row by row."""
