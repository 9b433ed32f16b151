"""AAR in PyTorch, written from the paper with torch's own layers: an independent witness of jaxau's.

Channels first inside; images come as jaxau's do, (b, h, w, 3) uint8. Where the paper leaves something open it
follows the choices that jaxau documents (where BatchNorm and ReLU stand, sigmoid of the maps, tanh without
GRU, means over coded labels only), since these define what is compared.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class RegionLayer(nn.Module):
    """R^hm of Fig. 3(a): named as in JAA-Net, so that its state dict fits."""

    def __init__(self, channels, width):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, 1, 1)
        self.local_conv_branch1 = Patches(8, width, width // 2)
        self.local_conv_branch2 = Patches(4, width // 2, width // 4)
        self.local_conv_branch3 = Patches(2, width // 4, width // 4)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x):
        x = self.conv(x)
        one = self.local_conv_branch1(x)
        two = self.local_conv_branch2(one)
        three = self.local_conv_branch3(two)
        return F.relu(self.bn(x + torch.cat([one, two, three], 1)))


class Patches(nn.Module):
    def __init__(self, grid, channels, width):
        super().__init__()
        self.grid = grid
        self.bns = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(grid * grid))
        self.convs = nn.ModuleList(nn.Conv2d(channels, width, 3, 1, 1) for _ in range(grid * grid))

    def forward(self, x):
        rows = []
        for i, row in enumerate(x.chunk(self.grid, 2)):
            patches = row.chunk(self.grid, 3)
            own = range(i * self.grid, (i + 1) * self.grid)
            done = [self.convs[k](F.relu(self.bns[k](patch))) for k, patch in zip(own, patches, strict=True)]
            rows.append(torch.cat(done, 3))
        return torch.cat(rows, 2)


class Branch(nn.Module):
    """One AU: five convolutions, the map, the feature and the prediction."""

    def __init__(self, c, attention):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(8 * c if i == 0 else 12 * c, 12 * c, 3, 1, 1) for i in range(5))
        self.bns = nn.ModuleList(nn.BatchNorm2d(12 * c) for _ in range(4))
        self.attention = nn.Conv2d(12 * c, 1, 3, 1, 1) if attention else None
        self.fc = nn.Linear(12 * c, 1)

    def forward(self, x):
        for i in range(3):
            x = F.relu(self.bns[i](self.convs[i](x)))
        m = None if self.attention is None else torch.sigmoid(self.attention(x))
        x = self.convs[3](x)
        x = x if m is None else m * x
        f = self.convs[4](F.relu(self.bns[3](x))).mean((2, 3))
        return self.fc(f)[:, 0], f, m


class AttentionNetwork(nn.Module):
    def __init__(self, m, c=8, attention=True):
        super().__init__()
        self.region = nn.ModuleList([RegionLayer(3, 4 * c), RegionLayer(4 * c, 8 * c)])
        self.branches = nn.ModuleList(Branch(c, attention) for _ in range(m))

    def forward(self, image):
        x = (image.permute(0, 3, 1, 2).to(self.region[0].conv.weight.dtype) / 255 - 0.5) / 0.5
        for layer in self.region:
            x = F.max_pool2d(layer(x), 2)
        logits, features, maps = zip(*(branch(x) for branch in self.branches), strict=True)
        outputs = {"logits": torch.stack(logits, 1), "features": torch.stack(features, 1)}
        if maps[0] is not None:
            outputs["attention"] = torch.cat(maps, 1).permute(0, 2, 3, 1)
        return outputs


class GraphLayer(nn.Module):
    """G^st, Eq. 13; with graph "shared" Eq. 15 in the place of Eq. 11, without ``gru`` only its candidate."""

    def __init__(self, m, d, pool, graph, gru):
        super().__init__()
        self.gru, inputs = gru, 2 * d if gru else d
        self.U = nn.Parameter(torch.randn(m, pool))
        self.Q = nn.Parameter(torch.randn(m, pool)) if graph == "specific" else None
        shape = (pool, inputs, d) if graph == "specific" else (inputs, d)
        gates = ("z", "r", "h") if gru else ("h",)
        self.W = nn.ParameterDict({g: nn.Parameter(torch.randn(shape) * (2 / inputs) ** 0.5) for g in gates})

    def conv(self, x, gate):
        """(b, m, c_in) to (b, m, d): Eq. 11, one AU after another."""
        related = torch.relu(self.U @ self.U.T)
        a = torch.eye(len(self.U), dtype=x.dtype) + related / related.sum()
        x, w, out = a @ x, self.W[gate], []
        for i in range(len(a)):
            own = w if self.Q is None else (self.Q[i][:, None, None] * w).sum(0)
            out.append(x[:, i] @ own)
        return torch.stack(out, 1)

    def forward(self, f):
        if not self.gru:
            return torch.stack([torch.tanh(self.conv(x, "h")) for x in f.unbind(1)], 1)
        h, outputs = torch.zeros_like(f[:, 0]), []
        for x in f.unbind(1):
            z = torch.sigmoid(self.conv(torch.cat([h, x], -1), "z"))
            r = torch.sigmoid(self.conv(torch.cat([h, x], -1), "r"))
            new = torch.tanh(self.conv(torch.cat([r * h, x], -1), "h"))
            h = z * h + (1 - z) * new
            outputs.append(h)
        return torch.stack(outputs, 1)


class GraphNetwork(nn.Module):
    def __init__(self, m, c=8, pool=8, graph="specific", time="gru"):
        super().__init__()
        self.layers = nn.ModuleList(GraphLayer(m, 12 * c, pool, graph, time == "gru") for _ in range(2))
        self.fc = nn.ModuleList(nn.Linear(12 * c, 1) for _ in range(m))
        self.average = time == "average"

    def forward(self, f):
        for layer in self.layers:
            f = layer(f)
        logits = torch.cat([fc(f[:, :, j]) for j, fc in enumerate(self.fc)], -1)
        if self.average:  # of probabilities
            logits = torch.logit(torch.sigmoid(logits).mean(1, keepdim=True)).expand_as(logits)
        return logits


class Loss:
    """Eqs. 4-6 and 14 over what is coded."""

    def __init__(self, n_occ, n_coded, weighted=True, attention=2.0, delta=3.0):
        rate = torch.as_tensor(n_occ / n_coded)
        m = len(rate)
        self.w = (1 / rate) / (1 / rate).sum() if weighted else torch.full((m,), 1 / m).double()
        self.v = torch.as_tensor((n_coded - n_occ) / n_occ) if weighted else torch.ones(m).double()
        self.attention, self.delta = attention, delta

    def detection(self, logits, batch):
        p_hat, p = torch.sigmoid(logits), batch["au"].double()
        coded = batch["au_mask"] & batch["mask"][..., None]
        each = -self.w * (self.v * p * p_hat.log() + (1 - p) * (1 - p_hat).log())
        return each[coded].mean() * len(self.w)  # with every label there: the mean over frames of Eq. 4's sum

    def target(self, centers, side, cells):
        """One map after another."""
        lead = centers.shape[:2]
        maps = torch.zeros(*lead, cells, cells, dtype=torch.float64)
        delta = self.delta * cells / 44
        a, b = torch.meshgrid(torch.arange(cells), torch.arange(cells), indexing="xy")
        for i, j in np.ndindex(*lead):
            two = []
            for x, y in centers[i, j].tolist():
                x, y = np.floor(x / side * cells + 0.5), np.floor(y / side * cells + 0.5)
                two.append(torch.exp(-((a - x) ** 2 + (b - y) ** 2).double() / (2 * delta**2)))
            maps[i, j] = torch.maximum(*two)
        return maps

    def __call__(self, outputs, batch):
        loss = {"detection": self.detection(outputs["logits"], batch)}
        total = loss["detection"]
        if self.attention:
            maps = outputs["attention"].permute(0, 3, 1, 2)
            wanted = self.target(batch["au_centers"], batch["image"].shape[-2], maps.shape[-1])
            known = batch["au_mask"] & batch["au_centers_mask"] & batch["mask"][:, None]
            loss["attention"] = ((maps - wanted) ** 2).mean((2, 3))[known].mean()
            total = total + self.attention * loss["attention"]
        return total, loss


def attention_in_jaxaus_layout(values, norms=("weight", "bias")):
    """``values`` (a dict by torch name of parameters, gradients or statistics) as jaxau's tree.

    Args:
      values: arrays by the names of ``AttentionNetwork``.
      norms: of BatchNorm's entries, those that stand for jaxau's scale and bias, or mean and var.
    """
    v, running = values, norms[0] == "running_mean"
    ours = ("mean", "var") if running else ("scale", "bias")

    def norm(name):
        return {to: v[f"{name}.{of}"] for to, of in zip(ours, norms, strict=True)}

    def conv(name):  # out, in, h, w -> h, w, in, out
        return {"kernel": v[f"{name}.weight"].transpose(2, 3, 1, 0), "bias": v[f"{name}.bias"]}

    def stack(trees):
        return {key: np.stack([tree[key] for tree in trees]) for key in trees[0]}

    m = len({name.split(".")[1] for name in v if name.startswith("branches")})
    tree = {}
    for level in range(2):
        at = f"region.{level}"
        layer = {"norm": norm(f"{at}.bn")} | ({} if running else {"conv": conv(f"{at}.conv")})
        for index, grid in enumerate((8, 4, 2), start=1):
            own = [f"{at}.local_conv_branch{index}.{{}}.{k}" for k in range(grid * grid)]
            patches = {"norm": {"norm": stack([norm(name.format("bns")) for name in own])}}
            if not running:
                patches["conv"] = stack([conv(name.format("convs")) for name in own])
            layer[f"patches{grid}"] = patches
        tree[f"region{level + 1}"] = layer
    if m == 0:
        return tree
    branches = [f"branches.{j}" for j in range(m)]
    for i in range(4):
        tree[f"norm{i + 1}"] = {"norm": stack([norm(f"{b}.bns.{i}") for b in branches])}
    if running:
        return tree
    for i in range(5):
        tree[f"conv{i + 1}"] = stack([conv(f"{b}.convs.{i}") for b in branches])
    if "branches.0.attention.weight" in v:
        tree["attention"] = stack([conv(f"{b}.attention") for b in branches])
    tree["classifier"] = _linears(v, [f"{b}.fc" for b in branches])
    return tree


def graph_in_jaxaus_layout(values):
    v = values
    names = {"U": "relations", "Q": "disentanglement"}
    names |= {"W.z": "update", "W.r": "reset", "W.h": "candidate"}
    tree = {
        f"layer{i + 1}": {
            ours: v[f"layers.{i}.{theirs}"] for theirs, ours in names.items() if f"layers.{i}.{theirs}" in v
        }
        for i in range(2)
    }
    m = sum(name.startswith("fc.") for name in v) // 2
    return {**tree, "classifier": _linears(v, [f"fc.{j}" for j in range(m)])}


def _linears(v, names):
    return {
        "weight": np.concatenate([v[f"{name}.weight"] for name in names]),
        "bias": np.concatenate([v[f"{name}.bias"] for name in names]),
    }
