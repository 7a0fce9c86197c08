"""A pretend accelerator: ComfyUI's memory manager can be tested on a machine without a card.

Tensors "on the card" are wrappers around ordinary CPU tensors. They say `.device == cuda:0`, refuse
to be mixed with CPU tensors in one operation, as a real card does, and are counted: past the card's
capacity there is a torch.cuda.OutOfMemoryError. Values are real, so a partly offloaded model can be
compared with the same model on the CPU. Speed, streams, pinned memory and kernels are not modelled.

    with PretendGPU(capacity=200 << 20) as gpu:
        gpu.install_into_comfy()        # after `import comfy.model_management`
        ...
"""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

aten = torch.ops.aten
CARD = torch.device("cuda", 0)
# Operations that may see tensors of both devices: copies, and indices on the CPU.
CROSSING = {aten.copy_.default, aten._to_copy.default, aten.set_.source_Tensor}
INDEXING = {
    aten.index.Tensor,
    aten.index_put_.default,
    aten.index_put.default,
    aten._index_put_impl_.default,
}

_card: "PretendGPU | None" = None


class OnCard(torch.Tensor):
    """A tensor that lives on the pretend card; `inner` holds its values."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor):
        with _disable_current_modes():  # meta underneath: no device guard of a real backend runs
            shell = torch.empty_strided(
                inner.size(), inner.stride(), dtype=inner.dtype, device="meta"
            )
        tensor = torch.Tensor._make_subclass(
            cls, shell, False, dispatch_device=True, device_for_backend_keys=CARD
        )
        tensor.inner = inner
        if _card is not None:
            _card.count(inner)
        return tensor

    def __init__(self, inner: torch.Tensor):
        pass

    def __repr__(self, *_, **__):
        return f"OnCard({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        """What asks for the backend's device guard before any dispatch (a build without CUDA has
        none).
        """
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and isinstance(
            args[0], OnCard
        ):
            result = func(*mapped(inner_of, args))
            return None if result is None else OnCard(result)
        func = {torch.Tensor.contiguous: aten.contiguous, torch.Tensor.copy_: aten.copy_}.get(
            func, func
        )
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})


def tensors_in(x):
    """All tensors in nested tuples, lists and dicts (torch's own pytree is several times
    slower).
    """
    if isinstance(x, torch.Tensor):
        yield x
    elif isinstance(x, (tuple, list, dict)):
        for item in x.values() if isinstance(x, dict) else x:
            yield from tensors_in(item)


def mapped(change, x):
    """The same nest with every tensor changed."""
    if isinstance(x, torch.Tensor):
        return change(x)
    if isinstance(x, dict):
        return {key: mapped(change, value) for key, value in x.items()}
    return type(x)([mapped(change, item) for item in x]) if type(x) in (tuple, list) else x


def on_card(device) -> bool | None:
    return None if device is None else torch.device(device).type == CARD.type


def inner_of(x):
    return x.inner if isinstance(x, OnCard) else x


def convert(func, args, kwargs):
    """Tensor.to() in all its forms."""
    given = dict(zip([a.name for a in func._schema.arguments], args), **kwargs)
    source, other = given["self"], given.get("other")
    dtype = other.dtype if other is not None else given.get("dtype")
    wanted = on_card(other.device if other is not None else given.get("device"))
    target = isinstance(source, OnCard) if wanted is None else wanted
    if (
        target == isinstance(source, OnCard)
        and dtype in (None, source.dtype)
        and not given.get("copy")
    ):
        return source
    result = inner_of(source).to(dtype=dtype or source.dtype, copy=True)
    return OnCard(result) if target else result


def refuse_mixed(func, args, tensors) -> None:
    for tensor in tensors:
        if (
            isinstance(tensor, OnCard)
            or tensor.dim() == 0
            or (func in INDEXING and tensor is not args[0])
        ):
            continue
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, "
            f"{CARD} and {tensor.device}! (in {func})"
        )


def dispatch(func, args, kwargs):
    """Run an operation on the inner tensors; the result is on the card if an input is, or if it is
    asked for.
    """
    constant = {
        torch.ops.prim.device.default: CARD,
        aten._has_compatible_shallow_copy_type.default: False,
        aten._fused_sdp_choice.default: 0,
        aten.is_pinned.default: False,
    }
    if func in constant:
        return constant[func]
    if func.overloadpacket is aten.to:  # reaches us undecomposed under inference mode
        return convert(func, args, kwargs)
    tensors = [*tensors_in((args, kwargs))]
    ours = [x for x in tensors if isinstance(x, OnCard)]
    wanted = on_card(kwargs.get("device"))
    if ours and func not in CROSSING:
        refuse_mixed(func, args, tensors)
    inner_args, inner_kwargs = mapped(inner_of, args), mapped(inner_of, kwargs)
    if wanted:
        inner_kwargs |= {"device": torch.device("cpu")} | (
            {"pin_memory": False} if "pin_memory" in kwargs else {}
        )
    if func is aten.copy_.default:
        inner_args[0].copy_(inner_args[1])
        return args[0]
    if func is aten._to_copy.default:
        target = isinstance(args[0], OnCard) if wanted is None else wanted
    else:
        target = bool(ours) if wanted is None else wanted
    known = {id(x.inner): x for x in ours}  # an operation in place gives its input back

    def wrap(x):
        return known[id(x)] if id(x) in known else OnCard(x) if target else x

    return mapped(wrap, func(*inner_args, **inner_kwargs))


class CardGenerator(torch.Generator):
    """A generator "on the card" is a CPU generator."""

    def __new__(cls, device="cpu"):
        return super().__new__(cls, "cpu" if on_card(device) else device)


class PretendGPU(TorchDispatchMode):
    def __init__(self, capacity: int = 80 << 30):
        super().__init__()
        self.capacity, self.live = capacity, 0  # bytes; `live` are on the card now
        self._holders: dict[int, int] = {}  # storage -> tensors that share it
        self._undo = []

    def count(self, inner: torch.Tensor) -> None:
        storage = inner.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._holders:
            if self.live + size > self.capacity:
                raise torch.cuda.OutOfMemoryError(
                    f"CUDA out of memory (pretend card of {self.capacity} bytes)"
                )
            self.live += size
        self._holders[key] = self._holders.get(key, 0) + 1
        weakref.finalize(inner, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._holders[key] -= 1
        if not self._holders[key]:
            del self._holders[key]
            self.live -= size

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        ours = any(isinstance(x, OnCard) for x in tensors_in((args, kwargs)))
        if ours or func.overloadpacket is aten.to or on_card(kwargs.get("device")):
            return dispatch(func, args, kwargs)
        return func(*args, **kwargs)

    def __enter__(self):
        global _card
        _card = self
        self._set(torch.cuda, "_lazy_init", lambda: None)
        self._set(torch.cuda, "synchronize", lambda device=None: None)
        self._set(torch, "Generator", CardGenerator)
        # a guard that does nothing, as torch's own FakeTensorMode uses
        torch._C._ensureCUDADeviceGuardSet()
        lift = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        self._undo.append(lambda: torch._C._set_only_lift_cpu_tensors(lift))
        self._let_parameters_move()
        return super().__enter__()

    def __exit__(self, *error):
        global _card
        result = super().__exit__(*error)
        while self._undo:
            self._undo.pop()()
        _card = None
        return result

    def _set(self, owner, name: str, value) -> None:
        old = getattr(owner, name)
        setattr(owner, name, value)
        self._undo.append(lambda: setattr(owner, name, old))

    def _let_parameters_move(self) -> None:
        """A plain Parameter cannot become a wrapper: Module.to() and `.data = ` replace the object
        here.
        """

        def apply(module, move, recurse=True):
            for child in module.children() if recurse else ():
                child._apply(move)
            for name, parameter in module._parameters.items():
                with torch.no_grad():
                    moved = None if parameter is None else move(parameter)
                if moved is not parameter:
                    module._parameters[name] = torch.nn.Parameter(moved, requires_grad=False)
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else move(buffer)
            return module

        plain = torch.Tensor.data

        def set_data(parameter, value):
            if isinstance(parameter, OnCard) or isinstance(value, OnCard):
                torch.utils.swap_tensors(parameter, torch.nn.Parameter(value, requires_grad=False))
            else:
                plain.__set__(parameter, value)

        self._set(torch.nn.Module, "_apply", apply)
        data = property(lambda parameter: plain.__get__(parameter), set_data)
        for owner in (torch.nn.Parameter, OnCard):
            self._set(owner, "data", data)

    def install_into_comfy(self, reserve: int) -> None:
        """Point ComfyUI's memory manager at the card, with `reserve` bytes kept free instead of its
        1.2 GB.
        """
        import comfy.model_management as mm

        def free_memory(device=None, torch_free_too=False):
            free = (
                64 << 30
                if device is not None and mm.is_device_cpu(device)
                else self.capacity - self.live
            )
            return (free, 0) if torch_free_too else free

        def total_memory(device=None, torch_total_too=False):
            return (self.capacity, self.capacity) if torch_total_too else self.capacity

        for name, value in {
            "cpu_state": mm.CPUState.GPU,
            "vram_state": mm.VRAMState.NORMAL_VRAM,
            "set_vram_to": mm.VRAMState.NORMAL_VRAM,
            "total_vram": self.capacity / (1 << 20),
            "get_torch_device": lambda: CARD,
            "get_free_memory": free_memory,
            "get_total_memory": total_memory,
            "soft_empty_cache": lambda force=False: None,
            "should_use_fp16": lambda *a, **k: True,
            "should_use_bf16": lambda *a, **k: True,
            "minimum_inference_memory": lambda: reserve,
            "extra_reserved_memory": lambda: 0,
        }.items():
            self._set(mm, name, value)
        for name in ("synchronize", "discard_cuda_async_error", "reset_cast_buffers"):
            if hasattr(mm, name):
                self._set(mm, name, lambda *a, **k: None)
