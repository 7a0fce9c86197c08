"""What Show-1 costs: `python -m show1_engine bench`, and long_clip.py for clips of any length."""
