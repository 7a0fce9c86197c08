"""Measured as the paper measures: sets, networks, metrics, report, votes (docs/evaluation.md).

Works on any folder of videos; a run of our own is one with prompts and seeds beside them.
"""
