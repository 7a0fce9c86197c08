"""A run of the micro cascade as `show1_engine evaluate` keeps runs: clips of every stage, features
of the frames before any codec, the drawn truth as the real set, the recogniser's words as scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from show1_engine.evaluation import report as reports
from show1_engine.evaluation import sets
from show1_engine.evaluation.choices import PRESETS, Sampling
from show1_engine.evaluation.features import FRAMES, Job, Store, drawn, measure_frames
from show1_engine.evaluation.networks import Network, load_network
from show1_engine.evaluation.page import write_page
from show1_engine.evaluation.sets import FINAL
from show1_engine.evaluation.votes import wilson
from show1_engine.stages.registry import STAGES
from show1_engine.video import write_mp4

from .editions import FIRST, Edition
from .recogniser import ATTRIBUTES, Reading
from .world import Scene, frame_times

METRICS = ("fvd", "fid_frames")
_LENGTH = 29  # frames of a whole clip
# Everything is small already: frames are seen as they are, all rates alike.
_SAMPLING = Sampling(frames=16, size=64, short="stretch", resize="area")
_SAMPLES = 24


class MeasuredRun:
    """Takes the clips of a cascade as they come; `finish` writes the report and its page.

    A clip that is there already is not written again. `last`: the kind of the stage whose clips are
    the final ones; `network`: whose features are compared, "" for none.
    """

    def __init__(
        self,
        folder: Path,
        scenes: Sequence[Scene],
        seeds: Sequence[int],
        *,
        last: str,
        network: str,
        world: Edition = FIRST,
    ):
        self._folder, self._scenes, self._last, self._world = folder, scenes, last, world
        prompts = [
            sets.Prompt(f"{i:05}", scene.caption(), seed)
            for i, (scene, seed) in enumerate(zip(scenes, seeds, strict=True))
        ]
        sets.write_run(folder, prompts, {"set": "micro"}, seed=min(seeds))
        self._names = [prompt.id for prompt in prompts]
        self._network = load_network(network, []) if network else None

    def add(self, kind: str, index: int, images: Tensor) -> None:
        """A stage's frames of one prompt."""
        name, stage = self._names[index], self._stage(kind)
        folder = self._folder / ("clips" if stage == FINAL else f"stages/{stage}")
        path = folder / "000" / f"{name}.mp4"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_mp4(path, images, STAGES[kind].fps)
        self._measure(self._folder / "features" / stage, name, images, index=index)

    def _stage(self, kind: str) -> str:
        return FINAL if kind == self._last else STAGES[kind].result

    def _measure(self, folder: Path, name: str, images: Tensor, *, index: int) -> None:
        if self._network is not None:
            jobs = _jobs(folder, self._network)
            measure_frames(name, images, jobs, caption=self._scenes[index].caption())

    def finish(self, readings: Mapping[str, Sequence[Reading]]) -> Path:
        """The page of the run. readings: of every stage, in the order of the scenes."""
        for index, (name, scene) in enumerate(zip(self._names, self._scenes, strict=True)):
            truth = self._world.render([scene], frame_times(_LENGTH), *self._world.large)[0]
            self._measure(self._folder / "real", name, truth, index=index)
        reports.write_scores(
            self._folder,
            "All words obeyed after each stage, in percent",
            [
                _score(STAGES[kind].result, found, self._scenes, *ATTRIBUTES)
                for kind, found in readings.items()
            ],
        )
        found = readings[self._last]
        textured = ("texture",) if found[0].texture is not None else ()
        words = [_score(word, found, self._scenes, *(word,)) for word in (*ATTRIBUTES, *textured)]
        reports.write_scores(self._folder, "Words obeyed in the end, in percent", words)
        return self._write()

    def _write(self) -> Path:
        options = reports.Options(PRESETS["paper"])
        stages = [*sets.stages_in(self._folder / "features"), FINAL]
        rows = [
            self._row(metric, stage, options)
            for metric in METRICS
            for stage in (stages if self._network else [FINAL])
        ]
        about = sets.set_of(self._folder)
        scores = reports.read_scores(self._folder)
        report = reports.write_report(self._folder, rows, options, about=about, scores=scores)
        clips = {clip.id: clip for clip in sets.run_clips(self._folder)}
        some = [clips[name] for name in drawn(list(clips), _SAMPLES, 0)]
        page = self._folder / "report.html"
        write_page(page, report, {"Samples": [(clip, clip.id) for clip in some]})
        return page

    def _row(self, metric: str, stage: str, options: reports.Options) -> reports.Row:
        """A stage's features against those of the drawn truth of the same prompts."""
        if self._network is None:
            return reports.not_measured(metric, "no network (--network)")
        fake = Store(self._folder / "features" / stage / metric)
        real = Store(self._folder / "real" / metric)
        return reports.score(metric, fake, real, options=options, stage=stage)


def _jobs(folder: Path, network: Network) -> list[Job]:
    how = {"sampling": _SAMPLING, "seed": 0, "source": FRAMES}
    return [Job.into(folder, metric, network, **how) for metric in METRICS]


def _score(
    name: str, readings: Sequence[Reading], scenes: Sequence[Scene], *words: str
) -> dict[str, object]:
    """The share of clips whose words are the prompt's, with a Wilson interval."""
    pairs = list(zip(readings, scenes, strict=False))
    right = sum(reading.matches(scene, *words) for reading, scene in pairs)
    low, high = (100 * end for end in wilson(right, len(pairs)))
    value = 100 * right / len(pairs)
    return {"name": name, "value": value, "n": len(pairs), "low": low, "high": high}
