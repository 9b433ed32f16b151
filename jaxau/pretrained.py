"""Weights of public PyTorch networks as checkpoints of jaxau.

What a file must hold follows from the network itself: every parameter and statistic has one public name and
one shape. A file that lacks any, or has others, is refused with all that is wrong. Only the counters
``num_batches_tracked`` have no counterpart.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxau import checkpoint, torch_files
from jaxau.models import aar, aunet
from jaxau.models.fan import FAN
from jaxau.models.inception_resnet import InceptionResNet
from jaxau.models.label_vae import LabelVAE
from jaxau.models.repvgg import RepVGG
from jaxau.models.resnet import Block, ResNet
from jaxau.models.vgg import VGG16

State = Mapping[str, np.ndarray]


class Kind(NamedTuple):
    """How one public file becomes variables.

    Attributes:
      about: the network and whose code names its parameters.
      expected: variables (shapes only) of the network; sizes that vary between files, such as the number of
        classes, are taken from the file.
      names: (pattern, replacement) in order, from our paths, with dots, to public ones. A ``{}`` that
        remains stands for the number of a branch, over which our parameters are stacked.
      order: public names in the file's order, where the file may have other names.
      covers: the part of jaxau's network that the file has, where it is not the whole.
    """

    about: str
    expected: Callable[[State], Any]
    names: tuple[tuple[str, str], ...] = ()
    order: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()


def import_weights(kind: str, file: Path, out: Path, licence: str | None = None) -> dict[str, Any]:
    """Write a checkpoint with the weights of ``file``, for ``config.weights``.

    Args:
      kind: one of `KINDS`.
      file: of ``torch.save``, or safetensors.
      out: a new or empty folder.
      licence: what the file's owner allows; not known to jaxau.

    Returns:
      What model.json says.

    Raises:
      ValueError: unknown kind, unreadable file, or one that does not fit: all that is wrong.
    """
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r}: unknown, choose from {', '.join(KINDS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {out}: exists and is not empty; give a new folder")
    if licence is not None and not licence.strip():
        raise ValueError("--licence: empty; say what the file's owner allows, or leave it out")
    state = torch_files.read(file)
    try:
        variables = convert(kind, state)
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from None
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    info: dict[str, Any] = {
        "kind": kind,
        "network": KINDS[kind].about,
        "source": file.name,
        "sha256": digest.hexdigest(),
        "licence": licence,
        "parameters": parameters,
        "statement": f"{kind}: {parameters:,} parameters imported from {file.name}, "
        + (f"licence: {licence}" if licence else "licence not stated (--licence)"),
    }
    if KINDS[kind].covers:
        info["covers"] = list(KINDS[kind].covers)
    checkpoint.save_model(out, variables, info)
    return checkpoint.read_info(out)


def convert(kind: str, state: State) -> dict[str, Any]:
    """A PyTorch state dict as float32 variables of jaxau's network, by collection.

    Raises:
      ValueError: every name and shape that differs, every value that is no finite real number.
    """
    how = KINDS[kind]
    state = {n: a for n, a in state.items() if n.rsplit(".", 1)[-1] != "num_batches_tracked"}
    if how.order and not set(state) & set(how.order):
        state = _by_position(how, state)
    _refuse_caffe(kind, state)
    expected = how.expected(state)
    problems: list[str] = []
    used: set[str] = set()

    def value(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        *module, name = [str(key.key) for key in path[1:]]
        public = ".".join([*module, _LEAVES[name]])
        for pattern, replacement in how.names:
            public = re.sub(pattern, replacement, public)
        stacked = "{}" in public
        one = leaf.shape[1:] if stacked else leaf.shape
        axes = {4: (2, 3, 1, 0), 2: (1, 0)}[len(one)] if name == "kernel" else tuple(range(len(one)))
        parts = []
        for each in [public.format(i) for i in range(leaf.shape[0])] if stacked else [public]:
            used.add(each)
            problems.extend(_problems(each, state, tuple(one[axes.index(i)] for i in range(len(one)))))
            if not problems:
                parts.append(state[each].transpose(axes).astype(np.float32))
        return (np.stack(parts) if stacked else parts[0]) if not problems else np.empty(0)

    variables = jax.tree_util.tree_map_with_path(value, expected)
    problems += [f"unexpected {name}, {_shape(array)}" for name, array in state.items() if name not in used]
    if problems:
        raise ValueError(
            f"no file of {how.about} ({len(problems)} differences; another kind of: {', '.join(KINDS)}?)\n  "
            + "\n  ".join(problems)
        )
    return dict(variables)


_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def _problems(name: str, state: State, shape: tuple[int, ...]) -> Iterator[str]:
    if name not in state:
        yield f"missing {name}, {shape}"
    elif state[name].shape != shape:
        yield f"{name} has shape {state[name].shape}, not {shape}"
    elif not jnp.issubdtype(state[name].dtype, jnp.floating):
        yield f"{name} holds {state[name].dtype}, not real numbers"
    elif not np.isfinite(state[name]).all():
        yield f"{name} holds numbers that are not finite"


def _shape(array: np.ndarray) -> str:
    return str(array.shape)


def _by_position(how: Kind, state: State) -> State:
    """Public names for those of the file, whose order and last parts must agree."""
    # Counters may have any name, too.
    state = {n: a for n, a in state.items() if a.ndim or jnp.issubdtype(a.dtype, jnp.floating)}
    pairs = zip_longest(state, how.order, fillvalue="nothing")
    differ = [(a, b) for a, b in pairs if a.rsplit(".", 1)[-1] != b.rsplit(".", 1)[-1]]
    if differ:
        raise ValueError(
            f"no file of {how.about}: its names are others, and in their order its {len(state)} parameters "
            f"are not the {len(how.order)} expected ({len(differ)} differences):\n  "
            + "\n  ".join(f"{a} in the place of {b}" for a, b in differ)
        )
    return dict(zip(how.order, state.values(), strict=True))


def _refuse_caffe(kind: str, state: State) -> None:
    """Ports of Caffe's VGGFace2 ResNets differ in nothing but where the stride is, and the classes."""
    if kind.startswith("resnet") and "fc.bias" in state and state["fc.bias"].shape == (8631,):
        raise ValueError(
            "a classifier of the 8631 people of VGGFace2: such ResNets come from Caffe and have the stride "
            "on their first 1x1 convolution, so they are other networks with the same names; if this one has "
            "it on the 3x3 convolution, remove fc.weight and fc.bias from the file"
        )


def _classes(state: State, head: str) -> int:
    """Outputs of a file's classifier, 0 without."""
    found = [array for name, array in state.items() if name.startswith(f"{head}.") and array.ndim]
    return found[0].shape[0] if found else 0


def _size(state: State, name: str, axis: int, otherwise: int) -> int:
    """A size that varies between files; what the public network has where the file does not say it."""
    return state[name].shape[axis] if name in state and state[name].ndim > axis else otherwise


def _abstract(network: nn.Module, *shapes: tuple[int, ...], **options: Any) -> Any:
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.eval_shape(lambda *given: network.init(jax.random.key(0), *given, **options), *inputs)


def _resnet(block: Block, sizes: tuple[int, ...]) -> Callable[[State], Any]:
    def expected(state: State) -> Any:
        network = ResNet(block, sizes, classes=_classes(state, "fc"))
        return _abstract(network, (1, 224, 224, 3), use_running_average=True)

    return expected


def _vgg(state: State) -> Any:
    classes = _size(state, "classifier.6.bias", 0, 1000) if _classes(state, "classifier") else 0
    return _abstract(VGG16(classes), (1, 224, 224, 3), train=False)


def _inception(state: State) -> Any:
    return _abstract(InceptionResNet(classes=_classes(state, "logits")), (1, 160, 160, 3), train=False)


def _repvgg(state: State) -> Any:
    deployed = any(".rbr_reparam." in name for name in state)
    return _abstract(RepVGG(deployed, _classes(state, "linear")), (1, 224, 224, 3), train=False)


def _fan(state: State) -> Any:
    names = {name.split(".")[0] for name in state}
    hourglasses = next(i for i in range(1, 9) if f"m{i}" not in names or i == 8)
    return _abstract(FAN(hourglasses, points=_size(state, "l0.weight", 0, 68)), (1, 256, 256, 3))


def _head(motion: bool) -> Callable[[State], Any]:
    def expected(state: State) -> Any:
        head = aunet.Head(_size(state, "predictor.3.bias", 0, 12), 256, 0.9, 0.1, jnp.float32)
        if motion:
            return _abstract(head, (1, 64, 64, 768), (1, 64, 64, 1536), train=False)
        return _abstract(head, (1, 64, 64, 768), motion=None, train=False)

    return expected


def _label_vae(state: State) -> Any:
    return _abstract(LabelVAE(_size(state, "fc1.weight", 0, 8)), (1, _size(state, "fc1.weight", 1, 12)))


def _regions(state: State) -> Any:
    first = _abstract(aar.RegionLayer(32, jnp.float32), (1, 176, 176, 3), train=False)
    second = _abstract(aar.RegionLayer(64, jnp.float32), (1, 88, 88, 32), train=False)
    return {name: {"region1": first[name], "region2": second[name]} for name in first}


def _head_order(blocks: tuple[str, ...], last: tuple[str, ...]) -> tuple[str, ...]:
    """Names of AU-Net's predictor in the order in which its modules are made."""
    norm, layer = ("weight", "bias", "running_mean", "running_var"), ("weight", "bias")
    parts: list[tuple[str, tuple[str, ...]]] = [("conv1x1", layer)]
    for block in blocks:
        for i in (1, 2, 3):
            parts += [(f"{block}.bn{i}", norm), (f"{block}.conv{i}", ("weight",))]
    parts += [("predictor.0", layer), ("predictor.1", norm), ("predictor.3", layer)]
    parts += [(name, layer) for name in last]
    return tuple(f"{name}.{leaf}" for name, leaves in parts for leaf in leaves)


_BLOCKS = (
    (r"^(layer\d)_", r"\1."),
    (r"downsample_conv\.", "downsample.0."),
    (r"downsample_bn\.", "downsample.1."),
)
_PREDICTOR = (r"^predictor_", "predictor.")

KINDS: dict[str, Kind] = {
    "resnet18": Kind("torchvision's resnet18", _resnet("basic", (2, 2, 2, 2)), _BLOCKS),
    "resnet34": Kind("torchvision's resnet34", _resnet("basic", (3, 4, 6, 3)), _BLOCKS),
    "resnet50": Kind("torchvision's resnet50", _resnet("bottleneck", (3, 4, 6, 3)), _BLOCKS),
    "vgg16": Kind("torchvision's vgg16", _vgg, ((r"^(features|classifier)_", r"\1."),)),
    "inception_resnet_v1": Kind(
        "facenet-pytorch's InceptionResnetV1",
        _inception,
        ((r"^(repeat_\d)_", r"\1."), (r"(branch\d)_", r"\1.")),
    ),
    "repvgg_a2": Kind(
        "RepVGG-A2",
        _repvgg,
        ((r"^(stage\d)_", r"\1."), (r"rbr_(dense|1x1)_", r"rbr_\1.")),
    ),
    "fan": Kind(
        "FAN (ibug's or its authors')",
        _fan,
        ((r"downsample_bn\.", "downsample.0."), (r"downsample_conv\.", "downsample.2.")),
    ),
    "aunet": Kind(
        "AU-Net's predictor with neighbour frames",
        _head(motion=True),
        ((r"^convnet_(1|diff)\.", r"ConvNet_\1.0."), (r"^convnet_2_", "ConvNet_2."), _PREDICTOR),
        _head_order(
            ("ConvNet_1.0", "ConvNet_diff.0", "ConvNet_2.0", "ConvNet_2.2", "ConvNet_2.4"), ("conv1x1_diff",)
        ),
    ),
    "aufan": Kind(
        "AU-Net's predictor of single frames",
        _head(motion=False),
        ((r"^convnet_", "ConvNet."), _PREDICTOR),
        _head_order(("ConvNet.0", "ConvNet.2", "ConvNet.4", "ConvNet.6"), ()),
    ),
    "aunet_vae": Kind("AU-Net's auto-encoder of labels", _label_vae),
    "jaanet": Kind(
        "JAA-Net's region learning",
        _regions,
        (
            (r"^region1\.", "multiscale_feat.0."),
            (r"^region2\.", "multiscale_feat.2."),
            (r"\.patches8\.", ".local_conv_branch1."),
            (r"\.patches4\.", ".local_conv_branch2."),
            (r"\.patches2\.", ".local_conv_branch3."),
            (r"(branch\d)\.norm\.norm\.", r"\1.bns.{}."),
            (r"(branch\d)\.conv\.", r"\1.convs.{}."),
            (r"\.norm\.", ".bn."),
        ),
        covers=("region1", "region2"),
    ),
}
