"""Show-1's text-to-video cascade (arXiv 2309.15818). Runs with and without ComfyUI."""
