"""LAC's twin in the form in which PyTorch runs it best, for ``python -m launch.bench --against=torch``.

float32 and channels_last on a CPU; torch.compile, bfloat16 autocast and channels_last on a GPU.
"""

import os

import numpy as np
import torch
from torch import nn
from torch_reference import lac

from jaxau import models


class Twin:
    """See ``jaxau.benchmark.Twin``; initial weights are torch's, with a fixed seed."""

    def __init__(self, config, name, batch, statistics):
        ours, stage, loss = models.create(config, name), config.stages[name], config.stages[name].loss
        optim = stage.optim
        if (
            ours.check != "spatial_temporal"
            or optim.name != "adamw"
            or optim.clip_norm
            or optim.ema_decay
            or stage.trainable
            or stage.freeze_batch_stats
        ):
            raise ValueError(
                f"config.stages.{name}: the PyTorch twin is the paper's LAC, all of it trained by AdamW "
                "without clipping or averaging; use configs/lac.py:bp4d"
            )
        self.gpu = torch.cuda.is_available()
        device = "cuda" if self.gpu else "cpu"
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        torch.backends.cudnn.benchmark = True
        torch.manual_seed(0)
        twin = lac.LAC(
            config.data.aus,
            ours.temporal,
            ours.block,
            ours.stage_sizes,
            ours.widths,
            ours.stem,
            ours.features,
        )
        if twin.lstm is not None:
            nn.init.zeros_(twin.lstm.bias_hh_l0)  # redundant beside bias_ih_l0, and jaxau has none
        self.twin = twin.to(device, memory_format=torch.channels_last)
        self.batch = {key: torch.as_tensor(np.array(value), device=device) for key, value in batch.items()}
        self._loss = lac.Loss(loss["classification"], statistics["n_occ"], statistics["n_coded"], device)
        self._roi = (loss["roi_size"], loss["roi_bins"])
        decayed = [p for p in self.twin.parameters() if p.ndim > 1]
        others = [p for p in self.twin.parameters() if p.ndim <= 1]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": optim.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=optim.lr,
            betas=(optim.b1, optim.b2),
            fused=True,
        )
        self._run = torch.compile(self.twin) if self.gpu else self.twin
        form = "torch.compile, bfloat16 autocast" if self.gpu else "float32"
        self.form = f"{form}, channels_last, {torch.get_num_threads()} threads"
        self._normalise_this_batch()

    def _normalise_this_batch(self):
        """BatchNorm's running averages become those of the batch: else features are near 0 in evaluation."""
        norms = [module for module in self.twin.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = None  # a plain average, of one
        with torch.no_grad():
            self.twin.train()(self.batch["image"])
        for norm in norms:
            norm.momentum = 0.1

    def variables(self):
        params = dict(self.twin.named_parameters())
        return {
            "params": lac.in_jaxaus_layout(self.twin, params),
            "batch_stats": lac.statistics_in_jaxaus_layout(self.twin),
        }

    def in_float32(self):
        before = {name: value.clone() for name, value in self.twin.named_buffers()}
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            logits = self.twin.eval()(self.batch["image"])["logits"]
            loss, _ = self._loss(self.twin.train()(self.batch["image"]), self.batch, *self._roi)
            for name, value in self.twin.named_buffers():
                value.copy_(before[name])
        return logits.cpu().numpy(), loss.item()

    def infer(self):
        if self.twin.training:
            self.twin.eval()
        with torch.inference_mode(), self._precision():
            torch.sigmoid(self._run(self.batch["image"])["logits"])
        self._wait()

    def train(self):
        if not self.twin.training:
            self.twin.train()
        with self._precision():
            outputs = self._run(self.batch["image"])
        outputs = {name: value.float() for name, value in outputs.items()}
        total, _ = self._loss(outputs, self.batch, *self._roi)
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()
        self._optimizer.step()
        self._wait()

    def _precision(self):
        return torch.autocast("cuda" if self.gpu else "cpu", torch.bfloat16, enabled=self.gpu)

    def _wait(self):
        if self.gpu:
            torch.cuda.synchronize()
