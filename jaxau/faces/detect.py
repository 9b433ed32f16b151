"""Finding faces with YuNet (Wu et al., Machine Intelligence Research 2023) through OpenCV."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

# Pictures are reduced to this side for detection: the network was trained at 640 pixels and misses
# faces much larger than 300 pixels. Faces under about 10 pixels of the reduced picture are not found.
_LONGEST_SIDE = 640
_SCORE = 0.6
_OVERLAP = 0.3  # of two boxes, above which only the better one is kept


@dataclass(frozen=True)
class Detection:
    """A face in a picture.

    Attributes:
      box: (4,) float64 x, y, width, height in pixels; may reach over the border.
      score: confidence in [0, 1].
      landmarks: (5, 2) float64 pixels in the order of `jaxau.faces.landmarks.five_points`.
    """

    box: np.ndarray
    score: float
    landmarks: np.ndarray


class YuNet:
    """The YuNet detector; one object serves one thread at a time.

    Args:
      weights: ONNX file of YuNet.

    Raises:
      ValueError: no such file, or not a YuNet.
    """

    def __init__(self, weights: Path | str) -> None:
        weights = Path(weights)
        if not weights.is_file():
            raise ValueError(
                f"detector weights {weights}: no such file; give YuNet's ONNX file, e.g. "
                "face_detection_yunet_2023mar.onnx of the OpenCV model zoo"
            )
        level = cv2.utils.logging.getLogLevel()  # type: ignore[attr-defined]
        # OpenCV 5 warns about its own default of where the network runs.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # type: ignore[attr-defined]
        try:
            self._network = cv2.FaceDetectorYN.create(
                str(weights), "", (_LONGEST_SIDE, _LONGEST_SIDE), _SCORE, _OVERLAP
            )
            self.detect(np.zeros((64, 64, 3), np.uint8))
        except cv2.error as error:
            raise ValueError(
                f"detector weights {weights}: OpenCV cannot read or run them as a YuNet "
                f"({error.err}); give YuNet's ONNX file"
            ) from error
        finally:
            cv2.utils.logging.setLogLevel(level)  # type: ignore[attr-defined]

    def detect(self, image: np.ndarray) -> list[Detection]:
        """Faces, the largest first.

        Args:
          image: (h, w, 3) uint8 RGB.
        """
        scale = min(1.0, _LONGEST_SIDE / max(image.shape[:2]))
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        reduced = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        self._network.setInputSize((width, height))
        _, found = self._network.detect(cv2.cvtColor(reduced, cv2.COLOR_RGB2BGR))
        if found is None:
            return []
        # Pixel centres: 0 of the reduced picture is the middle of its block in the full one.
        enlarge = np.array([image.shape[1] / width, image.shape[0] / height])
        detections = []
        for row in found.astype(np.float64):
            corner = (row[:2] + 0.5) * enlarge - 0.5
            landmarks = (row[4:14].reshape(5, 2) + 0.5) * enlarge - 0.5
            box = np.concatenate([corner, row[2:4] * enlarge])
            detections.append(Detection(box, float(row[14]), landmarks))
        return sorted(detections, key=lambda d: -d.box[2] * d.box[3])
