"""The laboratory of show1-micro: a cascade small enough for a CPU, trained on a synthetic
text-video world.
"""
