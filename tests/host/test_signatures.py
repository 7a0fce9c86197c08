"""Every call of ours, and every method, against the host's parameters in all recorded releases
(signatures.json).
"""

import json

import pytest
from signatures import RECORD, Call, Tree, accepts, our_calls, our_methods

RELEASES = ("0.3.75", "0.8.0", "0.18.1", "0.27.0", "0.33.0")
# What some releases lack, and the pack looks for before it calls it.
FEATURE_CHECKED = {"comfy.model_management.intermediate_dtype"}
# Ours by the same name as in torch.nn.Module, which calls them itself.
TORCHS = {"__init__", "forward"}


@pytest.fixture(scope="module")
def recorded() -> dict:
    return json.loads(RECORD.read_text())


def misfits(recorded: dict, calls: list[Call]) -> list[str]:
    """Calls of the pack that some release does not take, or that are not recorded."""
    found = []
    for call in calls:
        releases = recorded["calls"].get(call.name)
        if releases is None:
            if not call.open:
                found.append(
                    f"{call.where}: {call.name} is not recorded; run tests/host/signatures.py"
                )
            continue
        found += [
            f"{call.where}: {call.name} in {release}: {signature}"
            for release, signature in releases.items()
            if (signature is None and call.name not in FEATURE_CHECKED)
            or (signature is not None and not call.fits(signature))
        ]
    return found


def broken_overrides(recorded: dict, methods: list[tuple[str, str, str]]) -> list[str]:
    """Methods of the pack that stand in the way of one that the host's layers have, with other
    parameters.
    """
    found = []
    for layer, declared in recorded["layers"].items():
        for name, ours, where in methods:
            if name in TORCHS:
                continue
            found += [
                f"{where}: {name}{ours} for {layer}'s {name}{signature} in {release}"
                for release, signature in declared.get(name, {}).items()
                if not accepts(ours, signature)
            ]
    return found


def test_every_release_is_recorded(recorded):
    assert len(recorded["calls"]) > 50
    assert {tuple(releases) for releases in recorded["calls"].values()} == {RELEASES}


def test_calls_fit_every_release(recorded):
    assert misfits(recorded, list(our_calls())) == []


def test_nothing_of_ours_breaks_a_hosts_layer(recorded):
    assert broken_overrides(recorded, list(our_methods())) == []


def test_the_override_that_broke_sampling_is_found(recorded):
    """A Conv3d's private hook, overridden without `autopad`, which hosts pass since January
    2026.
    """
    before = ("_conv_forward", "(self, x, weight, bias, *_)", "models/layers.py:134")
    found = broken_overrides(recorded, [before])
    assert any("in 0.18.1" in fault for fault in found) and any(
        "in 0.33.0" in fault for fault in found
    )
    assert not any("in 0.3.75" in fault for fault in found)


def test_a_call_that_a_host_does_not_take_is_found(recorded):
    renamed = Call("comfy.model_management.load_models_gpu", "host.py:1", 1, ("memory",), False)
    unknown = Call("comfy.model_management.load_everything", "host.py:2", 0, (), False)
    scaled = Call("comfy.ops.pick_operations", "host.py:3", 2, ("scaled_fp8",), False)
    assert len(misfits(recorded, [renamed])) == len(RELEASES)
    assert "is not recorded" in misfits(recorded, [unknown])[0]
    releases = [fault.split(" in ")[1].split(":")[0] for fault in misfits(recorded, [scaled])]
    assert releases == ["0.8.0", "0.18.1", "0.27.0", "0.33.0"]


def test_the_record_is_that_of_this_host(recorded, comfyui):
    """What the script reads from the tree that the tests run on is what is recorded for its
    release.
    """
    tree = Tree(comfyui)
    if tree.version not in RELEASES:
        pytest.skip(f"{tree.version} is not recorded")
    here = {name: tree.signature(name) for name in recorded["calls"]}
    assert here == {name: releases[tree.version] for name, releases in recorded["calls"].items()}
