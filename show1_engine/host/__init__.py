"""ComfyUI and nothing else: the only modules of the engine that know it."""
