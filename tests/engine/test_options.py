"""The command line's options: what is frozen, what --help says, and how fast it can say it."""

import argparse
import dataclasses
import importlib
import json
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from show1_engine.__main__ import main, parser
from show1_engine.cascade import Cascade
from show1_engine.commands import declared
from show1_engine.commands.arguments import COMMANDS, TABLES
from show1_engine.commands.common import settings
from show1_engine.stages.keyframes import KeyframeSettings
from show1_engine.stages.registry import ENDS, STAGES

# Names and defaults of every command's options, "default" for a setting being the settings' own.
FROZEN = json.loads(Path(__file__).with_name("options.json").read_text(encoding="utf-8"))
TRAINING = ("training.settings", "TrainSettings")
SETTINGS = [
    ("stages.keyframes", "KeyframeSettings"),
    ("stages.interpolate", "InterpolateSettings"),
    ("stages.pixel_sr", "FIRST_FRAME_SETTINGS"),
    ("stages.pixel_sr", "PixelSRSettings"),
    ("stages.latent_expert_sr", "LatentExpertSettings"),
    TRAINING,
    ("training.settings", "StageTrainSettings"),
]
NAME_TABLES = [*TABLES.values(), ("lora.formats", "SPELLINGS")]
DEFAULT = "(default: "


def commands() -> dict[str, argparse.ArgumentParser]:
    (found,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return found.choices


def options(command: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """A command's arguments but --help by name, all spellings of one in one string."""
    return {
        " ".join(action.option_strings) or action.dest: action
        for action in command._actions
        if not isinstance(action, argparse._HelpAction)
    }


def imported(module: str, name: str):
    return getattr(importlib.import_module(f"show1_engine.{module}"), name)


def default_of(action: argparse.Action) -> str:
    """An option's default in words; a setting's is what its help says."""
    if action.default is None and DEFAULT in (action.help or "") and action.dest in dests():
        return action.help.rpartition(DEFAULT)[2].removesuffix(")")
    if isinstance(action.default, Path):  # models/show1, wherever the pack lies
        return "/".join(action.default.parts[-2:])
    return str(action.default)


def dests() -> set[str]:
    """Destinations of the options that are settings of a stage."""
    prefixed = {
        f"{prefix.replace('-', '_')}_{name}"
        for prefix, fields in declared.stages().items()
        for name in fields
    }
    return prefixed.union(*(declared.settings(*where) for where in SETTINGS))


@pytest.mark.parametrize("command", FROZEN)
def test_names_and_defaults_are_frozen(command):
    """More options may come; none may go or change what it does where it is not given."""
    now = {name: default_of(action) for name, action in options(commands()[command]).items()}
    assert {name: now.get(name) for name in FROZEN[command]} == {
        name: str(value) for name, value in FROZEN[command].items()
    }


@pytest.mark.parametrize(("module", "name"), SETTINGS)
def test_what_is_read_is_what_importing_gives(module, name):
    found = imported(module, name)
    instance = found() if isinstance(found, type) else found
    types = typing.get_type_hints(type(instance))
    read = declared.settings(module, name).values()
    assert [(s.name, s.type, s.default) for s in read] == [
        (f.name, types[f.name], getattr(instance, f.name)) for f in dataclasses.fields(instance)
    ]


def test_stages_are_those_of_the_stage_table():
    read = {
        option: {field.name: field.default for field in fields.values()}
        for option, fields in declared.stages().items()
    }
    assert read == {stage.option: dataclasses.asdict(stage.settings) for stage in STAGES.values()}
    assert list(read) == [stage.option for stage in STAGES.values()]
    assert tuple(options(commands()["generate"])["--until"].choices) == ENDS


@pytest.mark.parametrize(("module", "table"), NAME_TABLES)
def test_tables_are_read_as_they_are(module, table):
    assert declared.names(module, table) == tuple(imported(module, table))


def test_the_negative_prompt_is_the_cascades():
    negative = options(commands()["generate"])["--negative-prompt"]
    assert negative.default == Cascade.negative_prompt


@pytest.mark.parametrize(("module", "name"), SETTINGS)
def test_every_setting_is_explained(module, name):
    texts = {s.name: s.text for s in declared.settings(module, name).values()}
    assert [name for name, text in texts.items() if len(text.split()) < 4] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_takes(command, capsys):
    for name, action in options(commands()[command]).items():
        assert action.help, name
        if action.nargs != 0 and action.option_strings:
            assert action.choices or action.metavar, name
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0 and "default:" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--keyframes-sampler", "euler"],
        ["--preset", "best"],
        ["--pixel-sr-color-match", "hsv"],
        ["--keyframes-steps", "many"],
        ["--nothing", "of the\nkind"],
    ],
)
def test_a_wrong_value_is_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(["generate", "--prompt", "a cat", *arguments])
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1
    assert arguments[0] in error


@pytest.mark.parametrize(
    ("option", "table"),
    [("objective", "OBJECTIVES"), ("targets", "TRAIN_TARGETS"), ("timesteps", "TIMESTEPS")],
)
def test_a_wrong_choice_names_all_there_are(option, table, capsys):
    with pytest.raises(SystemExit):
        main(["train", "clip.mp4", "x.safetensors", "--prompt", "a", f"--{option}", "none"])
    error = capsys.readouterr().err
    for name in imported(*TABLES[option]):
        assert name in error
    assert TABLES[option][1] == table


def test_what_is_given_goes_before_the_bundled_goes_before_the_defaults():
    arguments = ["generate", "--prompt", "a", "--keyframes-steps", "7", "--no-interpolate-cuts"]
    micro = parser().parse_args(arguments)
    other = parser().parse_args([*arguments, "--models", "elsewhere", "--seed", "3"])
    defaults = KeyframeSettings()
    assert dataclasses.asdict(settings(micro, defaults, "keyframes", prefix="keyframes")) == {
        **dataclasses.asdict(defaults),
        **{"steps": 7, "width": 16, "height": 16, "num_frames": 8, "cfg": 3.0},
    }
    assert settings(other, defaults, "keyframes", prefix="keyframes") == dataclasses.replace(
        defaults, steps=7, seed=3
    )
    assert micro.interpolate_cuts is False


def test_a_scale_need_not_be_whole():
    args = parser().parse_args(["upscale", "a.mp4", "b.mp4", "--scale", "2.5"])
    assert args.scale == 2.5


@pytest.mark.parametrize("arguments", [[], *([command] for command in COMMANDS)])
def test_help_imports_no_torch(arguments, pack):
    """Nor anything else that takes long: --help is there at once."""
    code = (
        "import sys\n"
        "from show1_engine.__main__ import main\n"
        "try:\n"
        "    main([*sys.argv[1:], '--help'])\n"
        "except SystemExit:\n"
        "    late = {'torch', 'numpy', 'einops', 'diffusers', 'tqdm', 'av'}\n"
        "    print(sorted(late & sys.modules.keys()), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=pack, capture_output=True, text=True
    )
    assert done.stdout.startswith("usage: ") and done.stderr.strip() == "[]"
