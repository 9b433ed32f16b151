"""Synthetic faces whose Action Units are known exactly.

Game-style faces drawn from code alone, for demonstrations, tests and ablations. They are no
substitute for recordings of people: scores on them always carry the word "synthetic".

Example::

    faces = SynthFaces(SynthConfig(tier="tiny", seed=0))
    frame = faces.frame(subject=7, clip=0, t=41)    # frame.image, frame.au, frame.lm98 ...
    picture = render(Person(42), {12: 4, 6: 3, 25: 2}, yaw=15)
"""

from data_pipelines.synthetic.config import SynthConfig
from data_pipelines.synthetic.faces import Frame, SynthFaces
from data_pipelines.synthetic.person import Person
from data_pipelines.synthetic.renderer import render

__all__ = ["Frame", "Person", "SynthConfig", "SynthFaces", "render"]
