"""Many clips: a table of jobs to a folder of videos, in one process, in several, on many machines.

All state is files: killing everything and typing the same command again is always right.
"""
