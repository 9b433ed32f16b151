"""LAC in PyTorch, written from the paper with torch's own layers: an independent witness of jaxau's.

Channels first inside; images come as jaxau's do, (b, [t], h, w, 3) uint8. Where the paper leaves something
open it follows the choices that jaxau documents (means for sums, |F| over its maximum, the minus signs that
Eqs. 6, 12 and 16 lack or have too many, floors of Eqs. 13 and 14), since these define what is compared.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

# Table I. AUs that it does not list take the region of the muscle.
REGIONS = {"upper": {1, 2, 4, 5, 7}, "middle": {6, 9}, "lower": {10, 12, 14, 15, 16, 17, 20, 23, 24, 25, 26}}


def _region(au):
    return next(name for name, members in REGIONS.items() if au in members)


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, channels, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _downsample(channels, width, stride)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, channels, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _downsample(channels, 4 * width, stride)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def _downsample(channels, width, stride):
    if channels == width and stride == 1:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))


class Trunk(nn.Module):
    """A ResNet without pooling and classifier; the parameters have torchvision's names."""

    def __init__(self, block, sizes, widths, stem):
        super().__init__()
        side = {"7x7": 7, "3x3": 3}[stem]
        self.conv1 = nn.Conv2d(3, widths[0], side, 2, side // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        kind, channels = {"basic": BasicBlock, "bottleneck": Bottleneck}[block], widths[0]
        self.stages = len(sizes)
        for stage, (size, width) in enumerate(zip(sizes, widths, strict=True)):
            blocks = []
            for index in range(size):
                blocks.append(kind(channels, width, 2 if stage and not index else 1))
                channels = width * kind.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.channels = channels

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return x


class GAT(nn.Module):
    """Eqs. 7 to 9, with a projected residual and a bias before the ELU; one edge at a time."""

    def __init__(self, width, neighbors):
        super().__init__()
        self.neighbors = neighbors
        self.W = nn.Linear(width, width, bias=False)
        self.residual = nn.Linear(width, width)  # its bias is the layer's
        self.a = nn.Parameter(torch.zeros(2 * width))

    def forward(self, v):  # (n, k, width)
        projected, out = self.W(v), []
        for i, neighbors in enumerate(self.neighbors):
            pairs = [torch.cat([projected[:, i], projected[:, j]], -1) for j in neighbors]
            e = F.leaky_relu(torch.stack(pairs, 1) @ self.a, 0.2)  # (n, neighbors)
            gamma = torch.softmax(e, -1)
            out.append((gamma[..., None] * projected[:, neighbors]).sum(1) + self.residual(v[:, i]))
        return F.elu(torch.stack(out, 1))


class LAC(nn.Module):
    def __init__(self, aus, temporal, block, stage_sizes, widths, stem, features):
        super().__init__()
        self.trunk = Trunk(block, stage_sizes, widths, stem)
        self.lock = nn.Linear(self.trunk.channels, len(aus), bias=False)
        self.reduce = nn.Linear(self.trunk.channels, features)
        # Each AU hears itself and the AUs of the other regions.
        self.gat = GAT(
            features,
            [[j for j, b in enumerate(aus) if a == b or _region(a) != _region(b)] for a in aus],
        )
        self.lstm = nn.LSTM(features, features, batch_first=True) if temporal else None
        self.classify = nn.ModuleList(nn.Linear(features, 1) for _ in aus)  # one for each AU

    def forward(self, image):
        lead, (h, w, _) = image.shape[:-3], image.shape[-3:]
        x = image.reshape(-1, h, w, 3).permute(0, 3, 1, 2).to(self.lock.weight.dtype) / 255
        mean, std = x.new_tensor([0.485, 0.456, 0.406]), x.new_tensor([0.229, 0.224, 0.225])
        feature = self.trunk((x - mean[:, None, None]) / std[:, None, None])
        n, channels, height, width = feature.shape
        y = self.lock(F.adaptive_avg_pool2d(feature, 1).flatten(1))  # Eqs. 1, 2
        direction, unit = F.normalize(self.lock.weight, dim=1), F.normalize(feature, dim=1)
        similarity = torch.einsum("nchw,kc->nkhw", unit, direction)  # Eq. 3
        # The mean of each F_c, never held as a whole: that alone would cost a quarter of the trunk.
        v = self.reduce(torch.einsum("nkhw,nchw->nkc", similarity, feature) / (height * width))
        alpha = ((torch.sigmoid(y).detach() - 0.5).abs() / 0.5)[..., None]  # Eq. 10
        v = v * alpha + self.gat(v) * (1 - alpha)  # Eq. 11
        if self.lstm is not None:
            b, t = lead
            sequences = v.view(b, t, *v.shape[1:]).transpose(1, 2).flatten(0, 1)
            v = self.lstm(sequences)[0].view(b, -1, t, v.shape[-1]).transpose(1, 2).flatten(0, 1)
        logits = torch.cat([layer(v[:, k]) for k, layer in enumerate(self.classify)], 1)
        return {
            "logits": logits.view(*lead, -1),
            "lock_logits": y.view(*lead, -1),
            "attention": similarity.permute(0, 2, 3, 1).reshape(*lead, height, width, -1),
            "feature_norm": torch.linalg.vector_norm(feature, dim=1).view(*lead, height, width),
        }


def roi_align(maps, centers, side, bins, samples=2):
    """RoIAlign of maps (n, h, w) around centres (n, r, 2), shares of the image: (n, r, bins, bins)."""
    n, height, width = maps.shape
    steps = (torch.arange(bins * samples, device=maps.device) + 0.5) / (bins * samples) - 0.5
    x = centers[..., 0, None] + side * steps  # (n, r, points), shares of the image
    y = centers[..., 1, None] + side * steps
    x, y = x[..., None, :].expand(-1, -1, len(steps), -1), y[..., :, None].expand(-1, -1, -1, len(steps))
    grid = (torch.stack([x, y], -1) * 2 - 1).flatten(1, 2).to(maps.dtype)
    points = F.grid_sample(maps[:, None], grid, padding_mode="border", align_corners=False)
    # As in torchvision, a point more than a cell beyond the first centre or the map's last one counts as 0.
    column, row = x * width - 0.5, y * height - 0.5
    inside = (column >= -1) & (column <= width) & (row >= -1) & (row <= height)
    points = points.view(n, -1, len(steps), len(steps)) * inside
    return F.avg_pool2d(points, samples)


def mean_where(values, mask):
    """Mean over the chosen values; in this form a GPU need not tell how many there are."""
    return (values * mask).sum() / mask.sum()


class Loss:
    """Eqs. 4 to 6 and 12 to 17; ``w_diff``, ``w_dist`` and ``w`` are those of Eqs. 13 to 15."""

    eta = (0.5, 0.5, 0.01, 0.5, 1.0)
    beta1 = beta2 = 0.9
    delta = 0.5

    def __init__(self, kind, occurrences, coded, device="cpu"):
        self.kind = kind
        rate = torch.as_tensor(
            np.asarray(occurrences) / np.asarray(coded), dtype=torch.float32, device=device
        )
        self.w_diff = self.w_dist = self.w = self._sum_to_number(1 / rate)
        self.tp = self.fn = self.n = torch.zeros_like(rate)

    @staticmethod
    def _sum_to_number(w):
        return w * len(w) / w.sum()

    def end_epoch(self):
        recall = self.tp / (self.tp + self.fn).clamp(min=1)
        distribution = (self.tp + self.fn) / self.n.clamp(min=1)
        self.w_diff = self.beta1 * self.w_diff + (1 - self.beta1) * self._sum_to_number(
            1 / recall.clamp(min=0.1)
        )
        self.w_dist = self.beta2 * self.w_dist + (1 - self.beta2) * self._sum_to_number(
            1 / distribution.clamp(min=0.01)
        )
        if self.kind == "dwa":  # the weights of WA, Eq. 12, come from the training set once and for all
            self.w = self.delta * self.w_diff + (1 - self.delta) * self.w_dist
        self.tp = self.fn = self.n = torch.zeros_like(self.w)

    def classification(self, logits, labels, coded):
        p = torch.sigmoid(logits)
        if self.kind == "ce":
            return mean_where(F.binary_cross_entropy_with_logits(logits, labels, reduction="none"), coded)
        log_p, log_not = p.clamp(min=1e-8).log(), (1 - p).clamp(min=1e-8).log()
        loss = -self.w * (labels * log_p + (1 - labels) * p.detach() * log_not)
        return mean_where(loss, coded)

    def __call__(self, outputs, batch, roi_size=0.25, roi_bins=2):
        """The total and its terms, from outputs of ``LAC`` and a batch of tensors named as jaxau's."""
        lead = batch["mask"].ndim
        out = {key: value.flatten(0, lead - 1) for key, value in outputs.items()}
        data = {key: batch[key].flatten(0, lead - 1) for key in batch if key != "image"}
        labels = data["au"].float()
        coded = data["au_mask"] & data["mask"][:, None]
        known = coded & data["au_centers_mask"]
        side = batch["image"].shape[-2]
        n, k = labels.shape
        # Landmarks count from the middle of the first pixel.
        centers = (data["au_centers"] + 0.5) / side  # (n, k, 2, 2)

        norm = out["feature_norm"] / out["feature_norm"].amax((1, 2), keepdim=True)
        norm_in = roi_align(norm, centers.flatten(1, 2), roi_size, roi_bins).view(n, k, -1)
        maps = out["attention"].permute(0, 3, 1, 2)  # (n, k, i, j)
        map_in = roi_align(maps.flatten(0, 1), centers.flatten(0, 1), roi_size, roi_bins)
        map_in = map_in.view(n, k, 2, -1)

        localization = -mean_where(norm_in.mean(-1), known)  # Eq. 4
        activated, unactivated = known & (labels == 1), known & (labels == 0)
        inside = map_in.mean((2, 3))
        activation = -mean_where(inside, activated) + mean_where(inside, unactivated)  # Eq. 5
        gap = (map_in.mean(-1) - maps.mean((2, 3))[..., None]) ** 2
        consistency = 0.5 * mean_where(gap.sum(-1), known)  # Eq. 6
        lock = self.classification(out["lock_logits"], labels, coded)
        check = self.classification(out["logits"], labels, coded)
        terms = [localization, activation, consistency, lock, check]
        total = sum(eta * term for eta, term in zip(self.eta, terms, strict=True))

        found = torch.sigmoid(out["logits"]) >= 0.5
        self.tp = self.tp + (found & coded & (labels == 1)).sum(0)
        self.fn = self.fn + (~found & coded & (labels == 1)).sum(0)
        self.n = self.n + coded.sum(0)
        names = ("localization", "activation", "consistency", "lock", "check")
        return total, dict(zip(names, terms, strict=True))


def in_jaxaus_layout(twin, values):
    """``values`` (a dict by torch name: the parameters, or their gradients) as jaxau's tree of parameters."""
    v = {name: value.detach().cpu().numpy() for name, value in values.items()}
    k = len(twin.classify)
    own, other = np.split(v["gat.a"], 2)
    tree = {
        "trunk": {},
        "au_weights": v["lock.weight"],
        "reduce": {"kernel": v["reduce.weight"].T, "bias": v["reduce.bias"]},
        "relations": {
            "linear": {"kernel": v["gat.W.weight"].T},
            "residual": {"kernel": v["gat.residual.weight"].T},
            "score_self": {"kernel": own[:, None]},
            "score_neighbor": {"kernel": other[:, None]},
            "bias": v["gat.residual.bias"],
        },
        "classifier_weight": np.concatenate([v[f"classify.{i}.weight"] for i in range(k)]),
        "classifier_bias": np.concatenate([v[f"classify.{i}.bias"] for i in range(k)]),
    }
    if twin.lstm is not None:
        tree["lstm"] = {
            "kernel": v["lstm.weight_ih_l0"].T,
            "recurrent": v["lstm.weight_hh_l0"].T,
            "bias": v["lstm.bias_ih_l0"],  # torch's second bias is zero here
        }
    for name, module, node, layer in _trunk_layers(twin, tree["trunk"]):
        weight = v[f"trunk.{name}.weight"]
        if isinstance(module, nn.Conv2d):
            node[layer] = {"kernel": weight.transpose(2, 3, 1, 0)}  # out, in, h, w -> h, w, in, out
        else:
            node[layer] = {"scale": weight, "bias": v[f"trunk.{name}.bias"]}
    return tree


def statistics_in_jaxaus_layout(twin):
    """The running averages of BatchNorm as jaxau's tree ``batch_stats``."""
    tree = {}
    for _, module, node, layer in _trunk_layers(twin, tree):
        if isinstance(module, nn.BatchNorm2d):
            values = {"mean": module.running_mean, "var": module.running_var}
            node[layer] = {name: value.cpu().numpy().copy() for name, value in values.items()}
    return {"trunk": {name: node for name, node in tree.items() if node}}


def _trunk_layers(twin, tree):
    """Each convolution and BatchNorm: torch's name, the module, jaxau's node of ``tree``, the name in it."""
    short = {"downsample.0": "downsample_conv", "downsample.1": "downsample_bn"}
    for name, module in twin.trunk.named_modules():
        if not isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            continue
        path = name
        for theirs, ours in short.items():
            path = path.replace(theirs, ours)
        *block, layer = path.split(".")
        yield name, module, tree.setdefault("_".join(block), {}) if block else tree, layer
