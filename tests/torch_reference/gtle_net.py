"""GTLE-Net in PyTorch, written from the paper with torch's own layers: an independent witness of jaxau's.

Channels first inside; images come as jaxau's do, (b, h, w, 3) uint8. Where the paper leaves something open it
follows the choices that jaxau documents, since these define what is compared.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class ConvNorm(nn.Module):
    def __init__(self, c, d, size, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(c, d, size, stride, bias=False)
        self.bn = nn.BatchNorm2d(d, eps=1e-3)

    def forward(self, x):
        return F.relu(self.bn(self.conv(same(x, self.conv.kernel_size, self.conv.stride[0]))))


def same(x, size, stride, value=0.0):
    """TensorFlow's SAME: what is odd goes below and to the right."""
    pads = []
    for n, k in ((x.shape[3], size[1]), (x.shape[2], size[0])):
        total = max((-(-n // stride) - 1) * stride + k - n, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value)


def max_pool(x):
    return F.max_pool2d(same(x, (3, 3), 2, float("-inf")), 3, 2)


class Branches(nn.Module):
    """Named as in facenet-pytorch: a single convolution is the branch itself."""

    def __init__(self, c, branches, sizes, stride=1):
        super().__init__()
        for number, widths in enumerate(branches):
            steps, last = [], c
            for index, d in enumerate(widths):
                step = stride if index == len(widths) - 1 else 1
                size = sizes[-1] if stride > 1 and index == len(widths) - 1 else sizes[index]
                steps.append(ConvNorm(last, d, size, step))
                last = d
            self.add_module(f"branch{number}", steps[0] if len(steps) == 1 else nn.Sequential(*steps))
        self.count = len(branches)

    def each(self, x):
        return [getattr(self, f"branch{i}")(x) for i in range(self.count)]


class Residual(Branches):
    def __init__(self, c, branches, sizes, scale, relu=True):
        super().__init__(c, branches, sizes)
        self.conv2d = nn.Conv2d(sum(widths[-1] for widths in branches), c, 1)
        self.scale, self.relu = scale, relu

    def forward(self, x):
        x = x + self.scale * self.conv2d(torch.cat(self.each(x), 1))
        return F.relu(x) if self.relu else x


class Reduction(Branches):
    def __init__(self, c, branches):
        super().__init__(c, branches, [1, 3, 3], stride=2)
        self.out = c + sum(widths[-1] for widths in branches)

    def forward(self, x):
        return torch.cat([*self.each(x), max_pool(x)], 1)


class Encoder(nn.Module):
    """Inception-ResNet-v1 with SAME padding, narrow, with one block of each kind."""

    def __init__(self, share, whole):
        super().__init__()
        self.whole = whole

        def s(*widths):
            return [max(1, round(share * width)) for width in widths]

        self.conv2d_1a = ConvNorm(3, *s(32), 3, 2)
        self.conv2d_2a = ConvNorm(*s(32, 32), 3)
        self.conv2d_2b = ConvNorm(*s(32, 64), 3)
        self.conv2d_3b = ConvNorm(*s(64, 80), 1)
        self.conv2d_4a = ConvNorm(*s(80, 192), 3)
        self.conv2d_4b = ConvNorm(*s(192, 256), 3, 2)
        self.repeat_1 = nn.ModuleList([Residual(*s(256), [s(32), s(32, 32), s(32, 32, 32)], [1, 3, 3], 0.17)])
        self.mixed_6a = Reduction(*s(256), [s(384), s(192, 192, 256)])
        c = self.mixed_6a.out
        self.repeat_2 = nn.ModuleList([Residual(c, [s(128), s(128, 128, 128)], [1, (1, 7), (7, 1)], 0.10)])
        self.out = c
        if whole:
            self.mixed_7a = Reduction(c, [s(256, 384), s(256, 256), s(256, 256, 256)])
            c, wide = self.mixed_7a.out, [s(192), s(192, 192, 192)]
            self.repeat_3 = nn.ModuleList([Residual(c, wide, [1, (1, 3), (3, 1)], 0.20)])
            self.block8 = Residual(c, wide, [1, (1, 3), (3, 1)], 1.0, relu=False)
            self.last_linear = nn.Linear(c, 512, bias=False)
            self.last_bn = nn.BatchNorm1d(512, eps=1e-3)

    def forward(self, x):
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))
        x = self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(max_pool(x))))
        x = self.repeat_2[0](self.mixed_6a(self.repeat_1[0](x)))
        if not self.whole:
            return x
        x = self.block8(self.repeat_3[0](self.mixed_7a(x)))
        return self.last_bn(self.last_linear(x.mean((2, 3))))


class ResidualBlock(nn.Module):
    """The decoder block of StarGAN v2's generator, instance norm for AdaIN."""

    def __init__(self, c, d, doubled):
        super().__init__()
        self.doubled = doubled
        self.norm1 = nn.InstanceNorm2d(c, affine=True)
        self.norm2 = nn.InstanceNorm2d(d, affine=True)
        self.conv1 = nn.Conv2d(c, d, 3, 1, 1)
        self.conv2 = nn.Conv2d(d, d, 3, 1, 1)
        self.conv1x1 = nn.Conv2d(c, d, 1, bias=False) if c != d else None

    def forward(self, x):
        y = F.leaky_relu(self.norm1(x), 0.2)
        if self.doubled:
            x, y = (F.interpolate(z, scale_factor=2, mode="nearest") for z in (x, y))
        y = self.conv2(F.leaky_relu(self.norm2(self.conv1(y)), 0.2))
        x = x if self.conv1x1 is None else self.conv1x1(x)
        return (x + y) / 2**0.5


class PlainBlock(nn.Module):
    def __init__(self, c, d, doubled):
        super().__init__()
        self.doubled = doubled
        self.norm = nn.InstanceNorm2d(c, affine=True)
        self.conv = nn.Conv2d(c, d, 3, 1, 1)

    def forward(self, x):
        x = F.leaky_relu(self.norm(x), 0.2)
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest") if self.doubled else x)


class Extractor(nn.Module):
    """A head for each AU, as in the paper's Fig. 3."""

    def __init__(self, c, share, block, num_aus, channels):
        super().__init__()
        self.decode = nn.ModuleList()
        for index, width in enumerate((512, 512, 512, 256, 128, 64)):
            d = max(1, round(share * width))
            self.decode.append(block(c, d, index >= 2))
            c = d
        self.norm = nn.InstanceNorm2d(c, affine=True)
        self.heads = nn.ModuleList(nn.Conv2d(c, channels, 1) for _ in range(num_aus))

    def forward(self, x):
        for block in self.decode:
            x = block(x)
        x = F.leaky_relu(self.norm(x), 0.2)
        return [torch.sigmoid(head(x)) for head in self.heads]


class Classifier(nn.Module):
    def __init__(self, c, share):
        super().__init__()
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for width in (16, 32, 64, 128, 256):
            d = max(1, round(share * width))
            self.convs.append(nn.Conv2d(c, d, 7, 2, 3))
            self.norms.append(nn.BatchNorm2d(d))
            c = d
        self.last = nn.Conv2d(c, 1, 1)

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.elu(norm(conv(x)))
        x = x.mean((2, 3), keepdim=True)
        return self.last(x)[:, 0, 0, 0], x[:, :, 0, 0]


class Detector(nn.Module):
    def __init__(self, num_aus, share):
        super().__init__()
        self.trunk = Encoder(share, whole=False)
        c = self.trunk.out
        self.map_extractor = Extractor(c, share, ResidualBlock, num_aus, 3)
        self.mask_extractor = Extractor(c, share, PlainBlock, num_aus, 1)
        self.classifiers = nn.ModuleList(Classifier(3, share) for _ in range(num_aus))

    def forward(self, image):
        h = self.trunk(normalized(image))
        maps, masks = self.map_extractor(h), self.mask_extractor(h)
        judged = [g(f * m) for g, f, m in zip(self.classifiers, maps, masks, strict=True)]
        return {
            "logits": torch.stack([y for y, _ in judged], 1),
            "features": torch.stack([e for _, e in judged], 1),
            "maps": torch.stack([f.permute(0, 2, 3, 1) for f in maps], 3),
            "attention": torch.stack([m[:, 0] for m in masks], 3),
        }


class Embedder(nn.Module):
    def __init__(self, share):
        super().__init__()
        self.trunk = Encoder(share, whole=True)
        self.embedding = nn.Linear(512, 16)

    def forward(self, images):
        x = self.embedding(self.trunk(normalized(images.flatten(0, 1))))
        return F.normalize(x).unflatten(0, images.shape[:2])


def normalized(image):
    return (image.permute(0, 3, 1, 2).double() - 127.5) / 128


def au_loss(logits, labels, coded):
    """Eq. 8: torch's own cross-entropy, summed over AUs (of coded labels their mean times the AUs)."""
    each = F.binary_cross_entropy_with_logits(logits, labels.double(), reduction="none")
    return each[coded].mean() * logits.shape[1]


def triplet_loss(embedding, classes):
    """Eq. 1 with torch's triplet loss, whose distances are not squared: so two hinges by hand."""
    a, p, n = embedding.unbind(1)
    m = torch.where(classes == 1, 0.1, 0.2)
    ap, an, pn = (F.pairwise_distance(x, y, eps=0.0) ** 2 for x, y in ((a, p), (a, n), (p, n)))
    return (torch.clamp(ap - an + m, min=0) + torch.clamp(ap - pn + m, min=0)).mean()


def in_jaxaus_layout(values, running=False):
    """Arrays by torch name (parameters, gradients, or ``running`` means and variances) as jaxau's tree."""
    tree = {}
    stacks = {}
    for name, value in values.items():
        kind = name.rpartition(".")[2]
        if kind == "num_batches_tracked":
            continue
        if running:
            leaf = {"running_mean": "mean", "running_var": "var"}[kind]
        elif kind == "bias":
            leaf = "bias"
        else:
            leaf = "scale" if value.ndim == 1 else "kernel"
        if value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
        elif value.ndim == 2:
            value = value.T
        parts = name.split(".")[:-1]
        if parts[0] == "classifiers" or "heads" in parts:  # of each AU
            stacks.setdefault((*_of_au(parts), leaf), []).append(value)
            continue
        path = []
        for part in parts:  # branch1.0 is branch1_0
            path = [*path[:-1], f"{path[-1]}_{part}"] if part.isdigit() else [*path, part]
        _put(tree, (*path, leaf), value)
    for path, values_ in stacks.items():
        stacked = np.stack(values_)
        if path[-2] == "heads":  # 1x1: h, w of one
            path, stacked = (*path[:-2], path[-1]), stacked[:, 0, 0] if path[-1] == "kernel" else stacked
        if path[-2] == "classifier":
            names = {"kernel": "weight", "bias": "bias"}
            path, stacked = (*path[:-1], names[path[-1]]), stacked.reshape(len(stacked), -1)
            stacked = stacked[:, 0] if path[-1] == "bias" else stacked
        _put(tree, path, stacked)
    return tree


def _of_au(parts):
    if "heads" in parts:
        return (parts[0], "heads")
    if parts[2] == "last":
        return ("classifiers", "classifier")
    number = int(parts[3]) + 1
    return (
        ("classifiers", f"conv{number}") if parts[2] == "convs" else ("classifiers", f"norm{number}", "norm")
    )


def _put(tree, path, value):
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value
