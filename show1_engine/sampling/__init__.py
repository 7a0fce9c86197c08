"""Schedules, classifier-free guidance and the sampling loop. Pure functions of tensors and
generators.
"""
