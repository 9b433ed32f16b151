"""GLEE-Net's local branch and classifier in PyTorch, from its own modules."""

import torch
from torch import nn
from torch.nn import functional as F

SHARES = {"34": 3, "12": 2}  # quarters


def crops(x: torch.Tensor) -> list[torch.Tensor]:
    """L34, R34, T34, B34, TL34, TR34, BL34, BR34, then the halves, of (n, c, s, s)."""
    side, found = x.shape[-1], []
    for quarters in SHARES.values():
        a, b = side * quarters // 4, side - side * quarters // 4
        found += [x[..., :a], x[..., b:], x[..., :a, :], x[..., b:, :]]
        found += [x[..., :a, :a], x[..., :a, b:], x[..., b:, :a], x[..., b:, b:]]
    return found


class Extractor(nn.Module):
    """Four convolutions, SAGAN's attention."""

    def __init__(self, widths):
        super().__init__()
        inputs = (3, *widths[:-1])
        steps = zip(inputs, widths, (2, 2, 1, 1), strict=True)
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, s, 1) for i, o, s in steps)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for o in widths)
        last = widths[-1]
        self.query, self.key = nn.Conv2d(last, last // 8, 1), nn.Conv2d(last, last // 8, 1)
        self.value, self.gamma = nn.Conv2d(last, last, 1), nn.Parameter(torch.tensor(0.7))

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        attention = torch.softmax(query.transpose(1, 2) @ key, -1)
        return x + self.gamma * (value @ attention.transpose(1, 2)).reshape(x.shape)


class Local(nn.Module):
    def __init__(self, widths, hidden, part_side):
        super().__init__()
        self.part_side = part_side
        self.extractors = nn.ModuleList(Extractor(widths) for _ in range(16))
        self.fc1, self.fc2 = nn.Linear(16 * widths[-1], hidden), nn.Linear(hidden, 16)

    def forward(self, x):
        size = (self.part_side, self.part_side)
        parts = [F.interpolate(part, size, mode="bilinear", align_corners=False) for part in crops(x)]
        pooled = [own(part).mean((2, 3)) for own, part in zip(self.extractors, parts, strict=True)]
        return self.fc2(F.relu(self.fc1(torch.cat(pooled, 1))))


class Classifier(nn.Module):
    def __init__(self, features, aus, width, heads, hidden, layers):
        super().__init__()
        self.tokens = nn.ModuleList(nn.Linear(features, width) for _ in range(aus))
        self.encoders = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, hidden, 0.0, batch_first=True) for _ in range(layers)
        )
        self.initial = nn.ModuleList(nn.Linear(width, 1) for _ in range(aus))
        self.joint = nn.Linear(aus, aus)

    def forward(self, x):
        x = torch.stack([F.relu(own(x)) for own in self.tokens], 1)
        for encode in self.encoders:
            x = encode(x)
        initial = torch.cat([own(x[:, i]) for i, own in enumerate(self.initial)], 1)
        return initial, self.joint(initial)


def loss(initial, final, labels, mask, weights):
    """Eq. 5 of both, mean over coded labels."""
    total = 0
    for logits in (initial, final):
        each = F.binary_cross_entropy_with_logits(logits, labels, reduction="none") * weights
        total = total + each[mask].mean()
    return total
