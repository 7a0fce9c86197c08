"""Parts of a film and the source's sound, put together without encoding anything again."""

import heapq
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import InputError, printable
from ..identity import host
from ..video import reason
from .timeline import Timeline

log = logging.getLogger(__name__)

_DELAY = 3  # frames by which decoding may run ahead of showing; the encoder's is 2


def join(
    target: Path, parts: list[tuple[Path, int]], timeline: Timeline, *, sound: Path | None
) -> None:
    """Writes the mp4 of all parts, which appears when it is complete.

    Every sound track of `sound` that an mp4 can hold goes along; what cannot is said in the log.

    Args:
        parts: every part's file and how many frames it has, in order, from the film's start on.

    Raises InputError, naming the file, where a part is damaged or the target cannot be written;
    OSError where the disk is full.
    """
    import av

    name = f".{target.name}.{host()}-{os.getpid()}.part"
    partial = target.with_name(name)
    try:
        with ExitStack() as stack:
            file = stack.enter_context(partial.open("wb"))
            _mux(file, parts, timeline, sound=sound, stack=stack)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except av.error.FFmpegError as error:
        raise InputError(f"'{target}' cannot be written: {reason(error)}") from error
    finally:
        partial.unlink(missing_ok=True)


def _mux(
    file: Any,
    parts: list[tuple[Path, int]],
    timeline: Timeline,
    *,
    sound: Path | None,
    stack: ExitStack,
) -> None:
    import av

    with av.open(file, "w", format="mp4") as out:
        picture = _picture(out, parts[0][0])
        streams = [_pictures(parts, timeline, picture)]
        if sound is not None:
            end = timeline.source.begin + timeline.time(sum(count for _, count in parts))
            whole = sum(count for _, count in parts) == timeline.frames
            streams += _sounds(out, sound, until=None if whole else end, stack=stack)
        # By time: written one stream after the other, the first would be held in memory.
        for _, _, packet in heapq.merge(*streams, key=lambda entry: entry[0]):
            out.mux(packet)


def _picture(out: Any, first: Path) -> Any:
    import av

    with av.open(str(first)) as part:
        return out.add_stream_from_template(part.streams.video[0])


def _pictures(
    parts: list[tuple[Path, int]], timeline: Timeline, stream: Any
) -> Iterator[tuple[Fraction, int, Any]]:
    """(time, stream, packet) of every part, each at its place in the film."""
    import av

    number, begin = 0, timeline.source.begin
    waiting: list[int] = []  # when the frames before are shown: later ones are decoded then
    for path, count in parts:
        with av.open(str(path)) as part:
            own = part.streams.video[0]
            if own.codec_context.extradata != stream.codec_context.extradata:
                raise InputError(
                    f"'{path}' was made by another encoder than the parts before it; delete it, "
                    "and start again"
                )
            packets = [packet for packet in part.demux(own) if packet.dts is not None]
        if len(packets) != count:
            raise InputError(
                f"'{path}' is damaged: it has {len(packets)} frames of {count}; delete it, and "
                "start again"
            )
        tick = packets[0].time_base
        first = min(packet.pts for packet in packets)
        offset = round((begin + timeline.time(number)) / tick) - first
        shown = sorted(packet.pts + offset for packet in packets)
        step = max(1, round(1 / (timeline.rate * tick)))
        waiting = waiting or [shown[0] - step * (i + 1) for i in reversed(range(_DELAY))]
        decoded = waiting + shown
        for i, packet in enumerate(packets):
            packet.pts += offset
            packet.dts = decoded[i]
            packet.stream = stream
            yield packet.dts * tick, 0, packet
        number, waiting = number + count, decoded[count:]


def _sounds(
    out: Any, source: Path, *, until: Fraction | None, stack: ExitStack
) -> list[Iterator[tuple[Fraction, int, Any]]]:
    """The packets of every sound track that an mp4 can hold, up to a time."""
    import av

    found = []
    with source.open("rb") as file, av.open(file, metadata_errors="ignore") as container:
        count = len(container.streams.audio)
    for number in range(count):
        file = stack.enter_context(source.open("rb"))
        container = stack.enter_context(av.open(file, metadata_errors="ignore"))
        track = container.streams.audio[number]
        try:
            stream = out.add_stream_from_template(track)
        except (av.error.FFmpegError, ValueError) as error:
            log.warning(
                "Sound track %d of '%s' is left out: an mp4 cannot hold it (%s).",
                number + 1,
                printable(source, 300),
                reason(error),
            )
            continue
        found.append(_sound(container, track, stream, until=until))
    return found


def _sound(
    container: Any, track: Any, stream: Any, *, until: Fraction | None
) -> Iterator[tuple[Fraction, int, Any]]:
    zero = Fraction(container.start_time or 0, 10**6)
    for packet in container.demux(track):
        if packet.dts is None:
            continue
        tick = packet.time_base
        moved = round(zero / tick)
        time = (packet.dts - moved) * tick
        if until is not None and time >= until:
            return
        packet.pts, packet.dts = packet.pts - moved, packet.dts - moved
        packet.stream = stream
        yield time, stream.index, packet
