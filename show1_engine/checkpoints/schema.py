"""The configs of a model, each as a typed schema: keys, their ranges, the class's own defaults.

Configs come out of files that anybody may have made. They are read through these schemas once, so
that nothing behind them meets a value out of range: unknown keys are ignored, missing ones have the
default of the class that the original would have built, and a refusal names the file, the key, the
value and what is allowed. Limits are several times what any published model has.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import CheckpointError

Activation = Literal["silu", "swish", "gelu", "relu", "mish"]
TEMPORAL_GROUPS = 32  # of every temporal norm, and of the norm before attention to the text


def _whole(least: int, most: int) -> Any:
    return Annotated[int, Field(ge=least, le=most)]


def _number(least: float, most: float) -> Any:
    return Annotated[float, Field(ge=least, le=most, allow_inf_nan=False)]


def _each(one: Any, most: int = 8) -> Any:
    """One value for all levels, or a list with one for each."""
    return one | Annotated[list[one], Field(min_length=1, max_length=most)]


Width, Layers, Name = _whole(1, 16384), _whole(1, 32), Annotated[str, Field(max_length=100)]
Names = Annotated[list[Name], Field(min_length=1, max_length=8)]
Widths = Annotated[list[Width], Field(min_length=1, max_length=8)]
Eps = _number(1e-12, 0.1)


class Schema(BaseModel):
    """Strict: a number is no text and no truth value. `complete`: keys the file lacks get their
    defaults."""

    model_config = ConfigDict(strict=True, extra="ignore", protected_namespaces=())


class UNetSchema(Schema):
    """unet/config.json of Show-1's, diffusers' and DeepFloyd's classes. What is Any is refused by
    models.unet by name where it asks for something no Show-1 model has."""

    class_name: Any = Field(default=None, alias="_class_name")
    in_channels: _whole(1, 64) = 4
    out_channels: _whole(1, 64) = 4
    sample_size: _whole(1, 8192) | None = None
    block_out_channels: Widths = [320, 640, 1280, 1280]
    down_block_types: Names
    up_block_types: Names
    mid_block_type: Name | None = None
    layers_per_block: _each(Layers) = 2
    attention_head_dim: _each(_whole(1, 1024)) | None = None
    num_attention_heads: _each(_whole(1, 1024)) | None = None
    cross_attention_dim: _each(Width) = 1024
    transformer_layers_per_block: _each(_whole(1, 16)) = 1
    only_cross_attention: _each(bool) = False
    act_fn: Activation = "silu"
    time_embedding_act_fn: Activation | None = None
    time_embedding_dim: _whole(2, 65536) | None = None
    norm_num_groups: _whole(1, 1024) = 32
    norm_eps: Eps = 1e-5
    downsample_padding: _whole(0, 1) = 1
    mid_block_scale_factor: _number(0.01, 100) = 1.0
    resnet_out_scale_factor: _number(0.01, 100) | None = 1.0
    resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"
    resnet_skip_time_act: bool | None = False
    encoder_hid_dim: Width | None = None
    addition_embed_type_num_heads: _whole(1, 1024) = 64
    flip_sin_to_cos: bool = True
    freq_shift: _whole(0, 1) = 0
    center_input_sample: bool | None = False
    use_linear_projection: bool | None = False
    transfromer_in_opt: bool | None = None
    transformer_in_head_dim: _whole(1, 1024) | None = None
    addition: Any = Field(default=None, alias="addition_embed_type")
    class_embed_type: Any = None
    class_embeddings_concat: Any = None
    conv_in_kernel: Any = None
    conv_out_kernel: Any = None
    dual_cross_attention: Any = None
    encoder_hid_dim_type: Any = None
    mid_block_only_cross_attention: Any = None
    num_class_embeds: Any = None
    time_cond_proj_dim: Any = None
    time_embedding_type: Any = None
    timestep_post_act: Any = None
    upcast_attention: Any = None

    @model_validator(mode="after")
    def _fits_itself(self) -> "UNetSchema":
        widths, levels = self.block_out_channels, len(self.block_out_channels)
        for name, value in self:
            if isinstance(value, list) and len(value) != levels:
                raise ValueError(
                    f"{name} has {len(value)} entries and block_out_channels "
                    f"{levels}; both need as many"
                )
        groups, heads = self.norm_num_groups, self.attention_head_dim or 8
        flat = all(name.endswith("2D") for name in self.down_block_types)
        for i, width in enumerate(widths):
            head = heads[i] if isinstance(heads, list) else heads
            simple = any(
                names[j].startswith("Simple")
                for names, j in ((self.down_block_types, i), (self.up_block_types, levels - 1 - i))
            )
            for divisor, what in (
                (groups, "norm_num_groups"),
                (1 if flat else TEMPORAL_GROUPS, "32"),
                (head if simple else 1, "attention_head_dim"),
            ):
                if width % divisor:
                    raise ValueError(
                        f"block_out_channels has {width}, which {what} ({divisor}) does not divide"
                    )
        text = self.encoder_hid_dim or (
            self.cross_attention_dim if isinstance(self.cross_attention_dim, int) else 0
        )
        if self.addition and text % self.addition_embed_type_num_heads:
            raise ValueError(
                f"addition_embed_type_num_heads is {self.addition_embed_type_num_heads}, which "
                f"does not divide the text's width {text}"
            )
        return self


class VaeSchema(Schema):
    """vae/config.json of diffusers' AutoencoderKL."""

    in_channels: Literal[3] = 3
    out_channels: Literal[3] = 3
    latent_channels: Literal[4] = 4
    down_block_types: Annotated[
        list[Literal["DownEncoderBlock2D"]], Field(min_length=1, max_length=6)
    ] = ["DownEncoderBlock2D"]
    up_block_types: Annotated[
        list[Literal["UpDecoderBlock2D"]], Field(min_length=1, max_length=6)
    ] = ["UpDecoderBlock2D"]
    block_out_channels: Annotated[list[_whole(1, 4096)], Field(min_length=1, max_length=6)] = [64]
    layers_per_block: _whole(1, 16) = 1
    act_fn: Activation = "silu"
    norm_num_groups: _whole(1, 1024) = 32
    sample_size: _whole(1, 8192) = 32
    scaling_factor: _number(1e-4, 1e4) = 0.18215
    force_upcast: bool | None = True
    use_quant_conv: Literal[True] = True
    use_post_quant_conv: Literal[True] = True
    mid_block_add_attention: bool = True

    @model_validator(mode="after")
    def _fits_itself(self) -> "VaeSchema":
        for name in ("down_block_types", "up_block_types"):
            if len(getattr(self, name)) != len(self.block_out_channels):
                raise ValueError(
                    f"{name} has {len(getattr(self, name))} entries and block_out_channels "
                    f"{len(self.block_out_channels)}; both need as many"
                )
        for width in self.block_out_channels:
            if width % self.norm_num_groups:
                raise ValueError(
                    f"block_out_channels has {width}, which norm_num_groups "
                    f"({self.norm_num_groups}) does not divide"
                )
        return self


class SchedulerSchema(Schema):
    """scheduler_config.json of any of diffusers' schedulers that the cascade can be sampled
    with."""

    class_name: Name | None = Field(default=None, alias="_class_name")
    num_train_timesteps: _whole(2, 10_000) = 1000
    beta_start: _number(1e-9, 0.999) = 1e-4
    beta_end: _number(1e-9, 0.999) = 0.02
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"] = "linear"
    trained_betas: (
        Annotated[list[_number(1e-9, 0.999)], Field(min_length=2, max_length=10_000)] | None
    ) = None
    variance_type: (
        Literal[
            "fixed_small",
            "fixed_small_log",
            "fixed_large",
            "fixed_large_log",
            "learned",
            "learned_range",
        ]
        | None
    ) = None
    clip_sample: bool = True
    clip_sample_range: _number(1e-3, 1e3) = 1.0
    prediction_type: Literal["epsilon", "sample", "v_prediction"] = "epsilon"
    thresholding: bool = False
    dynamic_thresholding_ratio: _number(0.01, 1) = 0.995
    sample_max_value: _number(1, 1e3) = 1.0
    timestep_spacing: Literal["linspace", "leading", "trailing"] = "leading"
    steps_offset: _whole(0, 1) = 0
    set_alpha_to_one: bool = True
    rescale_betas_zero_snr: Literal[False] = False
    solver_order: _whole(1, 3) = 2
    algorithm_type: Literal[
        "dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++", "deis"
    ] = "dpmsolver++"
    solver_type: Literal["midpoint", "heun", "logrho", "bh1", "bh2"] = "midpoint"
    lower_order_final: bool = True
    euler_at_final: bool = False
    use_karras_sigmas: bool | None = False
    use_exponential_sigmas: bool | None = False
    use_beta_sigmas: bool | None = False
    use_lu_lambdas: bool | None = False
    use_flow_sigmas: Literal[False] | None = False
    use_dynamic_shifting: Literal[False] | None = False
    final_sigmas_type: Literal["zero", "sigma_min"] | None = "zero"
    lambda_min_clipped: Annotated[float, Field(le=0)] = float("-inf")
    predict_x0: bool = True
    student_steps: _whole(0, 1000) = 0  # ours: a student is sampled in so many, without guidance
    disable_corrector: Annotated[list[_whole(0, 10_000)], Field(max_length=1000)] = []

    @model_validator(mode="after")
    def _fits_itself(self) -> "SchedulerSchema":
        count = len(self.trained_betas or ())
        if count and count != self.num_train_timesteps:
            raise ValueError(
                f"trained_betas has {count} entries and num_train_timesteps is "
                f"{self.num_train_timesteps}; both need as many"
            )
        return self


class T5Schema(Schema):
    """text_encoder/config.json of a T5 encoder."""

    model_type: Literal["t5"] = "t5"
    vocab_size: _whole(1, 1_000_000) = 32128
    d_model: Width = 512
    d_kv: _whole(1, 1024) = 64
    d_ff: _whole(1, 65536) = 2048
    num_layers: _whole(1, 128) = 6
    num_heads: _whole(1, 1024) = 8
    relative_attention_num_buckets: _whole(2, 1024) = 32
    relative_attention_max_distance: _whole(2, 65536) = 128
    layer_norm_epsilon: Eps = 1e-6
    feed_forward_proj: Literal["relu", "gated-gelu", "gelu", "gated-silu", "silu"] = (
        "gated-gelu"  # v1.1's
    )
    dense_act_fn: Literal["relu", "gelu", "gelu_new", "gelu_pytorch_tanh", "silu"] = "gelu_new"
    is_gated_act: bool = True
    pad_token_id: _whole(0, 1_000_000) | None = 0
    eos_token_id: _whole(0, 1_000_000) | None = 1
    tie_word_embeddings: bool = True


class ClipSchema(Schema):
    """text_encoder/config.json of a CLIP text model."""

    model_type: Literal["clip_text_model"] = "clip_text_model"
    vocab_size: _whole(1, 1_000_000) = 49408
    hidden_size: Width = 512
    intermediate_size: _whole(1, 65536) = 2048
    num_hidden_layers: _whole(1, 128) = 12
    num_attention_heads: _whole(1, 1024) = 8
    max_position_embeddings: _whole(77, 65536) = 77
    hidden_act: Literal["quick_gelu", "gelu", "gelu_pytorch_tanh"] = "quick_gelu"
    layer_norm_eps: Eps = 1e-5
    projection_dim: Width = 512
    pad_token_id: _whole(0, 1_000_000) | None = 1
    bos_token_id: _whole(0, 1_000_000) | None = 49406
    eos_token_id: _whole(0, 1_000_000) | None = 49407

    @model_validator(mode="after")
    def _fits_itself(self) -> "ClipSchema":
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size is {self.hidden_size}, which num_attention_heads "
                f"({self.num_attention_heads}) does not divide"
            )
        return self


Token = (
    Annotated[str, Field(max_length=1000)] | Annotated[dict[str, Any], Field(max_length=20)] | None
)
Tokens = (
    Annotated[list[Token], Field(max_length=1000)]
    | Annotated[dict[str, Any], Field(max_length=1000)]
)


class TokenizerSchema(Schema):
    """tokenizer_config.json and special_tokens_map.json."""

    extra_ids: _whole(0, 1000) = 100
    additional_special_tokens: Tokens | None = None
    extra_special_tokens: Tokens | None = None
    added_tokens_decoder: Annotated[dict[str, Any], Field(max_length=2000)] = {}
    model_max_length: _number(1, 1e31) | None = None
    padding_side: Literal["left", "right"] = "right"
    truncation_side: Literal["left", "right"] = "right"
    bos_token: Token = None
    eos_token: Token = None
    unk_token: Token = None
    pad_token: Token = None
    sp_model_kwargs: Annotated[dict[str, Any], Field(max_length=20)] | None = None
    add_prefix_space: bool | None = None
    do_lower_case: bool | None = None


def complete(
    schema: type[Schema], config: Mapping[str, Any], file: Path, where: str = ""
) -> dict[str, Any]:
    """The keys of `config` that the schema knows, as they are, and the defaults of those that are
    missing.

    Raises CheckpointError naming the file, the key, the value and what is allowed.
    """
    return {**_defaults(schema), **given(schema, config, file, where=where)}


def unet_config(config: Mapping[str, Any], file: Path, where: str = "") -> dict[str, Any]:
    """`complete` for a UNet, whose classes differ in two defaults."""
    checked = complete(UNetSchema, config, file, where=where)
    blocks = checked["down_block_types"]
    latent = "transfromer_in_opt" not in config and not all(name.endswith("2D") for name in blocks)
    defaults = {"attention_head_dim": 64 if latent else 8, **_defaults(UNetSchema)}
    if "cross_attention_dim" not in config and not latent:
        checked["cross_attention_dim"] = 1280
    return {
        **checked,
        **{name: value for name, value in defaults.items() if checked.get(name) is None},
    }


def given(
    schema: type[Schema], config: Mapping[str, Any], file: Path, where: str = ""
) -> dict[str, Any]:
    """The keys of `config` that the schema knows, as they are; checked. Raises CheckpointError, see
    `complete`."""
    try:
        schema.model_validate(dict(config))
    except ValidationError as error:
        raise CheckpointError(
            f"'{file}'{where}: {said(schema, error)}. Use the file that belongs to the weights."
        ) from None
    except RecursionError:
        raise CheckpointError(
            f"'{file}'{where} is nested too deeply. Use the file that belongs to the weights."
        ) from None
    known = {field.alias or name for name, field in schema.model_fields.items()}
    return {name: value for name, value in config.items() if name in known}


def _defaults(schema: type[Schema]) -> dict[str, Any]:
    """What the class itself assumes. None stands for a key that is not there, or whose default
    depends on others."""
    return {
        field.alias or name: field.get_default()
        for name, field in schema.model_fields.items()
        if not field.is_required() and field.get_default() is not None
    }


def said(schema: type[Schema], error: ValidationError) -> str:
    """The first fault in words: "norm_eps is -1; allowed is 1e-12 to 0.1"."""
    fault = error.errors(include_url=False)[0]
    if not fault["loc"]:
        return fault["msg"].removeprefix("Value error, ")
    key = str(fault["loc"][0])
    if fault["type"] == "missing":
        return f"'{key}' is missing"
    value = fault["input"]
    place = ".".join(str(part) for part in fault["loc"][1:] if isinstance(part, int))
    whole = schema.model_json_schema(by_alias=True)
    where = f" has at {place}" if place else " is"
    return f"'{key}'{where} {value!r}; allowed is {_allowed(whole['properties'][key])}"


def _allowed(part: dict[str, Any]) -> str:
    """A JSON schema's type in words."""
    if "anyOf" in part:
        return " or ".join(_allowed(option) for option in part["anyOf"])
    if "enum" in part or "const" in part:
        return " or ".join(map(repr, part.get("enum", [part.get("const")])))
    kind = part.get("type")
    if kind in ("integer", "number"):
        name = "a whole number" if kind == "integer" else "a number"
        least, most = part.get("minimum"), part.get("maximum")
        return name + (
            f" from {least} to {most}" if None not in (least, most) else f" up to {most}"
        )
    if kind == "array":
        return (
            f"a list of {part.get('minItems', 0)} to {part.get('maxItems')} of "
            f"{_allowed(part['items'])}"
        )
    return {
        "boolean": "true or false",
        "null": "null",
        "object": f"an object of at most {part.get('maxProperties')}",
        "string": f"a text of at most {part.get('maxLength')} characters",
    }.get(kind, "something else")
