"""A saved graph, older or newer than the host, becomes the prompt that the host's editor would
send.

(Compared with the editor itself, for every template: tests/host/test_workflows.py.)
"""

import pytest
from comfyui_server import ui_to_api

CODEC = [
    "COMFY_DYNAMICCOMBO_V3",
    {
        "options": [
            {"key": "auto", "inputs": {"required": {}}},
            {"key": "h264", "inputs": {"required": {"crf": ["FLOAT", {"default": 23.0}]}}},
        ]
    },
]
NEWER = {
    "required": {
        "video": ["VIDEO", {}],
        "prefix": ["STRING", {"default": "ComfyUI"}],
        "format": [
            "COMFY_DYNAMICCOMBO_V3",
            {
                "options": [
                    {"key": "auto", "inputs": {"required": {"codec": CODEC}}},
                    {"key": "gif", "inputs": {"optional": {"loops": ["INT", {"default": 0}]}}},
                ]
            },
        ],
    }
}
OLDER = {
    "required": {
        "video": ["VIDEO", {}],
        "prefix": ["STRING", {"default": "ComfyUI"}],
        "format": [["auto", "gif"], {}],
        "codec": ["COMBO", {"options": ["auto", "h264"]}],
    }
}


def prompt_of(
    host: dict, values: list | dict, *widgets: str, links: tuple[str, ...] = (), **saved
) -> dict:
    """The inputs of a single saved node; what it has under `links` comes from outside."""
    inputs = [
        {"name": name, "type": "*", "widget": {"name": name}, "link": None} for name in widgets
    ]
    inputs += [{"name": name, "type": "*", "link": 7} for name in links]
    node = {
        "id": 1,
        "type": "Save",
        "inputs": inputs,
        "widgets_values": values,
        "outputs": [],
        **saved,
    }
    source = {"id": 2, "type": "Source", "inputs": [], "outputs": []}
    info = {
        "Save": {"input": host, "display_name": "Save"},
        "Source": {"input": {}, "display_name": "Source"},
    }
    return ui_to_api({"nodes": [node, source], "links": [[7, 2, 0]]}, info)["1"]["inputs"]


@pytest.mark.parametrize(
    "host, values, widgets, expected",
    [
        (
            OLDER,
            ["a", "gif", "h264"],
            ("prefix", "format", "codec"),
            {"prefix": "a", "format": "gif", "codec": "h264"},
        ),
        (
            NEWER,
            ["a", "auto", "h264"],
            ("prefix", "format", "codec"),  # saved by an older editor
            {"prefix": "a", "format": "auto", "format.codec": "h264", "format.codec.crf": 23.0},
        ),
        (
            NEWER,
            ["a", "gif", 3],
            ("prefix", "format", "format.loops"),
            {"prefix": "a", "format": "gif", "format.loops": 3},
        ),
        (
            OLDER,
            ["a", "auto", "h264", 20.0],
            ("prefix", "format", "format.codec", "format.codec.crf"),  # by a newer one
            {"prefix": "a", "format": "auto", "codec": "h264"},
        ),
        (
            NEWER,
            ["a"],
            ("prefix",),
            {"prefix": "a", "format": "auto", "format.codec": "auto"},
        ),  # inputs came later
        (
            NEWER,
            ["a", "auto", "auto"],
            (),
            {"prefix": "a", "format": "auto", "format.codec": "auto"},
        ),  # widgets not listed
    ],
)
def test_dynamic_combos(host, values, widgets, expected):
    assert prompt_of(host, values, *widgets) == expected


def test_values_by_name_go_before_their_order():
    named = {"prefix": "b", "format": "auto", "format.codec": "h264", "format.codec.crf": 20.0}
    assert prompt_of(NEWER, ["x", "gif", 0], *named, widgets_values_named=named) == named


def test_links_and_what_is_only_a_socket():
    host = {
        "required": {
            "seed": ["INT", {"default": 0, "control_after_generate": True}],
            "fps": ["FLOAT", {"default": 8.0}],
            "text": ["STRING", {"forceInput": True}],
        }
    }
    assert prompt_of(host, [5, "fixed", 12.0], "seed", "fps") == {"seed": 5, "fps": 12.0}
    assert prompt_of(host, [5, "fixed", 12.0], "seed", "fps", links=("text",))["text"] == ["2", 0]


def test_inputs_that_a_link_brings_along():
    host = {
        "optional": {
            "model": [
                "COMFY_DYNAMICSLOT_V3",
                {"slotType": "MODEL", "inputs": {"required": {"steps": ["INT", {"default": 20}]}}},
            ],
            "scale": ["FLOAT", {"default": 1.0}],
        }
    }
    assert prompt_of(host, [2.0], "scale") == {"scale": 2.0}
    assert prompt_of(host, [9, 2.0], "model.steps", "scale", links=("model",)) == {
        "model": ["2", 0],
        "model.steps": 9,
        "scale": 2.0,
    }
