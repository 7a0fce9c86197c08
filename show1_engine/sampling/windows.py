"""Temporal windows: which frames are sampled together."""


def chained_windows(frames: int, window: int = 8) -> list[slice]:
    """Windows that each start on the last frame of the one before, the last moved back to end on the last frame.

    Every frame is covered; a clip shorter than a window is one window. 29 frames give starts 0, 7, 14, 21.
    """
    if frames <= window:
        return [slice(0, frames)]
    starts = list(range(0, frames - window, window - 1)) + [frames - window]
    return [slice(start, start + window) for start in starts]


def original_windows(frames: int, window: int = 8) -> list[slice]:
    """The original's loop, kept for comparison: trailing frames stay uncovered unless (frames - 1) % 7 == 0."""
    return [slice(start, start + window) for start in range(0, frames - window + 1, window - 1)]
