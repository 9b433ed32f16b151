"""A z-buffer in numpy: which place of the mesh each pixel shows.

All triangles of one size of bounding box are tested together; each pixel keeps its nearest
candidate by writing candidates from far to near.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from jaxau.morphable.grid import COLUMNS, TRIANGLES, Bools, Floats, Ints

_BOX_SIDES = (2, 3, 4, 6, 9, 16, 40, 200)  # px: triangles are tested on the smallest that holds them
_LEAST_AREA = 1e-4  # px^2 (doubled): thinner and backward triangles are dropped
_EDGE = 1e-5  # barycentric slack, so that no pixel falls between two triangles


def _corner_and_steps(values: Ints) -> tuple[Floats, Floats, Floats]:
    """Value at each triangle's first corner, and the steps to the two others."""
    first, second, third = (values[TRIANGLES[:, i]].astype(np.float32) for i in range(3))
    return first, second - first, third - first


_ROW = _corner_and_steps(np.arange(TRIANGLES.max() + 1) // COLUMNS)
_COLUMN = _corner_and_steps(np.arange(TRIANGLES.max() + 1) % COLUMNS)


@dataclass(frozen=True)
class Fragments:
    """What each pixel of a (size, size) picture shows.

    Attributes:
      pixels: (n,) flat indices of the covered pixels, rising.
      row, column: (n,) float32 place on the grid.
      depth: (n,) float32 mm from the camera plane.
      size: side of the picture.
    """

    pixels: Ints
    row: Floats
    column: Floats
    depth: Floats
    size: int

    def covered(self) -> Bools:
        """(size, size) True where the mesh is."""
        mask = np.zeros(self.size * self.size, bool)
        mask[self.pixels] = True
        return mask.reshape(self.size, self.size)

    def depth_map(self, empty: float) -> Floats:
        """(size, size) float32 mm, ``empty`` where there is no mesh."""
        depth = np.full(self.size * self.size, empty, np.float32)
        depth[self.pixels] = self.depth
        return depth.reshape(self.size, self.size)


@lru_cache
def _box(side: int) -> tuple[Floats, Floats]:
    y, x = np.mgrid[:side, :side].reshape(2, -1).astype(np.float32)
    return x, y


def rasterize(points: Floats, depth: Floats, size: int) -> Fragments:
    """Find the nearest front-facing triangle under every pixel centre.

    Args:
      points: (vertices, 2) float32 pixels of the flattened grid.
      depth: (vertices,) float32 mm from the camera.
      size: side of the picture.
    """
    x, y = np.ascontiguousarray(points[:, 0]), np.ascontiguousarray(points[:, 1])
    x0, x1, x2 = (x[TRIANGLES[:, i]] for i in range(3))
    y0, y1, y2 = (y[TRIANGLES[:, i]] for i in range(3))
    area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
    left = np.maximum(np.ceil(np.minimum(np.minimum(x0, x1), x2)), 0)
    top = np.maximum(np.ceil(np.minimum(np.minimum(y0, y1), y2)), 0)
    width = np.minimum(np.floor(np.maximum(np.maximum(x0, x1), x2)), size - 1) - left + 1
    height = np.minimum(np.floor(np.maximum(np.maximum(y0, y1), y2)), size - 1) - top + 1
    # Counter-clockwise triangles turn clockwise (negative area) where y points down.
    kept = np.flatnonzero((area < -_LEAST_AREA) & (width > 0) & (height > 0))
    side = np.maximum(width, height)[kept]

    x0, y0, left, top = x0[kept], y0[kept], left[kept], top[kept]
    per_area = 1 / area[kept]
    b_x, b_y = (y2[kept] - y0) * per_area, (x0 - x2[kept]) * per_area
    c_x, c_y = (y0 - y1[kept]) * per_area, (x1[kept] - x0) * per_area
    b_0 = b_x * (left - x0) + b_y * (top - y0)
    c_0 = c_x * (left - x0) + c_y * (top - y0)
    first_pixel = (top * size + left).astype(np.int32)

    candidates = []
    smaller = 0
    for largest in _BOX_SIDES:
        member = np.flatnonzero((side > smaller) & (side <= largest))
        smaller = largest
        if not len(member):
            continue
        box_x, box_y = _box(largest)
        b = b_0[member, None] + b_x[member, None] * box_x + b_y[member, None] * box_y
        c = c_0[member, None] + c_x[member, None] * box_x + c_y[member, None] * box_y
        inside = np.flatnonzero(np.minimum(np.minimum(b, c), 1 + _EDGE - b - c) >= -_EDGE)
        which, place = np.divmod(inside, largest * largest)
        triangle = member[which]
        in_picture = (left[triangle] + box_x[place] < size) & (top[triangle] + box_y[place] < size)
        if not in_picture.all():
            inside, triangle, place = inside[in_picture], triangle[in_picture], place[in_picture]
        pixel = first_pixel[triangle] + (box_y[place] * size + box_x[place]).astype(np.int32)
        candidates.append((kept[triangle], pixel, b.ravel()[inside], c.ravel()[inside]))
    if not candidates:
        nothing = np.zeros(0, np.float32)
        return Fragments(np.zeros(0, np.int64), nothing, nothing, nothing, size)
    triangle, pixel, b, c = (np.concatenate(part) for part in zip(*candidates, strict=True))
    return _nearest(triangle, pixel, b, c, depth, size)


def _nearest(triangle: Ints, pixel: Ints, b: Floats, c: Floats, depth: Floats, size: int) -> Fragments:
    """Keep the nearest of the candidates of each pixel; ties go to the later triangle."""
    z0, z1, z2 = (depth[TRIANGLES[:, i]] for i in range(3))
    z = z0[triangle] + b * (z1 - z0)[triangle] + c * (z2 - z0)[triangle]
    # 16-bit keys sort by radix, which is stable and several times quicker than sorting floats.
    key = ((z.max() - z) * (65535 / (np.ptp(z) + 1e-6))).astype(np.uint16)
    far_to_near = np.argsort(key, kind="stable")
    winner = np.full(size * size, -1, np.int32)
    winner[pixel[far_to_near]] = far_to_near
    pixels = np.flatnonzero(winner >= 0)
    best = winner[pixels]
    triangle, b, c = triangle[best], b[best], c[best]

    def place(corner: tuple[Floats, Floats, Floats]) -> Floats:
        return corner[0][triangle] + b * corner[1][triangle] + c * corner[2][triangle]

    return Fragments(pixels, place(_ROW), place(_COLUMN), z[best], size)
