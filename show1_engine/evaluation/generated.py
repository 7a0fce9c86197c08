"""Features of clips while they are generated: of the frames after every stage, before any codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .choices import METRICS, STAGES, Sampling
from .clips import TooShort, chosen
from .features import FRAMES, Job, check_usable, device_of, measure_frames
from .networks import Network, load_network
from .sets import FINAL, stages_in

_SIDE = 64  # pixels of a clip that is only tried


@dataclass
class GeneratedFeatures:
    """What a batch's workers call with the frames of each stage, each in its own process.

    The last stage's features are written last: where a clip has them, it has the others. A stage
    before it whose frames are too few for a metric is left out of that.

    Args:
        folder: of the run; the features lie where `evaluate features` writes its own.
        wanted: network and seen frames by metric.
        last: the stage (choices.STAGES) whose frames become the clips.
        places, others: of the networks' weights (networks.load_network).
    """

    folder: Path
    wanted: Mapping[str, tuple[str, Sampling]]
    last: str
    places: Sequence[Path] = ()
    others: bool = False
    device: str = "cpu"
    _networks: dict[str, Network] = field(default_factory=dict)

    def settle(self) -> None:
        """Raises what is wrong with weights or settings, before a clip is made: a black one is
        tried. Keeps no network, so that this can be sent to workers.
        """
        loaded = self._loaded("cpu")
        for metric, (name, sampling) in self.wanted.items():
            check_usable(metric, loaded[name])
            side = sampling.size or _SIDE
            black = torch.zeros(sampling.frames or 1, side, side, 3, dtype=torch.uint8)
            loaded[name].features(black)
            for stage in (FINAL, *stages_in(self.folder / "features")):
                if stage == FINAL or (self.folder / "features" / stage / metric).is_dir():
                    self._job(stage, metric, loaded)

    def lacks(self, row: Mapping[str, Any]) -> bool:
        """Whether a clip's features are not all there."""
        return any(
            not (self.folder / "features" / FINAL / metric / f"{row['id']}.npy").is_file()
            for metric in self.wanted
            if row["prompt"] or not METRICS[metric].captions
        )

    def add(self, row: Mapping[str, Any], name: str, images: Tensor) -> None:
        """Measures frames (F, H, W, 3) of the stage `name`. TooShort for too few of the last."""
        if name not in STAGES:  # the first frame, a part of its clip's stage
            return
        if not self._networks:
            self._networks = self._loaded(device_of(self.device))
        stage = FINAL if name == self.last else name
        jobs = []
        for metric, (_, sampling) in self.wanted.items():
            try:
                chosen(len(images), sampling, row["id"])
            except TooShort:
                if stage == FINAL:
                    raise
                continue
            jobs.append(self._job(stage, metric, self._networks))
        measure_frames(row["id"], images, jobs, caption=row["prompt"])

    def _loaded(self, device: str) -> dict[str, Network]:
        names = dict.fromkeys(name for name, _ in self.wanted.values())
        return {name: load_network(name, self.places, device, others=self.others) for name in names}

    def _job(self, stage: str, metric: str, networks: Mapping[str, Network]) -> Job:
        name, sampling = self.wanted[metric]
        folder = self.folder / "features" / stage
        return Job.into(folder, metric, networks[name], sampling=sampling, seed=0, source=FRAMES)
