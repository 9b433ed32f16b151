"""Configurations, one file a paper."""

from collections.abc import Callable, Mapping

from ml_collections import ConfigDict

from jaxau.config import Config, parse_argument, to_config_dict


def choose(argument: str, variants: Mapping[str, Callable[[int], Config]]) -> ConfigDict:
    """What stands behind the colon of ``--config=configs/lac.py:VARIANT,fold=N,stages=A+B``.

    Args:
      argument: that text; without a variant "synthetic", without ``fold`` 1, without ``stages`` all.
      variants: name -> the configuration of a fold.

    Raises:
      ValueError: an unknown variant, option or stage, or a fold that is no number.
    """
    variant, options = parse_argument(argument, default="synthetic")
    number, chosen = options.pop("fold", "1"), options.pop("stages", "")
    if not number.isdigit():
        raise ValueError(
            f"config argument {argument!r}: fold={number} is no number; folds are counted from 1"
        )
    if variant not in variants or options:
        raise ValueError(f"config argument {argument!r}: give one of {list(variants)}, fold=N and stages=A+B")
    values = to_config_dict(variants[variant](int(number)))
    names = chosen.split("+") if chosen else list(values.stages)
    if not set(names) <= set(values.stages):
        raise ValueError(f"config argument {argument!r}: stages={chosen}; there are {list(values.stages)}")
    for name in set(values.stages) - set(names):
        del values.stages[name]
    return values
