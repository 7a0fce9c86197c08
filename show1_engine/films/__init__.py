"""Films: video files worked through shot by shot, in bounded memory, that go on where they were."""

STRETCH = 56  # frames of the result: eight windows of pixel super-resolution, each on from the last
