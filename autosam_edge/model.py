"""Description of a network for a session: input contract, labels, one-part rule and identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from autosam_edge.plausibility.expected_dice import Confidence
from autosam_edge.plausibility.thresholds import Thresholds
from autosam_edge.volume import Label

MAX_SIDE = 512  # of a patch, voxels
MAX_ROWS_BEYOND_ENDS = 64
SPACING_MM = (0.1, 20.0)
"""Smallest and largest spacing of the model's voxels, mm."""
WINDOW_HU = (-32768.0, 32767.0)
"""Lowest and highest HU of a window."""
DECISION_WEIGHTS = (0.01, 100.0)
"""Smallest and largest decision weight."""


def require_spacing(name: str, spacing_mm: tuple[float, ...]) -> None:
    """Refuse a spacing that no model can have.

    Args:
        name: Name of the field or argument, for the message.
        spacing_mm: Spacing along (D, H, W), mm.

    Raises:
        ValueError: There are not three numbers from the smallest to the largest spacing.
    """
    low, high = SPACING_MM
    if len(spacing_mm) != 3 or not all(low <= s <= high for s in spacing_mm):
        raise ValueError(f"{name} is {spacing_mm}, expected three numbers from {low:g} to {high:g}")


@dataclass(frozen=True)
class InputContract:
    """Contract of the network's input tensor.

    Args:
        modality: ``CT``.
        axes: Axis order ``DHW``: D to superior, H to posterior, W to the patient's left.
        unit: Unit ``HU``; the graph itself clips to the window and normalizes.
        spacing_mm: Spacing along (D, H, W), mm, each from 0.1 to 20.
        window_hu: Window (low, high), HU.
        resampling: Filter, ``antialiased-linear``.
        patch: Tile size along (D, H, W), voxels, each from 16 to ``MAX_SIDE``.
        overlap: Share of a tile that its neighbor covers too, 0 <= overlap < 1.
        blend: Weights of a tile's probabilities, ``gaussian``.
        rows_beyond_ends: Largest number of rows that tiles reach beyond each end of the scan along D, where
            the network sees the last slice again, 0 to 64. Fewer are used where more would add a tile.
    """

    modality: str
    axes: str
    unit: str
    spacing_mm: tuple[float, float, float]
    window_hu: tuple[float, float]
    resampling: str
    patch: tuple[int, int, int]
    overlap: float
    blend: str
    rows_beyond_ends: int

    def __post_init__(self) -> None:
        known = {
            "modality": "CT",
            "axes": "DHW",
            "unit": "HU",
            "resampling": "antialiased-linear",
            "blend": "gaussian",
        }
        for name, value in known.items():
            if getattr(self, name) != value:
                raise ValueError(f"input.{name} is {getattr(self, name)!r}, expected {value!r}")
        require_spacing("input.spacing_mm", self.spacing_mm)
        if len(self.patch) != 3 or not all(isinstance(p, int) and 16 <= p <= MAX_SIDE for p in self.patch):
            raise ValueError(
                f"input.patch is {self.patch}, expected three whole numbers from 16 to {MAX_SIDE}"
            )
        if not 0 <= self.overlap < 1:
            raise ValueError(f"input.overlap is {self.overlap}, expected at least 0 and less than 1")
        if not 0 <= self.rows_beyond_ends <= MAX_ROWS_BEYOND_ENDS:
            raise ValueError(
                f"input.rows_beyond_ends is {self.rows_beyond_ends}, expected 0 to {MAX_ROWS_BEYOND_ENDS}"
            )
        lowest, highest = WINDOW_HU
        if len(self.window_hu) != 2 or not lowest <= self.window_hu[0] < self.window_hu[1] <= highest:
            raise ValueError(
                f"input.window_hu is {self.window_hu}, "
                f"expected a lower and a higher value from {lowest:g} to {highest:g}"
            )


@dataclass(frozen=True)
class Model:
    """A network without its weights, of a bundle (``bundle.model``) or of a student in memory.

    Args:
        input: Input contract.
        labels: Organs of the outputs 1, 2, 3, ...; output 0 is the background.
        one_part: Names of the organs that are one connected object in the body. Of several parts, the one of
            which the network is most certain is kept.
        name: Model name, such as ``pocketnet-btcv-3mm``.
        version: Model version.
        license: License of the weights.
        sha256: SHA-256 that identifies the model, hexadecimal; empty if there is none.
        decision_weights: Factor of an organ's probability before the largest is taken, by the organ's name,
            0.01 to 100; 1 for an organ that is not named, and for the background.
        plausibility: Limits of the plausibility check; None checks nothing.
        confidence: Map from the probabilities to the expected Dice of each organ; None expects nothing.

    Raises:
        ValueError: The labels are numbered otherwise, ``one_part``, ``decision_weights`` or ``confidence``
            names an organ that is not among them, or a weight lies outside its range.
    """

    input: InputContract
    labels: tuple[Label, ...]
    one_part: tuple[str, ...]
    name: str
    version: str
    license: str = ""
    sha256: str = ""
    decision_weights: Mapping[str, float] = field(default_factory=dict)
    plausibility: Thresholds | None = None
    confidence: Confidence | None = None

    def __post_init__(self) -> None:
        values = [label.value for label in self.labels]
        if values != list(range(1, len(values) + 1)):
            raise ValueError(f"labels are numbered {values}, expected 1, 2, 3, ...")
        rules = {
            "one_part": self.one_part,
            "decision_weights": self.decision_weights,
            "confidence": self.confidence.offsets if self.confidence else (),
        }
        for rule, organs in rules.items():
            if unknown := sorted(set(organs) - {label.name for label in self.labels}):
                raise ValueError(f"{rule} names {unknown[0]!r}, which is no label")
        lowest, highest = DECISION_WEIGHTS
        for organ, weight in self.decision_weights.items():
            if not lowest <= weight <= highest:
                raise ValueError(
                    f"the decision weight of {organ} is {weight}, expected {lowest:g} to {highest:g}"
                )

    @property
    def classes(self) -> int:
        """Number of outputs: the organs and the background."""
        return len(self.labels) + 1

    @property
    def class_weights(self) -> tuple[float, ...]:
        """Decision weight of each output, the background's first."""
        return (1.0, *(self.decision_weights.get(label.name, 1.0) for label in self.labels))
