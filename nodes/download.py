"""Show1DownloadModel."""

from pathlib import Path

from comfy_api.latest import io

from ..show1_engine.checkpoints.download import download
from ..show1_engine.checkpoints.registry import OF_THE_CASCADE
from ..show1_engine.errors import one_of
from ..show1_engine.host.folders import model_folders
from ..show1_engine.host.ui import download_report, show_text
from .schema import schema


def _folder_for(model: str) -> Path:
    """The model folder that holds `model` already, or the one new models go to."""
    folders = model_folders()
    return next((folder for folder in folders if (folder / model).exists()), folders[0])


class Show1DownloadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        sizes = "\n".join(
            f"{item.name}: {item.what}, {item.size}" for item in OF_THE_CASCADE.values()
        )
        return schema(
            node_id="Show1DownloadModel",
            display_name="Download Show-1 Model",
            description="Fetches a published model into models/show1, only the files it needs, "
            "checked byte for byte. A download that was cancelled goes on where it stopped. Press "
            "R afterwards.",
            search_aliases=["show1", "show-1", "hugging face", "get model"],
            inputs=[
                io.Combo.Input("model", options=list(OF_THE_CASCADE), tooltip=sizes),
                io.Boolean.Input(
                    "accept_license",
                    default=False,
                    tooltip="Tick it if you know the model's licence and accept it. Without it the "
                    "node says what the licence is and fetches nothing. All are "
                    "non-commercial.",
                ),
            ],
            outputs=[io.String.Output(display_name="name")],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, model: str, accept_license: bool) -> bool | float:
        if not isinstance(model, str) or model not in OF_THE_CASCADE:
            return float("nan")
        return (_folder_for(model) / model).exists() or float(
            "nan"
        )  # what is not there is fetched, never cached

    @classmethod
    def execute(cls, model: str, accept_license: bool) -> io.NodeOutput:
        one_of("Show1DownloadModel: model", model, OF_THE_CASCADE)
        folder = download(model, _folder_for(model), accept_license, report=download_report())
        show_text(f"{model} is in {folder}")
        return io.NodeOutput(model)
