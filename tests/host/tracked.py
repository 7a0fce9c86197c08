"""What the host's own functions find on the objects that flow along our links.

A process of its own, with ComfyUI first on the path. Arguments: the folder of a cascade, the file
for the results (JSON). What this host does not have is not in the results.
"""

import importlib.util
import json
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import comfy.cli_args

comfy.cli_args.args.cpu = True
PAGING = False  # whether the library behind newer hosts' paged weights loads; it needs no card
if importlib.util.find_spec("comfy_aimdo") is not None:
    import comfy_aimdo.control

    PAGING = comfy_aimdo.control.init("cuda")  # before the host imports it, as its main.py does
import comfy.model_patcher as patchers
import comfy_execution.caching as caching
import torch

from show1_engine.host.memory import ComfyHandle, ComfyRuntime
from show1_engine.loading import load_model, load_text_encoder
from show1_engine.runtime import PlainRuntime

MORE_THAN_THERE_IS = 1 << 60  # bytes of memory wanted: everything is let go
EXPERT = "show-1-sr2"


def main(cascade: Path, results: Path) -> None:
    with torch.inference_mode():
        model = load_model(cascade / EXPERT, ComfyRuntime(), "fp32")
        text = load_text_encoder(cascade / EXPERT, ComfyRuntime(), "fp32")
        plain = load_model(cascade / EXPERT, PlainRuntime(), "fp32")
        found = {
            "models": [known(model), known(text)],
            "plain": [plain.patcher, plain.get_models()],
            "weights": weights(model),
            "ram": model.get_ram_usage(),
            "dynamic": model.is_dynamic(),
        }
        if hasattr(patchers, "is_model_patcher_output"):
            known_to_it = patchers.is_model_patcher_output
            found["recognised"] = [known_to_it(item) for item in (model, text)]
        if PAGING and hasattr(patchers, "ModelPatcherDynamic"):
            found["all_dynamic"] = [paged(model).is_dynamic(), paged(text).is_dynamic()]
        if PAGING and hasattr(patchers, "PromptModelTracker"):
            found["tracked"] = tracked([paged(model), paged(text)])
        if PAGING and hasattr(caching, "all_outputs_dynamic"):
            kept = [caching.all_outputs_dynamic([[item]]) for item in (model, paged(model))]
            found["kept_by_the_cache"] = kept
        if "recognised" in found:
            found["let_go_first"] = let_go(model)
    results.write_text(json.dumps(found))


def known(item) -> list[bool]:
    return [isinstance(patcher, patchers.ModelPatcher) for patcher in item.get_models()]


def weights(model) -> int:
    held = [handle.module.state_dict().values() for handle in model.handles()]
    return sum(tensor.nbytes for tensors in held for tensor in tensors)


def paged(item):
    """The same on the patcher that newer hosts put in at start-up on an Nvidia card."""

    def dynamic(handle: ComfyHandle) -> ComfyHandle:
        devices = torch.device("cuda"), torch.device("cpu")
        patcher = patchers.ModelPatcherDynamic(handle.patcher.model, *devices)
        return ComfyHandle(patcher, handle.dtype)

    if hasattr(item, "vae"):
        return replace(item, unet=dynamic(item.unet), vae=dynamic(item.vae))
    return replace(item, network=dynamic(item.network))


def tracked(items: list) -> dict:
    """How many networks the host marks as in use by a prompt, and how many still after it."""

    def in_use() -> int:
        held = [patcher for item in items for patcher in item.get_models()]
        return sum(each.model.dynamic_pins[each.load_device]["current_prompt"] for each in held)

    tracker = patchers.PromptModelTracker()
    tracker.add([[item] for item in items])  # as a node's outputs lie in the host's cache
    during = in_use()
    tracker.end()
    return {"during": during, "after": in_use()}


def let_go(model) -> list[str]:
    """An older graph's model and clip, as a cache that is short of memory gives them up."""
    cache, gone = caching.RAMPressureCache(caching.CacheKeySetID), []
    cache.generation = 1
    held = {"model": replace(model), "clip": torch.zeros(1000, 1000)}
    for when, (key, value) in enumerate(held.items()):
        weakref.finalize(value, gone.append, key)
        cache.cache[key] = Entry([[value]])
        cache.used_generation[key], cache.timestamps[key] = 0, -when
    held.clear()
    del value
    cache.ram_release(MORE_THAN_THERE_IS)
    return gone


class Entry:
    def __init__(self, outputs: list):
        self.outputs = outputs


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
