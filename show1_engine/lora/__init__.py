"""Motion LoRAs: small changes to a model's temporal layers, read, applied and trained (paper,
section 3.7).
"""
