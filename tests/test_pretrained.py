"""`jaxau import-weights`: public files give the public networks' outputs, others are refused in full."""

import hashlib
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from public_weights import channels_last, check_outputs, golden_state, observe, write
from safetensors.numpy import load_file, save_file

from jaxau import checkpoint, cli, pretrained, weights
from jaxau.models import aar, aunet
from jaxau.models.fan import FAN, assemble
from jaxau.models.inception_resnet import InceptionResNet
from jaxau.models.label_vae import LabelVAE
from jaxau.models.repvgg import RepVGG, deploy
from jaxau.models.resnet import ResNet
from jaxau.models.vgg import VGG16


@pytest.fixture
def imported(golden, tmp_path):
    """``imported(name, kind, form, change)`` -> variables, through a file and the command, and inputs."""

    def run(name, kind, form, rename=lambda n: n, wrap=lambda tree: tree):
        state, inputs = golden_state(golden, name)
        file = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth.tar")
        write(file, {rename(n): array for n, array in state.items()}, form, wrap)
        assert cli.main(["import-weights", kind, str(file), "--out", str(tmp_path / "out")]) == 0
        variables, _ = checkpoint.load_variables(tmp_path / "out")
        return variables, inputs

    return run


def data_parallel(name):
    return f"module.{name}"


@pytest.mark.parametrize(
    ("name", "network", "form"),
    [
        ("resnet18", ResNet("basic", (2, 2, 2, 2), classes=1000), "legacy"),
        ("resnet50", ResNet("bottleneck", (3, 4, 6, 3), classes=1000), "zip"),
    ],
)
def test_resnet(golden, imported, name, network, form):
    variables, inputs = imported(
        name, name, form, data_parallel, lambda tree: {"epoch": 3, "state_dict": tree}
    )
    came, went = observe(network, variables, channels_last(inputs["x"]), use_running_average=True)
    last = {f"layer{i}": size - 1 for i, size in enumerate(network.stage_sizes, start=1)}
    got = {key: went[key] for key in ("conv1", "bn1")}
    got |= {f"{layer}.0": went[f"{layer}_0"] for layer in ("layer1", "layer2", "layer4")}
    got |= {layer: went[f"{layer}_{index}"] for layer, index in last.items()}
    got |= {"maxpool": came["layer1_0"], "avgpool": came["fc"][:, None, None], "logits": went["fc"]}
    if name == "resnet50":
        inner = {"bn1": "bn1", "bn3": "bn3", "downsample": "downsample_bn"}
        got |= {f"layer1.0.{public}": went[f"layer1_0.{ours}"] for public, ours in inner.items()}
    check_outputs(golden, name, got)


@pytest.mark.slow  # 138 million parameters
def test_vgg16(golden, imported):
    variables, inputs = imported("vgg16", "vgg16", "safetensors")
    came, went = observe(VGG16(classes=1000), variables, channels_last(inputs["x"]), train=False)
    got = {"features.0": went["features_0"]}
    got |= {f"features.{i}": came[f"features_{i + 1}"] for i in (4, 9, 16, 23)}
    pooled = came["classifier_0"].reshape(1, 512, 7, 7).transpose(0, 2, 3, 1)
    got |= {"features.30": pooled, "avgpool": pooled, "logits": went["classifier_6"]}
    got |= {f"classifier.{i}": went[f"classifier_{i}"] for i in (0, 3)}
    check_outputs(golden, "vgg16", got)


def test_inception_resnet(golden, imported):
    variables, inputs = imported("inception_resnet_v1", "inception_resnet_v1", "legacy")
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 23_482_624
    came, went = observe(InceptionResNet(), variables, channels_last(inputs["x"]), train=False)
    same = ("1a", "2a", "2b", "3b", "4a", "4b")
    got = {f"conv2d_{key}": went[f"conv2d_{key}"] for key in same} | {"maxpool_3a": came["conv2d_3b"]}
    got |= {f"repeat_{i}.0": went[f"repeat_{i}_0"] for i in (1, 2, 3)}
    got |= {"repeat_1": went[""]["repeat_1"], "repeat_2": went[""]["repeat_2"], "repeat_3": came["block8"]}
    got |= {"mixed_6a.branch0": went["mixed_6a.branch0"], "mixed_6a.branch1": went["mixed_6a.branch1_2"]}
    got |= {"repeat_2.0.branch1": went["repeat_2_0.branch1_2"]}
    got |= {key: went[key] for key in ("mixed_6a", "mixed_7a", "block8", "last_linear", "last_bn")}
    embedding = went[""]["embedding"]
    got |= {"avgpool_1a": went[""]["pooled"][:, None, None]}
    got |= {"embedding": embedding / np.linalg.norm(embedding, axis=1, keepdims=True)}
    check_outputs(golden, "inception_resnet_v1", got)


def test_fan(golden, imported):
    variables, inputs = imported("fan_2dfan2", "fan", "zip")
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 12_106_504
    _, went = observe(FAN(), variables, channels_last(inputs["x"]) * 255)
    got = {key: went[key] for key in golden("fan_2dfan2")[1]["outputs"] if key in went}
    outputs = went[""]
    got |= {f"hourglass_feature_{i}": outputs["hourglass"][..., 256 * i : 256 * (i + 1)] for i in (0, 1)}
    got |= {f"heatmaps_{i}": outputs["heatmaps"][:, i] for i in (0, 1)}
    check_outputs(golden, "fan_2dfan2", got | {"features": assemble(outputs)})


def pooled(x):
    return nn.max_pool(x, (2, 2), (2, 2))


def test_aunet_predictor_by_position(golden, imported):
    """Other names in the public order, as a file of the authors may have."""
    variables, inputs = imported("aunet_predictor", "aunet", "zip", lambda n: f"net.part_{n}")
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 2_657_036
    frames = jnp.stack([channels_last(inputs[key]) for key in ("x_minus", "x", "x_plus")], 1)
    x, motion = aunet.difference(frames.reshape(-1, *frames.shape[2:]))
    head = partial(aunet.Head, 12, 256, dtype=jnp.float32)
    came, went = observe(head(alpha=0.9, beta=0.1), variables, x, motion, train=False)
    half = head(alpha=0.5, beta=0.5).apply(variables, x, motion, train=False)
    got = {"avg_diff": came["conv1x1_diff"], "logits": went[""], "logits_alpha_beta_half": half}
    got |= {key: went[key] for key in ("conv1x1", "conv1x1_diff")}
    got |= {f"predictor.{i}": went[f"predictor_{i}"] for i in (0, 1)}
    got |= {"input_of_ConvNet_1": came["convnet_1"], "input_of_ConvNet_2": came["convnet_2_0"]}
    got |= {f"ConvNet_{of}": pooled(went[f"convnet_{of}"]) for of in ("1", "diff")}
    check_outputs(golden, "aunet_predictor", got | {"ConvNet_2": pooled(went["convnet_2_4"])})


def test_aufan_predictor(golden, imported):
    variables, inputs = imported("aufan_predictor", "aufan", "safetensors")
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 1_857_164
    head = aunet.Head(12, 256, 0.9, 0.1, jnp.float32)
    came, went = observe(head, variables, channels_last(inputs["x"]), motion=None, train=False)
    got = {"conv1x1": went["conv1x1"], "ConvNet.0": went["convnet_0"], "ConvNet.1": came["convnet_2"]}
    got |= {"ConvNet": pooled(went["convnet_6"]), "avg_pool": came["predictor_0"][:, None, None]}
    got |= {f"predictor.{i}": went[f"predictor_{i}"] for i in (0, 1)}
    check_outputs(golden, "aufan_predictor", got | {"logits": went["predictor_3"]})


@pytest.mark.parametrize(("corpus", "latent"), [("bp4d", 8), ("disfa", 6)])
def test_aunet_vae(golden, imported, corpus, latent):
    name = f"aunet_vae_{corpus}"
    variables, inputs = imported(name, "aunet_vae", "zip")
    labels, network = inputs["labels"], LabelVAE(latent)
    of_labels = network.apply(variables, labels)
    of_logits = network.apply(variables, nn.sigmoid(inputs["logits"]))
    std, own = (jnp.exp(found["log_variance"] / 2) for found in (of_labels, of_logits))
    mean = of_labels["mean"]
    logits = network.apply(variables, labels, inputs["epsilon"])["decoded"]
    softplus = jnp.log1p(jnp.exp(-jnp.abs(logits))) + jnp.maximum(logits, 0)
    got = {
        "labels_mu": mean,
        "labels_logvar": of_labels["log_variance"],
        "labels_std": std,
        "decoded_mu": of_labels["decoded"],
        "decoded_sample": logits,
        "bce_sum": (softplus - logits * labels).sum(),
        "kl_sum": (std**2 + mean**2 - 1 - of_labels["log_variance"]).sum() / 2,
        "prediction_mu": of_logits["mean"],
        "prediction_std": own,
        "consistency_mean": ((of_logits["mean"] - mean) ** 2).mean(),
        "consistency_std_released": own.mean(),
        "consistency_std_paper_form": ((own - std) ** 2).mean(),
    }
    check_outputs(golden, name, got)


def test_jaanet_region_learning(golden, imported):
    name = "jaanet_region_learning"
    variables, inputs = imported(name, "jaanet", "zip", wrap=lambda tree: {"state_dict": tree})
    x, got = channels_last(inputs["x"]), {}
    for region, at, features in (("region1", 0, 32), ("region2", 2, 64)):
        own = {collection: variables[collection][region] for collection in variables}
        _, went = observe(aar.RegionLayer(features, jnp.float32), own, x, train=False)
        got |= {f"multiscale_feat.{at}": went[""], f"multiscale_feat.{at}.conv": went["conv"]}
        for branch, grid in enumerate((8, 4, 2), start=1):
            got[f"multiscale_feat.{at}.local_conv_branch{branch}"] = went[f"patches{grid}"]
        x = got[f"multiscale_feat.{at + 1}"] = np.asarray(pooled(went[""]))
    check_outputs(golden, name, got)


def repvgg_state():
    """RepVGG-A2 by its public names, with every value at random."""
    random, state = np.random.default_rng(0), {}

    def norm(name, features):
        state[f"{name}.weight"] = random.uniform(0.5, 1.5, features)
        state[f"{name}.bias"] = random.normal(size=features) * 0.1
        state[f"{name}.running_mean"] = random.normal(size=features) * 0.1
        state[f"{name}.running_var"] = random.uniform(0.5, 1.5, features)
        state[f"{name}.num_batches_tracked"] = np.array(5)

    inputs = 3
    for stage, (blocks, features) in enumerate([(1, 64), (2, 96), (4, 192), (14, 384), (1, 1408)]):
        for index in range(blocks):
            name = f"stage{stage}.{index}" if stage else "stage0"
            if inputs == features:
                norm(f"{name}.rbr_identity", features)
            for branch, side in (("rbr_dense", 3), ("rbr_1x1", 1)):
                shape = (features, inputs, side, side)
                state[f"{name}.{branch}.conv.weight"] = random.normal(size=shape) * (inputs * side**2) ** -0.5
                norm(f"{name}.{branch}.bn", features)
            inputs = features
    state["linear.weight"], state["linear.bias"] = random.normal(size=(10, 1408)), random.normal(size=10)
    return {name: array if array.ndim == 0 else array.astype(np.float32) for name, array in state.items()}


def repvgg_in_torch(torch, state, x):
    """The blocks in float64, straight from the names."""
    state = {name: torch.from_numpy(np.asarray(array)).double() for name, array in state.items()}
    functional = torch.nn.functional

    def norm(name, y):
        of = [state[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(y, *of, eps=1e-5)

    for name in dict.fromkeys(key.split(".rbr")[0] for key in state if ".rbr" in key):
        stride = 2 if name == "stage0" or name.endswith(".0") else 1
        y = 0
        for branch, padding in (("rbr_dense", 1), ("rbr_1x1", 0)):
            kernel = state[f"{name}.{branch}.conv.weight"]
            y = y + norm(f"{name}.{branch}.bn", functional.conv2d(x, kernel, None, stride, padding))
        if f"{name}.rbr_identity.weight" in state:
            y = y + norm(f"{name}.rbr_identity", x)
        x = y.relu()
    return x, x.mean((2, 3)) @ state["linear.weight"].T + state["linear.bias"]


def test_repvgg_as_trained_and_deployed(tmp_path):
    torch = pytest.importorskip("torch")
    state = repvgg_state()
    write(tmp_path / "f.pth", state, "zip")
    pretrained.import_weights("repvgg_a2", tmp_path / "f.pth", tmp_path / "out")
    variables, _ = checkpoint.load_variables(tmp_path / "out")
    x = np.random.default_rng(1).normal(size=(2, 3, 64, 64)).astype(np.float32)
    want, logits = repvgg_in_torch(torch, state, torch.from_numpy(x).double())
    _, went = observe(RepVGG(classes=10), variables, channels_last(x), train=False)
    want = channels_last(want.numpy())
    np.testing.assert_allclose(went["stage4_0"], want, rtol=0, atol=1e-5 * np.abs(want).max())
    np.testing.assert_allclose(went[""], logits.numpy(), rtol=0, atol=1e-5 * np.abs(logits.numpy()).max())
    once = deploy(variables)
    assert sum(leaf.size for leaf in jax.tree.leaves(once)) == 25_499_944 - 990 * 1409
    got = jax.jit(partial(RepVGG(deployed=True, classes=10).apply, train=False))(once, channels_last(x))
    np.testing.assert_allclose(got, went[""], rtol=0, atol=1e-5 * np.abs(went[""]).max())


def parameters(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_resnet34_and_other_depths_of_fan(golden):
    """Names as torchvision's and the FAN authors' networks have them; counts are the published ones."""
    state = {
        "conv1.weight": (64, 3, 7, 7),
        **batch_norm("bn1", 64),
        "fc.weight": (1000, 512),
        "fc.bias": (1000,),
    }
    inputs = 64
    for stage, (blocks, width) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)], start=1):
        for index in range(blocks):
            name = f"layer{stage}.{index}"
            state |= {
                f"{name}.conv1.weight": (width, inputs, 3, 3),
                f"{name}.conv2.weight": (width, width, 3, 3),
            }
            state |= batch_norm(f"{name}.bn1", width) | batch_norm(f"{name}.bn2", width)
            if inputs != width:
                state[f"{name}.downsample.0.weight"] = (width, inputs, 1, 1)
                state |= batch_norm(f"{name}.downsample.1", width)
            inputs = width
    state = {name: np.zeros(shape, np.float16) for name, shape in state.items()}
    assert parameters(pretrained.convert("resnet34", state)) == 21_797_672

    two, state = golden_state(golden, "fan_2dfan2")[0], {}
    for name, array in two.items():
        state[name] = array
        for late in (
            (2, 3) if name.split(".")[0].endswith("1") and not name.startswith(("conv1.", "bn1.")) else ()
        ):
            first, rest = name.split(".", 1)
            state[f"{first[:-1]}{late}.{rest}"] = array
    state |= {
        f"{layer}{i}.{leaf}": two[f"{layer}0.{leaf}"]
        for layer in ("bl", "al")
        for i in (1, 2)
        for leaf in ("weight", "bias")
    }
    found = pretrained.convert("fan", state)
    assert {"m3", "al2", "l3"} <= set(found["params"]) and "al3" not in found["params"]
    assert round(parameters(found) / 1e6, 2) == 23.82


def batch_norm(name, features):
    return {f"{name}.{leaf}": (features,) for leaf in ("weight", "bias", "running_mean", "running_var")}


@pytest.fixture(scope="module")
def vae(golden, tmp_path_factory) -> Path:
    """A small public file."""
    file = tmp_path_factory.mktemp("public") / "vae.safetensors"
    write(file, golden_state(golden, "aunet_vae_bp4d")[0], "safetensors")
    return file


def test_all_that_is_wrong_is_listed_and_nothing_is_written(vae, tmp_path, capsys):
    state = load_file(vae)
    del state["fc22.bias"], state["fc3.weight"]
    state["fc21.weight"] = state["fc21.weight"][:, :5]
    state["fc4.bias"] = state["fc4.bias"].astype(np.int32)
    state["fc3.bias"] = np.full_like(state["fc3.bias"], np.nan)
    state["fc5.bias"] = np.zeros(3, np.float32)
    save_file({name: np.ascontiguousarray(array) for name, array in state.items()}, tmp_path / "f")
    assert cli.main(["import-weights", "aunet_vae", str(tmp_path / "f"), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    for problem in (
        "f: no file of AU-Net's auto-encoder of labels (6 differences",
        "missing fc22.bias, (8,)",
        "missing fc3.weight, (8, 8)",
        "fc21.weight has shape (8, 5), not (8, 8)",
        "fc4.bias holds int32",
        "fc3.bias holds numbers that are not finite",
        "unexpected fc5.bias, (3,)",
    ):
        assert problem in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [kind for kind in pretrained.KINDS if kind != "aunet_vae"])
def test_a_file_of_another_network_lists_all_of_both(vae, kind):
    state = load_file(vae)
    with pytest.raises(ValueError, match="no file of") as error:
        pretrained.convert(kind, state)
    if kind in ("aunet", "aufan"):
        assert "are not the" in str(error.value)
        return
    assert all(f"unexpected {name}" in str(error.value) for name in state)
    assert str(error.value).count("missing ") > 20


def test_by_position_the_kinds_of_parameters_must_agree(golden):
    """A file sorted by name has other parameters of the same shapes in the same places."""
    state, _ = golden_state(golden, "aufan_predictor")
    other = {f"x.{name}": array for name, array in state.items()}
    assert (
        pretrained.convert("aufan", other)["params"].keys()
        == pretrained.convert("aufan", state)["params"].keys()
    )
    with pytest.raises(ValueError, match="in the place of"):
        pretrained.convert("aufan", dict(sorted(other.items())))
    del state["conv1x1.bias"]
    with pytest.raises(ValueError, match=r"(?s)1 differences.*missing conv1x1.bias"):
        pretrained.convert("aufan", state)


def test_resnets_with_the_stride_elsewhere_are_refused():
    with pytest.raises(ValueError, match="Caffe"):
        pretrained.convert("resnet50", {"fc.bias": np.zeros(8631), "fc.weight": np.zeros((8631, 2048))})


def test_what_the_checkpoint_says(vae, tmp_path, capsys):
    out = tmp_path / "weights"
    command = ["import-weights", "aunet_vae", str(vae), "--out", str(out), "--licence", "MIT"]
    assert cli.main(command) == 0
    digest = hashlib.sha256(vae.read_bytes()).hexdigest()
    assert cli.main(["info", str(out), "--json"]) == 0
    info = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (info["kind"], info["source"], info["sha256"]) == ("aunet_vae", vae.name, digest)
    assert (info["licence"], info["parameters"]) == ("MIT", 428)
    assert cli.main(["info", str(out)]) == 0
    assert "licence" in capsys.readouterr().out
    assert cli.main(command) == 1
    assert "not empty" in capsys.readouterr().err
    with pytest.raises(ValueError, match="imported weights, no trained model"):
        checkpoint.load_model(out)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("other", "{vae}", "--out", "{out}"), "kind 'other': unknown, choose from resnet18"),
        (("fan", "{vae}.gone", "--out", "{out}"), "No such file"),
        (("aunet_vae", "{vae}", "--out", "{vae}"), "not empty"),
        (("aunet_vae", "{vae}", "--out", "{out}", "--licence", " "), "--licence"),
    ],
)
def test_wrong_commands(vae, tmp_path, capsys, arguments, match):
    filled = [argument.format(vae=vae, out=tmp_path / "out") for argument in arguments]
    assert cli.main(["import-weights", *filled]) == 1
    said = capsys.readouterr()
    assert match in said.err and not said.out and not (tmp_path / "out").exists()


def test_jaanets_layers_are_a_part_of_aar(golden):
    """Under the prefix of AAR's attention network, whose branches stay fresh."""
    state, _ = golden_state(golden, "jaanet_region_learning")
    given = pretrained.convert("jaanet", state)
    network = aar.AAR((1, 2), temporal=False)
    image = jnp.zeros((1, 64, 64, 3), jnp.uint8)
    abstract = jax.eval_shape(network.init, jax.random.key(0), image)
    fresh = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 7.0), dict(abstract))
    covers = pretrained.KINDS["jaanet"].covers
    placed, unused = weights.place(fresh, given, "attention_network", "jaanet", covers)
    assert unused == []
    inner = placed["params"]["attention_network"]
    np.testing.assert_array_equal(
        inner["region2"]["patches4"]["conv"]["kernel"][5],
        state["multiscale_feat.2.local_conv_branch2.convs.5.weight"].transpose(2, 3, 1, 0),
    )
    assert (np.asarray(inner["conv1"]["kernel"]) == 7).all()
    with pytest.raises(ValueError, match="conv1/kernel is missing"):
        weights.place(fresh, given, "attention_network", "jaanet")
