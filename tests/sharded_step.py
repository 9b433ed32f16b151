"""Three train steps on however many devices XLA simulates: prints loss and a checksum of the parameters.

XLA_FLAGS=--xla_force_host_platform_device_count=8 python tests/sharded_step.py FSDP
"""

import json
import sys

import jax
import numpy as np
from small_run import small_config

from jaxau import models, optim, sharding, train


def main(fsdp: int) -> None:
    config = small_config()
    stage = config.stages["frames"]
    mesh = sharding.make_mesh(fsdp)
    network, loss = models.create(config, "frames"), models.create_loss(config, "frames")
    optimizer = optim.make_optimizer(stage, 10)
    statistics = {"n_occ": np.array([30, 20, 40, 10]), "n_coded": np.full(4, 100)}
    init = train._make_init(config, "frames", network, optimizer, loss.init(statistics))
    placement = sharding.state_sharding(jax.eval_shape(init), mesh)
    state = jax.jit(init, out_shardings=placement)()
    step = train.make_train_step(network, loss, optimizer, stage, placement)
    rng, losses = np.random.default_rng(0), []
    for _ in range(3):
        b = stage.batch_size
        batch = {
            "image": rng.integers(0, 256, (b, 32, 32, 3), dtype=np.uint8),
            "au": rng.integers(0, 2, (b, 4)),
            "au_mask": rng.random((b, 4)) < 0.9,
            "mask": np.ones(b, bool),
            "au_centers": rng.uniform(4, 28, (b, 4, 2, 2)).astype(np.float32),
            "au_centers_mask": np.ones((b, 4), bool),
        }
        state, terms = step(state, sharding.shard_batch(batch, mesh))
        losses.append(float(terms["loss"]))
    kernel = state.params["trunk"]["layer2_0"]["conv2"]["kernel"]
    print(
        json.dumps(
            {
                "devices": jax.device_count(),
                "losses": losses,
                "shards": len({str(shard.index) for shard in kernel.addressable_shards}),
                "checksums": [
                    float(np.abs(leaf).sum()) for leaf in map(np.asarray, jax.tree.leaves(state.params))
                ],
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
