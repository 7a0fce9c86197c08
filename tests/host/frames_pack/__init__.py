"""Nodes for the host tests only: frames between a graph and a .safetensors file, without any
loss.
"""

import os

import folder_paths
from comfy_api.latest import ComfyExtension, io
from safetensors.torch import load_file, save_file

# By another name: what scans a checkout for nodes must not list these two as the pack's own.
_Node = io.ComfyNode


class LoadFrames(_Node):
    """An IMAGE batch out of the input folder."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestLoadFrames",
            display_name="Test: Load Frames",
            category="test",
            inputs=[io.String.Input("file")],
            outputs=[io.Image.Output(display_name="images")],
        )

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        return io.NodeOutput(
            load_file(os.path.join(folder_paths.get_input_directory(), file))["frames"]
        )


class SaveFrames(_Node):
    """An IMAGE batch as float32 into the output folder."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestSaveFrames",
            display_name="Test: Save Frames",
            category="test",
            inputs=[io.Image.Input("images"), io.String.Input("file")],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_):
        return float("nan")  # never taken from the cache: another run may have overwritten the file

    @classmethod
    def execute(cls, images, file) -> io.NodeOutput:
        save_file(
            {"frames": images.contiguous()}, os.path.join(folder_paths.get_output_directory(), file)
        )
        return io.NodeOutput(ui={"frames": [{"filename": file, "subfolder": "", "type": "output"}]})


class TestExtension(ComfyExtension):
    async def get_node_list(self):
        return [LoadFrames, SaveFrames]


async def comfy_entrypoint():
    return TestExtension()
